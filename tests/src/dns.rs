//! A small DNS server inside a namespace. Its answers can be moved while it runs.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::netns::Namespace;

/// What a name resolves to: addresses of both families, and an optional alias first.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The name is an alias of this one.
    pub cname: Option<String>,
    /// Addresses; each question gets those of its family.
    pub addresses: Vec<IpAddr>,
}

type Zone = Arc<Mutex<HashMap<String, Answer>>>;

/// Answers A and AAAA questions on UDP port 53; NXDOMAIN for names it does not know.
#[derive(Debug)]
pub struct DnsServer {
    zone: Zone,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DnsServer {
    /// Starts the server in a host, on one of its addresses.
    pub fn start(host: &Namespace, address: IpAddr) -> Result<Self> {
        let socket = bind_in(host, SocketAddr::new(address, 53))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (zone, stop) = (Zone::default(), Arc::new(AtomicBool::new(false)));
        let (seen_zone, seen_stop) = (zone.clone(), stop.clone());
        let thread = std::thread::spawn(move || serve(&socket, &seen_zone, &seen_stop));
        Ok(Self {
            zone,
            stop,
            thread: Some(thread),
        })
    }

    /// From now on the name has these addresses.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        self.set_answer(
            name,
            Answer {
                cname: None,
                addresses: addresses.to_vec(),
            },
        );
    }

    /// From now on the name has this answer.
    pub fn set_answer(&self, name: &str, answer: Answer) {
        let mut zone = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        zone.insert(name.to_ascii_lowercase(), answer);
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket belongs to the namespace of the thread that made it, for good: a thread of its
/// own goes there, binds, and ends.
fn bind_in(host: &Namespace, address: SocketAddr) -> Result<UdpSocket> {
    let namespace = std::fs::File::open(host.path())?;
    let bound = std::thread::spawn(move || -> Result<UdpSocket> {
        setns(namespace, CloneFlags::CLONE_NEWNET).context("enter the namespace")?;
        UdpSocket::bind(address).with_context(|| format!("bind {address}"))
    });
    bound.join().map_err(|_| anyhow!("the binding thread panicked"))?
}

fn serve(socket: &UdpSocket, zone: &Zone, stop: &AtomicBool) {
    let mut buffer = [0; 1500];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let reply = {
            let zone = zone.lock().unwrap_or_else(PoisonError::into_inner);
            buffer.get(..length).and_then(|query| answer(query, &zone))
        };
        if let Some(reply) = reply {
            let _ = socket.send_to(&reply, client);
        }
    }
}

/// The reply to a query of one question (RFC 1035 §4.1); `None` for anything else.
fn answer(query: &[u8], zone: &HashMap<String, Answer>) -> Option<Vec<u8>> {
    let (name, end) = read_name(query)?;
    let question = query.get(12..end + 4)?;
    let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
    let found = zone.get(&name.to_ascii_lowercase());

    let mut records = Vec::new();
    let mut count = 0u16;
    // Name pointers: to the question for the first record, spelled out after an alias.
    let mut owner = vec![0xc0, 12];
    if let Some(alias) = found.and_then(|answer| answer.cname.as_deref()) {
        let target = write_name(alias);
        push_record(&mut records, &owner, 5, &target);
        owner = target;
        count += 1;
    }
    for address in found.map_or(&[][..], |answer| &answer.addresses) {
        match (kind, address) {
            (1, IpAddr::V4(v4)) => push_record(&mut records, &owner, 1, &v4.octets()),
            (28, IpAddr::V6(v6)) => push_record(&mut records, &owner, 28, &v6.octets()),
            _ => continue,
        }
        count += 1;
    }

    let mut reply = query.get(..2)?.to_vec();
    // QR, RD, RA; NXDOMAIN only where the name has nothing at all.
    let code = if found.is_some() { 0 } else { 3 };
    reply.extend([0x81, 0x80 | code, 0, 1]);
    reply.extend(count.to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend(question);
    reply.extend(records);
    Some(reply)
}

fn push_record(out: &mut Vec<u8>, owner: &[u8], kind: u8, data: &[u8]) {
    out.extend(owner);
    // Type, class IN, a TTL of five seconds as a name that is about to move has, length.
    out.extend([0, kind, 0, 1, 0, 0, 0, 5]);
    out.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(data);
}

fn read_name(query: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).into_owned());
        at += length;
    }
}

fn write_name(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap_or(63));
        out.extend(label.bytes());
    }
    out.push(0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u8) -> Vec<u8> {
        let mut query = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(write_name(name));
        query.extend([0, kind, 0, 1]);
        query
    }

    #[test]
    fn answers_by_family_and_follows_the_alias() {
        let zone = HashMap::from([(
            "mcp.example".to_owned(),
            Answer {
                cname: Some("edge.example".into()),
                addresses: vec!["203.0.113.10".parse().unwrap()],
            },
        )]);
        let v4 = answer(&query("MCP.example", 1), &zone).unwrap();
        assert_eq!(&v4[..8], &[0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 2]);
        assert!(v4.ends_with(&[0, 4, 203, 0, 113, 10]));
        let v6 = answer(&query("mcp.example", 28), &zone).unwrap();
        assert_eq!(&v6[6..8], &[0, 1], "the alias alone");
        let unknown = answer(&query("other.example", 1), &zone).unwrap();
        assert_eq!(&unknown[2..8], &[0x81, 0x83, 0, 1, 0, 0]);
    }

    #[test]
    fn a_query_cut_short_gets_no_reply() {
        let whole = query("mcp.example", 1);
        for length in 0..whole.len() {
            assert!(answer(&whole[..length], &HashMap::new()).is_none(), "{length}");
        }
    }
}
