//! What it costs a process that the monitor reads the plaintext of its TLS library.
//!
//! h2load (OpenSSL) calls a tool of an MCP server over HTTPS. Each round runs without and with the monitor, one after
//! the other, so that the machine's moods hit both alike; what is compared is the ratio within a round.

/// How long
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    /// Rounds; each runs without the monitor and with it, in HTTP/1.1 and HTTP/2
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Requests of each run
    #[arg(long, default_value_t = 4000)]
    requests: u64,
}

#[cfg(not(target_os = "linux"))]
pub fn run(_: &Args) -> anyhow::Result<()> {
    anyhow::bail!("the benchmark of TLS needs Linux")
}

#[cfg(target_os = "linux")]
pub use linux::run;

#[cfg(target_os = "linux")]
mod linux {
    use anyhow::{Context, Result, ensure};
    use mcp_monitor_tests::bpf::{self, Program};
    use mcp_monitor_tests::https::Stage;
    use mcp_monitor_tests::monitor::Watched;
    use mcp_monitor_tests::peers::{self, Server};
    use mcp_monitor_tests::privileges;
    use mcp_monitor_tests::process::output;

    use super::Args;
    use crate::bench::report;
    use crate::bench::statistics::BpfStatistics;
    use crate::bench::stats::Spread;
    use crate::{build, setup};

    /// Connections of each run.
    const CONNECTIONS: &str = "8";
    /// Bytes of a request's body.
    const BODY: usize = 1024;

    /// h2load's name for a version of HTTP, and people's.
    const VERSIONS: [(&str, &str); 2] = [("--h1", "HTTP/1.1"), ("--npn-list=h2", "HTTP/2")];

    #[derive(Default)]
    struct Measured {
        bare: Vec<f64>,
        ratio: Vec<f64>,
        /// Probe hits per message.
        hits: Vec<f64>,
        /// Nanoseconds of program per hit.
        each: Vec<f64>,
        /// The same at the return of a call, where the plaintext is copied.
        returns: Vec<f64>,
    }

    pub fn run(args: &Args) -> Result<()> {
        privileges::check()?;
        setup::run(&setup::Args::default())?;
        peers::install()?;
        let binary = build::binary("e2e")?;
        let mut body = String::from(HEAD);
        body += "\n| | HTTP/1.1 | HTTP/2 |\n|---|---|---|\n";
        let mut measured = Vec::new();
        for (flag, name) in VERSIONS {
            measured.push(measure(&binary, args, flag, name)?);
        }
        let mut row = |what: &str, of: fn(&Measured) -> &[f64], digits| -> Result<()> {
            let cells = measured
                .iter()
                .map(|m| Spread::of(of(m)).map(|s| s.show(digits)).context("no rounds"))
                .collect::<Result<Vec<_>>>()?;
            body += &format!("| {what} | {} |\n", cells.join(" | "));
            Ok(())
        };
        row("requests per second, bare", |m| &m.bare, 0)?;
        row("with the monitor, of that", |m| &m.ratio, 3)?;
        row("probe hits per message", |m| &m.hits, 2)?;
        row("ns of program per hit", |m| &m.each, 0)?;
        row("ns of program at the return of a call", |m| &m.returns, 0)?;
        println!("{body}");
        report::write("tls", &body)
    }

    const HEAD: &str = "## Plaintext of TLS\n\n`cargo xtask bench tls`: h2load (OpenSSL, 8 connections, in the watched \
        cgroup) calls a tool of an MCP server in Go over HTTPS, TLS 1.3, with requests of 1 KiB. Each round runs bare \
        and with the monitor; ratios are within a round: median (least–greatest). A request and its answer are two \
        messages. Hits and nanoseconds are the kernel's own, `run_cnt` and `run_time_ns` of the probes' programs, from \
        a run of its own.\n\nA hit is a trap into the kernel. On a virtual machine such as this the trap alone costs \
        some ten microseconds, on bare metal about one, whatever the program does: the ratio holds for this machine, \
        hits and nanoseconds for others too.\n";

    fn measure(binary: &std::path::Path, args: &Args, flag: &str, name: &str) -> Result<Measured> {
        let stage = Stage::new()?;
        let _server = stage.server(Server::Go, "1.3")?;
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_quote","arguments":{"symbol":"#;
        let end = r#""}}}"#;
        let filler = "A".repeat(BODY - call.len() - end.len() - 1);
        std::fs::write(
            stage.dir.path().join("call.json"),
            format!("{call}\"{filler}{end}"),
        )?;
        let mut measured = Measured::default();
        load(&stage, flag, args.requests / 4)?;
        for round in 0..args.rounds {
            let bare = load(&stage, flag, args.requests)?;
            let monitor = stage.monitor_at(binary, "{}\n")?;
            // The first connections teach where the library keeps what tells them apart.
            load(&stage, flag, 100)?;
            let watched = load(&stage, flag, args.requests)?;
            let statistics = BpfStatistics::on()?;
            load(&stage, flag, args.requests)?;
            let programs = bpf::programs(monitor.pid())?;
            drop(statistics);
            let requests = 2 * args.requests + 100;
            monitor.drained(2 * requests);
            all_seen(&monitor.stop()?, requests)?;
            let (hits, each, returns) = costs(&programs, 2 * args.requests)?;
            eprintln!(
                "{name} round {:2}: bare {bare:.0} requests a second, monitor {:.3}, {hits:.2} hits a message, \
                 {each:.0} ns a hit, {returns:.0} ns a return",
                round + 1,
                watched / bare
            );
            measured.bare.push(bare);
            measured.ratio.push(watched / bare);
            measured.hits.push(hits);
            measured.each.push(each);
            measured.returns.push(returns);
        }
        Ok(measured)
    }

    /// Requests per second.
    fn load(stage: &Stage, flag: &str, requests: u64) -> Result<f64> {
        let mut h2load = stage.scene.agent.command_in(stage.scene.cgroup.path(), "h2load");
        h2load.args([flag, "-c", CONNECTIONS, "-n", &requests.to_string()]);
        h2load.args(["-H", "content-type: application/json"]);
        h2load.args(["-H", "accept: application/json, text/event-stream"]);
        h2load.arg("-d").arg(stage.dir.path().join("call.json"));
        let said = output(h2load.arg(stage.url()))?;
        ensure!(said.contains(&format!(" {requests} succeeded")), "{said}");
        let (_, rest) = said.split_once("finished in ").context("h2load's rate")?;
        let rate = rest
            .split(", ")
            .nth(1)
            .and_then(|rate| rate.strip_suffix(" req/s"));
        Ok(rate.context("h2load's rate")?.parse()?)
    }

    /// Otherwise the figures would be of something else than they say.
    fn all_seen(watched: &Watched, requests: u64) -> Result<()> {
        let seen = &watched.summary["mcp"]["requests"];
        ensure!(
            *seen == requests,
            "{seen} of {requests} requests were seen: {:#}",
            watched.summary
        );
        Ok(())
    }

    /// Hits per message, nanoseconds per hit, and nanoseconds per return.
    fn costs(programs: &[Program], messages: u64) -> Result<(f64, f64, f64)> {
        let sum = |wanted: &dyn Fn(&Program) -> bool| {
            let of = programs.iter().filter(|program| wanted(program));
            of.fold((0, 0), |(time, runs), p| (time + p.nanoseconds, runs + p.runs))
        };
        let (time, runs) = sum(&|program| program.kind == "kprobe");
        let (time_of_returns, returns) = sum(&|program| program.name == "mcp_tls_return");
        ensure!(
            returns > 0,
            "the kernel counted no runs of the probes: {programs:?}"
        );
        Ok((
            runs as f64 / messages as f64,
            time as f64 / runs as f64,
            time_of_returns as f64 / returns as f64,
        ))
    }
}
