//! What the sections of the program configuration share: how a key is written down, and which there may be.

use super::program::Key;

/// A key with its form, default and meaning.
macro_rules! key {
    ($section:literal, $name:literal, $form:literal, $default:expr, $about:literal) => {
        $crate::config::program::Key {
            section: $section,
            name: $name,
            form: $form,
            default: || $default,
            about: $about,
        }
    };
}
pub(super) use key;

/// Names of a section's keys.
pub(super) fn names(keys: &[Key], section: &str) -> Vec<&'static str> {
    let of = keys.iter().filter(|key| key.section == section);
    of.map(|key| key.name).collect()
}
