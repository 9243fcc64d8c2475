//! Any way of cutting, mixing and repeating a stream gives the stream; garbage gives no panic.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Plan {
    stream: Vec<u8>,
    /// Start and length of each segment sent, in the order of sending.
    segments: Vec<(usize, usize)>,
    isn: u32,
    syn: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    let stream = proptest::collection::vec(any::<u8>(), 1..600);
    (
        stream,
        proptest::collection::vec(any::<u8>(), 1..40),
        any::<u32>(),
        any::<bool>(),
        any::<u64>(),
    )
        .prop_flat_map(|(stream, cuts, isn, syn, _)| {
            let mut segments = Vec::new();
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                if at >= stream.len() {
                    break;
                }
                let len = (usize::from(*cut) % 97 + 1).min(stream.len() - at);
                segments.push((at, len));
                at += len;
            }
            let extra = proptest::collection::vec((0..stream.len(), 1_usize..200), 0..20);
            (Just(stream), Just(segments), extra, Just(isn), Just(syn))
        })
        .prop_flat_map(|(stream, mut segments, extra, isn, syn)| {
            let first = segments[0];
            for (start, len) in extra {
                segments.push((start, len.min(stream.len() - start)));
            }
            (
                Just(stream),
                Just(first),
                Just(segments).prop_shuffle(),
                Just(isn),
                Just(syn),
            )
        })
        .prop_map(|(stream, first, mut segments, isn, syn)| {
            if !syn {
                // With no handshake, the first segment seen is where the stream starts.
                segments.insert(0, first);
            }
            Plan {
                stream,
                segments,
                isn,
                syn,
            }
        })
}

proptest! {
    #[test]
    fn any_segmentation_gives_the_same_bytes(plan in plan()) {
        let mut b = Bench::new();
        if plan.syn {
            b.send('>', SYN, plan.isn, 0, b"");
        }
        for (start, len) in &plan.segments {
            let seq = plan.isn.wrapping_add(1).wrapping_add(u32::try_from(*start).unwrap());
            b.send('>', ACK, seq, 0, &plan.stream[*start..start + len]);
        }
        let flow = b.finish()[0].clone();
        prop_assert_eq!(flow.to_server, plan.stream);
        prop_assert!(flow.gaps.is_empty());
        prop_assert!(flow.anomalies.is_empty());
        prop_assert_eq!(b.table.counters().conflicts, 0);
    }

    #[test]
    fn bytes_and_gaps_account_for_the_whole_stream(
        segments in proptest::collection::vec((0_u32..2000, 1_usize..100), 1..60),
        acks in proptest::collection::vec(0_u32..2500, 0..60),
    ) {
        let stream: Vec<u8> = (0..2100_u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
        let mut b = Bench::new();
        b.handshake(0, 900);
        for (i, (start, len)) in segments.iter().enumerate() {
            let from = usize::try_from(*start).unwrap();
            b.send('>', ACK, start + 1, 901, &stream[from..from + len]);
            if let Some(ack) = acks.get(i) {
                b.send('<', ACK, 901, ack + 1, b"");
            }
            b.wait(u64::from(*start));
        }
        let flow = b.finish()[0].clone();
        let lost: u64 = flow.gaps.iter().map(|g| g.1).sum();
        prop_assert_eq!(flow.end.unwrap().to_server.lost_bytes, lost);
        // No bytes but those of the stream, and nothing at a wrong place.
        let end = u64::try_from(flow.to_server.len()).unwrap() + lost;
        prop_assert!(end <= 2500);
        prop_assert!(flow.anomalies.iter().all(|k| *k == AnomalyKind::TcpGap));
    }

    #[test]
    fn garbage_does_not_panic_and_memory_stays_bounded(
        segments in proptest::collection::vec(
            (any::<bool>(), any::<u8>(), 0_u32..6, any::<i16>(), any::<u32>(), 0_usize..50, any::<u16>(), 0_u8..8),
            0..200,
        ),
    ) {
        let mut b = Bench::with(FlowLimits {
            max_flows: 2,
            max_pending: 2_000,
            max_pending_total: 3_000,
            history_total: 100,
            ..FlowLimits::default()
        });
        for (up, flags, base, offset, ack, len, wait, odd) in segments {
            let way = if up { '>' } else { '<' };
            let seq = base.wrapping_mul(800_000_000).wrapping_add_signed(i32::from(offset));
            let ack = if ack % 3 == 0 { ack } else { seq.wrapping_add(ack % 100) };
            let mut s = b.make(way, flags, seq, ack, &vec![flags; len]);
            s.wire_len += u32::from(odd) / 6 * 1000;
            s.resumed = odd == 5;
            s.duplicate = odd == 4;
            s.src.set_port(s.src.port() + u16::from(odd) % 3);
            b.millis += u64::from(wait);
            b.give(&s);
            prop_assert!(b.table.pending_bytes() <= 3_000);
            prop_assert!(b.table.len() <= 2);
        }
        let opened = b.finish().len();
        let counters = b.table.counters();
        prop_assert_eq!(u64::try_from(opened).unwrap(), counters.flows_tcp);
    }
}
