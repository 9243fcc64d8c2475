//! One direction: order, holes, overlaps, limits.

use super::*;

#[test]
fn in_order_bytes_pass_without_a_copy() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    let s = b.make('>', ACK, 101, 901, b"same memory");
    let before = s.payload.as_ptr();
    struct Pointer(Option<*const u8>);
    impl Handler for Pointer {
        type App = ();
        fn open(&mut self, _: &Arc<FlowInfo>) {}
        fn data(&mut self, _: &FlowRef, (): &mut (), _: Direction, _: At, data: Bytes) -> Control {
            self.0 = Some(data.as_ptr());
            Control::Continue
        }
        fn gap(&mut self, _: &FlowRef, (): &mut (), _: Direction, _: At, _: u64) {}
        fn fin(&mut self, _: &FlowRef, (): &mut (), _: Direction, _: At) {}
        fn anomaly(&mut self, _: &FlowRef, (): &mut (), _: At, _: Anomaly) {}
        fn datagram(&mut self, _: &FlowRef, (): &mut (), _: Direction, _: At, _: &UdpDatagram) {}
        fn close(&mut self, _: &FlowRef, (): (), _: FlowEnd) {}
    }
    let mut seen = Pointer(None);
    FlowTable::new(FlowLimits::default(), 0).segment(&s, &mut seen);
    assert_eq!(seen.0, Some(before));
}

#[test]
fn sequence_numbers_wrap() {
    let mut b = Bench::new();
    b.handshake(u32::MAX - 3, u32::MAX);
    b.send('>', ACK, u32::MAX - 2, 0, b"abc");
    b.send('>', ACK, 3, 0, b"ghi");
    b.send('>', ACK, 0, 0, b"def");
    b.send('<', ACK, 0, 6, b"server");
    let flow = &b.finish()[0];
    assert_eq!(flow.to_server, b"abcdefghi");
    assert_eq!(flow.to_client, b"server");
    assert!(flow.gaps.is_empty());
}

#[test]
fn each_chunk_carries_the_packet_that_put_it_in_order() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', ACK, 103, 901, b"cd");
    b.send('>', ACK, 101, 901, b"ab");
    let orders: Vec<u64> = b.recorder.flows[0]
        .chunks
        .iter()
        .map(|c| c.1.packet.order)
        .collect();
    assert_eq!(orders, [5, 5]);
}

#[test]
fn an_acknowledged_hole_becomes_a_gap_soon() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', ACK, 111, 901, b"after");
    b.send('<', ACK, 901, 116, b"");
    b.wait(490);
    assert!(b.recorder.flows[0].gaps.is_empty());
    b.wait(20);
    let flow = &b.recorder.flows[0];
    assert_eq!(flow.gaps, [(Direction::ToServer, 10)]);
    assert_eq!(flow.to_server, b"after");
    assert_eq!(flow.anomalies, [AnomalyKind::TcpGap]);
    let counters = b.table.counters();
    assert_eq!(
        (counters.gaps, counters.lost_bytes, counters.reordered),
        (1, 10, 1)
    );
}

#[test]
fn only_the_acknowledged_part_of_a_hole_is_given_up() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', ACK, 111, 901, b"after");
    b.send('<', ACK, 901, 105, b"");
    b.wait(600);
    b.send('<', ACK, 901, 105, b"");
    assert_eq!(b.recorder.flows[0].gaps, [(Direction::ToServer, 4)]);
    b.send('>', ACK, 105, 901, b"repair");
    assert_eq!(b.recorder.flows[0].to_server, b"repairafter");
}

#[test]
fn a_receiver_that_waits_too_makes_the_hole_wait() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', ACK, 104, 901, b"def");
    b.send('<', ACK, 901, 101, b"");
    b.wait(30_000);
    b.send('>', ACK, 101, 901, b"abc");
    assert_eq!(b.recorder.flows[0].to_server, b"abcdef");
    // Nothing of the receiver is seen: a shorter wait.
    b.send('>', ACK, 110, 901, b"j");
    b.wait(2_100);
    assert_eq!(b.recorder.flows[0].gaps, [(Direction::ToServer, 3)]);
}

#[test]
fn bytes_missing_at_the_end_are_told_when_something_proves_them() {
    // By FIN.
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', FIN, 111, 901, b"");
    b.send('<', ACK, 901, 112, b"");
    b.wait(600);
    assert_eq!(b.recorder.flows[0].gaps, [(Direction::ToServer, 10)]);
    assert_eq!(b.recorder.flows[0].fins, [Direction::ToServer]);
    // By the sender's own bare acknowledgement, and the receiver's.
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('<', ACK, 901, 131, b"");
    b.send('>', ACK, 131, 901, b"");
    b.wait(600);
    assert_eq!(b.recorder.flows[0].gaps, [(Direction::ToServer, 30)]);
}

#[test]
fn a_cut_packet_is_a_gap_at_once() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    let mut s = b.make('>', ACK, 101, 901, b"head");
    s.wire_len = 100;
    b.give(&s);
    b.send('>', ACK, 201, 901, b"next");
    let mut late = b.make('>', ACK, 210, 901, b"ten");
    late.wire_len = 10;
    b.give(&late);
    b.send('>', ACK, 205, 901, b"five.");
    b.send('>', ACK, 220, 901, b"end");
    let flow = &b.finish()[0];
    assert_eq!(flow.to_server, b"headnextfive.tenend");
    assert_eq!(flow.gaps, [(Direction::ToServer, 96), (Direction::ToServer, 7)]);
}

#[test]
fn retransmissions_are_counted_and_give_nothing_twice() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', ACK, 101, 901, b"abcd");
    b.send('>', ACK, 101, 901, b"abcd");
    b.send('>', ACK, 103, 901, b"cdef");
    // Keep-alive probes: with no byte, and with one of any value.
    b.send('>', ACK, 106, 901, b"");
    b.send('>', ACK, 106, 901, b"\0");
    let mut twin = b.make('>', ACK, 103, 901, b"cdef");
    twin.duplicate = true;
    b.give(&twin);
    let flow = b.finish()[0].clone();
    assert_eq!(flow.to_server, b"abcdef");
    assert_eq!(flow.anomalies, []);
    let counters = b.table.counters();
    assert_eq!(
        (counters.retransmitted, counters.keepalives, counters.duplicates),
        (1, 2, 1)
    );
    assert_eq!(flow.end.unwrap().to_server.retransmitted, 1);
}

#[test]
fn other_bytes_in_the_same_place_are_a_conflict() {
    let conflict = [AnomalyKind::TcpOverlapConflict];
    // Already delivered; whatever the bounds of the retransmission are.
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', ACK, 101, 901, b"transfer 10 to alice");
    b.send('>', ACK, 110, 901, b"99");
    let flow = &b.finish()[0];
    assert_eq!(flow.to_server, b"transfer 10 to alice");
    assert_eq!(flow.anomalies, conflict);
    // A segment that overlaps what was delivered and goes on.
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', ACK, 101, 901, b"abcd");
    b.send('>', ACK, 103, 901, b"XXef");
    let flow = &b.finish()[0];
    assert_eq!(flow.to_server, b"abcdef");
    assert_eq!(flow.anomalies, conflict);
    // Waiting for order: the one that starts lower wins, as in Linux.
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', ACK, 103, 901, b"cdef");
    b.send('>', ACK, 101, 901, b"abXX");
    let flow = &b.finish()[0];
    assert_eq!(flow.to_server, b"abXXef");
    assert_eq!(flow.anomalies, conflict);
}

#[test]
fn where_memory_is_short_a_stream_keeps_less_and_tells_what_it_can() {
    let limits = FlowLimits {
        history: 64,
        history_total: 64,
        ..FlowLimits::default()
    };
    for (seq, conflicts) in [(901, 0), (925, 1)] {
        let mut b = Bench::with(limits.clone());
        b.handshake(100, 900);
        b.send('>', ACK, 101, 901, &[b'a'; 40]);
        b.send('<', ACK, 901, 141, &[b'b'; 40]);
        // The first stream keeps all 40 bytes, the second the last 16.
        b.send('<', ACK, seq, 141, b"X");
        assert_eq!(b.finish()[0].anomalies.len(), conflicts, "{seq}");
        let mut b = Bench::with(limits.clone());
        b.handshake(100, 900);
        b.send('>', ACK, 101, 901, &[b'a'; 40]);
        b.send('>', ACK, 101, 901, b"X");
        assert_eq!(b.finish()[0].anomalies.len(), 1);
    }
}

#[test]
fn one_forged_segment_far_ahead_does_not_blind() {
    let limits = FlowLimits::default();
    let mut b = Bench::with(limits.clone());
    b.handshake(100, 900);
    // Ahead by more than a window: not even kept.
    b.send('>', ACK, 101 + (1 << 30), 901, b"never");
    assert_eq!(b.table.counters().out_of_window, 1);
    // Ahead within it: the receiver acknowledges what it really has, and the stream goes on.
    b.send('>', ACK, 500_101, 901, b"forged");
    for i in 0..100 {
        b.wait(1_000);
        b.send('>', ACK, 101 + i * 4, 901, b"real");
        b.send('<', ACK, 901, 105 + i * 4, b"");
    }
    assert_eq!(b.recorder.flows[0].to_server.len(), 400);
    assert!(b.recorder.flows[0].gaps.is_empty());
}

#[test]
fn out_of_order_memory_is_bounded_per_direction() {
    let limits = FlowLimits {
        max_pending: 10_000,
        ..FlowLimits::default()
    };
    // The receiver waits too: the farthest go, and what is near survives.
    let mut b = Bench::with(limits.clone());
    b.handshake(0, 900);
    for i in 1..200_u32 {
        b.send('>', ACK, 1 + i * 100, 901, &[u8::try_from(i).unwrap(); 100]);
        b.send('<', ACK, 901, 1, b"");
        assert!(b.table.pending_bytes() <= 10_000);
    }
    b.send('>', ACK, 1, 901, &[0; 100]);
    let flow = &b.recorder.flows[0];
    assert!(flow.to_server.len() >= 4_000);
    assert!(flow.to_server.chunks(100).zip(0..).all(|(c, i)| c == [i; 100]));
    assert!(flow.anomalies.contains(&AnomalyKind::TcpBufferLimit));
    assert!(b.table.counters().pending_dropped > 0);
    // Nothing is seen of the receiver: the hole is given up.
    let mut b = Bench::with(limits);
    b.send('>', SYN, 0, 0, b"");
    for i in 1..200_u32 {
        b.send('>', ACK, 1 + i * 100, 901, &[1; 100]);
    }
    assert_eq!(b.recorder.flows[0].gaps, [(Direction::ToServer, 100)]);
    assert_eq!(b.recorder.flows[0].to_server.len(), 19_900);
}

#[test]
fn out_of_order_memory_is_bounded_over_all_flows() {
    let mut b = Bench::with(FlowLimits {
        max_pending_total: 50_000,
        ..FlowLimits::default()
    });
    for port in 0..500 {
        for (flags, seq, data) in [(SYN, 0, &b""[..]), (ACK, 1_000, &[7; 1_000])] {
            let mut s = b.make('>', flags, seq, 0, data);
            s.src.set_port(10_000 + port);
            b.give(&s);
        }
        assert!(b.table.pending_bytes() <= 50_000);
    }
    let counters = b.table.counters();
    assert!(counters.pending_evicted > 400);
    assert!(counters.pending_high_water <= 50_000 + 2_000);
    // The oldest went first, as a gap.
    assert_eq!(b.recorder.flows[0].to_server.len(), 1_000);
}

#[test]
fn tiny_pieces_pay_for_their_bookkeeping() {
    let mut b = Bench::new();
    b.handshake(0, 900);
    for i in 0..50_000 {
        b.send('>', ACK, 10 + i * 2, 901, b"x");
        b.send('<', ACK, 901, 1, b"");
    }
    assert!(b.table.pending_bytes() <= 1 << 20);
}
