//! How flows begin, end, and are taken for what they are.

use super::*;

#[test]
fn a_connection_from_handshake_to_fin() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', ACK, 101, 901, b"ping");
    b.send('<', ACK, 901, 105, b"pong");
    b.send('>', FIN, 105, 905, b"");
    b.send('<', FIN, 905, 106, b"!");
    b.send('>', ACK, 106, 907, b"");
    assert!(b.table.is_empty());
    let flows = b.finish();
    assert_eq!(flows.len(), 1);
    let flow = &flows[0];
    let info = flow.info.as_ref().unwrap();
    assert_eq!(
        (info.client, info.server, info.from_start),
        (client(), server(), true)
    );
    assert_eq!(info.id, FlowId(100));
    assert_eq!(
        (&flow.to_server[..], &flow.to_client[..]),
        (&b"ping"[..], &b"pong!"[..])
    );
    assert_eq!(flow.fins, [Direction::ToServer, Direction::ToClient]);
    assert_eq!(flow.reason(), EndReason::Finished);
    let end = flow.end.unwrap();
    assert_eq!((end.to_server.packets, end.to_server.bytes), (4, 4));
    assert_eq!(end.stats(Direction::ToClient).bytes, 5);
    let counters = b.table.counters();
    assert_eq!(
        (counters.flows_tcp, counters.segments, counters.after_close),
        (1, 8, 1)
    );
}

#[test]
fn a_syn_ack_or_the_ports_tell_who_is_the_client() {
    let mut b = Bench::new();
    b.send('<', SYN_ACK, 900, 101, b"");
    b.send('>', ACK, 105, 901, b"second");
    b.send('>', ACK, 101, 901, b"1st ");
    let info = b.recorder.flows[0].info.clone().unwrap();
    assert_eq!((info.client, info.from_start), (client(), true));
    assert_eq!(b.recorder.flows[0].to_server, b"1st second");

    let mut b = Bench::new();
    b.send('<', ACK, 900, 101, b"mid");
    let info = b.recorder.flows[0].info.clone().unwrap();
    assert_eq!((info.client, info.from_start), (client(), false));
    assert_eq!(b.recorder.flows[0].to_client, b"mid");
}

#[test]
fn bare_acknowledgements_open_nothing() {
    let mut b = Bench::new();
    b.send('>', ACK, 1, 1, b"");
    b.send('<', RST, 1, 1, b"");
    assert!(b.table.is_empty());
    assert_eq!(b.table.counters().stray, 2);
}

#[test]
fn a_handler_may_flip_a_flow_whose_start_was_not_seen() {
    let mut b = Bench::new();
    b.recorder.control = Control::Flip;
    b.send('<', ACK, 900, 101, b"first ");
    b.send('<', ACK, 906, 101, b"second");
    b.send('>', ACK, 101, 912, b"back");
    let flow = &b.finish()[0];
    assert_eq!(flow.info.as_ref().unwrap().client, server());
    // What was delivered before the flip stays where it was told.
    assert_eq!(flow.to_client, b"first back");
    assert_eq!(flow.to_server, b"second");
    assert_eq!(flow.end.unwrap().to_server.bytes, 12);

    let mut b = Bench::new();
    b.handshake(100, 900);
    b.recorder.control = Control::Flip;
    b.send('>', ACK, 101, 901, b"x");
    b.send('>', ACK, 102, 901, b"y");
    assert_eq!(b.finish()[0].to_server, b"xy");
}

#[test]
fn an_ignored_flow_is_followed_but_not_delivered() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.recorder.control = Control::Ignore;
    b.send('>', ACK, 101, 901, b"x");
    b.send('>', ACK, 1000, 901, b"far");
    assert_eq!(b.table.pending_bytes(), 0);
    b.send('<', ACK, 901, 1003, b"quiet");
    b.send('>', FIN, 1003, 906, b"");
    b.send('<', FIN, 906, 1004, b"");
    let flow = &b.finish()[0];
    assert_eq!((&flow.to_server[..], flow.to_client.len()), (&b"x"[..], 0));
    assert_eq!(flow.reason(), EndReason::Finished);
    assert!(flow.gaps.is_empty());
}

#[test]
fn an_unread_flow_is_not_delivered_but_what_it_loses_counts() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.recorder.control = Control::Unread;
    b.send('>', ACK, 101, 901, b"verdict");
    b.send('>', ACK, 108, 901, b"more");
    // Before its turn, and three bytes that never come.
    b.send('>', ACK, 120, 901, b"late");
    b.send('>', ACK, 112, 901, b"early");
    b.send('<', ACK, 901, 124, b"quiet");
    b.wait(2000);
    // What made the verdict is still held against what is sent again.
    b.send('>', ACK, 101, 906, b"VERDICT");
    b.send('>', FIN, 124, 906, b"");
    b.send('<', FIN, 906, 125, b"");
    assert_eq!(b.table.counters().conflicts, 1);
    let flow = &b.finish()[0];
    assert_eq!((&flow.to_server[..], flow.to_client.len()), (&b"verdict"[..], 0));
    assert_eq!(flow.end.unwrap().to_server.lost_bytes, 3);
    assert_eq!(flow.reason(), EndReason::Finished);
}

#[test]
fn a_reset_ends_the_flow_a_moment_later() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('<', ACK, 906, 101, b"world");
    b.send('>', RST, 101, 901, b"");
    // What the capture has out of order still counts.
    b.send('<', ACK, 901, 101, b"hello");
    b.wait(2000);
    assert!(b.table.is_empty());
    let flow = b.finish()[0].clone();
    assert_eq!(flow.to_client, b"helloworld");
    assert_eq!(flow.reason(), EndReason::Reset);
    assert_eq!(flow.anomalies, []);
    // Its last packets open nothing, a retransmission neither.
    b.send('<', ACK, 901, 101, b"hello");
    assert!(b.table.is_empty());
    assert_eq!(b.table.counters().after_close, 1);
}

#[test]
fn a_reset_outside_the_window_is_ignored_and_a_refused_syn_is_not() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('<', RST, 900_000_000, 101, b"");
    b.wait(2000);
    assert_eq!(b.table.len(), 1);
    assert_eq!(b.table.counters().out_of_window, 1);

    let mut b = Bench::new();
    b.send('>', SYN, 100, 0, b"");
    b.send('<', RST, 0, 101, b"");
    b.wait(2000);
    assert_eq!(b.recorder.flows[0].reason(), EndReason::Reset);
}

#[test]
fn data_after_a_reset_is_reported_and_read() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', ACK, 101, 901, b"ab");
    b.send('>', RST, 103, 901, b"");
    b.send('>', ACK, 103, 901, b"cd");
    b.wait(10_000);
    b.send('>', ACK, 105, 901, b"ef");
    let flow = &b.finish()[0];
    assert_eq!(flow.to_server, b"abcdef");
    assert_eq!(flow.anomalies, [AnomalyKind::TcpDataAfterReset]);
    assert_eq!(flow.reason(), EndReason::EndOfInput);

    // The same after the flow was closed: it goes on as a flow of its own.
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', ACK, 101, 901, b"ab");
    b.send('>', RST, 103, 901, b"");
    b.wait(10_000);
    b.send('>', ACK, 103, 901, b"cd");
    let flows = b.finish();
    assert_eq!(flows.len(), 2);
    assert_eq!(flows[1].to_server, b"cd");
    assert_eq!(flows[1].anomalies, [AnomalyKind::TcpDataAfterReset]);
}

#[test]
fn data_after_fin_is_reported_and_read() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', FIN, 101, 901, b"ab");
    b.send('>', ACK, 103, 901, b"cd");
    let flow = &b.finish()[0];
    assert_eq!(flow.to_server, b"abcd");
    assert_eq!(flow.anomalies, [AnomalyKind::TcpDataAfterReset]);
}

#[test]
fn a_new_connection_takes_the_place_of_an_old_one() {
    // The old one had ended.
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', FIN, 101, 901, b"old");
    b.send('<', FIN, 901, 105, b"");
    b.handshake(5000, 7000);
    b.send('>', ACK, 5001, 7001, b"new");
    let flows = b.finish();
    assert_eq!(flows.len(), 2);
    assert_eq!(flows[1].to_server, b"new");

    // The old one had not, and the server takes the new one.
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', ACK, 101, 901, b"old");
    b.handshake(5000, 7000);
    b.send('>', ACK, 5001, 7001, b"new");
    let flows = b.finish();
    assert_eq!(flows[0].reason(), EndReason::Reused);
    assert_eq!(flows[1].to_server, b"new");
    assert!(flows[1].info.as_ref().unwrap().from_start);

    // Only the client's direction is seen.
    let mut b = Bench::new();
    b.send('>', SYN, 100, 0, b"");
    b.send('>', ACK, 101, 1, b"old");
    b.send('>', SYN, 5000, 0, b"");
    b.send('>', ACK, 5001, 1, b"new");
    let flows = b.finish();
    assert_eq!(flows.len(), 2);
    assert_eq!(flows[1].to_server, b"new");
}

#[test]
fn a_forged_syn_does_not_end_a_connection() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', ACK, 101, 901, b"be");
    b.send('>', SYN, 777_777, 0, b"");
    b.send('<', ACK, 901, 103, b"");
    b.send('>', ACK, 103, 901, b"fore");
    b.send('>', SYN, 100, 0, b"");
    let flows = b.finish();
    assert_eq!(flows.len(), 1);
    assert_eq!(flows[0].to_server, b"before");
}

#[test]
fn both_sides_may_open_at_once_and_a_syn_may_carry_data() {
    let mut b = Bench::new();
    b.send('>', SYN, 100, 0, b"early");
    b.send('<', SYN, 900, 0, b"");
    b.send('<', SYN_ACK, 900, 101, b"");
    b.send('>', SYN_ACK, 100, 901, b"");
    b.send('>', ACK, 106, 901, b" late");
    b.send('<', ACK, 901, 111, b"reply");
    let flows = b.finish();
    assert_eq!(flows.len(), 1);
    assert_eq!(flows[0].to_server, b"early late");
    assert_eq!(flows[0].to_client, b"reply");
    assert_eq!(flows[0].info.as_ref().unwrap().client, client());
}

#[test]
fn silence_ends_flows_by_capture_time() {
    let mut b = Bench::new();
    b.send('>', SYN, 100, 0, b"");
    b.wait(59_000);
    assert_eq!(b.table.len(), 1);
    b.wait(3_000);
    assert_eq!(b.recorder.flows[0].reason(), EndReason::Idle);
    b.handshake(1, 2);
    b.wait(23 * 3_600_000);
    assert_eq!(b.table.len(), 1);
    b.wait(2 * 3_600_000);
    assert!(b.table.is_empty());

    // One-sided, after FIN.
    b.send('>', ACK, 1, 1, b"x");
    b.send('>', FIN, 2, 1, b"");
    b.wait(62_000);
    assert!(b.table.is_empty());
}

#[test]
fn a_full_table_evicts_the_least_recently_seen() {
    let mut b = Bench::with(FlowLimits {
        max_flows: 3,
        ..FlowLimits::default()
    });
    let from = |b: &mut Bench, port: u16| {
        let mut s = b.make('>', ACK, 1, 1, b"x");
        s.src.set_port(port);
        b.millis += 2_000;
        b.give(&s);
    };
    for port in [40_001, 40_002, 40_003, 40_001, 40_004] {
        from(&mut b, port);
    }
    assert_eq!(b.table.len(), 3);
    assert_eq!(b.table.counters().evictions, 1);
    let evicted = &b.recorder.flows[1];
    assert_eq!(evicted.reason(), EndReason::Evicted);
    assert_eq!(evicted.anomalies, [AnomalyKind::FlowEvicted]);
}

#[test]
fn datagrams_make_flows_too() {
    let mut b = Bench::new();
    let resolver: SocketAddr = "10.96.0.10:53".parse().unwrap();
    for (src, dst) in [(resolver, client()), (client(), resolver)] {
        let datagram = UdpDatagram {
            at: b.at(),
            scope: Scope(0),
            src,
            dst,
            payload: Bytes::from_static(b"dns"),
            wire_len: 3,
            cookie: None,
        };
        b.table.datagram(&datagram, &mut b.recorder);
    }
    b.wait(125_000);
    let flow = &b.recorder.flows[0];
    assert_eq!(flow.info.as_ref().unwrap().client, client());
    assert_eq!(flow.datagrams[0].0, Direction::ToClient);
    assert_eq!(flow.reason(), EndReason::Idle);
    assert_eq!(b.table.counters().flows_udp, 1);
}

#[test]
fn a_resumed_direction_starts_anew_without_loss() {
    let mut b = Bench::new();
    b.handshake(100, 900);
    b.send('>', ACK, 101, 901, b"one");
    b.send('>', ACK, 200, 901, b"waits");
    let mut s = b.make('>', ACK, 3_000_000_000, 901, b"two");
    s.resumed = true;
    b.give(&s);
    b.send('>', ACK, 3_000_000_003, 901, b"three");
    let flow = b.finish()[0].clone();
    assert_eq!(flow.to_server, b"onetwothree");
    assert_eq!(flow.restarts, [Direction::ToServer]);
    assert!(flow.gaps.is_empty());
}
