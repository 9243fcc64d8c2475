//! Results that were read before. Every client of a server asks for the same lists, so that most of the long results
//! on a wire repeat one byte for byte: to compare them costs a fiftieth of reading them.

use std::{
    hash::BuildHasher as _,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use hashbrown::DefaultHashBuilder;

/// Shorter results are read each time.
const SHORTEST: usize = 1 << 10;
/// Longer ones too.
const MAX_RESULT: usize = 256 << 10;
/// Results kept; two that fall on one place take turns.
const MAX_RESULTS: usize = 128;
/// Bytes of all that are kept; above it all are forgotten.
const MAX_BYTES: usize = 1 << 20;
/// Bytes of a result by which it is looked up, beside the length.
const LOOK: usize = 128;

/// SHA-256 of a result that repeats, worked out when it is first asked for.
pub type Digest = Arc<OnceLock<[u8; 32]>>;

/// See the module. A result is kept when it comes a second time.
#[derive(Default, Debug)]
pub struct Repeated {
    places: Vec<Place>,
    held: usize,
    hasher: DefaultHashBuilder,
}

#[derive(Default, Debug)]
struct Place {
    /// Hash of the result that came here last.
    last: u64,
    kept: Option<Kept>,
}

/// An object in JSON and UTF-8, in which no key stands twice.
#[derive(Debug)]
struct Kept {
    text: Bytes,
    digest: Digest,
}

impl Repeated {
    /// The object at the start of `rest`, if it was kept: its length and its digest.
    pub fn find(&self, rest: &[u8]) -> Option<(usize, Digest)> {
        let (at, _) = self.place(rest)?;
        let kept = self.places.get(at)?.kept.as_ref()?;
        // An object ends where its brackets do, whatever follows.
        rest.starts_with(&kept.text)
            .then(|| (kept.text.len(), Arc::clone(&kept.digest)))
    }

    /// Takes note of the first `len` bytes of `rest`: an object that was not found, and is in order.
    pub fn note(&mut self, rest: &[u8], len: usize) {
        let Some((at, hash)) = self.place(rest).filter(|_| len <= MAX_RESULT) else {
            return;
        };
        if self.places.is_empty() {
            self.places.resize_with(MAX_RESULTS, Place::default);
        }
        let Some(place) = self.places.get_mut(at) else {
            return;
        };
        if place.last != hash {
            place.last = hash;
            return;
        }
        let Some(text) = rest.get(..len).filter(|text| std::str::from_utf8(text).is_ok()) else {
            return;
        };
        let before = place.kept.take().map_or(0, |kept| kept.text.len());
        self.held = self.held.saturating_sub(before).saturating_add(len);
        if self.held > MAX_BYTES {
            self.places.iter_mut().for_each(|place| place.kept = None);
            self.held = len;
        }
        if let Some(place) = self.places.get_mut(at) {
            // A copy: what is around it needs not stay.
            place.kept = Some(Kept {
                text: Bytes::copy_from_slice(text),
                digest: Digest::default(),
            });
        }
    }

    /// Where an object is kept, and its hash.
    fn place(&self, rest: &[u8]) -> Option<(usize, u64)> {
        let look = rest.get(..LOOK).filter(|look| look.starts_with(b"{"))?;
        (rest.len() >= SHORTEST).then_some(())?;
        let hash = self.hasher.hash_one((rest.len(), look));
        let at = usize::try_from(hash >> 32).ok()?.checked_rem(MAX_RESULTS)?;
        Some((at, hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(fill: &str, len: usize) -> Vec<u8> {
        format!("{{\"a\":\"{fill}{}\"}}", "x".repeat(len)).into_bytes()
    }

    #[test]
    fn is_found_from_the_second_time_on_whatever_follows() {
        let mut repeated = Repeated::default();
        let text = object("", 2000);
        for seen in 0..3 {
            let found = repeated.find(&text).map(|(len, _)| len);
            assert_eq!(found, (seen > 1).then_some(text.len()));
            repeated.note(&text, text.len());
        }
        let mut other = text.clone();
        *other.get_mut(1500).unwrap() = b'y';
        assert!(repeated.find(&other).is_none());
        assert!(repeated.find(text.get(..1999).unwrap()).is_none());
    }

    #[test]
    fn short_long_and_broken_ones_are_not_kept() {
        let mut repeated = Repeated::default();
        let mut broken = object("", 2000);
        *broken.get_mut(1500).unwrap() = 0xff;
        for text in [object("", 100), object("", MAX_RESULT), broken, vec![b'['; 2000]] {
            for _ in 0..3 {
                repeated.note(&text, text.len());
            }
            assert!(repeated.find(&text).is_none());
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut repeated = Repeated::default();
        for n in 0..200_usize {
            let text = object(&n.to_string(), 50_000);
            repeated.note(&text, text.len());
            repeated.note(&text, text.len());
            let held: usize = repeated
                .places
                .iter()
                .filter_map(|place| Some(place.kept.as_ref()?.text.len()))
                .sum();
            assert!(held == repeated.held && held <= MAX_BYTES, "{held}");
        }
    }
}
