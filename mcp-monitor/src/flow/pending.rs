//! Out-of-order bytes of one direction.
//!
//! Where segments overlap, the one that starts lower wins, and of two that start at the same place the
//! longer one, else the first: what Linux gives the application (`tcp_data_queue_ofo`, `tcp_ofo_queue`),
//! leaving aside that it may join neighbours before it compares.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::history::differs;

/// What a piece costs besides its bytes, roughly.
pub(super) const OVERHEAD: usize = 128;

/// One contiguous piece.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Where its segment started: decides who wins.
    origin: u64,
    pub(super) data: Bytes,
    /// Bytes behind `data` that the capture cut off.
    pub(super) missing: u32,
}

impl Piece {
    fn end(&self, start: u64) -> u64 {
        start.saturating_add(u64::try_from(self.data.len()).unwrap_or(u64::MAX))
    }

    fn cost(&self) -> usize {
        self.data.len().saturating_add(OVERHEAD)
    }
}

/// Pieces by stream offset, without overlaps.
#[derive(Default, Debug)]
pub(super) struct Pending {
    pieces: BTreeMap<u64, Piece>,
    cost: usize,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes held, bookkeeping included.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Where the first piece starts.
    pub(super) fn first(&self) -> Option<u64> {
        self.pieces.keys().next().copied()
    }

    /// Takes the first piece if it starts at or before `next`.
    pub(super) fn pop_until(&mut self, next: u64) -> Option<(u64, Piece)> {
        let first = self.pieces.first_entry().filter(|e| *e.key() <= next)?;
        let (start, piece) = first.remove_entry();
        self.cost = self.cost.saturating_sub(piece.cost());
        Some((start, piece))
    }

    /// Drops the piece that will be wanted last; its length.
    pub(super) fn drop_last(&mut self) -> Option<usize> {
        let (_, piece) = self.pieces.pop_last()?;
        self.cost = self.cost.saturating_sub(piece.cost());
        Some(piece.data.len())
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds a segment at `start`. `true` if it says something else than what was there.
    ///
    /// The bytes are copied, so that a few of them do not keep a whole block of the capture alive.
    pub(super) fn insert(&mut self, start: u64, data: &Bytes, missing: u32) -> bool {
        let new = Piece {
            origin: start,
            data: data.clone(),
            missing,
        };
        let end = new.end(start);
        let mut conflict = false;
        let mut cursor = start;
        // A piece that starts before may reach in; all others start inside.
        let from = self
            .pieces
            .range(..start)
            .next_back()
            .filter(|(s, p)| p.end(**s) > start)
            .map_or(start, |(s, _)| *s);
        let touched: Vec<u64> = self.pieces.range(from..end).map(|(s, _)| *s).collect();
        for there in touched {
            let Some(old) = self.pieces.get(&there) else {
                continue;
            };
            let old_end = old.end(there);
            conflict |= differs(there, &old.data, start, data);
            let old_wins = old.origin < start || (old.origin == start && end <= old_end);
            if old_wins {
                self.put(&new, start, cursor, there);
                cursor = cursor.max(old_end);
            } else if let Some(old) = self.pieces.remove(&there) {
                self.cost = self.cost.saturating_sub(old.cost());
                self.put(&old, there, end, old_end);
            }
        }
        self.put(&new, start, cursor, end);
        conflict
    }

    /// Stores the part `from..to` of a piece that starts at `start`.
    fn put(&mut self, piece: &Piece, start: u64, from: u64, to: u64) {
        let cut = |offset: u64| usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
        let from = from.max(start);
        let whole = to >= piece.end(start);
        if from >= to || cut(from) >= piece.data.len() {
            return;
        }
        let kept = piece
            .data
            .get(cut(from)..cut(to).min(piece.data.len()))
            .unwrap_or_default();
        let part = Piece {
            data: Bytes::copy_from_slice(kept),
            missing: if whole { piece.missing } else { 0 },
            ..*piece
        };
        self.cost = self.cost.saturating_add(part.cost());
        self.pieces.insert(from, part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(p: &mut Pending, start: u64, data: &'static str) -> bool {
        p.insert(start, &Bytes::from_static(data.as_bytes()), 0)
    }

    fn text(p: &Pending) -> String {
        let mut out = String::new();
        for (start, piece) in &p.pieces {
            out += &format!("{start}:{} ", std::str::from_utf8(&piece.data).unwrap());
        }
        assert_eq!(p.cost, p.pieces.values().map(Piece::cost).sum::<usize>());
        out.trim_end().to_owned()
    }

    #[test]
    fn the_lower_start_wins_and_then_the_longer() {
        let mut p = Pending::default();
        assert!(!add(&mut p, 10, "bbbb"));
        // Starts lower: wins over the front of what is there.
        assert!(add(&mut p, 8, "aaaa"));
        assert_eq!(text(&p), "8:aaaa 12:bb");
        // Starts higher than the first, lower than nothing else: only its tail is new.
        assert!(add(&mut p, 9, "cccccccc"));
        assert_eq!(text(&p), "8:aaaa 12:ccccc");
        // Same start and longer: wins; same start and not longer: loses.
        let mut p = Pending::default();
        add(&mut p, 5, "xx");
        assert!(add(&mut p, 5, "yyy"));
        assert!(add(&mut p, 5, "zzz"));
        assert_eq!(text(&p), "5:yyy");
    }

    #[test]
    fn the_same_bytes_are_no_conflict() {
        let mut p = Pending::default();
        add(&mut p, 0, "abcdef");
        assert!(!add(&mut p, 2, "cdefgh"));
        assert!(!add(&mut p, 12, "mn"));
        assert!(!add(&mut p, 0, "abcdefghijklmnop"));
        assert_eq!(text(&p), "0:abcdefghijklmnop");
    }
}
