//! Which files a sink was made of, so that a change of one is seen.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
};

use crate::config::mark::Mark;

/// Files that were read, each with what it was like just before.
#[derive(Debug, Default)]
pub(crate) struct Files(RefCell<Vec<(PathBuf, Option<Mark>)>>);

impl Files {
    /// Before a file is read: what changes while it is read counts as changed.
    pub(crate) fn add(&self, path: &Path) {
        self.0.borrow_mut().push((path.to_owned(), Mark::of(path)));
    }

    /// Whether any is another one by now. One that is gone is in the middle of being replaced.
    pub(crate) fn changed(&self) -> bool {
        self.0.borrow().iter().any(|(path, mark)| {
            let now = Mark::of(path);
            now.is_some() && now != *mark
        })
    }
}
