//! Handshakes made with real software (`tests/captures/tls`, its index says how), read by the per-flow
//! half. Hellos agree with what tshark reads of the same files.

use std::{convert::Infallible, sync::Arc};

use super::{
    correlator::Wanted,
    record::Record,
    replay::{ReplayOptions, replay},
    shard::{Shard, ShardLimits},
};
use crate::{
    alert::AlerterOptions,
    config::pins::Pins,
    decode::{DecodeLimits, Decoder},
    mcp::{FlowEventKind, tracker::TrackerLimits},
    proto::tls::ja4::ja4,
    source::{CaptureReader, Merged},
    types::At,
};

fn folder() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures")
}

fn events(file: &str) -> (Vec<String>, Shard) {
    read(&format!("tls/{file}"))
}

fn read(file: &str) -> (Vec<String>, Shard) {
    let mut input = CaptureReader::open(&folder().join(file), 0).unwrap();
    let mut decoder = Decoder::new(DecodeLimits::default());
    let mut shard = Shard::new(0, ShardLimits::default());
    let mut out = Vec::new();
    while let Some(packet) = input.next_packet().unwrap() {
        shard.feed(&decoder.decode(&packet), &mut out);
    }
    shard.finish(At::default(), &mut out);
    let said = out
        .into_iter()
        .filter_map(|event| match event.event.kind {
            FlowEventKind::ClientHello(hello) => Some(format!(
                "client {} {:?} {}",
                hello.server_name.as_deref().unwrap_or("-"),
                hello.alpn,
                ja4(&hello)
            )),
            FlowEventKind::ServerHello { hello, .. } => {
                let retry = if hello.retry { " retry" } else { "" };
                let psk = if hello.psk { " psk" } else { "" };
                Some(format!("server {:04x}{retry}{psk}", hello.version))
            }
            FlowEventKind::Handshake(h) => {
                let name = |chain: &Option<Arc<crate::proto::tls::Chain>>| {
                    chain
                        .as_ref()
                        .and_then(|c| c.leaf())
                        .map_or("-".to_owned(), |c| c.subject.to_string())
                };
                let asked = if h.certificate_requested { " asked" } else { "" };
                let resumed = h.resumption.map_or(String::new(), |r| format!(" {r:?}"));
                Some(format!(
                    "{:?} {} {}{asked}{resumed}",
                    h.end,
                    name(&h.server),
                    name(&h.client)
                ))
            }
            FlowEventKind::Anomaly(anomaly) => Some(format!("! {} {}", anomaly.kind.slug(), anomaly.detail)),
            _ => None,
        })
        .collect();
    (said, shard)
}

fn handshakes(file: &str) -> Vec<String> {
    let (said, _) = events(file);
    said.into_iter()
        .filter(|s| !s.starts_with("client") && !s.starts_with("server"))
        .collect()
}

/// JA4 by the published method from the fields that tshark 4.0 gives of the same files.
#[test]
fn fingerprints_agree_with_tshark() {
    for (file, wanted) in [
        ("tls/quic.pcap", &["q13d0307h3_55b375c5d22e_1cecd519fee8"; 4][..]),
        ("tls/tls12-good.pcap", &["t12d280700_d943125447b4_e7e480e5a997"]),
        (
            "tls/tls13-retry-and-psk.pcap",
            &[
                "t13d041000_16476d049b0b_78f1d400d464",
                "t13d041000_16476d049b0b_78f1d400d464",
                "t13d041100_16476d049b0b_6775ac8fe30b",
            ],
        ),
        (
            "benign/lo-tls13-py.pcap",
            &["t13d1812h1_85036bcba153_d41ae481755e"; 35],
        ),
        (
            "benign/veth-tls12-ts.pcap",
            &["t13i5910h1_a33745022dd6_1f22a2ca17c4"; 10],
        ),
        (
            "benign/veth-h2-tls13.pcap",
            &["t13i1811h1_85036bcba153_d41ae481755e"],
        ),
    ] {
        let (said, _) = read(file);
        let found: Vec<&str> = said
            .iter()
            .filter(|s| s.starts_with("client"))
            .filter_map(|s| s.rsplit(' ').next())
            .collect();
        assert_eq!(found, wanted, "{file}");
    }
}

#[test]
fn certificates_and_whether_the_client_went_on() {
    for file in ["good", "selfsigned", "expired"] {
        assert_eq!(
            handshakes(&format!("tls12-{file}.pcap")),
            ["Established CN=mcp.example -"],
            "{file}"
        );
    }
    assert_eq!(handshakes("tls12-wrong.pcap"), ["Established CN=other.example -"]);
    assert_eq!(
        handshakes("tls12-expired-refused.pcap"),
        ["Refused { by: ToServer, description: Some(45) } CN=mcp.example -"]
    );
    assert_eq!(
        handshakes("tls12-client-certificate.pcap"),
        [
            "Established CN=mcp.example CN=agent,O=Example Org asked",
            "Established CN=mcp.example - asked",
        ]
    );
}

/// Rules that fire on a capture, and what they saw.
fn alerts(file: &str, tls: &str) -> Vec<(&'static str, String)> {
    let pins =
        format!("version: 1\nendpoints: [{{name: a, url: 'https://mcp.example:8443/mcp', tls: {tls}}}]\n");
    let options = ReplayOptions {
        learning: None,
        pins: Arc::new(Pins::parse(&pins, "pins.yaml").unwrap()),
        wanted: Wanted {
            alerts: true,
            ..Wanted::default()
        },
        threads: 1,
        decode: DecodeLimits::default(),
        shard: ShardLimits::default(),
        tracker: TrackerLimits::default(),
        alerts: AlerterOptions::default(),
        keys: Arc::default(),
        fingerprint_key: None,
        origins: Arc::default(),
    };
    let mut found = Vec::new();
    let reader = CaptureReader::open(&folder().join("tls").join(file), 0).unwrap();
    let outcome = replay(
        Merged::new(vec![reader]),
        options,
        |records| {
            found.extend(records.into_iter().filter_map(|record| match record {
                Record::Alert(alert) if alert.rule.starts_with("TLS-") => {
                    Some((alert.rule, alert.observed.clone().unwrap_or_default()))
                }
                _ => None,
            }));
            Ok::<(), Infallible>(())
        },
        |_| {},
    );
    assert!(outcome.unwrap().error.is_none());
    found
}

#[test]
fn rules_judge_real_handshakes() {
    let fires = |file: &str, tls: &str| -> Vec<&str> {
        alerts(file, tls).into_iter().map(|(rule, _)| rule).collect()
    };
    let pinned =
        "{spki_sha256: ['R2lJN8asVlxaEqrz5POqPDHSrIB16sHVHcO0oy/LQZg='], issuers: ['CN=Example CA']}";
    assert!(fires("tls12-good.pcap", pinned).is_empty());
    assert!(fires("tls12-resumption.pcap", pinned).is_empty());
    assert!(
        fires("tls12-expired-refused.pcap", "{}").is_empty(),
        "the client aborted"
    );
    assert!(fires("quic.pcap", pinned).is_empty());
    assert!(fires("tls13-retry-and-psk.pcap", pinned).is_empty());
    assert_eq!(
        fires("tls12-selfsigned.pcap", pinned),
        ["TLS-01", "TLS-02", "TLS-03"]
    );
    assert_eq!(fires("tls12-expired.pcap", pinned), ["TLS-01", "TLS-03"]);
    assert_eq!(
        alerts("tls12-wrong.pcap", "{}"),
        [("TLS-03", "for CN=other.example, not mcp.example".to_owned())]
    );
    assert_eq!(fires("tls12-client-certificate.pcap", "{}"), ["TLS-08"]);
}

#[test]
fn resumption() {
    assert_eq!(
        handshakes("tls12-resumption.pcap"),
        [
            "Established CN=mcp.example -",
            "Established - - Ticket",
            "Established CN=mcp.example -",
            "Established - - SessionId",
        ]
    );
    let (said, _) = events("tls13-retry-and-psk.pcap");
    let servers: Vec<_> = said.iter().filter(|s| s.starts_with("server")).collect();
    assert_eq!(servers, ["server 0304 retry", "server 0304", "server 0304 psk"]);
}

#[test]
fn quic_versions_negotiation_and_retry() {
    let (said, shard) = events("quic.pcap");
    let counters = shard.application_counters();
    assert_eq!(
        (
            counters.quic_flows,
            counters.client_hellos,
            counters.server_hellos
        ),
        (4, 4, 4)
    );
    assert_eq!(said.len(), 8, "{said:#?}");
    for pair in said.chunks(2) {
        assert!(
            pair[0].starts_with("client mcp.example [\"h3\"] q13d0"),
            "{said:#?}"
        );
        assert_eq!(pair[1], "server 0304");
    }
}

#[test]
fn dtls_is_counted() {
    let (said, shard) = events("dtls12.pcap");
    assert!(said.is_empty());
    assert_eq!(shard.application_counters().dtls_flows, 1);
}
