//! Text that may be shown.

use super::{Hit, scan_deep};

/// `text` with every credential replaced by `‹kind:length›`. Valid JSON stays valid JSON; bytes
/// that are no UTF-8 become U+FFFD.
pub fn mask(text: &[u8]) -> String {
    let mut hits: Vec<Hit> = Vec::new();
    scan_deep(text, &mut hits);
    let mut masked = String::with_capacity(text.len());
    let mut at = 0usize;
    for hit in hits {
        masked.push_str(&String::from_utf8_lossy(
            text.get(at..hit.start).unwrap_or_default(),
        ));
        masked.push_str(&format!("‹{}:{}›", hit.kind, hit.len));
        at = hit.range().end;
    }
    masked.push_str(&String::from_utf8_lossy(text.get(at..).unwrap_or_default()));
    masked
}
