//! What the attached monitor costs traffic that is not MCP.
//!
//! iperf3 runs between two namespaces; the sender is in the watched cgroup. Each round runs
//! all contenders one after the other, so that the machine's moods hit them alike; what is
//! compared is the ratio within a round.

/// How long
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    /// Rounds; each runs without anything, with the monitor and with tcpdump
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Seconds of each run
    #[arg(long, default_value_t = 2)]
    seconds: u64,
}

#[cfg(not(target_os = "linux"))]
pub fn run(_: &Args) -> anyhow::Result<()> {
    anyhow::bail!("the live benchmark needs Linux")
}

#[cfg(target_os = "linux")]
pub use linux::run;

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;
    use std::time::Duration;

    use anyhow::{Context, Result, ensure};
    use mcp_monitor_tests::bpf;
    use mcp_monitor_tests::cgroup::Cgroup;
    use mcp_monitor_tests::monitor::{Monitor, Options};
    use mcp_monitor_tests::netns::{self, Ends, Namespace};
    use mcp_monitor_tests::process::{Process, output};
    use mcp_monitor_tests::{paths, privileges};
    use serde_json::Value;

    use super::Args;
    use crate::bench::report;
    use crate::bench::statistics::BpfStatistics;
    use crate::bench::stats::Spread;
    use crate::{build, setup};

    /// Two hosts on one veth pair, iperf3 listening on the second.
    struct Path2 {
        sender: Namespace,
        cgroup: Cgroup,
        _server: Process,
        _receiver: Namespace,
    }

    /// Segment offload as the kernel has it, or packets of 1500 bytes as on a wire.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Packets {
        Offloaded,
        OnTheWire,
    }

    /// Ratios to the bare run of the same round, and what a packet costs in the kernel.
    #[derive(Default)]
    struct Measured {
        bare: Vec<f64>,
        monitor: Vec<f64>,
        tcpdump: Vec<f64>,
        nanoseconds: Vec<f64>,
    }

    pub fn run(args: &Args) -> Result<()> {
        privileges::check()?;
        setup::run(&setup::Args::default())?;
        // The kernel program is the same in every profile, and on ignored flows it works alone.
        let binary = build::binary("e2e")?;
        let mut body = String::from(HEAD);
        for packets in [Packets::Offloaded, Packets::OnTheWire] {
            let measured = measure(&binary, args, packets)?;
            body += &measured.table(packets)?;
        }
        println!("{body}");
        report::write("live", &body)
    }

    const HEAD: &str = "## Live\n\n`cargo xtask bench live`: iperf3 across a veth pair between two namespaces, the sender \
        in the watched cgroup. Each round runs bare, with the monitor, with `tcpdump -s0 -w /dev/null`; ratios are \
        within a round: median (least–greatest). Nanoseconds per packet are the kernel's own, \
        `run_time_ns / run_cnt` of the packet programs, for flows that were classified and ignored.\n";

    fn measure(binary: &Path, args: &Args, packets: Packets) -> Result<Measured> {
        let path = Path2::new(packets)?;
        let mut measured = Measured::default();
        path.iperf(1)?;
        for round in 0..args.rounds {
            let bare = path.iperf(args.seconds)?;
            let (watched, nanoseconds) = path.with_monitor(binary, args.seconds)?;
            let dumped = path.with_tcpdump(args.seconds)?;
            eprintln!(
                "round {:2}: bare {bare:.2} Gbit/s, monitor {:.3}, tcpdump {:.3}, {nanoseconds:.0} ns a packet",
                round + 1,
                watched / bare,
                dumped / bare
            );
            measured.bare.push(bare);
            measured.monitor.push(watched / bare);
            measured.tcpdump.push(dumped / bare);
            measured.nanoseconds.push(nanoseconds);
        }
        Ok(measured)
    }

    impl Measured {
        fn table(&self, packets: Packets) -> Result<String> {
            let title = match packets {
                Packets::Offloaded => "Segment offload on (packets of up to 64 KiB)",
                Packets::OnTheWire => "Segment offload off (packets of 1500 bytes)",
            };
            let show =
                |values: &[f64], digits| Spread::of(values).map(|s| s.show(digits)).context("no rounds");
            Ok(format!(
                "\n### {title}, {} rounds\n\n| | |\n|---|---|\n| bare, Gbit/s | {} |\n| with the monitor | {} |\n\
                 | with tcpdump | {} |\n| ns per ignored packet | {} |\n",
                self.bare.len(),
                show(&self.bare, 2)?,
                show(&self.monitor, 3)?,
                show(&self.tcpdump, 3)?,
                show(&self.nanoseconds, 0)?,
            ))
        }
    }

    impl Path2 {
        fn new(packets: Packets) -> Result<Self> {
            netns::remove_stale()?;
            let (sender, receiver) = (Namespace::new("sender")?, Namespace::new("receiver")?);
            let ends = [Ends {
                near: "10.9.0.1".parse()?,
                far: "10.9.0.2".parse()?,
            }];
            netns::join(&sender, &receiver, "receiver", &ends)?;
            if packets == Packets::OnTheWire {
                for (host, device) in [(&sender, "eth0"), (&receiver, "receiver")] {
                    let off = ["-K", device, "tso", "off", "gso", "off", "gro", "off"];
                    output(host.command("ethtool").args(off)).context("ethtool")?;
                }
            }
            let mut server = receiver.command("iperf3");
            server.args(["-s", "--forceflush"]);
            let server = Process::spawn("iperf3", server)?;
            let ready = server
                .stdout
                .wait_for(Duration::from_secs(10), |line| line.contains("listening"));
            ensure!(
                ready.is_some(),
                "iperf3 does not listen: {}",
                server.stderr.text()
            );
            Ok(Self {
                sender,
                cgroup: Cgroup::new("bench")?,
                _server: server,
                _receiver: receiver,
            })
        }

        /// Throughput in Gbit/s.
        fn iperf(&self, seconds: u64) -> Result<f64> {
            let mut command = self.sender.command_in(self.cgroup.path(), "iperf3");
            command.args(["-c", "10.9.0.2", "-J", "-t", &seconds.to_string()]);
            let report: Value = serde_json::from_str(&output(&mut command)?)?;
            let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
            Ok(bits.context("iperf3 reports no throughput")? / 1e9)
        }

        /// Throughput with the monitor attached, and nanoseconds per packet in its programs.
        fn with_monitor(&self, binary: &Path, seconds: u64) -> Result<(f64, f64)> {
            let pins = paths::captures().join("demo/pins.yaml");
            let options = Options {
                pins: Some(pins),
                cgroup: Some(self.cgroup.path().into()),
                text: false,
                ..Options::default()
            };
            let monitor = Monitor::start_at(binary, &options, |_| {})?;
            let rate = self.iperf(seconds)?;
            let statistics = BpfStatistics::on()?;
            self.iperf(1)?;
            let nanoseconds = per_packet(monitor.pid())?;
            drop(statistics);
            let kernel = monitor.stop()?.summary["kernel"].clone();
            let count = |name: &str| kernel[name].as_f64().unwrap_or(0.0);
            // Otherwise the figure would be of something else than it says.
            let ignored = count("ignored") / count("seen");
            ensure!(
                ignored > 0.95,
                "only {ignored:.3} of the packets were ignored: {kernel}"
            );
            Ok((rate, nanoseconds))
        }

        fn with_tcpdump(&self, seconds: u64) -> Result<f64> {
            let mut command = self.sender.command("tcpdump");
            command.args(["-i", "eth0", "-s0", "-w", "/dev/null"]);
            let dump = Process::spawn("tcpdump", command)?;
            let ready = dump
                .stderr
                .wait_for(Duration::from_secs(10), |line| line.contains("listening on"));
            ensure!(
                ready.is_some(),
                "tcpdump does not capture: {}",
                dump.stderr.text()
            );
            self.iperf(seconds)
        }
    }

    /// Nanoseconds per run of the packet programs that a process holds open.
    fn per_packet(pid: u32) -> Result<f64> {
        let (mut time, mut runs) = (0, 0);
        for program in bpf::programs(pid)? {
            if program.kind == "cgroup_skb" {
                time += program.nanoseconds;
                runs += program.runs;
            }
        }
        ensure!(runs > 0, "the kernel counted no runs of the packet programs");
        Ok(time as f64 / runs as f64)
    }
}
