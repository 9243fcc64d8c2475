//! The page of each rule, as `rules show` prints it and `docs/rules/ID.md` keeps it.

use std::fmt::Write as _;

use super::super::{catalogue, rule::Meta};

/// Samples of the wire, one of a rule: a line `== ID what happens (made with)`, then what the packets of the alert hold.
/// Written by `tests/captures/attacks/samples.py` from the recordings beside it.
const SAMPLES: &str = include_str!("samples.txt");

/// What happens in the sample of a rule and with what it was made, and its text.
fn sample(id: &str) -> Option<(&'static str, &'static str)> {
    let (_, rest) = SAMPLES
        .strip_prefix(&format!("== {id} "))
        .map(|rest| ("", rest))
        .or_else(|| SAMPLES.split_once(&format!("\n== {id} ")))?;
    let (title, text) = rest.split_once('\n')?;
    let text = text.split("\n== ").next().unwrap_or(text);
    Some((title, text.trim_end()))
}

/// The page of an implemented rule. Markdown.
pub fn page(id: &str) -> Option<String> {
    catalogue::meta(id).map(render)
}

/// File name under `docs/rules/` and content, for every implemented rule.
pub fn pages() -> Vec<(String, String)> {
    super::all()
        .iter()
        .map(|rule| (format!("{}.md", rule.meta().id), render(rule.meta())))
        .collect()
}

fn render(meta: &Meta) -> String {
    let mut text = String::new();
    let list = |items: &[&str]| {
        if items.is_empty() {
            "-".to_owned()
        } else {
            items.join(", ")
        }
    };
    let silent = if meta.silent_on.is_empty() {
        "-"
    } else {
        meta.silent_on
    };
    let page = &meta.page;
    let sample = sample(meta.id).map_or_else(String::new, |(title, text)| {
        format!("Recorded, {title}:\n\n```text\n{text}\n```\n\n")
    });
    let _ = write!(
        text,
        "# {} {}\n\n\
         | | |\n|---|---|\n\
         | Fires when | {} |\n\
         | Severity | {} |\n\
         | Category | {} |\n\
         | Sees | {} |\n\
         | Needs | {} |\n\
         | Stays silent on | {} |\n\
         | AIR-SEC-026 | {} |\n\
         | OWASP MCP | {} |\n\
         | MITRE ATLAS | {} |\n\n\
         ## What it means\n\n{}\n\n\
         ## What an attacker did\n\n{}\n\n\
         ## How it looks on the wire\n\n{}\n\n{sample}\
         ## What to do\n\n{}\n\n\
         ## False alarms, and how to quiet them\n\n{}\n",
        meta.id,
        meta.slug,
        meta.trigger,
        meta.severity,
        meta.category,
        sight(meta),
        needs(meta.needs),
        silent,
        list(meta.taxonomy.air_sec_026),
        list(meta.taxonomy.owasp_mcp),
        list(meta.taxonomy.atlas),
        page.means,
        page.attacker,
        page.wire,
        page.act,
        page.quiet,
    );
    let _ = write!(
        text,
        "\nTo grade, turn off or accept it in the pins file:\n\n\
         ```yaml\nrules:\n  {id}: {{severity: low}}     # or {{enabled: false}}\nsuppress:\n  \
         - {{rule: {id}, endpoint: NAME, until: 2027-01-01T00:00:00Z, reason: \"ticket\"}}\n```\n",
        id = meta.id
    );
    text
}

fn sight(meta: &Meta) -> &'static str {
    use super::super::rule::Sight;
    match meta.sight {
        Sight::Handshake => "handshakes, DNS and flow metadata (works on encrypted traffic)",
        Sight::Plaintext => "plaintext (cleartext packets, a TLS uprobe or a keylog)",
        Sight::Either => "handshakes or plaintext; more with plaintext",
        Sight::BehindTls => "plaintext behind TLS (a uprobe or a keylog), or TLS 1.2 and before",
    }
}

fn needs(needs: &'static str) -> &'static str {
    match needs {
        "pin" => "a pin",
        "base" => "what was learned of the server",
        "pin/base" => "a pin, or what was learned of the server",
        "-/pin" => "nothing; a pin makes it stricter",
        "-/base" => "nothing; what was learned of the server makes it stricter",
        "policy" => "the numbers under `policy`",
        _ => "nothing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_RULE_PAGES=1 cargo test rule_pages` writes them.
    #[test]
    fn rule_pages_are_up_to_date() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules");
        let update = std::env::var_os("UPDATE_RULE_PAGES").is_some();
        if update {
            std::fs::create_dir_all(&folder).unwrap();
        }
        for (name, content) in pages() {
            let path = folder.join(&name);
            if update {
                std::fs::write(&path, &content).unwrap();
            }
            let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(on_disk, content, "docs/rules/{name} is out of date");
        }
    }

    /// Ids that a page names, ranges such as `PV-01 to PV-08` written out.
    fn named(text: &str) -> std::collections::BTreeSet<String> {
        let id = |word: &str| {
            let (group, number) = word
                .trim_matches(|c: char| !c.is_alphanumeric())
                .split_once('-')?;
            let upper = group.len() >= 2 && group.chars().all(|c| c.is_ascii_uppercase());
            Some((
                group.to_owned(),
                number
                    .parse::<u32>()
                    .ok()
                    .filter(|_| upper && number.len() == 2)?,
            ))
        };
        let mut ids = std::collections::BTreeSet::new();
        let (mut last, mut range) = (None, false);
        for word in text.split_whitespace() {
            let Some((group, number)) = id(word) else {
                range = word == "to" && last.is_some();
                if !range {
                    last = None;
                }
                continue;
            };
            let from = match (&last, range) {
                (Some((before, from)), true) if *before == group => *from,
                _ => number,
            };
            ids.extend((from..=number).map(|number| format!("{group}-{number:02}")));
            (last, range) = (Some((group, number)), false);
        }
        ids
    }

    #[test]
    fn the_coverage_page_has_every_rule_and_no_other() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/COVERAGE.md");
        let named = named(&std::fs::read_to_string(page).unwrap());
        let known: std::collections::BTreeSet<String> = super::super::all()
            .iter()
            .map(|rule| rule.meta().id.to_owned())
            .collect();
        assert_eq!(
            known.difference(&named).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "not on the page"
        );
        assert_eq!(
            named.difference(&known).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "no such rule"
        );
    }

    #[test]
    fn every_page_says_something_in_every_section() {
        for (name, content) in pages() {
            for section in content.split("\n## ").skip(1) {
                assert!(section.len() > 80, "{name}: {section}");
            }
        }
    }
}
