//! The prefilter: says fast where no anchor can begin.
//!
//! Every anchor has at least three bytes, so of any two neighbouring positions at least one shows
//! a whole three-byte window of it: looking at every second position is enough. A window is
//! hashed (without case) into a table of bits that stays in the first-level cache. On text
//! without anchors this reads the table once per two bytes, several times faster than an
//! automaton, which must wait for one memory access per byte.

/// Bits of a window's hash.
const HASH_BITS: u32 = 16;
/// Words of a table.
const WORDS: usize = 1 << (HASH_BITS - 6);

/// Bytes read in one step, and how far it looks beyond them.
const STEP: usize = 8;
const LOOK: usize = STEP + 2;

#[derive(Clone, Debug)]
struct Bits(Box<[u64; WORDS]>);

impl Bits {
    fn new() -> Self {
        Self(Box::new([0; WORDS]))
    }

    fn set(&mut self, hash: u32) {
        let word = usize::try_from(hash >> 6).unwrap_or(0) & (WORDS - 1);
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (hash & 63);
        }
    }

    #[inline(always)]
    fn get(&self, hash: u32) -> bool {
        // The mask lets the compiler see that the index is in range.
        let word = (hash >> 6) as usize & (WORDS - 1);
        let word = self.0.get(word).copied().unwrap_or(0);
        (word >> (hash & 63)) & 1 == 1
    }
}

/// Three bytes, lowest first, letters in one case.
#[inline(always)]
fn fold(window: u32) -> u32 {
    (window & 0x00ff_ffff) | 0x0020_2020
}

#[inline(always)]
fn hash(folded: u32) -> u32 {
    folded.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)
}

/// The folded window at a position.
pub(super) fn window(text: &[u8], at: usize) -> Option<u32> {
    let rest = text.get(at..)?.first_chunk::<3>()?;
    Some(fold(u32::from_le_bytes([rest[0], rest[1], rest[2], 0])))
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// Windows at the first or second byte of an anchor.
    either: Bits,
    /// Windows at the first byte of an anchor.
    first: Bits,
}

impl Filter {
    pub(super) fn new<'a>(anchors: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut either, mut first) = (Bits::new(), Bits::new());
        for anchor in anchors {
            let Some(start) = window(anchor, 0) else {
                continue;
            };
            first.set(hash(start));
            either.set(hash(start));
            match window(anchor, 1) {
                Some(second) => either.set(hash(second)),
                // The third byte of the second window can be anything.
                None => {
                    for b in 0..=u8::MAX {
                        let second = (start >> 8) | (u32::from(b) << 16);
                        either.set(hash(fold(second)));
                    }
                }
            }
        }
        Self { either, first }
    }

    /// Calls `candidate` with each position where an anchor may begin, in order.
    pub(super) fn each(&self, text: &[u8], mut candidate: impl FnMut(usize)) {
        let mut at = 0usize;
        while let Some(chunk) = text.get(at..).and_then(|rest| rest.first_chunk::<LOOK>()) {
            let low = u64::from_le_bytes([
                chunk[0], chunk[1], chunk[2], chunk[3], chunk[4], chunk[5], chunk[6], chunk[7],
            ]);
            let last = u32::from_le_bytes([chunk[6], chunk[7], chunk[8], 0]);
            let windows = [low as u32, (low >> 16) as u32, (low >> 32) as u32, last];
            let hits = windows.map(|w| self.either.get(hash(fold(w))));
            if hits[0] | hits[1] | hits[2] | hits[3] {
                for (offset, hit) in [0usize, 2, 4, 6].into_iter().zip(hits) {
                    if hit {
                        let even = at.saturating_add(offset);
                        self.try_at(text, even.checked_sub(1), &mut candidate);
                        self.try_at(text, Some(even), &mut candidate);
                    }
                }
            }
            at = at.saturating_add(STEP);
        }
        // The position before the rest may begin an anchor too.
        for at in at.saturating_sub(1)..text.len() {
            self.try_at(text, Some(at), &mut candidate);
        }
    }

    fn try_at(&self, text: &[u8], at: Option<usize>, candidate: &mut impl FnMut(usize)) {
        if let Some(at) = at
            && let Some(window) = window(text, at)
            && self.first.get(hash(window))
        {
            candidate(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever stands around it, an anchor is a candidate, once, and in order.
        #[test]
        fn finds_every_anchor(
            before in proptest::collection::vec(any::<u8>(), 0..40),
            after in proptest::collection::vec(any::<u8>(), 0..40),
            which in 0usize..3,
        ) {
            let anchors: [&[u8]; 3] = [b"hf_", b"ghp_", b"-----BEGIN"];
            let filter = Filter::new(anchors.into_iter());
            let text = [&before, anchors[which], &after].concat();
            let mut found = Vec::new();
            filter.each(&text, |at| found.push(at));
            prop_assert!(found.contains(&before.len()));
            prop_assert!(found.windows(2).all(|w| w[0] <= w[1]));
        }
    }

    #[test]
    fn plain_text_has_few_candidates() {
        let filter = Filter::new([b"ghp_".as_slice(), b"AKIA"].into_iter());
        let mut found = 0;
        filter.each(
            &b"the quick brown fox jumps over the lazy dog. ".repeat(100),
            |_| found += 1,
        );
        assert_eq!(found, 0);
    }
}
