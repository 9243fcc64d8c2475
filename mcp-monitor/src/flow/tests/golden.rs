//! Real captures: every file opens and decodes, and all forms of one capture give the same streams.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::*;
use crate::{
    decode::{DecodeCounters, DecodeLimits, Decoded, Decoder},
    source::{CaptureReader, Merged},
};

fn captures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/captures/benign")
}

struct Run {
    flows: Vec<Seen>,
    flow: FlowCounters,
    decode: DecodeCounters,
    packets: u64,
    anomalies: Vec<AnomalyKind>,
}

fn run(name: &str) -> Run {
    run_all(&[name])
}

fn run_all(names: &[&str]) -> Run {
    let readers = names
        .iter()
        .zip(0..)
        .map(|(name, i)| CaptureReader::open(&captures().join(name), i).unwrap())
        .collect();
    let mut input = Merged::new(readers);
    let mut decoder = Decoder::new(DecodeLimits::default());
    let mut table = FlowTable::new(FlowLimits::default(), 0);
    let mut recorder = Recorder::default();
    let mut last = Timestamp::default();
    while let Some(packet) = input.next_packet().unwrap() {
        last = last.max(packet.time);
        match decoder.decode(&packet) {
            Decoded::Tcp(segment) => table.segment(&segment, &mut recorder),
            Decoded::Udp(datagram) => table.datagram(&datagram, &mut recorder),
            Decoded::Other => {}
        }
    }
    assert_eq!(input.truncated().count(), 0, "{names:?}");
    table.finish(last, &mut recorder);
    Run {
        flows: recorder.flows,
        flow: table.counters(),
        decode: decoder.counters(),
        packets: input.counters().packets,
        anomalies: decoder
            .take_anomalies()
            .into_iter()
            .map(|(_, a)| a.kind)
            .collect(),
    }
}

/// Ends, lengths and hashes of all TCP streams that carried something, sorted.
fn streams(run: &Run) -> Vec<String> {
    let mut all: Vec<String> = run
        .flows
        .iter()
        .filter(|f| !f.to_server.is_empty() || !f.to_client.is_empty())
        .map(|f| {
            let info = f.info.as_ref().unwrap();
            let hash = |data: &[u8]| {
                let digest = Sha256::digest(data);
                digest
                    .iter()
                    .take(8)
                    .map(|b| format!("{b:02x}"))
                    .collect::<String>()
            };
            format!(
                "{} > {} {}:{} {}:{}",
                info.client,
                info.server,
                f.to_server.len(),
                hash(&f.to_server),
                f.to_client.len(),
                hash(&f.to_client)
            )
        })
        .collect();
    all.sort();
    all
}

fn ipv4_only(streams: Vec<String>) -> Vec<String> {
    streams.into_iter().filter(|s| !s.starts_with('[')).collect()
}

#[test]
fn captures_without_loss_have_no_gaps() {
    let index = std::fs::read_to_string(captures().join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let mut checked = 0;
    for entry in index.as_array().unwrap() {
        let name = entry["file"].as_str().unwrap();
        let run = run(name);
        if let Some(packets) = entry["counts"]["packets"].as_u64() {
            assert_eq!(run.packets, packets, "{name}");
        }
        let lossy = ["loss1", "snap96", "oneside", "midstream"]
            .iter()
            .any(|s| name.contains(s));
        if !lossy {
            assert_eq!((run.flow.gaps, run.flow.lost_bytes), (0, 0), "{name}");
            assert_eq!(run.flow.conflicts, 0, "{name}");
            assert_eq!(run.anomalies, [], "{name}");
            checked += 1;
        }
    }
    assert!(checked >= 25, "{checked}");
}

#[test]
fn tunnels_tags_and_fragments_change_nothing() {
    let plain = run("veth-dns-mcp.pcap");
    let expected = streams(&plain);
    assert!(expected.len() > 3, "{expected:#?}");
    for form in [
        "vlan",
        "qinq",
        "gre",
        "vxlan",
        "ip6ext",
        "ipfrag256",
        "reorder5",
        "dup5",
        "retrans-late3",
    ] {
        let name = format!("veth-dns-mcp.{form}.pcap");
        let run = run(&name);
        assert_eq!(streams(&run), expected, "{form}");
        assert_eq!(run.flow.flows_tcp, plain.flow.flows_tcp, "{form}");
        let tunnel = ["gre", "vxlan", "ip6ext"].contains(&form);
        let scoped = run
            .flows
            .iter()
            .all(|f| (f.info.as_ref().unwrap().scope != Scope(0)) == tunnel);
        assert!(scoped, "{form}");
        if form != "ipfrag256" {
            assert_eq!(run.decode.fragments, 0);
        }
    }
    let v4 = ipv4_only(expected);
    for form in ["raw", "null", "seg7"] {
        assert_eq!(streams(&run(&format!("veth-dns-mcp.{form}.pcap"))), v4, "{form}");
    }
}

#[test]
fn packets_captured_twice_count_once() {
    let once = run("veth-dns-mcp.pcap");
    let twice = run("veth-dns-mcp.dup5.pcap");
    let extra = twice.packets - once.packets;
    assert!(extra > 20);
    assert_eq!(twice.flow.segments, once.flow.segments);
    assert_eq!(twice.flow.retransmitted, once.flow.retransmitted);
    let datagrams = |run: &Run| run.flows.iter().map(|f| f.datagrams.len()).sum::<usize>();
    assert_eq!(datagrams(&twice), datagrams(&once));
    // The same file twice: every IP packet is there two times.
    let both = run_all(&["veth-dns-mcp.pcap", "veth-dns-mcp.pcap"]);
    assert_eq!(both.flow.segments, once.flow.segments);
    assert_eq!(both.flow.retransmitted, once.flow.retransmitted);
    assert_eq!(streams(&both), streams(&once));
    assert_eq!(datagrams(&both), datagrams(&once));
}

#[test]
fn what_is_missing_is_on_its_flow() {
    let whole = run("veth-dns-mcp.pcap");
    let lossy = run("veth-dns-mcp.loss1.pcap");
    assert!(lossy.flow.gaps > 0);
    for flow in lossy.flows.iter().filter(|f| f.info.as_ref().unwrap().from_start) {
        let info = flow.info.as_ref().unwrap();
        let twin = whole
            .flows
            .iter()
            .find(|w| {
                let w = w.info.as_ref().unwrap();
                (w.client, w.server) == (info.client, info.server)
            })
            .unwrap();
        let lost = |d| flow.gaps.iter().filter(|g| g.0 == d).map(|g| g.1).sum::<u64>();
        let have = |data: &[u8]| u64::try_from(data.len()).unwrap();
        // The very end of a stream may be missing without anything telling of it.
        let sent = have(&flow.to_server) + lost(Direction::ToServer);
        assert!(sent <= have(&twin.to_server), "{info:?}");
        let received = have(&flow.to_client) + lost(Direction::ToClient);
        assert!(received <= have(&twin.to_client), "{info:?}");
        let end = flow.end.unwrap();
        if end.reason == EndReason::Finished {
            assert_eq!(sent, have(&twin.to_server), "{info:?}");
            assert_eq!(received, have(&twin.to_client), "{info:?}");
        }
    }
    let snapped = run("veth-snap96.pcap");
    assert!(snapped.flow.gaps > 0);
    assert_eq!(snapped.flow.conflicts, 0);
    let end: u64 = snapped
        .flows
        .iter()
        .filter_map(|f| f.end)
        .map(|e| e.to_client.lost_bytes + e.to_server.lost_bytes)
        .sum();
    assert_eq!(end, snapped.flow.lost_bytes);
}
