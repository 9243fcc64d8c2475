//! Finding canaries in text, as they are and in base64 or hex, without keeping them.
//!
//! Of each form there is a keyed digest of the whole, and one bit in a table: where a keyed hash of eight of its
//! bytes, or six, falls. A text slides its own eight bytes over the table; where a bit is set, the digest
//! decides. The keys are of this process and made anew for each pins file.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use hashbrown::HashMap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Bytes of a window at most: those of a word.
const WINDOW: usize = 8;
/// Bits of a place in the table: 128 KiB.
const PLACE_BITS: u32 = 20;
/// Windows of one form that are tried for one that no other form has.
const TRIES: u64 = 16;

/// All forms of all canaries.
#[derive(Clone, Default)]
pub(super) struct CanaryIndex(Option<Arc<Table>>);

impl fmt::Debug for CanaryIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CanaryIndex").finish_non_exhaustive()
    }
}

struct Table {
    keyed: Hmac<Sha256>,
    /// Odd.
    factor: u64,
    /// Bytes of a window, at most [`WINDOW`].
    window: usize,
    bits: Vec<u64>,
    forms: HashMap<u32, Vec<Form>>,
    canaries: usize,
}

struct Form {
    /// Where in it the window begins.
    offset: usize,
    length: usize,
    digest: [u8; 32],
    canary: usize,
}

impl CanaryIndex {
    /// Of these values, in their order. They are wiped with the last copy that the caller has.
    pub(super) fn new(values: &[Zeroizing<String>]) -> Self {
        let forms: Vec<(usize, Zeroizing<Vec<u8>>)> = values
            .iter()
            .enumerate()
            .flat_map(|(canary, value)| {
                forms(value.as_bytes())
                    .into_iter()
                    .map(move |form| (canary, form))
            })
            .collect();
        let Some(shortest) = forms.iter().map(|(_, form)| form.len()).min().filter(|l| *l > 0) else {
            return Self::default();
        };
        let random = RandomState::new();
        let mut key = hmac::digest::Key::<Hmac<Sha256>>::default();
        for (n, part) in key.chunks_mut(8).enumerate().take(4) {
            for (to, from) in part.iter_mut().zip(random.hash_one(n).to_ne_bytes()) {
                *to = from;
            }
        }
        let mut table = Table {
            keyed: Hmac::<Sha256>::new(&key),
            factor: random.hash_one("factor") | 1,
            window: shortest.min(WINDOW),
            bits: vec![0; (1_usize << PLACE_BITS) / 64],
            forms: HashMap::new(),
            canaries: values.len(),
        };
        for (number, (canary, form)) in forms.iter().enumerate() {
            table.add(*canary, form, |attempt| random.hash_one((number, attempt)));
        }
        Self(Some(Arc::new(table)))
    }

    /// Indices of the canaries that stand in `text`, each once, in order.
    pub(super) fn find(&self, text: &[u8]) -> Vec<usize> {
        self.0.as_ref().map(|table| table.find(text)).unwrap_or_default()
    }
}

impl Table {
    fn digest(&self, text: &[u8]) -> [u8; 32] {
        let mut mac = self.keyed.clone();
        mac.update(text);
        mac.finalize().into_bytes().into()
    }

    /// The window with one more byte.
    fn slide(&self, window: u64, byte: u8) -> u64 {
        let unused = u32::try_from(WINDOW.saturating_sub(self.window)).unwrap_or(0);
        let mask = u64::MAX.wrapping_shr(unused.wrapping_mul(8));
        (window.wrapping_shl(8) | u64::from(byte)) & mask
    }

    fn place(&self, window: u64) -> u32 {
        let hash = window
            .wrapping_mul(self.factor)
            .wrapping_shr(u64::BITS.wrapping_sub(PLACE_BITS));
        u32::try_from(hash).unwrap_or(0)
    }

    fn is_set(&self, place: u32) -> bool {
        let word = self.bits.get((place / 64) as usize).copied().unwrap_or(0);
        word.wrapping_shr(place % 64) & 1 != 0
    }

    /// Takes a form up, by a window that no other has if there is one. Canaries often begin alike, and whoever
    /// knows that beginning could else have every digest computed over and over.
    fn add(&mut self, canary: usize, form: &[u8], random: impl Fn(u64) -> u64) {
        let last = form.len().saturating_sub(self.window);
        let choices = u64::try_from(last).unwrap_or(0).saturating_add(1);
        let windows = (0..TRIES).map(|attempt| {
            let offset = usize::try_from(random(attempt).checked_rem(choices).unwrap_or(0)).unwrap_or(0);
            let bytes = form.iter().skip(offset).take(self.window);
            let window = bytes.fold(0, |window, byte| self.slide(window, *byte));
            (offset, self.place(window))
        });
        let windows: Vec<(usize, u32)> = windows.collect();
        let own = windows.iter().find(|(_, place)| !self.is_set(*place));
        let Some((offset, place)) = own.or(windows.first()).copied() else {
            return;
        };
        let digest = self.digest(form);
        if let Some(word) = self.bits.get_mut((place / 64) as usize) {
            *word |= 1_u64.wrapping_shl(place % 64);
        }
        self.forms.entry(place).or_default().push(Form {
            offset,
            length: form.len(),
            digest,
            canary,
        });
    }

    fn find(&self, text: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        let mut window = 0;
        for (at, byte) in text.iter().enumerate() {
            window = self.slide(window, *byte);
            let place = self.place(window);
            if !self.is_set(place) {
                continue;
            }
            let end = at.saturating_add(1);
            let Some(start) = end.checked_sub(self.window) else {
                continue;
            };
            self.look(text, start, place, &mut found);
            // Hostile text may repeat one for ever.
            if found.len() >= self.canaries {
                break;
            }
        }
        found.sort_unstable();
        found
    }

    /// Whether a form whose window falls into `place` stands where this window says it would.
    fn look(&self, text: &[u8], window: usize, place: u32, found: &mut Vec<usize>) {
        for form in self.forms.get(&place).into_iter().flatten() {
            let stands = |form: &Form| {
                let start = window.checked_sub(form.offset)?;
                let whole = text.get(start..start.checked_add(form.length)?)?;
                Some(self.digest(whole) == form.digest)
            };
            if !found.contains(&form.canary) && stands(form) == Some(true) {
                found.push(form.canary);
            }
        }
    }
}

/// The value, in hex of both cases, and in base64 of both alphabets wherever it may begin in a longer text.
fn forms(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut forms = vec![Zeroizing::new(value.to_vec())];
    let hex = |upper: bool| -> Vec<u8> {
        let digit = |b: &u8| match upper {
            true => format!("{b:02X}"),
            false => format!("{b:02x}"),
        };
        value.iter().flat_map(|b| digit(b).into_bytes()).collect()
    };
    forms.extend([Zeroizing::new(hex(false)), Zeroizing::new(hex(true))]);
    for shift in 0..3usize {
        let shifted: Zeroizing<Vec<u8>> = Zeroizing::new(
            std::iter::repeat_n(0, shift)
                .chain(value.iter().copied())
                .collect(),
        );
        // Characters that other bytes have a part in say nothing.
        let start = shift.saturating_mul(8).div_ceil(6);
        let end = shifted.len().saturating_mul(8) / 6;
        for encoded in [
            STANDARD_NO_PAD.encode(&*shifted),
            URL_SAFE_NO_PAD.encode(&*shifted),
        ] {
            let encoded = Zeroizing::new(encoded);
            if let Some(part) = encoded.as_bytes().get(start..end) {
                forms.push(Zeroizing::new(part.to_vec()));
            }
        }
    }
    forms.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
    forms.dedup_by(|a, b| a.as_slice() == b.as_slice());
    forms
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index(values: &[&str]) -> CanaryIndex {
        let values: Vec<_> = values
            .iter()
            .map(|value| Zeroizing::new((*value).to_owned()))
            .collect();
        CanaryIndex::new(&values)
    }

    #[test]
    fn finds_each_form_wherever_it_begins() {
        let index = index(&["CANARY-7f3a?>"]);
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

    #[test]
    fn many_that_begin_alike_are_told_apart() {
        let values: Vec<String> = (0..300).map(|n| format!("CANARY-2026-{n:06}-x")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let index = index(&values);
        assert_eq!(
            index.find(b"a CANARY-2026-000007-x, CANARY-2026-000299-x b"),
            [7, 299]
        );
        assert!(index.find(&b"CANARY-2026-00030".repeat(1000)).is_empty());
        let encoded = STANDARD_NO_PAD.encode("xyCANARY-2026-000123-x");
        assert_eq!(index.find(encoded.as_bytes()), [123]);
    }

    #[test]
    fn no_value_is_kept() {
        let index = index(&["CANARY-7f3a-secret"]);
        let table = index.0.as_ref().unwrap();
        let digests: Vec<u8> = table
            .forms
            .values()
            .flatten()
            .flat_map(|form| form.digest)
            .collect();
        assert!(
            !digests
                .windows(6)
                .any(|part| b"CANARY-7f3a-secret".windows(6).any(|own| own == part))
        );
        assert_eq!(
            table.bits.iter().map(|word| word.count_ones()).sum::<u32>() as usize,
            table.forms.len()
        );
    }

    proptest! {
        #[test]
        fn found_where_it_is_and_nowhere_else(
            value in "[ -~]{6,40}", before in "[ -~]{0,60}", after in "[ -~]{0,60}",
        ) {
            let index = index(&[&value]);
            let text = format!("{before}{value}{after}");
            prop_assert_eq!(index.find(text.as_bytes()), [0]);
            let cut = text.replace(&value, "-");
            let expected: &[usize] = if cut.contains(&value) { &[0] } else { &[] };
            prop_assert_eq!(index.find(cut.as_bytes()), expected);
        }
    }
}
