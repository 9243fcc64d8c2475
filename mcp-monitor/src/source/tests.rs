//! Readers against hand-made files and damaged ones.

use std::{io::Write as _, path::Path};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn pcap(magic: [u8; 4], big: bool, packets: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let n = |v: u32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let mut out = magic.to_vec();
    out.extend([0; 16]);
    out.extend(n(1));
    for (secs, fraction, data) in packets {
        let len = u32::try_from(data.len()).unwrap();
        for v in [*secs, *fraction, len, len + 2] {
            out.extend(n(v));
        }
        if magic == [0x34, 0xcd, 0xb2, 0xa1] {
            out.extend([0; 8]);
        }
        out.extend(*data);
    }
    out
}

fn block(big: bool, kind: u32, body: &[u8]) -> Vec<u8> {
    let n = |v: u32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let len = u32::try_from(body.len() + 12).unwrap();
    [&n(kind)[..], &n(len), &body, &n(len)].concat()
}

fn words(big: bool, words: &[u32]) -> Vec<u8> {
    words
        .iter()
        .flat_map(|v| if big { v.to_be_bytes() } else { v.to_le_bytes() })
        .collect()
}

fn section(big: bool) -> Vec<u8> {
    block(
        big,
        0x0a0d_0d0a,
        &words(big, &[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]),
    )
}

fn interface(big: bool, link: u16, snaplen: u32, options: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let h = |v: u16| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let mut body = [&h(link)[..], &[0, 0], &words(big, &[snaplen])].concat();
    for (code, value) in options {
        body.extend(h(*code));
        body.extend(h(u16::try_from(value.len()).unwrap()));
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    block(big, 1, &body)
}

fn enhanced(big: bool, interface: u32, units: u64, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap();
    let high = u32::try_from(units >> 32).unwrap();
    let low = u32::try_from(units & 0xffff_ffff).unwrap();
    let body = [&words(big, &[interface, high, low, len, len])[..], data].concat();
    block(big, 6, &body)
}

fn open(data: Vec<u8>) -> Result<CaptureReader, CaptureError> {
    CaptureReader::from_bytes(Bytes::from(data), Path::new("test.pcap"), 3)
}

fn all(data: Vec<u8>) -> (Vec<Packet>, Option<String>) {
    let mut reader = open(data).unwrap();
    let mut packets = Vec::new();
    while let Some(p) = reader.next_packet().unwrap() {
        packets.push(p);
    }
    (packets, reader.truncated().map(str::to_owned))
}

#[test]
fn pcap_variants() {
    let cases = [
        ([0xd4, 0xc3, 0xb2, 0xa1], false, 5_000_000_123_000),
        ([0xa1, 0xb2, 0xc3, 0xd4], true, 5_000_000_123_000),
        ([0x4d, 0x3c, 0xb2, 0xa1], false, 5_000_000_000_123),
        ([0xa1, 0xb2, 0x3c, 0x4d], true, 5_000_000_000_123),
        ([0x34, 0xcd, 0xb2, 0xa1], false, 5_000_000_123_000),
    ];
    for (magic, big, nanos) in cases {
        let (packets, truncated) = all(pcap(magic, big, &[(5000, 123, b"abc"), (5001, 0, b"")]));
        assert_eq!(packets.len(), 2, "{magic:x?}");
        assert_eq!(truncated, None);
        assert_eq!(packets[0].time.0, nanos);
        assert_eq!(packets[0].link, LinkType::ETHERNET);
        assert_eq!(&packets[0].data[..], b"abc");
        assert_eq!(packets[0].wire_len, 5);
        assert_eq!((packets[1].id.number, packets[1].id.file), (2, 3));
    }
}

#[test]
fn pcapng_sections_interfaces_and_extras() {
    let mut file = section(false);
    file.extend(interface(false, 1, 0, &[(9, vec![9]), (1, b"uplink".to_vec())]));
    file.extend(interface(false, 276, 2, &[(14, 10_i64.to_le_bytes().to_vec())]));
    // Name resolution and a type nobody knows.
    file.extend(block(false, 4, &[0; 40]));
    file.extend(block(false, 0x0bad_cafe, &[1; 8]));
    file.extend(block(
        false,
        10,
        &[&words(false, &[Secrets::TLS_KEY_LOG, 5])[..], b"KEYS!"].concat(),
    ));
    file.extend(enhanced(false, 0, 1_000_000_007, b"one"));
    file.extend(enhanced(false, 1, 2_000_000, b"two2"));
    file.extend(enhanced(false, 9, 0, b"no such interface"));
    // A second section in the other byte order starts its interfaces anew.
    file.extend(section(true));
    file.extend(interface(true, 101, 4, &[(9, vec![0x80 | 10])]));
    file.extend(enhanced(true, 0, 3 * 1024, b"three"));
    file.extend(block(true, 3, &[&words(true, &[9])[..], b"four----"].concat()));
    let old = [&[0, 0, 0, 7][..], &words(true, &[0, 4 * 1024, 4, 60]), b"five"].concat();
    file.extend(block(true, 2, &old));
    let mut with_comment = words(true, &[0, 0, 5 * 1024, 1, 1]);
    with_comment.extend([b'6', 0, 0, 0, 0, 1, 0, 5]);
    with_comment.extend(b"hello\0\0\0");
    file.extend(block(true, 6, &with_comment));

    let mut reader = open(file).unwrap();
    let mut got = Vec::new();
    while let Some(p) = reader.next_packet().unwrap() {
        got.push((p.id.number, p.link.0, p.time.0, p.data.to_vec(), p.wire_len));
    }
    let s = 1_000_000_000;
    assert_eq!(
        got,
        [
            (1, 1, s + 7, b"one".to_vec(), 3),
            (2, 276, 12 * s, b"two2".to_vec(), 4),
            (4, 101, 3 * s, b"three".to_vec(), 5),
            (5, 101, 3 * s, b"four".to_vec(), 9),
            (6, 101, 4 * s, b"five".to_vec(), 60),
            (7, 101, 5 * s, b"6".to_vec(), 1),
        ]
    );
    assert_eq!(reader.truncated(), None);
    let counters = reader.counters();
    assert_eq!((counters.errors, counters.skipped_blocks), (1, 2));
    assert!(reader.has_secrets());
    let secrets = reader.take_secrets();
    assert_eq!(&secrets[0].data[..], b"KEYS!");
    assert!(!format!("{secrets:?}").contains("KEYS"));
    let comments = reader.take_comments();
    assert_eq!(comments[0].text, "uplink");
    assert_eq!(
        (comments[1].packet, comments[1].text.as_str()),
        (Some(7), "hello")
    );
}

#[test]
fn compressed_captures_are_looked_through() {
    let plain = pcap(
        [0xd4, 0xc3, 0xb2, 0xa1],
        false,
        &[(1, 0, &[7; 3000]), (2, 0, b"x")],
    );
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    let gz = gz.finish().unwrap();
    let half = plain.len() / 2;
    let zstd = |data: &[u8]| {
        let mut coded = Vec::with_capacity(zstd_safe::compress_bound(data.len()));
        zstd_safe::compress(&mut coded, data, 3).unwrap();
        coded
    };
    // Two frames with a skippable one between them.
    let zst = [
        zstd(&plain[..half]),
        vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3],
        zstd(&plain[half..]),
    ]
    .concat();
    let dir = tempfile::tempdir().unwrap();
    for (name, data) in [("a.gz", &gz), ("b.zst", &zst)] {
        let path = dir.path().join(name);
        std::fs::write(&path, data).unwrap();
        let mut reader = CaptureReader::open(&path, 0).unwrap();
        assert_eq!(
            reader.next_packet().unwrap().unwrap().data[..],
            [7; 3000],
            "{name}"
        );
        assert_eq!(&reader.next_packet().unwrap().unwrap().data[..], b"x", "{name}");
        assert!(reader.next_packet().unwrap().is_none(), "{name}");
        assert_eq!(reader.truncated(), None, "{name}");
    }
    // Compressed data that is cut ends as a cut capture does.
    for (name, cut) in [
        ("cut.gz", &gz[..gz.len() - 10]),
        ("cut.zst", &zst[..zst.len() - 1]),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, cut).unwrap();
        let mut reader = CaptureReader::open(&path, 0).unwrap();
        while reader.next_packet().unwrap().is_some() {}
        assert!(reader.truncated().is_some(), "{name}");
    }
}

#[test]
fn what_is_no_capture_says_what_it_is() {
    let message = |data: &[u8]| open(data.to_vec()).unwrap_err().to_string();
    assert_eq!(
        message(b""),
        "test.pcap: found an empty file, expected a pcap or pcapng capture"
    );
    assert!(message(b"{\"a\":1}").contains("found JSON text, expected"));
    assert!(message(b"hello").contains("found text"));
    assert!(message(&[0xff; 9]).contains("ff ff ff ff"));
    assert!(message(&[0xff]).contains("only 1 bytes"));
    assert!(message(&[0xd4, 0xc3, 0xb2, 0xa1, 0]).contains("cut after 5 bytes"));
    assert!(message(&section(false)[..20]).contains("section header"));
    let missing = CaptureReader::open(Path::new("/nonexistent/x.pcap"), 0).unwrap_err();
    assert!(matches!(missing, CaptureError::Io { .. }));
    let directory = CaptureReader::open(&std::env::temp_dir(), 0).unwrap_err();
    assert!(directory.to_string().contains("is a directory"));
}

#[test]
fn a_cut_file_yields_what_is_whole_and_says_where_it_breaks() {
    let whole = pcap(
        [0xd4, 0xc3, 0xb2, 0xa1],
        false,
        &[(1, 0, b"aaaa"), (2, 0, b"bbbb")],
    );
    for cut in 24..whole.len() {
        let (packets, truncated) = all(whole[..cut].to_vec());
        assert_eq!(packets.len(), usize::from(cut >= 44), "cut at {cut}");
        assert_eq!(truncated.is_none(), cut == 24 || cut == 44, "cut at {cut}");
    }
    let mut hostile = whole;
    hostile[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    let (packets, truncated) = all(hostile);
    assert!(packets.is_empty());
    assert!(truncated.unwrap().contains("claims 4294967295 captured bytes"));
}

#[test]
fn merged_keeps_time_and_the_order_of_each_file() {
    let le = [0xd4, 0xc3, 0xb2, 0xa1];
    let a = open(pcap(le, false, &[(1, 0, b"a1"), (5, 0, b"a2"), (4, 0, b"a3")])).unwrap();
    let b = open(pcap(le, false, &[(1, 0, b"b1"), (4, 5, b"b2"), (9, 0, b"b3")])).unwrap();
    let mut merged = Merged::new(vec![a, b]);
    let mut got = Vec::new();
    while let Some(p) = merged.next_packet().unwrap() {
        got.push((
            p.id.order,
            p.id.number,
            String::from_utf8(p.data.to_vec()).unwrap(),
        ));
    }
    let want = [
        (1, 1, "a1"),
        (2, 1, "b1"),
        (3, 2, "b2"),
        (4, 2, "a2"),
        (5, 3, "a3"),
        (6, 3, "b3"),
    ];
    assert_eq!(got, want.map(|(o, n, s)| (o, n, s.to_owned())));
    assert_eq!(merged.counters().packets, 6);
}

proptest! {
    #[test]
    fn any_bytes_after_any_magic_do_not_panic(
        which in 0_usize..4,
        mut data in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let start = match which {
            0 => pcap([0xd4, 0xc3, 0xb2, 0xa1], false, &[]),
            1 => pcap([0xa1, 0xb2, 0x3c, 0x4d], true, &[]),
            2 => [section(false), interface(false, 1, 0, &[])].concat(),
            _ => Vec::new(),
        };
        data.splice(0..0, start);
        if let Ok(mut reader) = open(data) {
            while reader.next_packet().unwrap().is_some() {}
        }
    }

    #[test]
    fn a_damaged_pcapng_does_not_panic(at in 0_usize..200, byte: u8, cut in 0_usize..220) {
        let mut file = section(false);
        file.extend(interface(false, 1, 0, &[(9, vec![9])]));
        file.extend(enhanced(false, 0, 1, b"one"));
        file.extend(enhanced(false, 0, 2, b"two"));
        if let Some(b) = file.get_mut(at) {
            *b = byte;
        }
        file.truncate(cut);
        if let Ok(mut reader) = open(file) {
            while reader.next_packet().unwrap().is_some() {}
        }
    }
}
