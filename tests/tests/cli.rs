//! The contract of the command line: exit codes, and one clear message where something is wrong.

use std::io::{BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mcp_monitor_tests::binary::{self, Ran};
use mcp_monitor_tests::paths;

fn capture() -> PathBuf {
    paths::captures().join("benign/veth-dns-mcp.pcap")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn run(args: &[&str]) -> Ran {
    binary::run(args).expect("mcp-monitor")
}

/// Asserts that the run failed with this code and exactly one line that has all these words.
#[track_caller]
fn fails(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "exit code; standard error: {}", ran.stderr);
    assert!(ran.stdout.is_empty(), "nothing but records on standard output");
    let lines = ran.error_lines();
    assert_eq!(lines.len(), 1, "one line: {lines:#?}");
    for word in words {
        assert!(lines[0].contains(word), "`{word}` is not in: {}", lines[0]);
    }
    assert!(!lines[0].contains("panicked"), "{}", lines[0]);
}

#[test]
fn a_capture_that_breaks_off_yields_what_it_had_and_a_warning() {
    let dir = tempfile::tempdir().expect("folder");
    let whole = std::fs::read(capture()).expect("capture");
    let file = dir.path().join("cut.pcap");
    // In the middle of a packet, two thirds in.
    std::fs::write(&file, &whole[..whole.len() * 2 / 3]).expect("write");
    let (ran, summary) = binary::replay(&["--emit", "messages", text(&file)]).expect("exit code 0");
    let packets = binary::count(&summary, "packets");
    assert!((100..327).contains(&packets), "{packets} packets");
    assert!(!ran.records().expect("JSON lines").is_empty());
    assert!(
        ran.stderr.contains("cut.pcap"),
        "a warning that names the file: {}",
        ran.stderr
    );
}

#[test]
fn captures_that_cannot_be_read() {
    let dir = tempfile::tempdir().expect("folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("write");
        path
    };
    let empty = file("empty.pcap", b"");
    fails(&run(&["replay", text(&empty)]), 1, &["empty.pcap"]);
    let other = file(
        "letter.txt",
        b"Dear Sir or Madam, this is not a capture at all.\n",
    );
    fails(&run(&["replay", text(&other)]), 1, &["letter.txt", "pcap"]);
    let missing = dir.path().join("missing.pcap");
    fails(&run(&["replay", text(&missing)]), 1, &["missing.pcap"]);
    // A folder cannot be read as a file, even by root.
    fails(&run(&["replay", text(dir.path())]), 1, &[text(dir.path())]);
}

#[test]
fn an_unreadable_capture_is_named() {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("secret.pcap");
    std::fs::copy(capture(), &path).expect("copy");
    let mut permissions = path.metadata().expect("metadata").permissions();
    // Root reads it all the same; a link into a loop is unreadable for everybody.
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).expect("chmod");
    assert_eq!(run(&["replay", text(&path)]).code, 0, "read-only is readable");
    #[cfg(unix)]
    {
        let link = dir.path().join("loop.pcap");
        std::os::unix::fs::symlink(&link, &link).expect("link");
        fails(&run(&["replay", text(&link)]), 1, &["loop.pcap"]);
    }
}

#[test]
fn standard_input_is_a_file_like_others() {
    let mut command = Command::new(binary::path());
    command.args(["replay", "--emit", "messages", "-"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("mcp-monitor");
    let bytes = std::fs::read(capture()).expect("capture");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(&bytes)
        .expect("write");
    let piped = binary::finish(child.wait_with_output().expect("output")).expect("output");
    assert_eq!(piped.code, 0, "{}", piped.stderr);
    assert_eq!(piped.records().expect("JSON lines").len(), 42 + 41 + 16);
}

/// Replays with a pins file of this text.
fn with_pins(pins: &str) -> Ran {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("pins.yaml");
    std::fs::write(&file, pins).expect("write");
    run(&["replay", "--pins", text(&file), text(&capture())])
}

const ENDPOINT: &str =
    "version: 1\nendpoints:\n  - name: market-data\n    url: http://mcp.test.internal:3101/mcp\n";

#[test]
fn bad_pins_are_wrong_usage_and_name_the_line() {
    assert_eq!(with_pins(ENDPOINT).code, 0, "the file that the cases below break");
    let broken = |more: &str| with_pins(&format!("{ENDPOINT}{more}"));
    fails(
        &broken("    adresses: [203.0.113.0/24]\n"),
        2,
        &["pins.yaml:5", "adresses"],
    );
    fails(
        &broken("    addresses: [203.0.113.0/33]\n"),
        2,
        &["pins.yaml:5", "203.0.113.0/33"],
    );
    fails(
        &broken("    addresses: [mcp.test.internal]\n"),
        2,
        &["pins.yaml:5", "mcp.test.internal"],
    );
    let twice = "  - name: market-data\n    url: https://other.example/mcp\n";
    fails(&broken(twice), 2, &["pins.yaml:5", "market-data"]);
    // A host with a prefix length: either could be meant, so it is neither.
    fails(
        &broken("    addresses: [203.0.113.10/24]\n"),
        2,
        &["pins.yaml:5", "203.0.113.10/24"],
    );
    fails(&with_pins("version: 1\nendpoints: [\n"), 2, &["pins.yaml:"]);
}

#[test]
fn missing_pins_are_wrong_usage() {
    fails(
        &run(&["replay", "--pins", "/nonexistent/pins.yaml", text(&capture())]),
        2,
        &["/nonexistent/pins.yaml"],
    );
}

#[test]
fn unknown_flags_are_wrong_usage() {
    for args in [
        &["replay", "--no-such-flag"][..],
        &["no-such-command"],
        &["replay"],
    ] {
        let ran = run(args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_and_version_are_done() {
    for args in [
        &["--help"][..],
        &["--version"],
        &["replay", "--help"],
        &["run", "--help"],
    ] {
        let ran = run(args);
        assert_eq!(ran.code, 0, "{args:?}");
        assert!(!ran.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn fail_on_is_reached_only_by_what_is_severe_enough() {
    let dir = tempfile::tempdir().expect("folder");
    let pins = dir.path().join("pins.yaml");
    let pin = |addresses: &str| {
        let text = format!("{ENDPOINT}    addresses: {addresses}\n");
        std::fs::write(&pins, text).expect("write");
    };
    // The name is pinned elsewhere than where the capture's answers put it.
    pin("[203.0.113.0/24]");
    let capture = capture();
    let with = |severity: &str| {
        run(&[
            "replay",
            "--fail-on",
            severity,
            "--pins",
            text(&pins),
            text(&capture),
        ])
    };
    let high = with("high");
    assert_eq!(high.code, 3, "DNS-01 and DST-02 are high: {}", high.stderr);
    let rules: Vec<_> = high
        .records()
        .expect("alerts")
        .iter()
        .map(|a| a["rule"].clone())
        .collect();
    assert!(
        rules.contains(&"DNS-01".into()) && rules.contains(&"DST-02".into()),
        "{rules:?}"
    );
    assert_eq!(with("low").code, 3);
    pin("[10.77.0.0/24, \"fd77::/64\"]");
    let quiet = with("high");
    assert_eq!(
        quiet.code,
        0,
        "where it is pinned: {}",
        String::from_utf8_lossy(&quiet.stdout)
    );
}

/// What `tcpdump -U -w -` writes is dealt with as it comes: the alert is there while the capture goes on.
#[test]
fn a_followed_capture_alerts_before_its_end() {
    let dir = tempfile::tempdir().expect("folder");
    let pins = dir.path().join("pins.yaml");
    std::fs::write(&pins, format!("{ENDPOINT}    addresses: [203.0.113.0/24]\n")).expect("write");
    let bytes = std::fs::read(capture()).expect("capture");
    let mut child = Command::new(binary::path())
        .args(["replay", "--follow", "--pins", text(&pins), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mcp-monitor");
    let mut stdin = child.stdin.take().expect("stdin");
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("stdout"));
    // Breaks off in the middle of a packet, which must not hold up those before it.
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    stdin.write_all(first).expect("write");
    let (tell, told) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        tell.send(line).expect("send");
        let mut more = String::new();
        stdout.read_to_string(&mut more).expect("the rest");
        more
    });
    let line = told
        .recv_timeout(std::time::Duration::from_secs(60))
        .expect("an alert while the capture is being written");
    stdin.write_all(rest).expect("write");
    drop(stdin);
    let more = reader.join().expect("reader");
    assert_eq!(child.wait().expect("end").code(), Some(0));

    let rules = |text: &str| -> std::collections::BTreeSet<(String, String)> {
        let records = binary::records(text).expect("JSON lines");
        let field = |r: &serde_json::Value, k: &str| r[k].as_str().unwrap_or_default().to_owned();
        records
            .iter()
            .map(|r| (field(r, "rule"), field(r, "id")))
            .collect()
    };
    let whole = run(&["replay", "--pins", text(&pins), text(&capture())]);
    assert_eq!(
        rules(&(line + &more)),
        rules(&String::from_utf8_lossy(&whole.stdout))
    );
}

#[test]
fn only_a_pipe_can_be_followed() {
    fails(
        &run(&["replay", "--follow", text(&capture())]),
        2,
        &["--follow", "veth-dns-mcp.pcap", "tail"],
    );
    fails(
        &run(&["replay", "--follow", "-", "-"]),
        2,
        &["--follow", "2 captures"],
    );
}
