//! Connections made by hand: what both sides say, and the frames that carry it.

use std::net::{IpAddr, SocketAddr};

use super::capture::Frame;

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// What one side says, before the other goes on.
pub(crate) type Turn = (Side, Vec<u8>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Client,
    Server,
}
pub(crate) use Side::{Client, Server};

/// One TCP connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) turns: Vec<Turn>,
}

impl Connection {
    /// Between addresses of documentation, over IPv4 or IPv6.
    pub(crate) fn new(port: u16, v6: bool, turns: Vec<Turn>) -> Self {
        let ends = if v6 {
            ["2001:db8::10", "2001:db8::20"]
        } else {
            ["192.0.2.10", "192.0.2.20"]
        };
        let [client, server] = ends.map(|text| text.parse::<IpAddr>().unwrap());
        Self {
            client: (client, port).into(),
            server: (server, 8080).into(),
            turns,
        }
    }

    /// SYN and SYN-ACK, the segments with data, FINs. `size` says how long each segment is.
    pub(crate) fn frames(&self, mut size: impl FnMut() -> usize) -> [Vec<Vec<u8>>; 3] {
        // Near the end of the sequence numbers, so that they wrap.
        let mut next = [u32::MAX - 300, 7000];
        let frame = |next: &[u32; 2], from: Side, flags: u8, payload: &[u8]| {
            let (seq, ack) = if from == Client {
                (next[0], next[1])
            } else {
                (next[1], next[0])
            };
            self.frame(from, seq, ack, flags, payload)
        };
        let mut open = vec![frame(&[next[0], 0], Client, SYN, b"")];
        next[0] = next[0].wrapping_add(1);
        open.push(frame(&next, Server, SYN | ACK, b""));
        next[1] = next[1].wrapping_add(1);
        let mut data = Vec::new();
        for (from, bytes) in &self.turns {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(size().clamp(1, 60_000).min(rest.len()));
                data.push(frame(&next, *from, ACK, piece));
                let seq = &mut next[usize::from(*from == Server)];
                *seq = seq.wrapping_add(u32::try_from(piece.len()).unwrap());
                rest = after;
            }
        }
        let mut close = vec![frame(&next, Client, FIN | ACK, b"")];
        next[0] = next[0].wrapping_add(1);
        close.push(frame(&next, Server, FIN | ACK, b""));
        [open, data, close]
    }

    fn frame(&self, from: Side, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let (src, dst) = if from == Client {
            (self.client, self.server)
        } else {
            (self.server, self.client)
        };
        let mut tcp = Vec::new();
        tcp.extend(src.port().to_be_bytes());
        tcp.extend(dst.port().to_be_bytes());
        tcp.extend(seq.to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(payload);
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let length = u16::try_from(tcp.len()).unwrap();
        match (src.ip(), dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                frame.extend([8, 0, 0x45, 0]);
                frame.extend((length + 20).to_be_bytes());
                frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
                frame.extend(src.octets());
                frame.extend(dst.octets());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([6, 64]);
                frame.extend(src.octets());
                frame.extend(dst.octets());
            }
            _ => panic!("ends of two versions"),
        }
        frame.extend(tcp);
        frame
    }
}

/// Frames with times, a microsecond apart.
pub(crate) fn timed(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<Frame> {
    let start = 1_790_000_000_000_000;
    (start..)
        .zip(frames)
        .map(|(time, data)| Frame { time, data })
        .collect()
}

/// Connections one after the other, in segments of any length, as a capture.
pub(crate) fn one_by_one(connections: &[Connection]) -> Vec<Frame> {
    timed(connections.iter().flat_map(|c| c.frames(|| 1400).concat()))
}

/// HTTP/1 with the right `Content-Length`.
pub(crate) fn http(start: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{start}\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// HTTP/1 in chunks of so many bytes.
pub(crate) fn chunked(start: &str, fields: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut out = format!("{start}\r\n{fields}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(size) {
        out.extend(format!("{:x}\r\n", chunk.len()).bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\nX-Trailer: 1\r\n\r\n");
    out
}

/// A POST of a JSON text to `/mcp`.
pub(crate) fn post(fields: &str, json: &str) -> Vec<u8> {
    let common = "Host: mcp.example\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\n";
    http(
        "POST /mcp HTTP/1.1",
        &format!("{common}{fields}"),
        json.as_bytes(),
    )
}

/// An SSE event.
pub(crate) fn event(id: Option<&str>, json: &str) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("event: message\n{id}data: {json}\n\n")
}

/// An HTTP/2 frame.
pub(crate) fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field of HPACK with incremental indexing and a new name.
pub(crate) fn h2_field(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0x40, u8::try_from(name.len()).unwrap()];
    out.extend(name.bytes());
    out.push(u8::try_from(value.len()).unwrap());
    out.extend(value.bytes());
    out
}

/// A WebSocket text frame; clients mask.
pub(crate) fn ws_frame(from: Side, first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = (from == Client).then_some([3_u8, 1, 4, 1]);
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut out = vec![first];
    match u8::try_from(payload.len()) {
        Ok(n @ 0..=125) => out.push(bit | n),
        _ => {
            out.push(bit | 126);
            out.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    out.extend(mask.into_iter().flatten());
    let key = mask.unwrap_or_default();
    out.extend(payload.iter().enumerate().map(|(i, b)| b ^ key[i % 4]));
    out
}
