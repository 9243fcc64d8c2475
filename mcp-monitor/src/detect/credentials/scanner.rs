//! All formats over one text.

use std::{ops::Range, sync::LazyLock};

use hashbrown::HashMap;

use super::{
    Hit,
    filter::{Around, Filter},
    format::Format,
    formats, matcher,
};

/// An anchor and whose it is.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    literal: &'static [u8],
    format: &'static Format,
}

impl Anchor {
    fn stands_at(&self, text: &[u8], at: usize) -> Option<Range<usize>> {
        let end = at.saturating_add(self.literal.len());
        let there = text.get(at..end)?;
        let same = match self.format.ignores_case() {
            true => there.eq_ignore_ascii_case(self.literal),
            false => there == self.literal,
        };
        same.then_some(at..end)
    }
}

/// The first three bytes of an anchor, without case.
fn key(text: &[u8], at: usize) -> Option<[u8; 3]> {
    text.get(at..)?
        .first_chunk::<3>()
        .map(|key| key.map(|b| b | 0x20))
}

/// The prefilter and, per first three bytes of an anchor, the formats to try.
#[derive(Debug)]
pub(super) struct Scanner {
    filter: Filter,
    anchors: HashMap<[u8; 3], Vec<Anchor>>,
}

static SCANNER: LazyLock<Scanner> = LazyLock::new(|| Scanner::new(formats::all()));

impl Scanner {
    fn new(formats: impl Iterator<Item = &'static Format>) -> Self {
        let mut anchors: HashMap<[u8; 3], Vec<Anchor>> = HashMap::new();
        for format in formats {
            for literal in format.anchors {
                let literal = literal.as_bytes();
                if let Some(window) = key(literal, 0) {
                    anchors
                        .entry(window)
                        .or_default()
                        .push(Anchor { literal, format });
                }
            }
        }
        // The longest anchor first, then the narrowest shape: what says most is tried first.
        for list in anchors.values_mut() {
            list.sort_by_key(|a| {
                let length = a.format.length();
                let span = length.end().saturating_sub(*length.start());
                (
                    a.format.is_weak(),
                    usize::MAX.saturating_sub(a.literal.len()),
                    span,
                )
            });
        }
        let bytes = |can: &dyn Fn(u8) -> bool| -> Vec<u8> { (0..=u8::MAX).filter(|b| can(*b)).collect() };
        let neighbours: Vec<_> = anchors
            .values()
            .flatten()
            .map(|a| {
                (
                    a.literal,
                    bytes(&|b| a.format.can_precede(b)),
                    bytes(&|b| a.format.can_follow(b)),
                )
            })
            .collect();
        let around = neighbours.iter().map(|(anchor, before, after)| Around {
            anchor,
            before,
            after,
        });
        let filter = Filter::new(around);
        Self { filter, anchors }
    }

    fn scan(&self, text: &[u8], found: &mut Vec<Found>) {
        // Where the last secret that was known by its own form ended.
        let mut resume = 0usize;
        self.filter.each(text, |at| {
            if at < resume {
                return;
            }
            let Some(anchors) = key(text, at).and_then(|w| self.anchors.get(&w)) else {
                return;
            };
            for anchor in anchors {
                let Some(place) = anchor.stands_at(text, at) else {
                    continue;
                };
                let Some(secret) = matcher::secret_at(anchor.format, text, &place) else {
                    continue;
                };
                let weak = anchor.format.is_weak();
                if !weak {
                    resume = secret.end;
                }
                found.push(Found {
                    kind: anchor.format.kind,
                    secret,
                    weak,
                });
                return;
            }
        });
    }
}

#[derive(Debug)]
struct Found {
    kind: &'static str,
    secret: Range<usize>,
    weak: bool,
}

/// Appends what is found, in order, without overlaps.
pub(super) fn scan(text: &[u8], out: &mut Vec<Hit>) {
    let mut found = Vec::new();
    SCANNER.scan(text, &mut found);
    if found.is_empty() {
        return;
    }
    found.sort_by_key(|f| (f.secret.start, f.weak));
    let first = out.len();
    let mut last: Option<Found> = None;
    for f in found {
        match last.take() {
            Some(l) if f.secret.start < l.secret.end => {
                // A secret known by its own form tells more than the name it was assigned to.
                last = Some(if l.weak && !f.weak { f } else { l });
            }
            l => {
                out.extend(l.map(Hit::from));
                last = Some(f);
            }
        }
    }
    out.extend(last.map(Hit::from));
    debug_assert!(
        out.get(first..)
            .is_some_and(|hits| hits.is_sorted_by_key(|h| h.start))
    );
}

impl From<Found> for Hit {
    fn from(found: Found) -> Self {
        Self {
            kind: found.kind,
            start: found.secret.start,
            len: found.secret.len(),
        }
    }
}
