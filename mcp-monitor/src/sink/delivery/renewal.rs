//! Secrets and certificates that change while the monitor runs: the sending half is made anew of them.

use super::{super::settings::Files, Sender};

/// A sending half, and the files that it was made of.
pub(crate) struct Made {
    pub(crate) sender: Box<dyn Sender>,
    pub(crate) files: Files,
}

/// Makes the sending half, in the sink's own thread.
pub(crate) type MakeSender = Box<dyn Fn() -> Result<Made, String> + Send>;

/// See the module.
pub(super) struct Renewal {
    make: MakeSender,
    files: Files,
    /// The last try failed: not said again until one works.
    failing: bool,
}

impl Renewal {
    /// Makes the first.
    pub(super) fn begin(make: MakeSender) -> Result<(Self, Box<dyn Sender>), String> {
        let Made { sender, files } = make()?;
        let renewal = Self {
            make,
            files,
            failing: false,
        };
        Ok((renewal, sender))
    }

    /// Looks at the files before an attempt: a new sending half where one has changed. What cannot be used is said
    /// once, and tried again at the next attempt: files that belong together are not written at once.
    pub(super) fn look(&mut self) -> Option<Result<Box<dyn Sender>, String>> {
        if !self.files.changed() {
            return None;
        }
        match (self.make)() {
            Ok(Made { sender, files }) => {
                self.files = files;
                self.failing = false;
                Some(Ok(sender))
            }
            Err(error) => {
                let told = std::mem::replace(&mut self.failing, true);
                (!told).then_some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path, sync::mpsc};

    use super::*;
    use crate::sink::delivery::{Entry, Pending, Sent, Trouble};

    struct Nothing;

    impl Sender for Nothing {
        fn send<'a>(&'a mut self, _: &'a [Entry]) -> Pending<'a, Sent> {
            Box::pin(async { Sent::default() })
        }

        fn probe(&mut self) -> Pending<'_, Result<String, Trouble>> {
            Box::pin(async { Ok(String::new()) })
        }
    }

    /// As a kubelet writes a Secret: a new folder, then the link to it is replaced.
    fn swap(dir: &Path, generation: &str, text: &str) {
        fs::create_dir(dir.join(generation)).unwrap();
        fs::write(dir.join(generation).join("token"), text).unwrap();
        symlink(generation, dir.join("..tmp")).unwrap();
        fs::rename(dir.join("..tmp"), dir.join("..data")).unwrap();
    }

    #[test]
    fn a_swapped_secret_is_used_and_a_wrong_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        swap(dir.path(), "1", "first");
        symlink("..data/token", dir.path().join("token")).unwrap();
        let path = dir.path().join("token");
        let (used, uses) = mpsc::channel();
        let make: MakeSender = Box::new(move || {
            let files = Files::default();
            files.add(&path);
            let text = fs::read_to_string(&path).map_err(|e| e.to_string())?;
            used.send(text.clone()).unwrap();
            if text == "wrong" {
                return Err("wrong".to_owned());
            }
            Ok(Made {
                sender: Box::new(Nothing),
                files,
            })
        });
        let (mut renewal, _) = Renewal::begin(make).unwrap();
        assert!(renewal.look().is_none());
        swap(dir.path(), "2", "wrong");
        assert!(renewal.look().is_some_and(|made| made.is_err()));
        assert!(renewal.look().is_none(), "said once");
        fs::remove_file(dir.path().join("..data")).unwrap();
        assert!(renewal.look().is_none(), "in the middle of a swap");
        swap(dir.path(), "3", "second");
        assert!(renewal.look().is_some_and(|made| made.is_ok()));
        assert!(renewal.look().is_none());
        assert_eq!(
            uses.try_iter().collect::<Vec<_>>(),
            ["first", "wrong", "wrong", "second"]
        );
    }
}
