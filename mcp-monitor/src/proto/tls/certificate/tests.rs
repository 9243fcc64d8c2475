use proptest::prelude::*;

use super::*;

/// Certificates out of the captures, made with openssl: the first chain of each file.
fn chain(file: &str) -> Chain {
    use crate::{
        decode::{DecodeLimits, Decoded, Decoder},
        proto::tls::{Limits, Stream, TlsEvent},
        source::CaptureReader,
        types::Direction,
    };
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/captures/tls")
        .join(file);
    let mut reader = CaptureReader::open(&path, 0).unwrap();
    let mut decoder = Decoder::new(DecodeLimits::default());
    let mut stream = Stream::new(Limits::default());
    let mut out = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        if let Decoded::Tcp(segment) = decoder.decode(&packet) {
            let direction = if segment.dst.port() == 8443 {
                Direction::ToServer
            } else {
                Direction::ToClient
            };
            stream.data(direction, segment.at, segment.payload, &mut out);
        }
    }
    out.iter()
        .find_map(|event| match event {
            TlsEvent::Certificates { chain, .. } => Some(Chain::clone(chain)),
            _ => None,
        })
        .unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What openssl says of the same certificates.
#[test]
fn fields_agree_with_openssl() {
    let good = chain("tls12-good.pcap");
    assert_eq!((good.certificates.len(), good.unreadable), (2, 0));
    let leaf = good.leaf().unwrap();
    assert_eq!(
        hex(&leaf.sha256),
        "e306576330fa1a6e6df5fb85a83716ced5fca8ab65fa28235aa56735e6c5a5fb"
    );
    assert_eq!(
        hex(&leaf.spki_sha256),
        "47694937c6ac565c5a12aaf3e4f3aa3c31d2ac8075eac1d51dc3b4a32fcb4198"
    );
    assert_eq!(&*leaf.subject, "CN=mcp.example");
    assert_eq!(&*leaf.issuer, "CN=Example CA,O=Example Org,C=DE");
    let rdns: Vec<&str> = leaf.issuer_rdns.iter().map(|r| &**r).collect();
    assert_eq!(rdns, ["CN=Example CA", "O=Example Org", "C=DE"]);
    assert_eq!(leaf.issuer_der, good.certificates[1].subject_der);
    assert!(!leaf.is_self_signed() && good.certificates[1].is_self_signed());
    assert_eq!(leaf.scts, 0);
    let expired = chain("tls12-expired.pcap");
    let expired = expired.leaf().unwrap();
    assert_eq!(expired.not_before, Timestamp::from_secs(1_577_836_800));
    assert_eq!(expired.not_after, Timestamp::from_secs(1_609_459_200));
    assert!(!expired.is_valid_at(Timestamp::from_secs(1_609_459_201)));
    assert!(chain("tls12-selfsigned.pcap").leaf().unwrap().is_self_signed());
}

#[test]
fn names_as_clients_match_them() {
    let good = chain("tls12-good.pcap");
    let leaf = good.leaf().unwrap();
    for name in ["mcp.example", "fra.pop.example", "192.0.2.7"] {
        assert!(leaf.names(name), "{name}");
    }
    for name in [
        "example",
        "pop.example",
        "a.b.pop.example",
        "192.0.2.8",
        "xmcp.example",
        ".pop.example",
    ] {
        assert!(!leaf.names(name), "{name}");
    }
    let mut bare = leaf.clone();
    bare.dns_names.clear();
    assert!(
        !bare.names("mcp.example"),
        "an address in subjectAltName rules the common name out"
    );
    bare.addresses.clear();
    assert!(bare.names("mcp.example"));
}

#[test]
fn timestamps_are_counted() {
    let list = |n: u8| {
        let entries: Vec<u8> = (0..n).flat_map(|_| [0, 2, 7, 7]).collect();
        let length = u8::try_from(entries.len()).unwrap();
        [&[4, length + 2, 0, length][..], &entries].concat()
    };
    assert_eq!(count_scts(&list(3)), Some(3));
    assert_eq!(count_scts(&list(0)), Some(0));
    assert_eq!(count_scts(&list(3)[..9]), None);
    assert!(status_has_scts(&[b"xx", OCSP_SCTS, b"yy"].concat()));
    assert!(!status_has_scts(b"an answer without"));
}

#[test]
fn what_is_no_certificate_is_counted() {
    let chain = Chain::parse([&b"leaf"[..], b""]);
    assert_eq!(
        (chain.unreadable, chain.leaf().is_none(), chain.is_empty()),
        (2, true, false)
    );
    assert!(Chain::default().is_empty());
}

/// The certificate of the first capture.
const SEED: &[u8] = include_bytes!("../../../../../fuzz/seeds/x509/good.der");

proptest! {
    #[test]
    fn nothing_panics(bytes in any::<Vec<u8>>(), at in 0..SEED.len(), to in any::<u8>(), cut in 0..SEED.len()) {
        let mut bent = SEED.to_vec();
        bent[at] = to;
        bent.truncate(cut.max(1));
        Certificate::parse(&bent);
        bent = SEED.to_vec();
        bent[at] = to;
        if let Some(certificate) = Certificate::parse(&bent) {
            certificate.names("mcp.example");
            certificate.is_self_signed();
        }
        Certificate::parse(&bytes);
        Chain::of_message(&bytes);
        Chain::of_message13(&bytes);
    }
}
