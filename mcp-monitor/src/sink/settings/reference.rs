//! docs/SINKS.md.

use super::{COMMON, KINDS, Key};

/// The page: each kind of sink with its keys.
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    text.push_str("\n## Keys of every sink\n\n");
    table(&mut text, COMMON.iter());
    for kind in KINDS {
        let records: Vec<&str> = kind.records.iter().map(|record| record.as_str()).collect();
        text.push_str(&format!(
            "\n## {}\n\n{}\n\nTakes {}; {} at a time; {}.\n\n",
            kind.name,
            kind.about,
            records.join(", "),
            kind.batch,
            if kind.spool {
                "with a spool"
            } else {
                "without a spool"
            },
        ));
        table(&mut text, kind.keys.iter().copied().flatten());
    }
    text.push_str(TAIL);
    text
}

fn table<'a>(text: &mut String, keys: impl Iterator<Item = &'a Key>) {
    text.push_str("| key | form | default | meaning |\n|---|---|---|---|\n");
    for key in keys {
        let default = match key.default {
            "" => "none",
            default => default,
        };
        text.push_str(&format!(
            "| `{}` | {} | {default} | {} |\n",
            key.name, key.form, key.about
        ));
    }
}

const HEAD: &str = include_str!("head.md");
const TAIL: &str = include_str!("tail.md");

#[cfg(test)]
mod tests {
    #[test]
    fn docs_are_those_of_the_types() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SINKS.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, super::reference()).unwrap();
        }
        let docs = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            docs,
            super::reference(),
            "run the tests with UPDATE_DOCS=1 to write docs/SINKS.md anew"
        );
    }
}
