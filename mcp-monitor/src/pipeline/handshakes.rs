//! Handshakes made with real software (`tests/captures/tls`, its index says how), read by the per-flow
//! half. Hellos agree with what tshark reads of the same files.

use super::shard::{Shard, ShardLimits};
use crate::{
    decode::{DecodeLimits, Decoder},
    mcp::FlowEventKind,
    proto::tls::ja4::ja4,
    source::CaptureReader,
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
                let name = |chain: &Option<std::sync::Arc<crate::proto::tls::Chain>>| {
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
