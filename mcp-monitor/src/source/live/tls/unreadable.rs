//! Processes whose TLS cannot be read, and why.

use std::{collections::BTreeMap, sync::Arc};

use hashbrown::HashMap;

use crate::source::binary::Unreadable;

/// Processes that are kept one by one; of more, only the number is known.
const MAX_PROCESSES: usize = 16_384;

/// A program whose TLS cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnreadableProgram {
    /// Its path, as its processes see it.
    pub path: Arc<str>,
    /// Why not, for people.
    pub reason: String,
    /// Processes that run it.
    pub processes: u64,
}

/// See the module.
#[derive(Default, Debug)]
pub struct UnreadableProcesses {
    processes: HashMap<u32, (Arc<str>, Unreadable)>,
    untold: u64,
}

impl UnreadableProcesses {
    pub(super) fn insert(&mut self, pid: u32, path: Arc<str>, reason: Unreadable) {
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&pid) {
            self.untold = self.untold.saturating_add(1);
            return;
        }
        self.processes.insert(pid, (path, reason));
    }

    pub(super) fn remove(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    /// Processes that found no room.
    pub(super) fn untold(&self) -> u64 {
        self.untold
    }

    /// How many there are, by [`Unreadable::code`].
    pub fn by_reason(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for (_, reason) in self.processes.values() {
            let count: &mut u64 = counts.entry(reason.code()).or_default();
            *count = count.saturating_add(1);
        }
        counts
    }

    /// The programs they run, those with the most processes first.
    pub fn programs(&self, most: usize) -> Vec<UnreadableProgram> {
        let mut counts: HashMap<(&Arc<str>, &Unreadable), u64> = HashMap::new();
        for (path, reason) in self.processes.values() {
            let count = counts.entry((path, reason)).or_default();
            *count = count.saturating_add(1);
        }
        let mut programs: Vec<UnreadableProgram> = counts
            .into_iter()
            .map(|((path, reason), processes)| UnreadableProgram {
                path: path.clone(),
                reason: reason.to_string(),
                processes,
            })
            .collect();
        programs.sort_unstable_by(|a, b| b.processes.cmp(&a.processes).then_with(|| a.path.cmp(&b.path)));
        programs.truncate(most);
        programs
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::source::binary::Library;

    #[test]
    fn counts_by_program_and_reason_and_forgets_who_is_gone() {
        let library = Library::Rustls;
        let mut all = UnreadableProcesses::default();
        all.insert(1, "/opt/a".into(), Unreadable::Stripped { library });
        all.insert(2, "/opt/b".into(), Unreadable::NoConvention { library });
        all.insert(3, "/opt/b".into(), Unreadable::NoConvention { library });
        assert_eq!(
            all.by_reason(),
            BTreeMap::from([("no_convention", 2), ("stripped", 1)])
        );
        let programs = all.programs(1);
        assert_eq!((&*programs[0].path, programs[0].processes), ("/opt/b", 2));
        all.remove(1);
        assert_eq!(all.by_reason(), BTreeMap::from([("no_convention", 2)]));
    }

    #[test]
    fn is_bounded() {
        let mut all = UnreadableProcesses::default();
        for pid in 0..u32::try_from(MAX_PROCESSES).unwrap_or(0) + 2 {
            all.insert(pid, "/a".into(), Unreadable::Malformed { what: "x" });
        }
        assert_eq!((all.processes.len(), all.untold()), (MAX_PROCESSES, 2));
    }
}
