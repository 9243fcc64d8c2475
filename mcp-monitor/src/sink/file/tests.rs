use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use super::{config::Config, send::Rotating};
use crate::sink::{
    delivery::{Entry, Kind},
    encoding::Encoding,
};

fn config(dir: &Path) -> Config {
    Config {
        path: dir.join("alerts.jsonl"),
        encoding: Encoding::Json,
        max_bytes: 4096,
        max_age: None,
        keep: 2,
    }
}

fn entry(n: usize) -> Entry {
    Entry::new(
        Kind::Alert,
        format!("{{\"id\":{n:04}}}").as_bytes(),
        "a line for people",
    )
}

#[test]
fn rotates_by_size_and_keeps_so_many() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = Rotating::new(config(dir.path()));
    for n in 0..2000 {
        file.append(&[entry(n)]).unwrap();
    }
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .flatten()
        .map(|f| f.file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["alerts.jsonl", "alerts.jsonl.1", "alerts.jsonl.2"]);
    let mut lines = Vec::new();
    for name in ["alerts.jsonl.2", "alerts.jsonl.1", "alerts.jsonl"] {
        let path = dir.path().join(name);
        assert!(fs::metadata(&path).unwrap().len() <= 4096);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        lines.extend(fs::read_to_string(path).unwrap().lines().map(str::to_owned));
    }
    let expected: Vec<_> = (2000 - lines.len()..2000)
        .map(|n| format!("{{\"id\":{n:04}}}"))
        .collect();
    assert_eq!(lines, expected, "the newest lines, none missing between files");
}

#[test]
fn rotates_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = Rotating::new(Config {
        max_age: Some(Duration::from_nanos(1)),
        ..config(dir.path())
    });
    (0..3).for_each(|n| {
        file.append(&[entry(n)]).unwrap();
    });
    assert_eq!(
        fs::read_to_string(dir.path().join("alerts.jsonl.2")).unwrap(),
        "{\"id\":0000}\n"
    );
}

#[test]
fn a_file_that_was_moved_away_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = Rotating::new(config(dir.path()));
    file.append(&[entry(1)]).unwrap();
    let path = dir.path().join("alerts.jsonl");
    fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    file.append(&[entry(2)]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"id\":0002}\n");
    fs::write(&path, "").unwrap();
    file.append(&[entry(3)]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"id\":0003}\n");
}

#[test]
fn half_a_line_of_a_killed_process_does_not_spoil_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alerts.jsonl");
    fs::write(&path, "{\"id\":0000}\n{\"id\":00").unwrap();
    let mut file = Rotating::new(config(dir.path()));
    file.append(&[entry(1)]).unwrap();
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        "{\"id\":0000}\n{\"id\":00\n{\"id\":0001}\n"
    );
}

#[test]
fn a_folder_that_is_missing_is_a_failure_that_can_pass() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = Rotating::new(config(&dir.path().join("sub")));
    assert!(file.append(&[entry(1)]).is_err());
    fs::create_dir(dir.path().join("sub")).unwrap();
    assert!(file.append(&[entry(1)]).is_ok());
}

#[test]
fn lines_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = Rotating::new(Config {
        encoding: Encoding::Text,
        ..config(dir.path())
    });
    file.append(&[entry(1)]).unwrap();
    let text = fs::read_to_string(dir.path().join("alerts.jsonl")).unwrap();
    assert_eq!(text, "a line for people\n");
}
