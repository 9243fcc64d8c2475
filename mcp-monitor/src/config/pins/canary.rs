//! Finding canaries in text, as they are and in base64 or hex.

use std::{fmt, sync::Arc};

use aho_corasick::AhoCorasick;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

use super::Canary;

/// All forms of all canaries in one automaton.
#[derive(Clone, Default)]
pub(super) struct CanaryIndex {
    matcher: Option<Arc<AhoCorasick>>,
    /// Canary of each pattern.
    owners: Vec<usize>,
}

impl fmt::Debug for CanaryIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CanaryIndex").finish_non_exhaustive()
    }
}

impl CanaryIndex {
    pub(super) fn new(canaries: &[Canary]) -> Self {
        let (mut patterns, mut owners) = (Vec::new(), Vec::new());
        for (i, canary) in canaries.iter().enumerate() {
            for form in forms(canary.expose()) {
                patterns.push(form);
                owners.push(i);
            }
        }
        let matcher = (!patterns.is_empty())
            .then(|| AhoCorasick::new(&patterns).ok().map(Arc::new))
            .flatten();
        Self { matcher, owners }
    }

    /// Indices of the canaries that stand in `text`, each once.
    pub(super) fn find(&self, text: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        let Some(matcher) = &self.matcher else {
            return found;
        };
        for hit in matcher.find_overlapping_iter(text) {
            if let Some(owner) = self.owners.get(hit.pattern().as_usize())
                && !found.contains(owner)
            {
                found.push(*owner);
                // Hostile text may repeat one for ever.
                if found.len() >= self.owners.len() {
                    break;
                }
            }
        }
        found.sort_unstable();
        found
    }
}

/// The value, in hex of both cases, and in base64 of both alphabets wherever it may begin in a longer text.
fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![value.to_vec()];
    let hex = |upper: bool| -> Vec<u8> {
        let digit = |b: &u8| match upper {
            true => format!("{b:02X}"),
            false => format!("{b:02x}"),
        };
        value.iter().flat_map(|b| digit(b).into_bytes()).collect()
    };
    forms.extend([hex(false), hex(true)]);
    for shift in 0..3usize {
        let shifted: Vec<u8> = std::iter::repeat_n(0, shift)
            .chain(value.iter().copied())
            .collect();
        // Characters that other bytes have a part in say nothing.
        let start = shift.saturating_mul(8).div_ceil(6);
        let end = shifted.len().saturating_mul(8) / 6;
        for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            if let Some(part) = encoded.as_bytes().get(start..end) {
                forms.push(part.to_vec());
            }
        }
    }
    forms.sort_unstable();
    forms.dedup();
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_form_wherever_it_begins() {
        let canary = Canary {
            name: "a".into(),
            value: "CANARY-7f3a?>".into(),
        };
        let index = CanaryIndex::new(&[canary]);
        for before in ["", "x", "xy", "xyz"] {
            let text = format!("{before}CANARY-7f3a?> and more");
            for coded in [
                STANDARD_NO_PAD.encode(&text),
                URL_SAFE_NO_PAD.encode(&text),
                text.clone(),
            ] {
                assert_eq!(index.find(coded.as_bytes()), [0], "{coded}");
            }
        }
        assert_eq!(index.find(b"..43414e4152592d376633613f3e.."), [0]);
        assert!(index.find(b"CANARY-7f3").is_empty());
        assert!(CanaryIndex::default().find(b"x").is_empty());
    }
}
