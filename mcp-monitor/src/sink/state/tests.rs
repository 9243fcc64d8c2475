use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    alert::{Alerter, AlerterOptions},
    baseline::{Fact, Standing, Subject, Tally, TallyKey, learned::Entry},
    config::pins::Pins,
    detect::{Finding, SeenKind, testing::Bench},
    types::{Severity, Timestamp},
};

fn fact(n: u64) -> Row {
    let at = Timestamp::from_secs(n.saturating_add(1_800_000_000));
    Row {
        subject: Subject::name(&format!("n{n}.example")),
        fact: Fact::DnsAnswer {
            address: [203, 0, 113, 1].into(),
        },
        entry: Entry {
            first: at,
            last: at,
            count: n,
            range: Some((1, n)),
            standing: Standing::Suspect,
            quiet_since: at,
            here: None,
        },
    }
}

fn tally(hour: u64) -> TallyRow {
    let mut tally = Tally {
        sessions: 1,
        ..Tally::default()
    };
    tally.check("addresses", crate::baseline::Verdict::Same);
    TallyRow {
        key: TallyKey {
            endpoint: "a".to_owned(),
            agent: "10.0.0.1".to_owned(),
            hour,
        },
        tally,
    }
}

/// An alert `secs` after the others, of DNS-01 (high) or DST-06 (medium).
fn alert(secs: u64, rule: &'static str) -> Alert {
    let pins = "version: 1\nendpoints: [{name: a, url: 'https://a.example/mcp'}]\n";
    let mut alerter = Alerter::new(
        Arc::new(Pins::parse(pins, "p").unwrap()),
        AlerterOptions::default(),
    );
    let mut bench = Bench::bare();
    bench.wait(Duration::from_secs(secs));
    let finding = Finding::new(rule, format!("number {secs}"))
        .at(Some(0))
        .observed(secs.to_string());
    bench.with_seen(SeenKind::Open, |seen| {
        alerter.take(finding.clone(), seen);
    });
    alerter.finish();
    alerter.poll().unwrap()
}

fn open(path: &Path) -> State {
    let opened = State::open(path, StateLimits::default()).unwrap();
    assert_eq!(opened.set_aside, None);
    opened.state
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/folder/state.sqlite");
    let mut state = open(&path);
    let memory = MemoryRow {
        rule: "TD-09".to_owned(),
        key: "\"a\"".to_owned(),
        value: "{}".to_owned(),
    };
    let batch = Batch {
        facts: vec![fact(1), fact(2)],
        memory: vec![memory.clone()],
        tallies: vec![tally(500_000)],
        alerts: Vec::new(),
    };
    state.write(&batch).unwrap();
    state.write(&batch).unwrap();
    drop(state);
    let state = State::read(&path).unwrap();
    assert_eq!(state.facts().unwrap(), [fact(1), fact(2)]);
    assert_eq!(state.memory().unwrap(), [memory]);
    let verified = state.verified(None, None).unwrap();
    assert_eq!(
        (verified.len(), verified[0].tally.sessions),
        (1, 2),
        "counts add up"
    );
    let hour = verified[0].key.begin();
    assert!(
        state
            .verified(Some(hour.saturating_add(Duration::from_secs(3600))), None)
            .unwrap()
            .is_empty()
    );
    assert!(state.verified(None, Some(hour)).unwrap().is_empty());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |p: &Path| p.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }
}

#[test]
fn alerts_are_found_by_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = open(&dir.path().join("s"));
    let alerts = vec![alert(0, "DNS-01"), alert(100, "DST-06"), alert(200, "DNS-01")];
    let times: Vec<Timestamp> = alerts.iter().map(|a| a.time).collect();
    let id = alerts[1].id.clone();
    let batch = Batch {
        alerts,
        ..Batch::default()
    };
    state.write(&batch).unwrap();
    state.write(&batch).unwrap();
    let seen = |query: AlertQuery| -> Vec<u64> {
        let found = state.alerts(&query).unwrap();
        found
            .iter()
            .map(|a| {
                let record: serde_json::Value = serde_json::from_str(&a.record).unwrap();
                assert_eq!(record["schema"], "mcp-monitor.alert/1");
                assert!(a.line.contains(record["rule"].as_str().unwrap()));
                record["observed"].as_str().unwrap().parse().unwrap()
            })
            .collect()
    };
    let all = AlertQuery::default;
    assert_eq!(seen(all()), [0, 100, 200], "each once, in order");
    assert_eq!(seen(AlertQuery { limit: 2, ..all() }), [100, 200], "the latest");
    let rules = vec!["DST-06".to_owned(), "TD-01".to_owned()];
    assert_eq!(seen(AlertQuery { rules, ..all() }), [100]);
    let severity = Some(Severity::High);
    assert_eq!(seen(AlertQuery { severity, ..all() }), [0, 200]);
    assert_eq!(
        seen(AlertQuery {
            since: Some(times[1]),
            ..all()
        }),
        [100, 200]
    );
    assert_eq!(
        seen(AlertQuery {
            until: Some(times[1]),
            ..all()
        }),
        [0]
    );
    assert_eq!(
        seen(AlertQuery {
            id: id.get(..8).map(str::to_owned),
            ..all()
        }),
        [100]
    );
    let endpoint = Some("b' OR 1 --".to_owned());
    assert!(seen(AlertQuery { endpoint, ..all() }).is_empty());
    let incident = Some("x".to_owned());
    assert!(seen(AlertQuery { incident, ..all() }).is_empty());
}

#[test]
fn bounds_hold_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let limits = StateLimits {
        max_alerts: 2,
        max_facts: 3,
        keep_verified: Duration::from_secs(3600),
        ..StateLimits::default()
    };
    let mut state = State::open(&dir.path().join("s"), limits).unwrap().state;
    let mut approved = fact(1);
    approved.entry.standing = Standing::Approved;
    let batch = Batch {
        facts: [approved.clone()].into_iter().chain((2..=5).map(fact)).collect(),
        tallies: vec![tally(10), tally(11), tally(12)],
        alerts: (0..4).map(|n| alert(n * 100, "DNS-01")).collect(),
        ..Batch::default()
    };
    state.write(&batch).unwrap();
    assert_eq!(state.facts().unwrap(), [approved, fact(4), fact(5)]);
    assert_eq!(state.alerts(&AlertQuery::default()).unwrap().len(), 2);
    assert_eq!(state.verified(None, None).unwrap().len(), 2);
    let gone = |name: &str, n| (name.to_owned(), n);
    assert_eq!(
        state.evicted().unwrap(),
        [gone("alerts", 2), gone("facts", 2), gone("verified", 1)]
    );
}

#[test]
fn the_file_stays_within_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let limits = StateLimits {
        max_bytes: 1 << 20,
        max_facts: u64::MAX,
        ..StateLimits::default()
    };
    let mut state = State::open(&path, limits).unwrap().state;
    for round in 0..8_u64 {
        let facts = (0..4000).map(|n| fact(round * 4000 + n)).collect();
        state
            .write(&Batch {
                facts,
                ..Batch::default()
            })
            .unwrap();
    }
    let gone: u64 = state.evicted().unwrap().iter().map(|(_, n)| n).sum();
    assert_eq!(state.facts().unwrap().len() as u64 + gone, 32_000);
    assert!(gone > 10_000, "{gone}");
    assert!(state.bytes().unwrap() <= 1 << 20);
    state.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let size = path.metadata().unwrap().len();
    assert!(size < 4 << 20, "{size} bytes on disk");
}

#[test]
fn a_broken_file_is_set_aside_with_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sqlite");
    let mut state = open(&path);
    let facts = (0..2000).map(fact).collect();
    state
        .write(&Batch {
            facts,
            ..Batch::default()
        })
        .unwrap();
    state.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(state);
    let whole = std::fs::read(&path).unwrap();
    let mut torn = whole.clone();
    torn[8192..40_000].fill(0xa5);
    for broken in [
        torn,
        b"Dear Sir or Madam, this is no database.".repeat(40),
        whole[..whole.len() / 2].to_vec(),
    ] {
        std::fs::write(&path, &broken).unwrap();
        let refused = State::read(&path).unwrap_err().to_string();
        assert!(refused.contains("is broken"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), broken, "reading changes nothing");
        let opened = State::open(&path, StateLimits::default()).unwrap();
        let sentence = opened.set_aside.unwrap();
        assert!(
            sentence.contains("s.sqlite is broken") && sentence.contains(".corrupt-"),
            "{sentence}"
        );
        assert!(opened.state.facts().unwrap().is_empty());
        drop(opened.state);
        let aside = names(dir.path())
            .into_iter()
            .find(|n| n.contains(".corrupt-"))
            .unwrap();
        let aside = dir.path().join(aside);
        assert_eq!(std::fs::read(&aside).unwrap(), broken, "nothing is lost");
        std::fs::remove_file(aside).unwrap();
    }
}

#[test]
fn a_newer_file_is_set_aside_and_a_foreign_one_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let state = open(&path);
    state.db.pragma_update(None, "user_version", 99).unwrap();
    drop(state);
    let refused = State::read(&path).unwrap_err().to_string();
    assert!(
        refused.contains("is of version 99; expected 1 or below"),
        "{refused}"
    );
    let sentence = State::open(&path, StateLimits::default())
        .unwrap()
        .set_aside
        .unwrap();
    assert!(
        sentence.contains("is of version 99") && sentence.contains(".newer-v99-"),
        "{sentence}"
    );

    let foreign = dir.path().join("foreign");
    let db = rusqlite::Connection::open(&foreign).unwrap();
    db.execute_batch("CREATE TABLE customers (name TEXT)").unwrap();
    drop(db);
    for error in [
        State::open(&foreign, StateLimits::default()).unwrap_err(),
        State::read(&foreign).unwrap_err(),
    ] {
        assert!(error.to_string().contains("of another program"), "{error}");
    }
    let missing = State::read(&dir.path().join("gone")).unwrap_err().to_string();
    assert!(missing.contains("no state file"), "{missing}");
}

const CHILD: &str = "MCP_MONITOR_TEST_STATE_FILE";

/// The process that is killed: writes batch after batch, and says the number of each that is written.
fn write_forever(path: &Path) {
    let mut state = open(path);
    let done = state.facts().unwrap().len() as u64;
    for n in done.. {
        let batch = Batch {
            facts: vec![fact(n)],
            memory: vec![MemoryRow {
                rule: "TD-09".to_owned(),
                key: n.to_string(),
                value: "{}".to_owned(),
            }],
            tallies: vec![tally(500_000)],
            alerts: vec![alert(n, "DNS-01")],
        };
        state.write(&batch).unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "written {}", n.saturating_add(1)).unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn killed_at_any_moment_it_has_every_batch_that_was_written_and_no_half_of_one() {
    if let Some(path) = std::env::var_os(CHILD) {
        return write_forever(Path::new(&path));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.sqlite");
    let name =
        "sink::state::tests::killed_at_any_moment_it_has_every_batch_that_was_written_and_no_half_of_one";
    for round in 0..20_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut until = None;
        let mut written = 0;
        for line in lines {
            let Some(n) = line
                .unwrap()
                .strip_prefix("written ")
                .map(|n| n.parse::<usize>().unwrap())
            else {
                continue;
            };
            written = n;
            // Each round at another place of the loop.
            let life = Duration::from_micros(500 + round * 1777);
            if Instant::now() >= *until.get_or_insert_with(|| Instant::now() + life) {
                child.kill().unwrap();
                until = Some(Instant::now() + Duration::from_secs(3600));
            }
        }
        child.wait().unwrap();
        let state = open(&path);
        let facts = state.facts().unwrap().len();
        assert!(
            written > 0 && facts >= written,
            "{facts} of {written} that were written"
        );
        assert_eq!(state.memory().unwrap().len(), facts);
        assert_eq!(state.alerts(&AlertQuery::default()).unwrap().len(), facts);
        assert_eq!(
            state.verified(None, None).unwrap()[0].tally.sessions,
            facts as u64
        );
    }
}
