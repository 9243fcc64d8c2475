//! Names taken apart into words, and what the name of a tool says that it does.

use std::sync::Arc;

use crate::baseline::Bounded;

/// Characters of a name that are looked at.
const MAX_NAME: usize = 200;

/// The words of a name in lower case: `apiKey`, `api_key` and `API key` have two.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    let mut lower_before = false;
    for c in name.chars().take(MAX_NAME) {
        if !c.is_alphanumeric() || (c.is_uppercase() && lower_before) {
            words.push(String::new());
        }
        lower_before = c.is_lowercase();
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

/// A list of words has these one after the other.
pub(super) fn contains(words: &[String], wanted: &[&str]) -> bool {
    words
        .windows(wanted.len().max(1))
        .any(|w| w.iter().zip(wanted).all(|(a, b)| a == b))
}

fn any(words: &[String], list: &[&str]) -> bool {
    words.iter().any(|w| list.contains(&w.as_str()))
}

/// Words of tools that run what they are given.
const EXECUTES: &[&str] = &[
    "exec",
    "execute",
    "shell",
    "bash",
    "powershell",
    "pwsh",
    "eval",
    "terminal",
    "subprocess",
    "sudo",
    "cmd",
];
/// What `run` means execution with.
const RUNS: &[&str] = &[
    "command",
    "commands",
    "code",
    "script",
    "scripts",
    "python",
    "javascript",
    "js",
    "node",
    "sql",
    "process",
    "program",
    "binary",
    "cell",
];

/// What the name of a tool says that it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Does {
    /// See [`executes`].
    pub executes: bool,
    /// See [`reads_untrusted`].
    pub reads_untrusted: bool,
    /// See [`reads_private`].
    pub reads_private: bool,
    /// See [`writes_outside`].
    pub writes_outside: bool,
}

/// Names that were judged before: a session calls few tools often.
#[derive(Default)]
pub(super) struct Judged(Bounded<Arc<str>, Does>);

impl Judged {
    /// What this name says.
    pub(super) fn name(&mut self, name: &Arc<str>) -> Does {
        if let Some(known) = self.0.peek(name) {
            return *known;
        }
        let does = Does {
            executes: executes(name),
            reads_untrusted: reads_untrusted(name),
            reads_private: reads_private(name),
            writes_outside: writes_outside(name),
        };
        self.0.insert(Arc::clone(name), does);
        does
    }
}

/// The name says that the tool runs commands or code.
fn executes(name: &str) -> bool {
    let words = words(name);
    any(&words, EXECUTES) || (any(&words, &["run"]) && any(&words, RUNS))
}

/// The name says that the tool takes code, a query or a pattern, in which shell characters are ordinary.
pub(super) fn takes_code(name: &str) -> bool {
    const CODE: &[&str] = &[
        "run", "code", "script", "sql", "query", "python", "command", "sandbox", "notebook", "repl", "grep",
        "regex", "jq", "graphql", "lint", "format", "compile", "patch", "diff", "edit", "write",
    ];
    executes(name) || any(&words(name), CODE)
}

/// The name says that the tool reads what strangers may have written.
fn reads_untrusted(name: &str) -> bool {
    const SOURCES: &[&str] = &[
        "fetch", "browse", "browser", "scrape", "crawl", "web", "url", "webpage", "website", "page", "rss",
        "feed", "internet", "inbox", "mail", "mails", "email", "emails", "issue", "issues", "comment",
        "comments", "ticket", "tickets", "review", "reviews", "forum", "tweets", "navigate",
    ];
    let words = words(name);
    any(&words, SOURCES) && !changes(&words)
}

/// The name says that the tool reads what is not public.
fn reads_private(name: &str) -> bool {
    const PRIVATE: &[&str] = &[
        "file",
        "files",
        "document",
        "documents",
        "drive",
        "note",
        "notes",
        "database",
        "db",
        "sql",
        "table",
        "secret",
        "secrets",
        "vault",
        "credential",
        "credentials",
        "password",
        "passwords",
        "contacts",
        "calendar",
        "customer",
        "customers",
        "account",
        "accounts",
        "payroll",
        "salary",
        "invoice",
        "invoices",
        "patient",
        "employee",
        "employees",
        "private",
        "env",
        "environment",
        "crm",
        "keychain",
        "memory",
    ];
    const READS: &[&str] = &[
        "read", "get", "list", "search", "query", "find", "open", "cat", "show", "dump", "export", "lookup",
        "select", "retrieve", "load", "download", "view",
    ];
    let words = words(name);
    any(&words, PRIVATE) && any(&words, READS) && !changes(&words)
}

/// The name says that the tool carries something outside.
fn writes_outside(name: &str) -> bool {
    const SENDS: &[&str] = &[
        "send",
        "post",
        "publish",
        "upload",
        "share",
        "forward",
        "reply",
        "tweet",
        "webhook",
        "notify",
        "push",
        "submit",
        "transmit",
        "broadcast",
    ];
    const MAKES: &[&str] = &["create", "add", "open", "update", "comment"];
    const OUTSIDE: &[&str] = &[
        "issue", "comment", "pull", "pr", "gist", "email", "message", "ticket", "tweet", "paste", "release",
    ];
    let words = words(name);
    any(&words, SENDS) || (any(&words, MAKES) && any(&words, OUTSIDE))
}

fn changes(words: &[String]) -> bool {
    const CHANGES: &[&str] = &[
        "send", "post", "publish", "create", "add", "update", "delete", "remove", "write", "reply",
        "forward", "upload", "share", "submit", "set", "edit",
    ];
    any(words, CHANGES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        for name in ["apiKey", "api_key", "API key", "api-Key"] {
            assert_eq!(words(name), ["api", "key"], "{name}");
        }
        assert!(contains(&words("my_api_key"), &["api", "key"]));
        assert!(!contains(&words("key_api"), &["api", "key"]));
        assert!(words("--").is_empty());
    }

    #[test]
    fn names_say_what_tools_do() {
        assert!(executes("run_shell_command") && executes("execute-sql") && executes("runPython"));
        assert!(!executes("run_report") && !executes("get_executive_summary") && !executes("list_shells"));
        assert!(reads_untrusted("fetch_url") && reads_untrusted("list_issues"));
        assert!(!reads_untrusted("create_issue") && !reads_untrusted("send_email"));
        assert!(reads_private("read_file") && reads_private("get-env") && !reads_private("write_file"));
        assert!(writes_outside("send_email") && writes_outside("create_pull_request"));
        assert!(!writes_outside("get_sum") && !writes_outside("create_entity"));
    }
}
