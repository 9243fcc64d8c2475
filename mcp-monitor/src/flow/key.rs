//! Which packets belong together.

use std::{
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
};

use crate::types::{Scope, Transport};

/// Index of a side of a connection: 0 has the smaller address and port.
pub(super) type Side = usize;

/// The same for both directions of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    scope: u64,
    low: u128,
    high: u128,
    /// Ports of low and high, transport, IP version.
    rest: u64,
}

impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.low);
        state.write_u128(self.high);
        state.write_u64(self.scope);
        state.write_u64(self.rest);
    }
}

#[inline]
fn number(address: &SocketAddr) -> (u128, u64) {
    match address.ip() {
        IpAddr::V4(a) => (u128::from(u32::from(a)), 0),
        IpAddr::V6(a) => (u128::from(a), 1),
    }
}

impl Key {
    /// The key, and the side of `src`.
    #[inline]
    pub(super) fn new(
        transport: Transport,
        scope: Scope,
        src: &SocketAddr,
        dst: &SocketAddr,
    ) -> (Self, Side) {
        let ((a, version), (b, _)) = (number(src), number(dst));
        let (a, b) = ((a, src.port()), (b, dst.port()));
        let (side, low, high) = if a <= b { (0, a, b) } else { (1, b, a) };
        let tag = match transport {
            Transport::Tcp => 0,
            Transport::Udp => 2,
        };
        let rest = (u64::from(low.1) << 32) | (u64::from(high.1) << 16) | tag | version;
        let key = Self {
            scope: scope.0,
            low: low.0,
            high: high.0,
            rest,
        };
        (key, side)
    }
}

/// Which of `n` shards a connection belongs to: the same for both directions, in every run and on every
/// machine. Spreads by addresses and ports. 0 if `n` is 0.
#[inline]
pub fn shard_of(src: &SocketAddr, dst: &SocketAddr, scope: Scope, n: usize) -> usize {
    #[inline]
    fn mix(mut x: u64) -> u64 {
        // The finaliser of SplitMix64.
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
    #[inline]
    fn end(address: &SocketAddr) -> u64 {
        let (ip, _) = number(address);
        let (high, low) = ((ip >> 64) as u64, ip as u64);
        mix(low
            .wrapping_add(u64::from(address.port()).rotate_right(16))
            .wrapping_add(mix(high)))
    }
    let hash = mix(end(src).wrapping_add(end(dst)).wrapping_add(mix(scope.0)));
    let n = u64::try_from(n).unwrap_or(u64::MAX);
    usize::try_from(hash.checked_rem(n).unwrap_or(0)).unwrap_or(0)
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a test may panic, and plain sums are easier to read"
)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_symmetric_stable_and_even() {
        let server: SocketAddr = "10.0.0.2:443".parse().unwrap();
        let mut counts = [0_u32; 8];
        for port in 20_000..28_000 {
            let client = SocketAddr::new("10.0.0.1".parse().unwrap(), port);
            let shard = shard_of(&client, &server, Scope(0), 8);
            assert_eq!(shard, shard_of(&server, &client, Scope(0), 8));
            counts[shard] += 1;
        }
        assert!(counts.iter().all(|c| (900..1100).contains(c)), "{counts:?}");
        assert_eq!(shard_of(&server, &server, Scope(0), 0), 0);
    }

    #[test]
    fn keys_differ_by_transport_scope_and_version() {
        let v4: SocketAddr = "0.0.0.1:1".parse().unwrap();
        let v6: SocketAddr = "[::1]:1".parse().unwrap();
        let (key, _) = Key::new(Transport::Tcp, Scope(0), &v4, &v4);
        assert_ne!(key, Key::new(Transport::Udp, Scope(0), &v4, &v4).0);
        assert_ne!(key, Key::new(Transport::Tcp, Scope(1), &v4, &v4).0);
        assert_ne!(key, Key::new(Transport::Tcp, Scope(0), &v6, &v6).0);
    }
}
