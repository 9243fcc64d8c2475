//! The prefilter: says fast where no anchor can begin.
//!
//! Of any two neighbouring positions one is even, so looking at every second position is enough
//! if the table knows an anchor by two neighbouring windows of four bytes: the one at its start
//! and the next one, or for the shortest anchors the one before. Where a window reaches beyond
//! the anchor, the table knows it with every byte that can stand there. A window is hashed
//! (without case) into a table of bits that stays in the first-level cache. So text without
//! anchors costs half a table access per byte, and no access waits for the one before, as the
//! states of an automaton would.

/// Bits of a window's hash.
const HASH_BITS: u32 = 18;
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

    fn set(&mut self, window: [u8; 4]) {
        let hash = hash(u32::from_le_bytes(window));
        let word = usize::try_from(hash >> 6).unwrap_or(0) & (WORDS - 1);
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (hash & 63);
        }
    }

    #[inline(always)]
    fn get(&self, window: u32) -> bool {
        let hash = hash(window);
        // The mask lets the compiler see that the index is in range.
        let word = (hash >> 6) as usize & (WORDS - 1);
        let word = self.0.get(word).copied().unwrap_or(0);
        (word >> (hash & 63)) & 1 == 1
    }
}

/// Of four bytes, letters in one case.
#[inline(always)]
fn hash(window: u32) -> u32 {
    (window | 0x2020_2020).wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)
}

/// What is around an anchor.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// The anchor, three bytes at least.
    pub(super) anchor: &'a [u8],
    /// Bytes that can stand before it.
    pub(super) before: &'a [u8],
    /// Bytes that can stand after it.
    pub(super) after: &'a [u8],
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// Windows one before, at, or one after the first byte of an anchor.
    near: Bits,
    /// Windows at the first byte of an anchor.
    first: Bits,
}

impl Filter {
    pub(super) fn new<'a>(all: impl Iterator<Item = Around<'a>>) -> Self {
        let (mut near, mut first) = (Bits::new(), Bits::new());
        for Around {
            anchor,
            before,
            after,
        } in all
        {
            match *anchor {
                [a, b, c] => {
                    for d in after {
                        near.set([a, b, c, *d]);
                        first.set([a, b, c, *d]);
                    }
                    for z in before {
                        near.set([*z, a, b, c]);
                    }
                }
                [a, b, c, d] => {
                    near.set([a, b, c, d]);
                    first.set([a, b, c, d]);
                    for e in after {
                        near.set([b, c, d, *e]);
                    }
                }
                [a, b, c, d, e, ..] => {
                    near.set([a, b, c, d]);
                    first.set([a, b, c, d]);
                    near.set([b, c, d, e]);
                }
                _ => {}
            }
        }
        Self { near, first }
    }

    /// Calls `candidate` with each position where an anchor and a byte after it may be. The
    /// positions come in order but for repeats.
    pub(super) fn each(&self, text: &[u8], mut candidate: impl FnMut(usize)) {
        // Positions before this were tried.
        let mut next = 0usize;
        let mut at = 0usize;
        while let Some(chunk) = text.get(at..).and_then(|rest| rest.first_chunk::<LOOK>()) {
            let low = u64::from_le_bytes([
                chunk[0], chunk[1], chunk[2], chunk[3], chunk[4], chunk[5], chunk[6], chunk[7],
            ]);
            let last = u32::from_le_bytes([chunk[6], chunk[7], chunk[8], chunk[9]]);
            // Written out: a closure over an array is not always inlined here, and that costs four calls a step.
            let hits = [
                self.near.get(low as u32),
                self.near.get((low >> 16) as u32),
                self.near.get((low >> 32) as u32),
                self.near.get(last),
            ];
            if hits[0] | hits[1] | hits[2] | hits[3] {
                for (offset, hit) in [0usize, 2, 4, 6].into_iter().zip(hits) {
                    if hit {
                        let even = at.saturating_add(offset);
                        let from = even.saturating_sub(1).max(next);
                        next = even.saturating_add(2);
                        self.try_each(text, from..next, &mut candidate);
                    }
                }
            }
            at = at.saturating_add(STEP);
        }
        // The position before the rest may begin an anchor too.
        self.try_each(text, at.saturating_sub(1).max(next)..text.len(), &mut candidate);
    }

    fn try_each(&self, text: &[u8], range: std::ops::Range<usize>, candidate: &mut impl FnMut(usize)) {
        for at in range {
            let window = text.get(at..).and_then(|rest| rest.first_chunk::<4>());
            if window.is_some_and(|w| self.first.get(u32::from_le_bytes(*w))) {
                candidate(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(anchors: &[&'static [u8]]) -> Filter {
        let any: Vec<u8> = (0..=u8::MAX).collect();
        let around = |anchor: &&'static [u8]| Around {
            anchor,
            before: &any,
            after: &any,
        };
        Filter::new(anchors.iter().map(around))
    }

    proptest! {
        /// Whatever stands around it, an anchor is a candidate, once, and in order.
        #[test]
        fn finds_every_anchor(
            before in proptest::collection::vec(any::<u8>(), 0..40),
            after in proptest::collection::vec(any::<u8>(), 1..40),
            which in 0usize..3,
        ) {
            let anchors: [&[u8]; 3] = [b"hf_", b"ghp_", b"-----BEGIN"];
            let filter = filter(&anchors);
            let text = [&before, anchors[which], &after].concat();
            let mut found = Vec::new();
            filter.each(&text, |at| found.push(at));
            prop_assert!(found.contains(&before.len()));
            prop_assert!(found.windows(2).all(|w| w[0] < w[1]));
        }
    }

    #[test]
    fn plain_text_has_few_candidates() {
        let mut found = 0;
        filter(&[b"ghp_", b"AKIA"]).each(
            &b"the quick brown fox jumps over the lazy dog. ".repeat(100),
            |_| found += 1,
        );
        assert_eq!(found, 0);
    }
}
