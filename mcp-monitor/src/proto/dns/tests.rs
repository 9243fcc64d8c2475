use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// Header with counts, then the given sections.
fn message(flags: u16, counts: [u16; 4], body: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34];
    bytes.extend(flags.to_be_bytes());
    for count in counts {
        bytes.extend(count.to_be_bytes());
    }
    bytes.extend(body.concat());
    bytes
}

fn record(owner: &[u8], rtype: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let mut bytes = owner.to_vec();
    bytes.extend(rtype.to_be_bytes());
    bytes.extend(1u16.to_be_bytes());
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(u16::try_from(rdata.len()).unwrap().to_be_bytes());
    bytes.extend(rdata);
    bytes
}

/// `Mcp.Example A?` at offset 12.
const QUESTION: &[u8] = b"\x03Mcp\x07Example\x00\x00\x01\x00\x01";

#[test]
fn an_answer_with_a_cname_chain_and_edns() {
    let bytes = message(
        0x8580,
        [1, 3, 0, 1],
        &[
            QUESTION,
            // edge + pointer to "example" at 16; the owner is a pointer to the question.
            &record(b"\xc0\x0c", 5, 60, b"\x04edge\xc0\x10"),
            // Owner: the CNAME target, in rdata at 12 + 17 + 12.
            &record(b"\xc0\x29", 1, 60, &[192, 0, 2, 1]),
            &record(
                b"\xc0\x29",
                28,
                60,
                &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            ),
            &record(b"\x00", 41, 0x0100_0000, b""),
        ],
    );
    let (parsed, anomaly) = parse(&bytes);
    assert_eq!(anomaly, None);
    let parsed = parsed.unwrap();
    assert_eq!(
        (parsed.id, parsed.response, parsed.authoritative, parsed.truncated),
        (0x1234, true, true, false)
    );
    assert_eq!((parsed.rcode, parsed.edns), (0x10, true));
    assert_eq!(
        parsed.questions,
        [Question {
            name: "mcp.example".into(),
            qtype: 1,
            qclass: 1
        }]
    );
    let answers: Vec<_> = parsed.answers.iter().map(|r| (&*r.name, &r.data)).collect();
    assert_eq!(
        answers,
        [
            ("mcp.example", &RecordData::Cname("edge.example".into())),
            ("edge.example", &RecordData::Address("192.0.2.1".parse().unwrap())),
            (
                "edge.example",
                &RecordData::Address("2001:db8::1".parse().unwrap())
            ),
        ]
    );
    assert!(parsed.additionals.is_empty());
}

#[test]
fn soa_ns_https_and_unknown_types() {
    let bytes = message(
        0x8183,
        [1, 2, 2, 0],
        &[
            QUESTION,
            &record(
                b"\xc0\x0c",
                65,
                1,
                b"\x00\x01\x00\x00\x01\x00\x06\x02h2\x02h3\x00\x03\x00\x02\x20\xfb\x00\x04\x00\x04\xc0\x00\x02\x07\x00\x05\x00\x01x",
            ),
            &record(b"\xc0\x0c", 16, 1, b"\x02hi"),
            &record(b"\xc0\x10", 6, 1, &[b"\x02ns\xc0\x10\x01h\xc0\x10\x00\x00\x00\x07", &[0; 16][..]].concat()),
            &record(b"\xc0\x10", 2, 1, b"\x02ns\xc0\x10"),
        ],
    );
    let (parsed, anomaly) = parse(&bytes);
    assert_eq!(anomaly, None);
    let parsed = parsed.unwrap();
    assert_eq!(parsed.rcode, 3);
    assert_eq!(
        parsed.answers[0].data,
        RecordData::Svcb {
            priority: 1,
            target: "".into(),
            alpn: vec!["h2".into(), "h3".into()],
            ech: true,
            ech_configs: Vec::new(),
            port: Some(8443),
            hints: vec!["192.0.2.7".parse().unwrap()],
        }
    );
    assert_eq!(parsed.answers[1].data, RecordData::Other(3));
    assert_eq!(
        parsed.authorities[0].data,
        RecordData::Soa {
            primary: "ns.example".into(),
            serial: 7
        }
    );
    assert_eq!(parsed.authorities[1].data, RecordData::Ns("ns.example".into()));
}

#[test]
fn ech_configurations_show_their_id_and_public_name() {
    let config = |version: &[u8], id: u8| {
        let content = [
            &[id, 0, 32, 0, 2, 1, 2, 0, 4, 0, 1, 0, 1, 0, 6][..],
            b"Pub.ex",
            &[0, 0],
        ]
        .concat();
        [version, &[0, u8::try_from(content.len()).unwrap()], &content].concat()
    };
    let configs = [config(&[0xfe, 0x0a], 1), config(&[0xfe, 0x0d], 9)].concat();
    let length = u8::try_from(configs.len()).unwrap();
    let rdata = [&[0, 1, 0, 0, 5, 0, length + 2, 0, length][..], &configs].concat();
    let bytes = message(
        0x8180,
        [1, 1, 0, 0],
        &[QUESTION, &record(b"\xc0\x0c", 65, 1, &rdata)],
    );
    let parsed = parse(&bytes).0.unwrap();
    let RecordData::Svcb {
        ech: true,
        ech_configs,
        ..
    } = &parsed.answers[0].data
    else {
        panic!("{parsed:?}")
    };
    let wanted = EchConfig {
        id: 9,
        public_name: "pub.ex".into(),
    };
    assert_eq!(*ech_configs, [wanted]);
}

#[test]
fn what_stands_before_a_cut_is_kept() {
    let whole = message(
        0x8180,
        [1, 2, 0, 0],
        &[
            QUESTION,
            &record(b"\xc0\x0c", 1, 60, &[192, 0, 2, 1]),
            &record(b"\xc0\x0c", 1, 60, &[192, 0, 2, 2]),
        ],
    );
    let (parsed, anomaly) = parse(&whole[..whole.len() - 1]);
    assert_eq!(parsed.unwrap().answers.len(), 1);
    assert_eq!(anomaly.unwrap().detail, "breaks off in the answer section");
    assert_eq!(parse(&whole[..11]).0, None);
}

#[test]
fn odd_names_are_escaped_and_bad_ones_refused() {
    let name = |name: &[u8]| {
        let bytes = message(0, [1, 0, 0, 0], &[name, b"\x00\x01\x00\x01"]);
        parse(&bytes).0.unwrap().questions.pop().map(|q| q.name)
    };
    assert_eq!(name(b"\x00").as_deref(), Some(""));
    assert_eq!(
        name(b"\x05a.B\\\xff\x01*\x00").as_deref(),
        Some(r"a\046b\092\255.*")
    );
    // A pointer to itself, forward, and reserved label types.
    assert_eq!(name(b"\xc0\x0c"), None);
    assert_eq!(name(b"\x01a\xc0\x0c"), None);
    assert_eq!(name(b"\xc0\x20"), None);
    assert_eq!(name(b"\x40a\x00"), None);
    // 255 octets are the most.
    let long = |last: u8| {
        let mut bytes = [&[63u8][..], &[b'a'; 63]].concat().repeat(3);
        bytes.push(last);
        bytes.extend(vec![b'b'; usize::from(last)]);
        bytes.push(0);
        name(&bytes)
    };
    assert!(long(61).is_some());
    assert!(long(62).is_none());
}

#[test]
fn records_are_bounded() {
    let mut body = Vec::new();
    for _ in 0..1100 {
        body.extend(record(b"\x00", 99, 0, b""));
    }
    let (parsed, anomaly) = parse(&message(0x8000, [0, 1100, 0, 0], &[&body]));
    assert_eq!(parsed.unwrap().answers.len(), 1024);
    assert_eq!(anomaly.unwrap().detail, "more records than the limit");
}

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    messages
        .iter()
        .flat_map(|m| [&u16::try_from(m.len()).unwrap().to_be_bytes()[..], m].concat())
        .collect()
}

#[test]
fn tcp_falls_into_step_after_lost_bytes() {
    let mut stream = TcpStream::new();
    let mut out = Vec::new();
    let whole = framed(&[vec![7; 20]]);
    stream.push(Bytes::copy_from_slice(&whole[..5]), &mut out);
    stream.gap();
    stream.push(Bytes::copy_from_slice(&whole[9..]), &mut out);
    stream.push(Bytes::copy_from_slice(&whole), &mut out);
    stream.push(Bytes::copy_from_slice(&whole[..1]), &mut out);
    stream.push(Bytes::copy_from_slice(&whole[1..]), &mut out);
    assert_eq!(out, [vec![7; 20], vec![7; 20]]);
}

proptest! {
    #[test]
    fn nothing_panics(bytes in any::<Vec<u8>>(), counts in prop::array::uniform4(0u16..4)) {
        parse(&bytes);
        parse(&message(0x8000, counts, &[QUESTION, &bytes]));
    }

    #[test]
    fn any_split_gives_the_same_messages(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..6),
        cuts in prop::collection::vec(1usize..9, 1..6),
    ) {
        let mut stream = TcpStream::new();
        let mut rest = Bytes::from(framed(&messages));
        let mut out = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            stream.push(rest.split_to((*cut).min(rest.len())), &mut out);
        }
        prop_assert_eq!(out, messages);
    }
}
