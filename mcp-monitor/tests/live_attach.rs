//! The kernel programs on the kernel of this machine, over loopback in a cgroup of the test's own.
//!
//! Says so on standard error and passes where the privileges are missing.
#![cfg(feature = "live")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test may fail"
)]

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use mcp_monitor::{
    decode::{TcpSegment, flags},
    source::{
        live::{FlowVerdict, KernelCounters, LiveError, LiveOptions, LiveRecord, LiveSource},
        verdict::{DriftKind, PinnedHost},
    },
};

/// A process is in one cgroup at a time, so these tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A cgroup that this process is in while it lives.
struct TestCgroup {
    path: PathBuf,
    home: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl TestCgroup {
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mounts = fs::read_to_string("/proc/mounts").ok()?;
        let root = mounts.lines().find_map(|line| {
            line.contains(" cgroup2 ")
                .then(|| line.split(' ').nth(1))
                .flatten()
        })?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
        let home = PathBuf::from(root).join(own.trim_start_matches('/'));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(root).join(format!("mcp-monitor-test-{}-{number}", std::process::id()));
        let made = fs::create_dir(&path).is_ok();
        let entered = made && fs::write(path.join("cgroup.procs"), std::process::id().to_string()).is_ok();
        if !entered {
            eprintln!("SKIPPED: no right to make a cgroup in {root}");
            return None;
        }
        Some(Self {
            path,
            home,
            _turn: turn,
        })
    }

    fn attach(&self, hosts: &[PinnedHost], options: LiveOptions) -> Option<LiveSource> {
        let options = LiveOptions {
            cgroup: Some(self.path.clone()),
            ring_bytes: 16 << 20,
            ..options
        };
        match LiveSource::attach(&options, hosts) {
            Ok(source) => Some(source),
            Err(LiveError::Privileges { missing }) => {
                eprintln!("SKIPPED: no {missing}");
                None
            }
            Err(why) => panic!("{why}"),
        }
    }
}

impl TestCgroup {
    /// Why a source cannot be attached.
    fn attach_error(&self, hosts: &[PinnedHost], options: LiveOptions) -> String {
        let options = LiveOptions {
            cgroup: Some(self.path.clone()),
            ..options
        };
        match LiveSource::attach(&options, hosts) {
            Ok(_) => panic!("attached"),
            Err(why) => why.to_string(),
        }
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.home.join("cgroup.procs"), std::process::id().to_string());
        let removed = (0..50).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            fs::remove_dir(&self.path).is_ok()
        });
        if !removed {
            eprintln!("{} was left behind", self.path.display());
        }
    }
}

/// A source, what it gave, and the cgroup it watches.
struct Bench {
    source: LiveSource,
    records: Vec<LiveRecord>,
    cgroup: TestCgroup,
}

impl Bench {
    /// `None` where this machine does not allow it.
    fn new(hosts: &[PinnedHost]) -> Option<Self> {
        Self::judging(hosts, false)
    }

    fn judging(hosts: &[PinnedHost], userspace_verdicts: bool) -> Option<Self> {
        Self::with(
            hosts,
            LiveOptions {
                userspace_verdicts,
                ..LiveOptions::default()
            },
        )
    }

    fn with(hosts: &[PinnedHost], options: LiveOptions) -> Option<Self> {
        let cgroup = TestCgroup::new()?;
        Some(Self {
            source: cgroup.attach(hosts, options)?,
            records: Vec::new(),
            cgroup,
        })
    }

    /// Reads until nothing comes for a while.
    async fn settle(&mut self) {
        let wait = Duration::from_millis(200);
        while let Ok(result) = tokio::time::timeout(wait, self.source.next(&mut self.records)).await {
            result.unwrap();
        }
    }

    fn segments(&self, port: u16) -> Vec<&TcpSegment> {
        self.records
            .iter()
            .filter_map(|record| match record {
                LiveRecord::Segment(segment) => Some(segment),
                _ => None,
            })
            .filter(|segment| segment.dst.port() == port || segment.src.port() == port)
            .collect()
    }

    fn drifts(&self) -> Vec<(DriftKind, usize, IpAddr)> {
        self.records
            .iter()
            .filter_map(|record| match record {
                LiveRecord::Drift {
                    kind, host, address, ..
                } => Some((*kind, *host, *address)),
                _ => None,
            })
            .collect()
    }

    /// The counters, of which none may say that anything was lost.
    fn counters(&self) -> KernelCounters {
        let counters = self.source.counters().unwrap();
        assert_eq!(counters.lost(), 0, "{counters:?}");
        counters
    }
}

/// A connection over loopback: client, server.
fn connection(address: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(address).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    (client, server)
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).unwrap();
    let mut got = vec![0; bytes.len()];
    to.read_exact(&mut got).unwrap();
    assert_eq!(got, bytes);
}

/// The bytes that were seen on their way to `port`, in the order they came.
fn stream(segments: &[&TcpSegment], port: u16) -> Vec<u8> {
    segments
        .iter()
        .filter(|segment| segment.dst.port() == port)
        .flat_map(|segment| segment.payload.iter().copied())
        .collect()
}

#[tokio::test(flavor = "current_thread")]
async fn a_connection_is_seen_once_and_whole() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Some(mut bench) = Bench::new(&[]) else { return };
        let (mut client, mut server) = connection(address);
        let port = server.local_addr().unwrap().port();
        let request = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
        pass(&mut client, &mut server, request);
        // Larger than a chunk, and than what an undecided flow that is not HTTP would give up.
        let response = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b'x'; 100_000]].concat();
        let sent = response.clone();
        let writer = std::thread::spawn(move || {
            server.write_all(&sent).unwrap();
            server
        });
        let mut got = vec![0; response.len()];
        client.read_exact(&mut got).unwrap();
        drop(writer.join().unwrap());
        drop(client);
        bench.settle().await;

        let segments = bench.segments(port);
        assert_eq!(stream(&segments, port), request);
        let client_port = segments[0].src.port();
        assert!(stream(&segments, client_port) == response);
        let syns: Vec<u8> = segments
            .iter()
            .map(|segment| segment.flags)
            .filter(|bits| bits & flags::SYN != 0)
            .collect();
        assert_eq!(syns, [flags::SYN, flags::SYN | flags::ACK]);
        let ends = segments.iter().filter(|segment| segment.flags & flags::FIN != 0);
        assert_eq!(ends.count(), 2);

        // One end only, and one socket.
        let cookie = segments[0].cookie;
        assert!(cookie.is_some());
        assert!(segments.iter().all(|segment| segment.cookie == cookie));
        // Sequence numbers continue over the chunks of a large packet.
        let mut expected = None;
        for segment in segments
            .iter()
            .filter(|segment| segment.dst.port() == client_port)
        {
            if !segment.payload.is_empty() {
                assert!(expected.is_none_or(|expected| expected == segment.seq));
                expected = Some(segment.seq.wrapping_add(segment.wire_len));
            }
        }
        let counters = bench.counters();
        assert!(counters.duplicates > 0, "{counters:?}");

        let process = bench.records.iter().find_map(|record| match record {
            LiveRecord::Process {
                process, cookie: of, ..
            } if Some(*of) == cookie => Some(process),
            _ => None,
        });
        let process = process.unwrap();
        assert_eq!(process.pid, std::process::id());
        assert_eq!(process.exe.as_deref(), std::env::current_exe().unwrap().to_str());
        assert!(process.cgroup.as_deref().unwrap().contains("mcp-monitor-test"));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn verdicts_gate_a_flow() {
    let Some(mut bench) = Bench::new(&[]) else { return };
    let (mut client, mut server) = connection("127.0.0.1:0");
    let port = server.local_addr().unwrap().port();
    pass(&mut client, &mut server, b"GET /index HTTP/1.1\r\n\r\n");
    bench.settle().await;
    let cookie = bench.segments(port)[0].cookie.unwrap();

    bench.source.set_verdict(cookie, FlowVerdict::Watch).unwrap();
    bench.records.clear();
    pass(&mut server, &mut client, b"a body that is not of interest");
    pass(&mut server, &mut client, b"and more of it");
    bench.settle().await;
    assert_eq!(bench.segments(port).len(), 0);

    pass(&mut client, &mut server, b"POST /mcp HTTP/1.1\r\n\r\n");
    pass(&mut server, &mut client, b"HTTP/1.1 200 OK\r\n\r\n");
    pass(&mut client, &mut server, b"more");
    bench.settle().await;
    let seen: Vec<(bool, usize)> = bench
        .segments(port)
        .iter()
        .map(|segment| (segment.resumed, segment.payload.len()))
        .collect();
    assert_eq!(seen, [(true, 22), (true, 19), (false, 4)]);

    bench.source.set_verdict(cookie, FlowVerdict::Ignored).unwrap();
    bench.records.clear();
    pass(&mut client, &mut server, b"POST /mcp HTTP/1.1\r\n\r\n");
    bench.settle().await;
    assert_eq!(bench.segments(port).len(), 0);
    let counters = bench.counters();
    assert_eq!(counters.resumed, 1);
    assert!(counters.ignored > 0 && counters.watched == 2, "{counters:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn an_undecided_flow_gives_up_its_first_bytes_only() {
    let Some(mut bench) = Bench::new(&[]) else { return };
    let (mut client, mut server) = connection("127.0.0.1:0");
    let port = server.local_addr().unwrap().port();
    for _ in 0..30 {
        pass(&mut client, &mut server, &[b'z'; 1000]);
    }
    bench.settle().await;
    let given = stream(&bench.segments(port), port).len();
    assert_eq!(given, 9000, "the budget is 8192, and a packet is not cut");
    let cookie = bench.segments(port)[0].cookie.unwrap();

    bench.source.set_verdict(cookie, FlowVerdict::Captured).unwrap();
    bench.records.clear();
    pass(&mut client, &mut server, &[b'z'; 1000]);
    bench.settle().await;
    assert!(bench.segments(port)[0].resumed);
    let counters = bench.counters();
    assert_eq!(counters.over_budget_bytes, 21_000);
}

#[tokio::test(flavor = "current_thread")]
async fn a_socket_older_than_the_monitor_is_seen() {
    let Some(cgroup) = TestCgroup::new() else { return };
    let (mut client, mut server) = connection("127.0.0.1:0");
    let port = server.local_addr().unwrap().port();
    let Some(source) = cgroup.attach(&[], LiveOptions::default()) else {
        return;
    };
    let mut bench = Bench {
        source,
        records: Vec::new(),
        cgroup,
    };
    pass(&mut client, &mut server, b"POST / HTTP/1.1\r\n\r\n");
    pass(&mut server, &mut client, b"HTTP/1.1 200 OK\r\n\r\n");
    bench.settle().await;
    assert_eq!(stream(&bench.segments(port), port), b"POST / HTTP/1.1\r\n\r\n");
    assert_eq!(bench.segments(port).len(), 2);
}

#[tokio::test(flavor = "current_thread")]
async fn other_cgroups_are_none_of_its_business() {
    let Some(mut bench) = Bench::new(&[]) else { return };
    fs::write(
        bench.cgroup.home.join("cgroup.procs"),
        std::process::id().to_string(),
    )
    .unwrap();
    let (mut client, mut server) = connection("127.0.0.1:0");
    pass(&mut client, &mut server, b"POST / HTTP/1.1\r\n\r\n");
    bench.settle().await;
    assert_eq!(bench.records.len(), 0);
    assert_eq!(bench.counters().seen, 0);
}

/// An answer for `name`, through the CNAMEs given, with one A or AAAA record per address.
fn answer(name: &str, aliases: &[&str], addresses: &[IpAddr]) -> Vec<u8> {
    fn wire(name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for label in name.split('.') {
            out.push(u8::try_from(label.len()).unwrap());
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out
    }
    let count = u8::try_from(aliases.len() + addresses.len()).unwrap();
    let mut message = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0];
    message.extend(wire(name));
    message.extend([0, 1, 0, 1]);
    let mut owner = name.to_owned();
    let mut record = |owner: &str, kind: u8, data: &[u8]| {
        message.extend(wire(owner));
        message.extend([0, kind, 0, 1, 0, 0, 0, 60, 0, u8::try_from(data.len()).unwrap()]);
        message.extend(data);
    };
    for alias in aliases {
        record(&owner, 5, &wire(alias));
        (*alias).clone_into(&mut owner);
    }
    for address in addresses {
        match address {
            IpAddr::V4(v4) => record(&owner, 1, &v4.octets()),
            IpAddr::V6(v6) => record(&owner, 28, &v6.octets()),
        }
    }
    message
}

/// Asks a server on port 53 of a loopback address, which says `message`.
fn resolve(server: Ipv4Addr, message: &[u8]) {
    let server = UdpSocket::bind((server, 53)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"query", server.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 512];
    let (_, from) = server.recv_from(&mut buffer).unwrap();
    server.send_to(message, from).unwrap();
    client.recv_from(&mut buffer).unwrap();
}

fn pin(pattern: &str, prefixes: &[&str]) -> PinnedHost {
    PinnedHost {
        pattern: pattern.into(),
        prefixes: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        enforce: false,
    }
}

#[tokio::test(flavor = "current_thread")]
async fn drift_is_judged_in_the_kernel() {
    judges_drift(false).await;
}

/// What a kernel without `bpf_loop` gets.
#[tokio::test(flavor = "current_thread")]
async fn drift_is_judged_in_userspace_alike() {
    judges_drift(true).await;
}

async fn judges_drift(userspace: bool) {
    let hosts = [
        pin("mcp.example.com", &["192.0.2.0/24", "2001:db8::/32"]),
        pin("*.wild.example", &["192.0.2.0/24"]),
        pin("any.example", &[]),
    ];
    let Some(mut bench) = Bench::judging(&hosts, userspace) else {
        return;
    };
    let resolver = Ipv4Addr::new(127, 0, 53, 1);
    let good: IpAddr = "192.0.2.7".parse().unwrap();
    let good6: IpAddr = "2001:db8::7".parse().unwrap();
    // On loopback, so that a connection can be tried: nobody listens there.
    let bad: IpAddr = "127.66.0.1".parse().unwrap();
    let bad6: IpAddr = "2001:db9::1".parse().unwrap();

    let hello = client_hello("mcp.example.com");
    resolve(resolver, &answer("mcp.example.com", &[], &[good, good6]));
    resolve(resolver, &answer("other.example.com", &[], &[bad]));
    resolve(
        resolver,
        &answer("any.example", &[], &["127.66.0.2".parse().unwrap()]),
    );
    bench.settle().await;
    assert_eq!(bench.drifts(), []);

    resolve(
        resolver,
        &answer("MCP.example.COM", &["cdn.example.net"], &[good, bad, bad6]),
    );
    resolve(resolver, &answer("a.b.wild.example", &[], &[bad]));
    bench.settle().await;
    let expected = [
        (DriftKind::DnsAnswer, 0, bad),
        (DriftKind::DnsAnswer, 0, bad6),
        (DriftKind::DnsAnswer, 1, bad),
    ];
    assert_eq!(bench.drifts(), expected);
    let datagrams = bench
        .records
        .iter()
        .filter(|record| matches!(record, LiveRecord::Datagram(_)));
    assert_eq!(datagrams.count(), 10, "five queries, five answers, each once");

    bench.records.clear();
    let (mut client, mut server) = connection("127.0.0.1:0");
    pass(&mut client, &mut server, &hello);
    bench.settle().await;
    let here: IpAddr = "127.0.0.1".parse().unwrap();
    assert_eq!(bench.drifts(), [(DriftKind::Sni, 0, here)]);

    bench.records.clear();
    assert!(TcpStream::connect(SocketAddr::new(bad, 9)).is_err());
    assert!(TcpStream::connect("127.66.0.2:9").is_err());
    bench.settle().await;
    let drifts = bench.drifts();
    assert_eq!(drifts.len(), 1);
    assert_eq!((drifts[0].0, drifts[0].2), (DriftKind::Connect, bad));
    let counters = bench.counters();
    let walked = if userspace { 0 } else { 5 };
    assert_eq!((counters.dns_walked, counters.dns_given_up), (walked, 0));
}

#[tokio::test(flavor = "current_thread")]
async fn pins_are_swapped_under_way() {
    let Some(mut bench) = Bench::new(&[pin("mcp.example.com", &["192.0.2.0/24"])]) else {
        return;
    };
    let resolver = Ipv4Addr::new(127, 0, 53, 2);
    let moved: IpAddr = "198.51.100.1".parse().unwrap();
    let message = answer("mcp.example.com", &[], &[moved]);
    resolve(resolver, &message);
    bench.settle().await;
    assert_eq!(bench.drifts(), [(DriftKind::DnsAnswer, 0, moved)]);
    for round in 0..3 {
        bench.records.clear();
        let hosts = [
            pin("new.example", &[]),
            pin("mcp.example.com", &["198.51.100.0/24"]),
        ];
        bench.source.swap_pins(&hosts).unwrap();
        resolve(resolver, &message);
        bench.settle().await;
        assert_eq!(bench.drifts(), [], "round {round}");
        let hosts = [
            pin("new.example", &[]),
            pin("mcp.example.com", &["203.0.113.0/24"]),
        ];
        bench.source.swap_pins(&hosts).unwrap();
        resolve(resolver, &message);
        bench.settle().await;
        assert_eq!(
            bench.drifts(),
            [(DriftKind::DnsAnswer, 1, moved)],
            "round {round}"
        );
    }
}

/// A ClientHello with this server name, behind an extension of another kind.
fn client_hello(name: &str) -> Vec<u8> {
    let name_length = u16::try_from(name.len()).unwrap();
    let mut extensions = vec![0x00, 0x2b, 0, 3, 2, 3, 4];
    extensions.extend([0, 0]);
    extensions.extend((name_length + 5).to_be_bytes());
    extensions.extend((name_length + 3).to_be_bytes());
    extensions.push(0);
    extensions.extend(name_length.to_be_bytes());
    extensions.extend(name.as_bytes());
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let length = u16::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 1];
    record.extend((length + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend(length.to_be_bytes());
    record.extend(body);
    record
}

#[tokio::test(flavor = "current_thread")]
async fn tls_gives_up_its_handshake_and_its_server_name_is_judged() {
    let hosts = [
        pin("mcp.example.com", &["192.0.2.0/24"]),
        pin("*.fine.example", &["127.0.0.0/8"]),
    ];
    let Some(mut bench) = Bench::new(&hosts) else {
        return;
    };
    let (mut client, mut server) = connection("127.0.0.1:0");
    let port = server.local_addr().unwrap().port();
    pass(&mut client, &mut server, &client_hello("MCP.example.com"));
    for _ in 0..40 {
        pass(&mut server, &mut client, &[23; 1000]);
    }
    let (mut other, mut far) = connection("127.0.0.1:0");
    pass(&mut other, &mut far, &client_hello("a.fine.example"));
    bench.settle().await;
    assert_eq!(
        bench.drifts(),
        [(DriftKind::Sni, 0, "127.0.0.1".parse().unwrap())]
    );
    let client_port = client.local_addr().unwrap().port();
    let given = stream(&bench.segments(port), client_port).len();
    assert_eq!(given, 17_000, "the budget is 16384, and a packet is not cut");
    let counters = bench.counters();
    assert_eq!(counters.hellos_walked, 2);
    assert!(counters.ignored > 20, "{counters:?}");
}

/// Prints what ran, for `cargo xtask test kernels`.
#[tokio::test(flavor = "current_thread")]
async fn every_program_runs() {
    let statistics = aya::sys::enable_stats(aya::sys::Stats::RunTime);
    let Some(mut bench) = Bench::new(&[]) else { return };
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (mut client, mut server) = connection(address);
        pass(&mut client, &mut server, b"GET / HTTP/1.1\r\n\r\n");
        let socket = UdpSocket::bind(address).unwrap();
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
    }
    bench.settle().await;
    let costs = bench.source.program_costs();
    for cost in &costs {
        println!("\nPROGRAM {} {}", cost.name, cost.runs);
    }
    if statistics.is_err() {
        eprintln!("SKIPPED: the kernel counts no runs of programs");
        return;
    }
    let packets_and_calls = [
        "mcp_egress",
        "mcp_ingress",
        "mcp_connect4",
        "mcp_connect6",
        "mcp_sendmsg4",
        "mcp_sendmsg6",
    ];
    for name in packets_and_calls {
        assert!(
            costs.iter().any(|cost| &*cost.name == name && cost.runs > 0),
            "{name}: {costs:?}"
        );
    }
}

/// The programs on TLS functions, which the verifier goes through though no library is there to put them on.
#[tokio::test(flavor = "current_thread")]
async fn the_programs_on_tls_functions_load() {
    let options = LiveOptions {
        plaintext: true,
        ..LiveOptions::default()
    };
    let Some(bench) = Bench::with(&[], options) else {
        return;
    };
    assert!(
        bench.source.tls_counters().is_some(),
        "refused: the log above says which and why"
    );
    for cost in bench.source.program_costs() {
        println!("\nPROGRAM {} {}", cost.name, cost.runs);
    }
}

#[test]
fn a_cgroup_that_is_none_is_an_error_that_names_it() {
    let options = LiveOptions {
        cgroup: Some("/nonexistent/cgroup".into()),
        ..LiveOptions::default()
    };
    let why = LiveSource::attach(&options, &[]).unwrap_err().to_string();
    assert!(why.contains("/nonexistent/cgroup"), "{why}");
}

/// Connections and datagrams to a pinned name that leads elsewhere fail at once, if pins and operator ask for it.
#[tokio::test(flavor = "current_thread")]
async fn drift_is_refused_where_pins_and_operator_ask_for_it() {
    use std::io::ErrorKind;
    let hosts = |enforce| {
        [
            PinnedHost {
                enforce,
                ..pin("strict.example", &["127.0.0.0/16"])
            },
            pin("lenient.example", &["192.0.2.0/24"]),
        ]
    };
    let strict: IpAddr = "127.66.1.1".parse().unwrap();
    let shared: IpAddr = "127.66.1.2".parse().unwrap();
    let lenient: IpAddr = "127.66.1.3".parse().unwrap();
    for (operator, pinned) in [(true, true), (false, true), (true, false)] {
        let options = LiveOptions {
            enforce: operator,
            ..LiveOptions::default()
        };
        let Some(mut bench) = Bench::with(&hosts(pinned), options) else {
            return;
        };
        let resolver = Ipv4Addr::new(127, 0, 53, 2);
        resolve(resolver, &answer("strict.example", &[], &[strict, shared]));
        resolve(resolver, &answer("lenient.example", &[], &[shared, lenient]));
        bench.settle().await;
        bench.records.clear();
        let refuses = operator && pinned;
        let at = |address: IpAddr| std::net::TcpListener::bind((address, 0)).unwrap();
        let servers = [at(strict), at(shared), at(lenient)];
        let tried = servers
            .each_ref()
            .map(|server| TcpStream::connect(server.local_addr().unwrap()));
        let denied = tried.each_ref().map(|tried| {
            tried
                .as_ref()
                .is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
        });
        assert_eq!(
            denied,
            [refuses, false, false],
            "operator {operator}, pins {pinned}"
        );

        let receiver = UdpSocket::bind((strict, 0)).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sent = socket.send_to(b"x", receiver.local_addr().unwrap());
        assert_eq!(sent.is_err(), refuses);
        socket.connect(receiver.local_addr().unwrap()).unwrap();
        for _ in 0..2 {
            assert_eq!(socket.send(b"x").is_err(), refuses);
        }
        bench.settle().await;
        let said: Vec<(IpAddr, bool)> = bench
            .records
            .iter()
            .filter_map(|record| match record {
                LiveRecord::Drift { address, refused, .. } => Some((*address, *refused)),
                _ => None,
            })
            .collect();
        let expected = [
            (strict, refuses),
            (shared, false),
            (lenient, false),
            (strict, refuses),
            (strict, refuses),
        ];
        assert_eq!(
            said, expected,
            "three connections, a datagram, a connected socket"
        );
        assert_eq!(bench.counters().refused, if refuses { 3 } else { 0 });
    }
}

/// A bpf file system of this test's own.
struct BpfFs(tempfile::TempDir);

impl BpfFs {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let nothing = None::<&str>;
        let flags = nix::mount::MsFlags::empty();
        if let Err(why) = nix::mount::mount(Some("bpf"), dir.path(), Some("bpf"), flags, nothing) {
            eprintln!("SKIPPED: no right to mount a bpf file system: {why}");
            return None;
        }
        Some(Self(dir))
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = nix::mount::umount(self.0.path());
    }
}

/// An upgrade: what comes between two monitors is read by the second, once, and what the first had learned holds.
#[tokio::test(flavor = "current_thread")]
async fn the_next_monitor_goes_on_where_this_one_stopped() {
    let (Some(cgroup), Some(bpffs)) = (TestCgroup::new(), BpfFs::mount()) else {
        return;
    };
    let folder = bpffs.0.path().join("mcp-monitor");
    let options = || LiveOptions {
        pin_dir: Some(folder.clone()),
        ..LiveOptions::default()
    };
    let hosts = [pin("mcp.example.com", &["127.66.2.0/24"])];
    let bad: IpAddr = "127.66.3.1".parse().unwrap();
    let bad_later: IpAddr = "127.66.3.2".parse().unwrap();
    let bench = |source, cgroup| Bench {
        source,
        records: Vec::new(),
        cgroup,
    };
    let Some(first) = cgroup.attach(&hosts, options()) else {
        return;
    };
    let mut before = bench(first, cgroup);
    let resolver = Ipv4Addr::new(127, 0, 53, 3);
    resolve(resolver, &answer("mcp.example.com", &[], &[bad, bad_later]));
    let (mut client, mut server) = connection("127.0.0.1:0");
    let port = server.local_addr().unwrap().port();
    let request = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    pass(&mut client, &mut server, request);
    before.settle().await;
    assert_eq!(stream(&before.segments(port), port), request);
    let second = before.cgroup.attach_error(&hosts, options());
    assert!(second.contains("another mcp-monitor uses it"), "{second}");
    before.source.leave().unwrap();
    let Bench { source, cgroup, .. } = before;
    drop(source);

    // Nobody reads now.
    pass(&mut client, &mut server, b"between");
    assert!(TcpStream::connect(SocketAddr::new(bad, 9)).is_err());

    let second = cgroup.attach(&hosts, options()).unwrap();
    pass(&mut client, &mut server, b" and after");
    assert!(TcpStream::connect(SocketAddr::new(bad_later, 9)).is_err());
    let mut after = bench(second, cgroup);
    after.settle().await;
    assert_eq!(stream(&after.segments(port), port), b"between and after");
    let drifts = after.drifts();
    assert_eq!(
        drifts,
        [(DriftKind::Connect, 0, bad), (DriftKind::Connect, 0, bad_later)],
        "the second from what the first had learned"
    );
    let counters = after.counters();
    assert!(
        counters.handed_over > 0 && counters.handed_over_lost == 0,
        "{counters:?}"
    );

    // Without the folder nothing stays behind.
    let Bench { source, cgroup, .. } = after;
    drop(source);
    std::fs::remove_dir_all(&folder).unwrap();
    let third = cgroup.attach(&hosts, LiveOptions::default()).unwrap();
    let mut third = bench(third, cgroup);
    pass(&mut client, &mut server, b" the end");
    third.settle().await;
    assert_eq!(stream(&third.segments(port), port), b" the end");
    assert_eq!(third.counters().handed_over, 0);
}

/// Nobody read for so long that the ring ran over: how much is lost is known.
#[tokio::test(flavor = "current_thread")]
async fn what_did_not_fit_between_two_monitors_is_counted() {
    let (Some(cgroup), Some(bpffs)) = (TestCgroup::new(), BpfFs::mount()) else {
        return;
    };
    let options = || LiveOptions {
        pin_dir: Some(bpffs.0.path().join("m")),
        ..LiveOptions::default()
    };
    let Some(mut first) = cgroup.attach(&[], options()) else {
        return;
    };
    let (mut client, mut server) = connection("127.0.0.1:0");
    first.leave().unwrap();
    drop(first);
    pass(
        &mut client,
        &mut server,
        b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
    );
    // More than the ring holds, and all of it wanted: many connections, since a single one has a budget.
    for _ in 0..800 {
        let (mut client, mut server) = connection("127.0.0.1:0");
        pass(
            &mut client,
            &mut server,
            b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n",
        );
        pass(&mut client, &mut server, &[b'x'; 60_000]);
    }
    let second = cgroup.attach(&[], options()).unwrap();
    let mut bench = Bench {
        source: second,
        records: Vec::new(),
        cgroup,
    };
    bench.settle().await;
    let counters = bench.source.counters().unwrap();
    assert!(
        counters.handed_over > 0 && counters.handed_over_lost > 0,
        "{counters:?}"
    );
    std::fs::remove_dir_all(bpffs.0.path().join("m")).unwrap();
}
