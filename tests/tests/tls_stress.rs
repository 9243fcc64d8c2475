//! Plaintext of TLS where it is hard: many connections at once, processes that die, libraries that are replaced
//! or lie in another mount namespace, a thousand short-lived programs. Every message is seen, or its loss counted.
//!
//! Needs what the other live tests need. With `MCP_MONITOR_LOAD=full` the loads are those of the mission:
//! 200 connections with 100,000 messages, and 1,000 programs; otherwise a tenth.
#![cfg(target_os = "linux")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::binary;
use mcp_monitor_tests::bpf;
use mcp_monitor_tests::https::{Stage, plaintext};
use mcp_monitor_tests::monitor::{Monitor, Watched};
use mcp_monitor_tests::peers::{self, Client, Counted, Server, Toolchain};
use mcp_monitor_tests::process::{Process, output};
use serde_json::json;

const SESSION: Duration = Duration::from_secs(300);
/// What follows from what is over.
const SETTLED: Duration = Duration::from_secs(10);
/// All of /proc is gone through every ten seconds.
const SCANNED: Duration = Duration::from_secs(40);
/// A file that nobody uses keeps its probes for a minute, and the next scan.
const RELEASED: Duration = Duration::from_secs(120);
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_quote","arguments":{"symbol":"ACME"}}}"#;

/// Whether the whole load was asked for.
fn full() -> bool {
    std::env::var("MCP_MONITOR_LOAD").is_ok_and(|load| load == "full")
}

/// A load, or a tenth of it.
fn load(whole: u64) -> u64 {
    if full() { whole } else { whole / 10 }
}

/// Says a figure, for whoever asked for the whole load.
fn note(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// So many requests and answers, each seen once, and nothing lost.
fn assert_all(watched: &Watched, requests: u64) {
    for path in ["mcp.requests", "mcp.responses"] {
        assert_eq!(
            binary::count(&watched.summary, path),
            requests,
            "{path}: {:#}\n{}",
            watched.summary,
            watched.stderr
        );
    }
    for loss in [
        "lost_bytes",
        "late_bytes",
        "unclaimed_bytes",
        "unlinked",
        "refused",
    ] {
        assert_eq!(
            plaintext(watched, loss),
            0,
            "plaintext.{loss}: {:#}",
            watched.summary
        );
    }
}

/// OpenSSL in C, an event loop over two hundred connections, in both versions of HTTP.
#[test]
fn two_hundred_connections_of_openssl() {
    if !peers::ready("two_hundred_connections_of_openssl") {
        return;
    }
    let run = |http: &str, requests: u64| -> Result<Watched> {
        let stage = Stage::new()?;
        let monitor = stage.monitor("{}\n")?;
        let _server = stage.server(Server::Go, "1.3")?;
        let body = stage.dir.path().join("call.json");
        std::fs::write(&body, CALL)?;
        let mut h2load = stage.scene.agent.command_in(stage.scene.cgroup.path(), "h2load");
        h2load.args([http, "-c", "200", "-n", &requests.to_string()]);
        h2load.args(["-H", "content-type: application/json"]);
        h2load.args(["-H", "accept: application/json, text/event-stream"]);
        h2load.arg("-d").arg(&body).arg(stage.url());
        let start = Instant::now();
        let said = output(&mut h2load)?;
        let took = start.elapsed().as_secs_f64();
        ensure!(said.contains(&format!(" {requests} succeeded")), "{said}");
        monitor.drained(2 * requests);
        note(&format!(
            "{http}: {requests} requests in {took:.0} s, {:?}",
            Held::by(&monitor)?
        ));
        monitor.stop()
    };
    let requests = load(25_000);
    for http in ["--h1", "--npn-list=h2"] {
        let watched = run(http, requests).expect("a load, watched");
        assert_all(&watched, requests);
        assert_eq!(
            plaintext(&watched, "linked"),
            200,
            "{http}: {:#}",
            watched.summary
        );
    }
}

/// Go, two hundred goroutines that move between threads.
#[test]
fn two_hundred_connections_of_go() {
    if !peers::ready("two_hundred_connections_of_go") {
        return;
    }
    let run = || -> Result<(Counted, Watched)> {
        let stage = Stage::new()?;
        let monitor = stage.monitor("{}\n")?;
        let _server = stage.server(Server::Go, "1.3")?;
        let options = json!({"connections": 200, "calls": load(250), "http2": true, "pause_ms": 1000});
        let mut client = stage.client(Client::Go(Toolchain::Current, false), &options)?;
        client.wait(SESSION)?;
        let counted = Counted::read(&client)?;
        monitor
            .drained(counted.0["mcp.requests"] + counted.0["mcp.responses"] + counted.0["mcp.notifications"]);
        Ok((counted, monitor.stop()?))
    };
    let (counted, watched) = run().expect("a load, watched");
    assert_all(&watched, counted.0["mcp.requests"]);
}

/// curl in the agent's cgroup, through a shell that prepares its surroundings.
fn curl(stage: &Stage, before: &str, variables: &[(&str, &Path)]) -> Result<()> {
    let mut shell = stage.scene.agent.command_in(stage.scene.cgroup.path(), "sh");
    shell.args([
        "-c",
        &format!(
            "{before} curl -sS --fail --cacert \"$CA\" -H content-type:application/json -d \"$CALL\" \"$URL\""
        ),
    ]);
    shell
        .env("CA", &stage.certificate.cert)
        .env("CALL", CALL)
        .env("URL", stage.url());
    shell.envs(variables.iter().copied());
    let said = output(&mut shell)?;
    ensure!(said.contains("result"), "{said}");
    Ok(())
}

/// The library that curl uses.
fn libssl() -> Result<PathBuf> {
    let said = output(Command::new("sh").args(["-c", "ldd \"$(command -v curl)\" \"$(ldconfig -p | sed -n 's/.*=> \\(.*libcurl.so.4\\)$/\\1/p' | head -n1)\" 2>/dev/null | sed -n 's/.*=> \\(.*libssl.so.3\\) .*/\\1/p' | head -n1"]))?;
    let path = PathBuf::from(said.trim());
    ensure!(path.is_absolute(), "curl has no libssl.so.3: {said}");
    Ok(path.canonicalize()?)
}

/// What the monitor holds: open descriptors (a probe's link is one), TLS objects in the kernel's table, and
/// resident kilobytes.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    objects: usize,
    resident: u64,
}

impl Held {
    fn by(monitor: &Monitor) -> Result<Self> {
        let proc = PathBuf::from(format!("/proc/{}", monitor.pid()));
        let status = std::fs::read_to_string(proc.join("status"))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .context("no VmRSS")?;
        Ok(Self {
            descriptors: std::fs::read_dir(proc.join("fd"))?.count(),
            objects: bpf::entries(monitor.pid(), "TLS_OBJECTS")?,
            resident: resident.trim().parse()?,
        })
    }

    /// Waits until what is held satisfies the test; what it was at last.
    fn until(monitor: &Monitor, limit: Duration, test: impl Fn(&Self) -> bool) -> Result<Self> {
        let deadline = Instant::now() + limit;
        loop {
            let held = Self::by(monitor)?;
            if test(&held) || Instant::now() > deadline {
                return Ok(held);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Programs that live for one request: every one is seen, and what the monitor holds does not grow.
#[test]
fn short_lived_programs_leave_nothing_behind() {
    if !peers::ready("short_lived_programs_leave_nothing_behind") {
        return;
    }
    let half = load(1000) / 2;
    let run = || -> Result<(Watched, [Held; 2])> {
        let stage = Stage::new()?;
        let monitor = stage.monitor("{}\n")?;
        let _server = stage.server(Server::Go, "1.3")?;
        let many = format!("seq {half} | xargs -P 4 -I X");
        let start = Instant::now();
        curl(&stage, &many, &[])?;
        monitor.drained(2 * half);
        let before = Held::by(&monitor)?;
        curl(&stage, &many, &[])?;
        monitor.drained(4 * half);
        // A descriptor of a file under /proc is open for a moment now and then.
        let after = Held::until(&monitor, SETTLED, |now| {
            now.descriptors <= before.descriptors && now.objects == 0
        })?;
        note(&format!(
            "{} programs in {:.0} s; held {before:?}, then {after:?}",
            2 * half,
            start.elapsed().as_secs_f64()
        ));
        Ok((monitor.stop()?, [before, after]))
    };
    let (watched, [before, after]) = run().expect("programs, watched");
    assert_all(&watched, 2 * half);
    assert!(
        after.descriptors <= before.descriptors,
        "{before:?}, then {after:?}"
    );
    assert_eq!(after.objects, 0, "TLS objects of programs that are gone");
    assert!(
        after.resident < before.resident + 16 * 1024,
        "{before:?}, then {after:?}"
    );
}

/// A process that has a library mapped and does nothing with it.
fn holder(library: &Path, stage: &Stage) -> Result<Process> {
    let mut python = stage.scene.agent.command_in(stage.scene.cgroup.path(), "python3");
    python
        .args([
            "-c",
            "import ctypes, sys, time; ctypes.CDLL(sys.argv[1]); time.sleep(600)",
        ])
        .arg(library);
    Process::spawn("python3", python)
}

/// A library that a package manager replaces: the old file's users and the new one's are both read, and the old
/// file loses its probes once nobody uses it.
#[test]
fn a_library_is_upgraded_in_place() {
    if !peers::ready("a_library_is_upgraded_in_place") {
        return;
    }
    let run = || -> Result<Watched> {
        let stage = Stage::new()?;
        let monitor = stage.monitor("{}\n")?;
        let _server = stage.server(Server::Go, "1.3")?;
        let folder = stage.dir.path().join("lib");
        std::fs::create_dir(&folder)?;
        let library = folder.join("libssl.so.3");
        let mut held = Vec::new();
        let mut users = Vec::new();
        for _ in 0..2 {
            let new = folder.join("new");
            std::fs::copy(libssl()?, &new)?;
            std::fs::rename(&new, &library)?;
            let before = Held::by(&monitor)?.descriptors;
            users.push(holder(&library, &stage)?);
            // A file's probes are several descriptors.
            let now = Held::until(&monitor, SCANNED, |now| now.descriptors >= before + 8)?;
            ensure!(now.descriptors >= before + 8, "no probes: {before}, then {now:?}");
            held.push((before, now.descriptors));
            curl(&stage, "LD_LIBRARY_PATH=\"$DIR\"", &[("DIR", &folder)])?;
        }
        monitor.drained(4);
        // The grace period is a minute: too long to wait for where the whole load is not asked for.
        if full() {
            users.clear();
            let first = held[0].0;
            let now = Held::until(&monitor, RELEASED, |now| now.descriptors <= first)?;
            note(&format!("descriptors {held:?}, at last {now:?}"));
            ensure!(now.descriptors <= first, "{held:?}, at last {now:?}");
        }
        monitor.stop()
    };
    let watched = run().expect("an upgrade, watched");
    assert_all(&watched, 2);
    if full() {
        assert_eq!(plaintext(&watched, "detached"), 2, "{:#}", watched.summary);
    }
}

/// A container has files of its own under the usual paths.
#[test]
fn a_container_with_a_library_of_its_own() {
    if !peers::ready("a_container_with_a_library_of_its_own") {
        return;
    }
    let run = || -> Result<Watched> {
        let stage = Stage::new()?;
        let monitor = stage.monitor("{}\n")?;
        let _server = stage.server(Server::Go, "1.3")?;
        let own = stage.dir.path().join("libssl.so.3");
        std::fs::copy(libssl()?, &own)?;
        // The second namespace is what a container runtime hands over: everything mounted before its program runs.
        let container = "unshare -m sh -c 'mount --bind \"$OWN\" \"$LIB\" && exec unshare -m sh -c \"sleep 1; exec \\\"\\$@\\\"\" sh \"$@\"' sh";
        curl(&stage, container, &[("OWN", &own), ("LIB", &libssl()?)])?;
        monitor.drained(2);
        monitor.stop()
    };
    let watched = run().expect("a container, watched");
    assert_all(&watched, 1);
}

/// Plaintext and memory of TLS objects lie in the kernel's tables: nobody else may look into them.
#[test]
fn tables_are_closed_to_other_users() {
    if !peers::ready("tables_are_closed_to_other_users") {
        return;
    }
    let run = || -> Result<bool> {
        let stage = Stage::new()?;
        let monitor = stage.monitor("{}\n")?;
        // Root is let in, or the question would say nothing.
        Held::by(&monitor)?;
        bpf::is_closed_to_others(monitor.pid())
    };
    assert!(run().expect("tables, asked for"));
}

/// A process that is killed in the middle of a session: what came before is there, its flows end, nothing of it
/// stays, and the next process is none the worse.
#[test]
fn a_process_dies_in_the_middle() {
    if !peers::ready("a_process_dies_in_the_middle") {
        return;
    }
    let run = || -> Result<(Counted, u64, Watched)> {
        let stage = Stage::new()?;
        let monitor = stage.monitor("{}\n")?;
        let _server = stage.server(Server::PythonJson, "1.3")?;
        let options = json!({"full": false, "calls": 3, "hold_until": "/nowhere"});
        let mut dying = stage.client(Client::TypeScript, &options)?;
        let holds = dying
            .stdout
            .wait_for(SESSION, |line| line.contains(r#""event":"holds""#));
        ensure!(holds.is_some(), "no session: {}", dying.stderr.text());
        let requests = dying
            .stdout
            .count(|line| line.contains(r#""event":"message""#) && line.contains(r#""kind":"request""#));
        let during = Held::until(&monitor, SETTLED, |now| now.objects > 0)?;
        ensure!(during.objects > 0, "no TLS object while it lives");
        let pid = format!("\"pid\":{},", dying.pid());
        dying.signal(nix::sys::signal::Signal::SIGKILL)?;
        let _ = dying.wait(SESSION);
        let ended = monitor.stdout().wait_for(SETTLED, |line| {
            line.contains("mcp-monitor.flow/1") && line.contains(&pid)
        });
        ensure!(ended.is_some(), "its flow did not end");
        let after = Held::until(&monitor, SCANNED, |now| now.objects == 0)?;
        ensure!(after.objects == 0, "its TLS objects stay: {after:?}");
        let mut next = stage.client(Client::Python, &json!({}))?;
        next.wait(SESSION)?;
        Ok((Counted::read(&next)?, requests as u64, monitor.stop()?))
    };
    let (counted, before, watched) = run().expect("a death, watched");
    assert!(before > 3, "a session before the death");
    assert_all(&watched, before + counted.0["mcp.requests"]);
}
