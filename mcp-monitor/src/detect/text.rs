//! Text for people out of bytes from the wire.

use std::fmt::Write as _;

/// Longest piece of foreign text in a summary, in characters.
pub const MAX_QUOTED: usize = 120;

/// `text` safe to show: control, invisible and direction-changing characters escaped, cut at
/// [`MAX_QUOTED`].
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_QUOTED));
    for (n, c) in text.chars().enumerate() {
        if n >= MAX_QUOTED {
            out.push('…');
            break;
        }
        if c.is_control() || is_hidden(c) {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that a reader does not see but a program does.
pub fn is_hidden(c: char) -> bool {
    is_bidi_control(c)
        || is_zero_width(c)
        || is_tag(c)
        || matches!(c, '\u{00ad}' | '\u{115f}'..='\u{1160}' | '\u{3164}' | '\u{fff9}'..='\u{fffb}')
}

/// Direction controls (Unicode UAX #9).
pub fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters without width.
pub fn is_zero_width(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{180e}')
}

/// The tag block (U+E0000 to U+E007F), and variation selectors 17 to 256.
pub fn is_tag(c: char) -> bool {
    matches!(c, '\u{e0000}'..='\u{e007f}' | '\u{e0100}'..='\u{e01ef}')
}

/// TLS version as people write it.
pub fn tls_version(version: u16) -> String {
    match version {
        0x0002 => "SSL 2.0".to_owned(),
        0x0300 => "SSL 3.0".to_owned(),
        0x0301 => "1.0".to_owned(),
        0x0302 => "1.1".to_owned(),
        0x0303 => "1.2".to_owned(),
        0x0304 => "1.3".to_owned(),
        other => format!("0x{other:04x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_no_control_characters() {
        assert_eq!(shown("a\u{1b}[31m\u{202e}b"), "a\\u{1b}[31m\\u{202e}b");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), MAX_QUOTED + 1);
    }
}
