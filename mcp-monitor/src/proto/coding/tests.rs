#![allow(clippy::arithmetic_side_effects)] // small numbers

use std::io::Write;

use proptest::prelude::*;

use super::*;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new()
        .filename("name")
        .extra(vec![1, 2, 3])
        .comment("note")
        .write(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn raw(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    let mut coded = Vec::with_capacity(zstd_safe::compress_bound(data.len()));
    zstd_safe::compress(&mut coded, data, 3).unwrap();
    coded
}

/// Uncompressed meta-blocks (RFC 7932 section 9.2): enough of an encoder for tests.
fn br(data: &[u8]) -> Vec<u8> {
    // WBITS 16: one zero bit. Then ISLAST 0, MNIBBLES 0 (four), MLEN - 1, ISUNCOMPRESSED 1.
    let mut coded = Vec::new();
    let mut pending = 1u32; // bits of the byte under way
    let mut byte = 0u64;
    for block in data.chunks(60_000) {
        let header = (u64::try_from(block.len() - 1).unwrap() << 3) | (1 << 19);
        byte |= header << pending;
        let bits = pending + 20;
        for _ in 0..bits.div_ceil(8) {
            coded.push(u8::try_from(byte & 0xff).unwrap());
            byte >>= 8;
        }
        coded.extend_from_slice(block);
        pending = 0;
        byte = 0;
    }
    // ISLAST 1, ISLASTEMPTY 1.
    byte |= 3 << pending;
    coded.push(u8::try_from(byte).unwrap());
    coded
}

fn decode(coding: &str, pieces: &[&[u8]]) -> (Vec<u8>, Option<Anomaly>) {
    decode_within(Limits::default(), coding, pieces)
}

fn decode_within(limits: Limits, coding: &str, pieces: &[&[u8]]) -> (Vec<u8>, Option<Anomaly>) {
    let mut decoder = Decoder::new([coding.as_bytes()].into_iter(), limits)
        .unwrap()
        .unwrap();
    let mut out = Vec::new();
    let mut anomaly = None;
    for piece in pieces {
        anomaly = anomaly.or(decoder.push(piece, &mut out));
    }
    anomaly = anomaly.or(decoder.finish());
    (out.concat(), anomaly)
}

const TEXT: &[u8] = b"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n";

#[test]
fn every_coding_and_a_stack_of_them() {
    for (name, coded) in [
        ("gzip", gzip(TEXT)),
        ("X-GZIP", gzip(TEXT)),
        ("deflate", zlib(TEXT)),
        ("deflate", raw(TEXT)),
        ("br", br(TEXT)),
        ("zstd", zstd(TEXT)),
        ("identity, gzip ,, br, deflate", zlib(&br(&gzip(TEXT)))),
    ] {
        assert_eq!(decode(name, &[&coded]), (TEXT.to_vec(), None), "{name}");
        let (_, cut) = decode(name, &[&coded[..coded.len() - 1]]);
        let detail = cut.map(|a| a.detail).unwrap_or_default();
        assert!(detail.ends_with("breaks off"), "{name}: {detail}");
        let (_, tail) = decode(name, &[&coded, b"tail"]);
        assert_eq!(tail.map(|a| a.kind), Some(AnomalyKind::CodingError), "{name}");
    }
}

#[test]
fn members_and_frames_follow_each_other() {
    let two = [gzip(b"one"), gzip(b"two")].concat();
    for cut in 0..two.len() {
        let (a, b) = two.split_at(cut);
        assert_eq!(decode("gzip", &[a, b]), (b"onetwo".to_vec(), None));
    }
    let two = [zstd(b"one"), zstd(b"two")].concat();
    assert_eq!(decode("zstd", &[&two]), (b"onetwo".to_vec(), None));
}

#[test]
fn what_was_flushed_comes_out() {
    let mut decoder = Decoder::new([&b"gzip"[..]].into_iter(), Limits::default())
        .unwrap()
        .unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut sent = 0;
    for _ in 0..5 {
        encoder.write_all(TEXT).unwrap();
        encoder.flush().unwrap();
        let mut out = Vec::new();
        assert_eq!(decoder.push(&encoder.get_ref()[sent..], &mut out), None);
        sent = encoder.get_ref().len();
        assert_eq!(out.concat(), TEXT);
    }
    // The same for zstd.
    let mut decoder = Decoder::new([&b"zstd"[..]].into_iter(), Limits::default())
        .unwrap()
        .unwrap();
    let mut encoder = zstd_safe::CCtx::create();
    for _ in 0..5 {
        let mut buffer = [0; 1024];
        let mut target = zstd_safe::OutBuffer::around(&mut buffer[..]);
        let mut source = zstd_safe::InBuffer::around(TEXT);
        encoder.compress_stream(&mut target, &mut source).unwrap();
        encoder.flush_stream(&mut target).unwrap();
        let mut out = Vec::new();
        assert_eq!(decoder.push(target.as_slice(), &mut out), None);
        assert_eq!(out.concat(), TEXT);
    }
}

#[test]
fn bombs_are_cut() {
    let limits = Limits {
        free_output: 100_000,
        ..Limits::default()
    };
    let zeros = vec![0; 10 << 20];
    for (name, coded) in [
        ("gzip", gzip(&zeros)),
        ("zstd", zstd(&zeros)),
        ("gzip, gzip", gzip(&gzip(&zeros))),
        ("zstd, gzip", gzip(&zstd(&zeros))),
    ] {
        let (out, anomaly) = decode_within(limits, name, &[&coded]);
        assert_eq!(anomaly.map(|a| a.kind), Some(AnomalyKind::InflateLimit), "{name}");
        assert!(out.len() <= 100_000 + coded.len() * 200, "{name}: {}", out.len());
    }
    let limits = Limits {
        max_output: 1000,
        ..Limits::default()
    };
    assert!(decode_within(limits, "gzip", &[&gzip(&zeros)]).1.is_some());
}

#[test]
fn what_is_unknown_is_said() {
    let new = |value: &'static str| Decoder::new([value.as_bytes()].into_iter(), Limits::default());
    assert!(new("identity").unwrap().is_none());
    assert!(new("").unwrap().is_none());
    assert_eq!(new("compress").unwrap_err().kind, AnomalyKind::CodingError);
    assert!(new("gzip,gzip,gzip,gzip,gzip").is_err());
    for name in ["gzip", "deflate", "br", "zstd"] {
        let (_, anomaly) = decode(name, &[b"\xff\xff\xff not coded at all, by any of them"]);
        assert_eq!(anomaly.map(|a| a.kind), Some(AnomalyKind::CodingError), "{name}");
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_bytes(
        data in prop::collection::vec(0u8..4, 0..3000),
        cuts in prop::collection::vec(1usize..200, 1..6),
    ) {
        for (name, coded) in [
            ("gzip", gzip(&data)), ("deflate", zlib(&data)), ("deflate", raw(&data)), ("br", br(&data)),
            ("zstd", zstd(&data)), ("gzip, zstd", zstd(&gzip(&data))),
        ] {
            let mut pieces = Vec::new();
            let mut rest = coded.as_slice();
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(decode(name, &pieces), (data.clone(), None));
        }
    }

    #[test]
    fn nothing_panics(
        pieces in prop::collection::vec(any::<Vec<u8>>(), 0..6),
        flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        for (name, mut coded) in [("gzip", gzip(TEXT)), ("deflate", zlib(TEXT)), ("br", br(TEXT)), ("zstd", zstd(TEXT))] {
            decode(name, &pieces);
            let at = flip.0.index(coded.len());
            coded[at] ^= flip.1;
            decode(name, &[&coded]);
        }
    }
}
