//! Whether one of a few words stands in a text, in any case. Most texts have none; vector instructions see that in
//! one pass, since they look for three bytes of each word in every spelling.

use aho_corasick::{AhoCorasick, Span, packed};

/// Bytes of a word that are looked for first.
const WINDOW: usize = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Anchors {
    search: Search,
    /// The word of each spelling, and where in it the window is.
    spellings: Vec<(&'static str, usize)>,
}

#[derive(Debug)]
enum Search {
    Windows(packed::Searcher),
    /// Where the processor has no vectors for it.
    Words(AhoCorasick),
    /// Neither could be made: every text may have one.
    Nothing,
}

impl Anchors {
    /// Of lower-case words, each with the place of its rarest [`WINDOW`] bytes.
    pub(super) fn new(words: &[(&'static str, usize)]) -> Self {
        let mut spellings = Vec::new();
        let mut windows = packed::Config::new().builder();
        for (word, at) in words {
            let end = at.saturating_add(WINDOW);
            let window = word.as_bytes().get(*at..end).unwrap_or_default();
            for upper in 0..1_u32 << WINDOW {
                let spelt: Vec<u8> = (0..)
                    .zip(window)
                    .map(|(n, b)| match upper >> n & 1 {
                        0 => b.to_ascii_lowercase(),
                        _ => b.to_ascii_uppercase(),
                    })
                    .collect();
                // A byte that is no letter has one spelling.
                if (0..)
                    .zip(window)
                    .all(|(n, b)| b.is_ascii_alphabetic() || upper >> n & 1 == 0)
                {
                    windows.add(spelt);
                    spellings.push((*word, *at));
                }
            }
        }
        let whole = || {
            AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .build(words.iter().map(|(word, _)| word))
                .map_or(Search::Nothing, Search::Words)
        };
        Self {
            search: windows.build().map_or_else(whole, Search::Windows),
            spellings,
        }
    }

    /// One of the words is there.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        let windows = match &self.search {
            Search::Windows(windows) => windows,
            Search::Words(words) => return words.is_match(text),
            Search::Nothing => return true,
        };
        let mut from = 0_usize;
        while let Some(hit) = windows.find_in(text, Span::from(from..text.len())) {
            if self.stands_at(text, hit.pattern().as_usize(), hit.start()) {
                return true;
            }
            from = hit.start().saturating_add(1);
        }
        false
    }

    /// The word of this spelling is around the window at `at`.
    fn stands_at(&self, text: &[u8], spelling: usize, at: usize) -> bool {
        let Some((word, place)) = self.spellings.get(spelling) else {
            return false;
        };
        let there = at
            .checked_sub(*place)
            .and_then(|start| text.get(start..start.checked_add(word.len())?));
        there.is_some_and(|there| there.eq_ignore_ascii_case(word.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WORDS: &[(&str, usize)] = &[("<note>", 0), ("ignore", 0), ("ignite", 1), ("the user", 2)];

    proptest! {
        #[test]
        fn finds_what_an_automaton_finds(text in "[<>nNoOtTeEigGIrR uUsSh]{0,80}", tail in "(|ignOre|THE usER|<Note>|igNITE)") {
            let plain = AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .build(WORDS.iter().map(|(word, _)| word))
                .unwrap();
            let text = text + &tail;
            prop_assert_eq!(Anchors::new(WORDS).is_in(text.as_bytes()), plain.is_match(&text));
        }
    }
}
