//! What was seen of something before, and whether it has settled.

/// Different values kept of one thing; beyond them the oldest is forgotten.
const MAX_VALUES: usize = 16;

/// The values that one thing took: issuers of a name's certificates, say.
///
/// Until it has settled, a new value is learned without a word: fleets have several.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Habit<T> {
    values: Vec<T>,
    /// Sightings since the last new value.
    same: u32,
}

impl<T> Default for Habit<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            same: 0,
        }
    }
}

impl<T: PartialEq> Habit<T> {
    /// Takes a sighting; the values known before, if this one is new and there had been `settle`
    /// sightings in a row without anything new. It is known from here on.
    pub(super) fn breaks(&mut self, value: T, settle: u32) -> Option<&[T]> {
        if self.values.contains(&value) {
            self.same = self.same.saturating_add(1);
            return None;
        }
        let settled = !self.values.is_empty() && self.same.saturating_add(1) >= settle;
        self.same = 0;
        if self.values.len() >= MAX_VALUES {
            self.values.remove(0);
        }
        self.values.push(value);
        let (_, before) = self.values.split_last()?;
        settled.then_some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_once_it_has_settled() {
        let mut habit = Habit::default();
        assert_eq!(habit.breaks(1, 2), None);
        assert_eq!(habit.breaks(2, 2), None, "not settled");
        assert_eq!(habit.breaks(1, 2), None);
        assert_eq!(habit.breaks(3, 2), Some(&[1, 2][..]));
        assert_eq!(habit.breaks(3, 2), None, "known now");
        for value in 0..100 {
            habit.breaks(value, 9);
        }
        assert_eq!(habit.values.len(), MAX_VALUES);
    }
}
