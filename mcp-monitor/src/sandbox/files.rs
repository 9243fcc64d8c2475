//! Files, by landlock.

use std::{
    path::{Path, PathBuf},
    thread,
};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::{Access, Layer};

/// What is asked for; a kernel that knows less enforces less.
const WANTED: ABI = ABI::V6;
/// Written to in place, without being made.
const DEVICES: [&str; 1] = ["/dev/null"];

/// Restricts this thread, and those that it makes.
pub(super) fn restrict(access: &Access) -> Layer {
    match attempt(access) {
        Ok(status) => match (&status.ruleset, abi(&status.landlock)) {
            (RulesetStatus::NotEnforced, _) | (_, None) => Layer::Off(lacking(&status.landlock).to_owned()),
            (_, Some(abi)) => Layer::On(format!("ABI {abi}")),
        },
        Err(error) => Layer::Off(error.to_string()),
    }
}

fn attempt(access: &Access) -> Result<RestrictionStatus, RulesetError> {
    let look: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let handled = AccessFs::from_all(WANTED);
    let write = handled & !BitFlags::from(AccessFs::Execute);
    Ruleset::default()
        .handle_access(handled)?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(
            access.write.iter().map(|path| there(path)),
            write,
        ))?
        .add_rules(path_beneath_rules(DEVICES, write))?
        .add_rules(path_beneath_rules(&access.read, look))?
        .restrict_self()
}

/// The path, or the nearest folder above it that is there.
fn there(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|path| path.exists());
    found
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
        .to_owned()
}

fn abi(status: &LandlockStatus) -> Option<i32> {
    match status {
        LandlockStatus::Available {
            effective_abi,
            kernel_abi,
        } => Some(kernel_abi.unwrap_or(*effective_abi as i32)),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    }
}

fn lacking(status: &LandlockStatus) -> &'static str {
    match status {
        LandlockStatus::NotEnabled => "the kernel has landlock and was not started with it (lsm=landlock,…)",
        _ => "the kernel has no landlock (Linux 5.13)",
    }
}

/// The kernel's version of landlock, or why there is none.
///
/// # Errors
///
/// Why there is none, for people.
pub fn available() -> Result<i32, String> {
    // The library tells the version to who restricts himself: a thread that ends with that.
    let asked = thread::spawn(|| {
        let rules = Ruleset::default().handle_access(AccessFs::Execute)?.create()?;
        rules.restrict_self()
    });
    match asked.join() {
        Ok(Ok(status)) => abi(&status.landlock).ok_or_else(|| lacking(&status.landlock).to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it cannot be asked".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_made_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(there(&dir.path().join("spool/alerts")), dir.path());
        assert_eq!(there(dir.path()), dir.path());
        assert_eq!(there(Path::new("nothing-of-that-name")), Path::new("."));
    }
}
