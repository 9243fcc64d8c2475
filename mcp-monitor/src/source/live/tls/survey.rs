//! What probes would be placed on, on this machine now, without placing any.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use super::process;
use crate::source::binary;

/// Processes looked into.
pub const MAX_SURVEYED: usize = 16_384;

/// A program or library with TLS inside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Surveyed {
    /// Its path, as its processes see it.
    pub path: String,
    /// What can be read, with its version: `OpenSSL 3.0.0`.
    pub libraries: Vec<String>,
    /// Why something in it cannot be.
    pub unreadable: Vec<String>,
    /// Processes that map it.
    pub processes: u64,
}

/// What a survey found.
#[derive(Clone, Default, Debug)]
pub struct Survey {
    /// Files with TLS inside, by path.
    pub files: Vec<Surveyed>,
    /// Processes that could not be looked into.
    pub closed: u64,
}

/// Looks at every process but this one, whose TLS is that of its sinks.
pub fn survey() -> Survey {
    survey_without(std::process::id())
}

/// Looks at every process but that one.
pub fn survey_without(own: u32) -> Survey {
    let mut survey = Survey::default();
    // By place and mount namespace, as the scan does; `None`: nothing of interest inside.
    let mut known: HashMap<(u64, Box<str>), Option<usize>> = HashMap::new();
    let mut places: BTreeMap<(u64, u64), Option<usize>> = BTreeMap::new();
    let all = process::all().into_iter().filter(|pid| *pid != own);
    for pid in all.take(MAX_SURVEYED) {
        let (Some(namespace), Ok(candidates)) = (process::mount_namespace(pid), process::candidates(pid))
        else {
            survey.closed = survey.closed.saturating_add(1);
            continue;
        };
        let mut counted = HashSet::new();
        for mapping in candidates {
            let key = (namespace, mapping.place.clone());
            let found = match known.get(&key) {
                Some(found) => *found,
                None => {
                    let found = look(pid, &mapping, &mut places, &mut survey.files);
                    known.insert(key, found);
                    found
                }
            };
            if let Some(file) = found.and_then(|index| survey.files.get_mut(index))
                && counted.insert(found)
            {
                file.processes = file.processes.saturating_add(1);
            }
        }
    }
    survey.files.sort_by(|a, b| a.path.cmp(&b.path));
    survey
}

fn look(
    pid: u32,
    mapping: &process::Mapping,
    places: &mut BTreeMap<(u64, u64), Option<usize>>,
    files: &mut Vec<Surveyed>,
) -> Option<usize> {
    let file = process::open(pid, mapping).ok()?;
    let key = process::FileKey::of(&file).ok()?.parts();
    if let Some(found) = places.get(&key) {
        return *found;
    }
    let examined = binary::examine(&file).unwrap_or_default();
    let found = (!examined.plans.is_empty() || !examined.unreadable.is_empty()).then_some(files.len());
    places.insert(key, found);
    found?;
    let named = |plan: &binary::Plan| match &plan.version {
        Some(version) => format!("{} {version}", plan.library.name()),
        None => plan.library.name().to_owned(),
    };
    files.push(Surveyed {
        path: mapping.path.to_string(),
        libraries: examined.plans.iter().map(named).collect(),
        unreadable: examined.unreadable.iter().map(ToString::to_string).collect(),
        processes: 0,
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_that_this_test_has_tls_inside() {
        let survey = survey_without(0);
        let me = std::env::current_exe().unwrap_or_default();
        let own = survey.files.iter().find(|file| *file.path == *me.as_os_str());
        assert!(
            own.is_some_and(
                |file| file.processes > 0 && file.unreadable.iter().any(|why| why.contains(" is inside"))
            ),
            "{own:?}"
        );
    }
}
