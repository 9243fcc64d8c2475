//! Questions to a whole fleet: the SQL of deploy/sql on ClickHouse (chDB, the same engine in a process), with records
//! that the binary wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::{binary, paths};
use serde_json::{Value, json};

/// The engine, as PyPI has it.
const ENGINE: &str = "chdb-core-lite==26.5.0";

fn ran(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(
        done.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(String::from_utf8(done.stdout)?)
}

/// Python with the engine, installed once.
fn engine() -> Result<PathBuf> {
    let venv = paths::target().join("sql");
    let python = venv.join("bin/python");
    let record = venv.join("installed");
    if std::fs::read_to_string(&record).ok().as_deref() != Some(ENGINE) {
        ran(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        ran(Command::new(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            ENGINE,
        ]))?;
        std::fs::write(record, ENGINE)?;
    }
    Ok(python)
}

/// Replays a capture as if a node had seen it.
fn node(folder: &Path, name: &str, arguments: &[&str]) -> Result<Vec<Value>> {
    let (ran, _) = binary::replay(&[&["--emit", "alerts,flows"], arguments].concat())?;
    std::fs::write(folder.join(format!("{name}.ndjson")), &ran.stdout)?;
    ran.records()
}

#[test]
fn the_questions_are_answered() {
    let run = || -> Result<()> {
        let folder = tempfile::tempdir()?;
        let demo = paths::captures().join("demo");
        let text = |path: PathBuf| path.to_str().map(str::to_owned).context("UTF-8");
        let (pins, capture) = (text(demo.join("pins.yaml"))?, text(demo.join("demo.pcap"))?);
        let mut records = node(folder.path(), "node-a", &["--pins", &pins, &capture])?;
        // The second node saw the same a minute later, at another server that got the same credential.
        let seen = std::fs::read_to_string(folder.path().join("node-a.ndjson"))?;
        let moved = seen
            .replace("T07:08:", "T07:09:")
            .replace(
                "\"server_name\":\"quotes-cdn.example\"",
                "\"server_name\":\"mirror.example\"",
            )
            .replace("\"id\":\"", "\"id\":\"b");
        ensure!(
            moved.contains("mirror.example"),
            "the capture names another server"
        );
        std::fs::write(folder.path().join("node-b.ndjson"), &moved)?;
        records.extend(binary::records(&moved)?);

        let script = paths::root().join("tests/fleet/queries.py");
        let sql = paths::root().join("deploy/sql");
        let found = ran(Command::new(engine()?).arg(script).arg(sql).arg(folder.path()))?;
        let found: Value = serde_json::from_str(found.trim())?;
        let of = |schema: &str| records.iter().filter(|record| record["schema"] == schema).count();
        assert_eq!(
            found["tables"]["alerts"],
            json!(of("mcp-monitor.alert/1")),
            "loaded twice, counted once"
        );
        assert_eq!(found["tables"]["flows"], json!(of("mcp-monitor.flow/1")));

        let reuse = &found["credential_reuse"][0];
        assert_eq!(reuse["servers"], 2, "{found}");
        assert_eq!(reuse["nodes"].as_array().map(Vec::len), Some(2), "{found}");
        let concentrated = &found["concentration"][0];
        assert_eq!(concentrated["server"], "mcp.marketdata.example", "{found}");
        assert_eq!(concentrated["nodes"], 2);
        let drift = &found["first_drift"][0];
        assert_eq!(drift["endpoint"], "market-data");
        assert_eq!(drift["first_node"], "node-a");
        assert_eq!(drift["spread_seconds"], 60);
        Ok(())
    };
    run().expect("answers");
}
