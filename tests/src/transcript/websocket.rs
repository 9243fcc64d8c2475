//! WebSocket frames (RFC 6455).

use crate::generate::turn::Side;

/// A text message in one frame; a client's is masked.
pub(super) fn text(from: Side, message: &str) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let bytes = message.as_bytes();
    let masked = if from == Side::Client { 0x80 } else { 0 };
    let mut out = vec![0x81];
    match bytes.len() {
        short @ ..126 => out.push(masked | short as u8),
        middle @ ..65_536 => {
            out.push(masked | 126);
            out.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            out.push(masked | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    if from == Side::Client {
        out.extend_from_slice(&MASK);
        out.extend(
            bytes
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
    } else {
        out.extend_from_slice(bytes);
    }
    out
}
