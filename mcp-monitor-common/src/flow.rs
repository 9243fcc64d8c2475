//! Gating: what a socket's packets are worth, kept in its socket-local storage.

use crate::address::Address;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// State of a flow. Numbers, because it lies in a map.
pub mod state {
    /// Nothing is known yet.
    pub const NEW: u8 = 0;
    /// Not of interest: one storage lookup per packet. Final.
    pub const IGNORED: u8 = 1;
    /// The other end of the connection is local too and gives its packets up. Final.
    pub const DUPLICATE: u8 = 2;
    /// Gives up its first bytes until userspace decides.
    pub const UNDECIDED: u8 = 3;
    /// Every byte goes up.
    pub const CAPTURED: u8 = 4;
    /// TLS: the handshake goes up, then the flow is ignored.
    pub const HANDSHAKE: u8 = 5;
    /// HTTP that is not MCP so far: only beginnings of requests are looked at.
    pub const WATCH: u8 = 6;
    /// TLS whose plaintext comes from the process: only how the connection begins and ends goes up.
    pub const PLAINTEXT: u8 = 7;
}

/// Bytes per direction that an undecided flow gives up.
pub const UNDECIDED_BUDGET: u32 = 8 * 1024;
/// The same where the stream begins like HTTP: room for a head and a JSON body.
pub const HTTP_BUDGET: u32 = 256 * 1024;
/// Bytes per direction of a TLS handshake.
pub const HANDSHAKE_BUDGET: u32 = 16 * 1024;

/// Socket-local storage. Both directions of a flow may run at once on two CPUs, so what each writes has
/// a byte of its own.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct FlowState {
    /// See [`state`].
    pub state: u8,
    /// 1 once the first payload was seen.
    pub begun: u8,
    /// 1 if it began like HTTP.
    pub http: u8,
    /// 1 once the process that uses the socket was reported.
    pub attributed: u8,
    /// 1 if bytes from the socket were skipped on purpose since the last record.
    pub skipped_egress: u8,
    /// 1 if bytes to the socket were skipped on purpose since the last record.
    pub skipped_ingress: u8,
    /// Zero.
    pub reserved: u16,
    /// Bytes from the socket given up while undecided.
    pub egress: u32,
    /// Bytes to the socket given up while undecided.
    pub ingress: u32,
}

impl FlowState {
    /// A socket met for the first time.
    #[inline(always)]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: state::NEW,
            begun: 0,
            http: 0,
            attributed: 0,
            skipped_egress: 0,
            skipped_ingress: 0,
            reserved: 0,
            egress: 0,
            ingress: 0,
        }
    }

    /// Bytes per direction that the flow may give up in its state.
    #[inline(always)]
    #[must_use]
    pub const fn budget(&self) -> u32 {
        match self.state {
            state::CAPTURED => u32::MAX,
            state::HANDSHAKE => HANDSHAKE_BUDGET,
            _ if self.http != 0 => HTTP_BUDGET,
            _ => UNDECIDED_BUDGET,
        }
    }
}

/// What userspace decided on a flow, by socket cookie. Taken by the kernel once, then removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Decision {
    /// `IGNORED`, `CAPTURED`, `HANDSHAKE`, `WATCH` or `PLAINTEXT` of [`state`].
    pub state: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// A connection, whichever end looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Tuple {
    low: Address,
    high: Address,
    low_port: [u8; 2],
    high_port: [u8; 2],
    reserved: u32,
    /// Network namespace where the addresses mean something else in each (loopback), else 0.
    pub scope: u64,
}

impl Tuple {
    /// Of two ends, in either order.
    #[inline(always)]
    #[must_use]
    pub fn new(a: &Address, a_port: [u8; 2], b: &Address, b_port: [u8; 2], scope: u64) -> Self {
        let ordered = less(a, b) || (!less(b, a) && u16::from_be_bytes(a_port) < u16::from_be_bytes(b_port));
        let (low, low_port, high, high_port) = if ordered {
            (a, a_port, b, b_port)
        } else {
            (b, b_port, a, a_port)
        };
        Self {
            low: *low,
            high: *high,
            low_port,
            high_port,
            reserved: 0,
            scope,
        }
    }
}

/// As two integers each: the kernel has no `memcmp`.
#[inline(always)]
fn less(a: &Address, b: &Address) -> bool {
    let (a_high, a_low) = halves(a);
    let (b_high, b_low) = halves(b);
    a_high < b_high || (a_high == b_high && a_low < b_low)
}

#[inline(always)]
const fn halves(address: &Address) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    (
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        u64::from_be_bytes([i, j, k, l, m, n, o, p]),
    )
}

/// The end of a connection that gives its packets up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Owner {
    /// Socket cookie.
    pub cookie: u64,
    /// Sequence number of its SYN, which tells a new connection of the same tuple from this one.
    pub initial: [u8; 4],
    /// 1 if `initial` is known.
    pub has_initial: u32,
}

/// Whether a client's bytes begin an HTTP request, or HTTP/2's preface.
#[inline(always)]
#[must_use]
pub const fn looks_like_request(start: [u8; 8]) -> bool {
    matches!(
        &start,
        b"CONNECT "
            | b"OPTIONS "
            | [b'P', b'O', b'S', b'T', b' ', ..]
            | [b'G', b'E', b'T', b' ', ..]
            | [b'D', b'E', b'L', b'E', b'T', b'E', b' ', _]
            | [b'P', b'U', b'T', b' ', ..]
            | [b'H', b'E', b'A', b'D', b' ', ..]
            | [b'P', b'A', b'T', b'C', b'H', b' ', ..]
            | b"PRI * HT"
    )
}

/// Whether a stream begins like HTTP, from either side.
#[inline(always)]
#[must_use]
pub const fn looks_like_http(start: [u8; 8]) -> bool {
    looks_like_request(start) || matches!(start, [b'H', b'T', b'T', b'P', b'/', ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::from_v4;

    #[test]
    fn tuple_is_the_same_from_both_ends() {
        let (a, b) = (from_v4([10, 0, 0, 1]), from_v4([10, 0, 0, 2]));
        let forth = Tuple::new(&a, [1, 2], &b, [0, 80], 0);
        assert_eq!(forth, Tuple::new(&b, [0, 80], &a, [1, 2], 0));
        assert_ne!(forth, Tuple::new(&b, [1, 2], &a, [0, 80], 0));
        // Both ends on one address: the ports decide.
        assert_eq!(
            Tuple::new(&a, [1, 2], &a, [0, 80], 0),
            Tuple::new(&a, [0, 80], &a, [1, 2], 0)
        );
    }

    #[test]
    fn knows_http() {
        assert!(looks_like_request(*b"POST /mc"));
        assert!(looks_like_request(*b"GET / HT"));
        assert!(!looks_like_request(*b"HTTP/1.1"));
        assert!(looks_like_http(*b"HTTP/1.1"));
        assert!(!looks_like_http(*b"SSH-2.0-"));
    }
}
