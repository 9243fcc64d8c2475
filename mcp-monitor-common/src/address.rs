//! Addresses in one form: IPv6, with IPv4 mapped (RFC 4291 section 2.5.5.2).

/// An address in network order; IPv4 is `::ffff:a.b.c.d`.
///
/// One form for both families makes a socket that speaks IPv4 through IPv6 the same peer.
pub type Address = [u8; 16];

/// Bits of the mapped prefix in front of an IPv4 address.
pub const MAPPED_BITS: u32 = 96;

/// IPv4 in mapped form.
#[inline(always)]
#[must_use]
pub const fn from_v4(v4: [u8; 4]) -> Address {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Whether it is `127.0.0.0/8` or `::1`: an address that means another host in each network namespace.
#[inline(always)]
#[must_use]
pub fn is_loopback(address: &Address) -> bool {
    match address {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, ..] => true,
        [head @ .., last] => *last == 1 && *head == [0; 15],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_loopback() {
        let mut one = [0; 16];
        one[15] = 1;
        assert!(is_loopback(&one));
        assert!(is_loopback(&from_v4([127, 3, 2, 1])));
        assert!(!is_loopback(&from_v4([128, 0, 0, 1])));
        assert!(!is_loopback(&[0; 16]));
    }
}
