//! Logged keys against real handshakes: OpenSSL on loopback, its bytes recorded by a relay.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use mcp_monitor::{
    proto::tls::{
        TlsEvent,
        decrypt::{DecryptLimits, Decrypted, Decryptor, KeyLog},
    },
    types::{At, Direction},
};

type Log = Vec<(Direction, Vec<u8>)>;

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Certificates, and the log of one server.
struct Bench {
    dir: tempfile::TempDir,
    /// The client does not offer the extended master secret.
    without_ems: bool,
}

/// A configuration of OpenSSL, for which its programs have no option.
const NO_EMS: &str = "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n\
                      [tls]\nOptions = -ExtendedMasterSecret\n";

fn openssl(dir: &Path) -> Command {
    let mut command = Command::new("openssl");
    command
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stderr(Stdio::null());
    command
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let made = openssl(dir.path())
            .args(
                "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost"
                    .split(' '),
            )
            .stdout(Stdio::null())
            .status()
            .expect("openssl runs; `cargo xtask setup` installs it");
        assert!(made.success());
        fs::write(dir.path().join("no-ems.cnf"), NO_EMS).expect("a file");
        Self {
            dir,
            without_ems: false,
        }
    }

    /// A server that sends each line back reversed, and its port.
    fn serve(&self, options: &str) -> (Running, u16) {
        self.serve_with(&format!("-rev {options}"))
    }

    /// A server that only listens, or does what its options say.
    fn serve_with(&self, options: &str) -> (Running, u16) {
        let mut command = openssl(self.dir.path());
        command.args("s_server -accept 127.0.0.1:0 -cert cert.pem -key key.pem".split(' '));
        command.args(options.split_whitespace()).stdout(Stdio::piped());
        let mut child = Running(command.spawn().expect("a server"));
        let mut lines = BufReader::new(child.0.stdout.take().expect("piped")).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ACCEPT ")?.rsplit(':').next()?.parse().ok())
            .expect("the server names its port");
        thread::spawn(move || lines.for_each(drop));
        (child, port)
    }

    /// One connection through a relay: what went over the wire, in order.
    fn connect(&self, port: u16, options: &str, say: &[&str]) -> Log {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let relay = listener.local_addr().expect("an address");
        let mut command = openssl(self.dir.path());
        command.args([
            "s_client",
            "-connect",
            &relay.to_string(),
            "-keylogfile",
            "keys.log",
        ]);
        command.args(options.split_whitespace()).stdout(Stdio::piped());
        if self.without_ems {
            command.env("OPENSSL_CONF", "no-ems.cnf");
        }
        let mut client = Running(command.spawn().expect("a client"));
        let (near, _) = listener.accept().expect("the client connects");
        let far = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        let log = Arc::new(Mutex::new(Log::new()));
        let threads = [
            copy(&near, &far, Direction::ToServer, &log),
            copy(&far, &near, Direction::ToClient, &log),
        ];
        let mut stdin = client.0.stdin.take().expect("piped");
        let stdout = client.0.stdout.take().expect("piped");
        let heard = Arc::new(Mutex::new(String::new()));
        let reader = {
            let heard = heard.clone();
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    heard.lock().expect("no panic").push_str(&(line + "\n"));
                }
            })
        };
        for line in say {
            // In one piece: s_client takes what it reads at once for a command or for data.
            stdin
                .write_all(format!("{line}\n").as_bytes())
                .expect("the client reads");
            let reversed: String = line.chars().rev().collect();
            if line.len() > 1 && !line.starts_with('!') {
                let until = Instant::now() + Duration::from_secs(20);
                while !heard.lock().expect("no panic").contains(&reversed) {
                    assert!(Instant::now() < until, "no answer to {line}");
                    thread::sleep(Duration::from_millis(5));
                }
            } else {
                // A command of s_client, which acts on lines that it reads by themselves; or no answer comes.
                thread::sleep(Duration::from_millis(200));
            }
        }
        drop(stdin);
        let until = Instant::now() + Duration::from_secs(5);
        while client.0.try_wait().expect("a status").is_none() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        drop(client);
        for thread in threads {
            thread.join().expect("the relay ends");
        }
        reader.join().expect("the reader ends");
        std::mem::take(&mut *log.lock().expect("no panic"))
    }

    fn keys(&self) -> Arc<KeyLog> {
        let keys = KeyLog::default();
        let added = keys.add(&fs::read(self.dir.path().join("keys.log")).expect("the client logs keys"));
        assert!(added.secrets > 0 && added.malformed == 0, "{added:?}");
        Arc::new(keys)
    }
}

fn copy(
    from: &TcpStream,
    to: &TcpStream,
    direction: Direction,
    log: &Arc<Mutex<Log>>,
) -> thread::JoinHandle<()> {
    let (mut from, mut to) = (
        from.try_clone().expect("a socket"),
        to.try_clone().expect("a socket"),
    );
    let log = log.clone();
    thread::spawn(move || {
        let mut buffer = [0; 16384];
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 {
                break;
            }
            log.lock()
                .expect("no panic")
                .push((direction, buffer[..n].to_vec()));
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    })
}

#[derive(Default, Debug)]
struct Plain {
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    certificates: usize,
    failed: Vec<String>,
    gaps: u64,
}

/// Decrypts; pieces of at most `piece` bytes, and those with a number in `lose` of the client never come.
fn decrypt(keys: &Arc<KeyLog>, log: &Log, piece: usize, lose: &[usize]) -> Plain {
    let mut decryptor = Decryptor::new(keys.clone(), DecryptLimits::default());
    let mut out = Vec::new();
    let mut number = 0;
    for (direction, bytes) in log {
        for bytes in bytes.chunks(piece) {
            if *direction == Direction::ToServer {
                number += 1;
                if lose.contains(&number) {
                    decryptor.gap(*direction, At::default(), bytes.len() as u64, &mut out);
                    continue;
                }
            }
            decryptor.data(*direction, At::default(), Bytes::copy_from_slice(bytes), &mut out);
        }
    }
    let mut plain = Plain::default();
    for item in out {
        match item {
            Decrypted::Data {
                direction: Direction::ToServer,
                data,
                ..
            } => plain.to_server.extend_from_slice(&data),
            Decrypted::Data { data, .. } => plain.to_client.extend_from_slice(&data),
            Decrypted::Tls(TlsEvent::Certificates { chain, .. }) => {
                plain.certificates += chain.certificates.len()
            }
            Decrypted::Failed { anomaly, .. } => plain.failed.push(anomaly.detail.to_string()),
            Decrypted::Gap { .. } => plain.gaps += 1,
            _ => {}
        }
    }
    plain
}

fn assert_plain(what: &str, keys: &Arc<KeyLog>, log: &Log, said: &str) {
    let reversed: String = said
        .lines()
        .map(|line| line.chars().rev().collect::<String>() + "\n")
        .collect();
    for piece in [usize::MAX, 7] {
        let plain = decrypt(keys, log, piece, &[]);
        assert_eq!(plain.failed, Vec::<String>::new(), "{what}");
        assert_eq!(String::from_utf8_lossy(&plain.to_server), said, "{what}");
        assert_eq!(String::from_utf8_lossy(&plain.to_client), reversed, "{what}");
    }
}

#[test]
fn every_suite_of_tls_1_3_opens() {
    let bench = Bench::new();
    for suite in [
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_CCM_SHA256",
        "TLS_AES_128_CCM_8_SHA256",
    ] {
        let suites = format!("-tls1_3 -ciphersuites {suite}:@SECLEVEL=0");
        let suites = suites.replace(":@SECLEVEL=0", "") + " -cipher DEFAULT:@SECLEVEL=0";
        let (_server, port) = bench.serve(&suites);
        let log = bench.connect(port, &suites, &["hello", "and again"]);
        assert_plain(suite, &bench.keys(), &log, "hello\nand again\n");
        assert_eq!(
            decrypt(&bench.keys(), &log, usize::MAX, &[]).certificates,
            1,
            "{suite}"
        );
    }
}

#[test]
fn the_suites_of_tls_1_2_open() {
    let bench = Bench::new();
    for suite in [
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-RSA-AES256-SHA384",
        "AES128-SHA256",
        "AES256-SHA",
        "AES128-CCM",
        "AES256-CCM8",
    ] {
        // With encrypt-then-MAC, as OpenSSL offers it, and without.
        for more in ["", "-no_etm"] {
            let options = format!("-tls1_2 -cipher {suite}:@SECLEVEL=0 {more}");
            let (_server, port) = bench.serve(&options);
            let log = bench.connect(port, &options, &["hello"]);
            assert_plain(&format!("{suite} {more}"), &bench.keys(), &log, "hello\n");
        }
    }
}

/// Without logged secrets: what the client sent for the server's key, with the extended master secret and without.
#[test]
fn a_private_key_opens_rsa_key_exchange_and_nothing_else() {
    let mut bench = Bench::new();
    let pem = fs::read_to_string(bench.dir.path().join("key.pem")).expect("a key");
    let with = |pem: &str| {
        let mut keys = KeyLog::default();
        keys.add_rsa_key(pem).expect("a private key");
        Arc::new(keys)
    };
    let keys = with(&pem);
    for suite in ["AES128-SHA256", "AES256-GCM-SHA384", "AES128-CCM"] {
        for without_ems in [false, true] {
            bench.without_ems = without_ems;
            let options = format!("-tls1_2 -cipher {suite}:@SECLEVEL=0");
            let (_server, port) = bench.serve(&options);
            let log = bench.connect(port, &options, &["hello"]);
            assert_plain(
                &format!("{suite}, without EMS {without_ems}"),
                &keys,
                &log,
                "hello\n",
            );
            let offers = |extension: [u8; 4]| log[0].1.windows(4).any(|bytes| bytes == extension);
            assert_eq!(offers([0, 23, 0, 0]), !without_ems, "{suite}");
        }
    }
    let (_server, port) = bench.serve("-tls1_2");
    let refused = |keys: &Arc<KeyLog>, options: &str| {
        let log = bench.connect(port, options, &["hello"]);
        let plain = decrypt(keys, &log, usize::MAX, &[]);
        assert!(plain.to_server.is_empty());
        plain.failed
    };
    let forward = "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256";
    assert_eq!(
        refused(&keys, forward),
        ["the key log has no secret for this connection"]
    );
    let rsa = "-tls1_2 -cipher AES128-SHA256:@SECLEVEL=0";
    let other = fs::read_to_string(Bench::new().dir.path().join("key.pem")).expect("a key");
    assert_eq!(
        refused(&with(&other), rsa),
        ["no private key opens the key exchange of this connection"]
    );
    bench.connect(port, &format!("{rsa} -sess_out rsa.pem"), &["first"]);
    assert_eq!(
        refused(&keys, &format!("{rsa} -sess_in rsa.pem")),
        ["a resumed session, which a private key does not open"]
    );
}

#[test]
fn retries_key_updates_and_client_certificates_are_followed() {
    let bench = Bench::new();
    let (_server, port) = bench.serve("-tls1_3 -groups P-384 -verify 1");
    let log = bench.connect(
        port,
        "-tls1_3 -groups X25519:P-384 -cert cert.pem -key key.pem",
        &["before", "K", "between", "k", "after"],
    );
    let keys = bench.keys();
    assert_plain("key update", &keys, &log, "before\nbetween\nafter\n");
    assert_eq!(
        decrypt(&keys, &log, usize::MAX, &[]).certificates,
        2,
        "one of each side"
    );
}

#[test]
fn resumed_sessions_and_early_data_open() {
    let bench = Bench::new();
    for (version, server) in [("-tls1_2", ""), ("-tls1_2", "-no_ticket"), ("-tls1_3", "")] {
        let (_server, port) = bench.serve(&format!("{version} {server}"));
        bench.connect(port, &format!("{version} -sess_out session.pem"), &["first"]);
        fs::remove_file(bench.dir.path().join("keys.log")).expect("the log of the first connection");
        let log = bench.connect(port, &format!("{version} -sess_in session.pem"), &["second"]);
        let keys = bench.keys();
        assert_plain(&format!("resumed {version} {server}"), &keys, &log, "second\n");
        let sent: usize = log.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(sent < 2500, "no certificate was sent: {sent} bytes");
    }
    let (_server, port) = bench.serve_with("-tls1_3 -early_data");
    fs::write(bench.dir.path().join("early.txt"), "early\n").expect("a file");
    bench.connect(port, "-tls1_3 -sess_out early.pem", &["!first"]);
    let log = bench.connect(
        port,
        "-tls1_3 -sess_in early.pem -early_data early.txt",
        &["!later"],
    );
    let plain = decrypt(&bench.keys(), &log, 7, &[]);
    assert_eq!(plain.failed, Vec::<String>::new());
    assert_eq!(String::from_utf8_lossy(&plain.to_server), "early\n!later\n");
    // A server that does not know the session: early data is sent and refused.
    let (_server, port) = bench.serve_with("-tls1_3 -early_data");
    let log = bench.connect(
        port,
        "-tls1_3 -sess_in early.pem -early_data early.txt",
        &["!later"],
    );
    let plain = decrypt(&bench.keys(), &log, usize::MAX, &[]);
    assert_eq!(plain.failed, Vec::<String>::new());
    assert_eq!(String::from_utf8_lossy(&plain.to_server), "!later\n");
}

#[test]
fn a_lost_segment_costs_its_records_and_no_more() {
    let bench = Bench::new();
    for version in ["-tls1_2", "-tls1_3"] {
        let (_server, port) = bench.serve(version);
        let lines: Vec<String> = (0..40)
            .map(|n| format!("line number {n} {}", "x".repeat(60)))
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let log = bench.connect(port, version, &lines);
        let keys = bench.keys();
        let all = decrypt(&keys, &log, usize::MAX, &[]).to_server;
        // Whole segments, and with pieces of 40 bytes parts of records.
        for (piece, lose) in [
            (usize::MAX, vec![20, 21]),
            (40, vec![50]),
            (40, vec![48, 49, 50, 51, 52, 53]),
        ] {
            let plain = decrypt(&keys, &log, piece, &lose);
            assert_eq!(plain.failed, Vec::<String>::new(), "{version} {piece}");
            assert!(plain.gaps > 0);
            let text = String::from_utf8(plain.to_server).expect("text");
            let missing = all.len() - text.len();
            assert!(
                missing > 0 && missing <= 4 * 80,
                "{version} {piece}: {missing} bytes are missing"
            );
            assert!(
                text.contains("line number 39"),
                "{version} {piece}: the end was found"
            );
        }
    }
}
