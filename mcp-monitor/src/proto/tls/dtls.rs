//! DTLS (RFC 6347, 9147): told from other datagrams and counted, not read.

/// A handshake record of DTLS 1.0 or 1.2 in epoch 0, as every DTLS connection begins (1.3 too).
pub fn is_hello(datagram: &[u8]) -> bool {
    // Type, version, epoch, 48 bits of sequence number, length; then the handshake type.
    let Some((header, [kind, ..])) = datagram.split_first_chunk::<13>() else {
        return false;
    };
    let [22, 0xfe, minor, 0, 0, _, _, _, _, _, _, high, low] = *header else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    matches!(minor, 0xff | 0xfd)
        && length.saturating_add(header.len()) <= datagram.len()
        // ClientHello, ServerHello, HelloVerifyRequest.
        && matches!(kind, 1..=3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_hellos_from_other_datagrams() {
        let mut hello = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0];
        assert!(is_hello(&hello));
        assert!(!is_hello(&hello[..14]));
        hello[4] = 1;
        assert!(!is_hello(&hello));
        assert!(!is_hello(b"\x16\x03\x01\x00\x02\x01\x00 TLS over TCP"));
        assert!(!is_hello(b""));
    }
}
