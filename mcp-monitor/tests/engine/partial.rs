//! Captures that lack packets: every message that lies wholly in what was captured is found, no other is, and
//! each hole is on its flow.
//!
//! Which messages those are follows from `tests/captures/partial/positions.json`, made by the script beside it from
//! the lossless captures: where each message lies in the sequence numbers of its stream.

use std::collections::BTreeMap;

use mcp_monitor_tests::paths;
use serde_json::Value;

use super::capture::{Frame, of, pcap, read, run};

/// Sender's and receiver's port, sequence number, flags, length of the payload.
struct Segment {
    from: u64,
    to: u64,
    seq: u64,
    syn: bool,
    fin: bool,
    length: u64,
}

fn segment(frame: &Frame) -> Option<Segment> {
    let ip = &frame.data[14..];
    let word = |at: usize| u64::from(u16::from_be_bytes([ip[at], ip[at + 1]]));
    let (head, total) = match (&frame.data[12..14], ip[0] >> 4) {
        ([8, 0], 4) if ip[9] == 6 => {
            let head = usize::from(ip[0] & 15) * 4;
            let total = if word(2) == 0 { ip.len() as u64 } else { word(2) };
            (head, total)
        }
        ([0x86, 0xdd], 6) if ip[6] == 6 => (40, 40 + word(4)),
        _ => return None,
    };
    Some(Segment {
        from: word(head),
        to: word(head + 2),
        seq: word(head + 4) << 16 | word(head + 6),
        syn: ip[head + 13] & 2 != 0,
        fin: ip[head + 13] & 1 != 0,
        length: total - head as u64 - u64::from(ip[head + 12] >> 4) * 4,
    })
}

/// What was captured of each direction, as disjoint ranges of sequence numbers.
#[derive(Default)]
struct Coverage(BTreeMap<(u64, u64), Vec<(u64, u64)>>);

impl Coverage {
    fn of(frames: &[Frame]) -> Self {
        let mut all = Self::default();
        let marks = |s: &Segment| s.length > 0 || s.syn || s.fin;
        for segment in frames.iter().filter_map(segment).filter(marks) {
            let ranges = all.0.entry((segment.from, segment.to)).or_default();
            // The SYN takes a number of its own, before the first byte.
            let start = segment.seq + u64::from(segment.syn);
            ranges.push((start, start + segment.length));
        }
        for ranges in all.0.values_mut() {
            ranges.sort_unstable();
            let mut merged: Vec<(u64, u64)> = Vec::new();
            for range in ranges.drain(..) {
                match merged.last_mut() {
                    Some(last) if range.0 <= last.1 => last.1 = last.1.max(range.1),
                    _ => merged.push(range),
                }
            }
            *ranges = merged;
        }
        all
    }

    /// The sender's port tells the direction, but for the server's: all its directions are looked at, since a range
    /// of sequence numbers of one connection does not lie in another's by chance.
    fn holds(&self, port: u64, range: &Value) -> bool {
        let (start, length) = (range[0].as_u64().unwrap(), range[1].as_u64().unwrap());
        self.0
            .iter()
            .filter(|((from, _), _)| *from == port)
            .flat_map(|(_, ranges)| ranges)
            .any(|(a, b)| *a <= start && start + length <= *b)
    }

    /// Bytes missing between those captured, by sender and receiver.
    fn holes(&self) -> BTreeMap<(u64, u64), u64> {
        let hole = |ranges: &Vec<(u64, u64)>| ranges.windows(2).map(|w| w[1].0 - w[0].1).sum();
        self.0.iter().map(|(key, ranges)| (*key, hole(ranges))).collect()
    }
}

const WHOLE: &str = "every packet";

/// What a message is known by: sender's port, kind, id, method.
type Key = (u64, String, String, String);

fn key(port: u64, kind: &Value, id: &Value, method: &Value) -> Key {
    let text = |v: &Value| {
        v.as_str()
            .filter(|text| *text != "null")
            .unwrap_or("-")
            .to_owned()
    };
    let method = match kind.as_str() {
        Some("request" | "notification") => text(method),
        _ => String::new(),
    };
    (port, text(kind), text(id), method)
}

fn count(keys: impl Iterator<Item = Key>) -> BTreeMap<Key, usize> {
    let mut counted = BTreeMap::new();
    for key in keys {
        *counted.entry(key).or_default() += 1;
    }
    counted
}

/// Adds to `wrong` what the engine says of these frames and should not, or the other way round.
fn check(name: &str, what: &str, frames: &[Frame], positions: &[Value], wrong: &mut Vec<String>) {
    let coverage = Coverage::of(frames);
    let held = |field: &'static str| {
        let coverage = &coverage;
        positions
            .iter()
            .filter(move |m| coverage.holds(m["port"].as_u64().unwrap(), &m[field]))
            .map(|m| key(m["port"].as_u64().unwrap(), &m["kind"], &m["id"], &m["method"]))
    };
    let (least, most) = (count(held("whole")), count(held("text")));
    let (records, _) = run(pcap(frames));
    let found = count(of(&records, "message").map(|m| {
        let side = match m["direction"].as_str() {
            Some("to-server" | "to_server" | "request" | "client") => "client",
            _ => "server",
        };
        let port = m["flow"][side]["port"].as_u64().unwrap();
        key(port, &m["kind"], &m["id"], &m["method"])
    }));
    for (key, n) in &least {
        let have = found.get(key).copied().unwrap_or_default();
        if have < *n {
            wrong.push(format!(
                "{name}, {what}: {key:?} is there {n} times, found {have}"
            ));
        }
    }
    for (key, n) in &found {
        let may = most.get(key).copied().unwrap_or_default();
        if *n > may {
            wrong.push(format!("{name}, {what}: {key:?} found {n} times, is there {may}"));
        }
    }
    for ((from, to), missing) in coverage.holes() {
        let said: u64 = of(&records, "flow")
            .map(|flow| {
                let ports = |side: &str| flow["flow"][side]["port"].as_u64().unwrap();
                let direction = match (ports("client"), ports("server")) {
                    ends if ends == (from, to) => "to_server",
                    ends if ends == (to, from) => "to_client",
                    _ => return 0,
                };
                flow[direction]["lost_bytes"].as_u64().unwrap()
            })
            .sum();
        // What the other side acknowledged and nobody captured is missing too.
        if said < missing || (what == WHOLE && said > 0) {
            wrong.push(format!(
                "{name}, {what}: {from} to {to} lacks {missing} bytes, the flow says {said}"
            ));
        }
    }
}

/// A fixed order of numbers below `n` (Knuth's multiplier): the same losses in every run.
fn draws(seed: u64, n: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::from_fn(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Some((state >> 33) % n)
    })
}

fn every_capture(mut cut: impl FnMut(&str, &[Frame], &mut dyn FnMut(&str, &[Frame]))) {
    let dir = paths::captures();
    let text = std::fs::read_to_string(dir.join("partial/positions.json")).unwrap();
    let all: BTreeMap<String, Vec<Value>> = serde_json::from_str(&text).unwrap();
    assert_eq!(all.len(), 9);
    let mut wrong = Vec::new();
    let mut checks = 0;
    for (name, positions) in &all {
        let frames = read(&dir.join("benign").join(name));
        cut(name, &frames, &mut |what, frames| {
            checks += 1;
            check(name, what, frames, positions, &mut wrong);
        });
    }
    let shown = wrong.iter().take(60).map(String::as_str).collect::<Vec<_>>();
    assert!(
        wrong.is_empty(),
        "{} in {checks} captures:\n{}",
        wrong.len(),
        shown.join("\n")
    );
}

#[test]
fn with_every_packet() {
    every_capture(|_, frames, check| check(WHOLE, frames));
}

#[test]
fn cut_at_the_start() {
    every_capture(|_, frames, check| {
        for part in 1..12 {
            check(&format!("from {part}/12"), &frames[frames.len() * part / 12..]);
        }
    });
}

#[test]
fn one_direction_only() {
    every_capture(|_, frames, check| {
        let clients: Vec<u64> = frames
            .iter()
            .filter_map(segment)
            .filter(|s| s.syn)
            .map(|s| s.from.max(s.to))
            .collect();
        for from_client in [true, false] {
            let side: Vec<Frame> = frames
                .iter()
                .filter(|f| segment(f).is_some_and(|s| clients.contains(&s.from) == from_client))
                .cloned()
                .collect();
            check(
                if from_client {
                    "of the clients"
                } else {
                    "of the servers"
                },
                &side,
            );
        }
    });
}

#[test]
fn with_packets_lost() {
    every_capture(|_, frames, check| {
        for (seed, one_in) in [(1, 100), (2, 40), (3, 20), (4, 10), (5, 5), (6, 3)] {
            let left: Vec<Frame> = frames
                .iter()
                .zip(draws(seed, one_in))
                .filter(|(_, n)| *n != 0)
                .map(|(f, _)| f.clone())
                .collect();
            check(&format!("one in {one_in} lost"), &left);
        }
    });
}

/// The forms of `veth-dns-mcp.pcap` that are kept as files, with its positions.
#[test]
fn derived_captures() {
    let dir = paths::captures();
    let text = std::fs::read_to_string(dir.join("partial/positions.json")).unwrap();
    let all: BTreeMap<String, Vec<Value>> = serde_json::from_str(&text).unwrap();
    let positions = &all["veth-dns-mcp.pcap"];
    let mut wrong = Vec::new();
    for form in [
        "midstream",
        "loss1",
        "oneside-s2c",
        "dup5",
        "reorder5",
        "retrans-late3",
    ] {
        let name = format!("veth-dns-mcp.{form}.pcap");
        check(
            &name,
            "as it is",
            &read(&dir.join("benign").join(&name)),
            positions,
            &mut wrong,
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
