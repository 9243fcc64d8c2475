//! SS-06 over-collection: environment, roots, host names, traceparent sent to a third party.

use super::prelude::*;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::{
    addresses::{is_internal_name, local_kind},
    mcp::result,
};
use crate::{
    mcp::{
        MessageKind,
        context::{ClientKey, ServerKey, Target},
        json,
    },
    types::Direction as Way,
};

const META: Meta = Meta {
    id: "SS-06",
    slug: "over-collection",
    category: "session",
    trigger: "environment, roots, host names, traceparent sent to a third party",
    silent_on: "first-party servers",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["agent-tracking", "insufficient-vetting"],
        owasp_mcp: &["MCP10"],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "An agent tells a server of another organisation things about your machines and network that its tools do not need: environment variables, folders of the user, internal host names, or the ids of your traces.",
        attacker: "Collects them to find out who the agent works for, what runs there, and where to go next.",
        wire: "To a pinned endpoint that is not `first_party`: an answer to `roots/list` (or to a roots request among `inputRequests`) with roots, three or more names of environment variables with values in a message, a name under an internal suffix (`.internal`, `.local`, `.corp`, `.lan`, `.svc.cluster.local`…), or `traceparent` as a header or in `_meta`.",
        act: "Turn off roots and trace propagation in the client for this server. Look which tool asked for the environment or the host names, and whether its work needs them.",
        quiet: "`first_party: true` on the endpoint marks a server of your own organisation. Endpoints on private addresses with internal names are not third parties, and servers without a pin are not judged. Said once per client, server and kind.",
    },
};

/// Names that are in most environments.
const VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "SHELL",
    "LANG",
    "PWD",
    "HOSTNAME",
    "LOGNAME",
    "TERM",
    "TMPDIR",
    "USERPROFILE",
    "APPDATA",
    "COMPUTERNAME",
    "KUBERNETES_SERVICE_HOST",
    "AWS_REGION",
    "VIRTUAL_ENV",
    "NODE_ENV",
    "PYTHONPATH",
    "JAVA_HOME",
    "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR",
];
/// So many of them are an environment.
const MIN_VARIABLES: usize = 3;

/// Ends of names that mean something only inside one network.
const SUFFIXES: &[&str] = &[
    ".internal",
    ".local",
    ".corp",
    ".lan",
    ".intranet",
    ".localdomain",
    ".home.arpa",
    ".cluster.local",
];

static VARIABLE: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| AhoCorasick::new(VARIABLES).ok());
static SUFFIX: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(SUFFIXES)
        .ok()
});
/// Text of one message that is looked at, bytes.
const MAX_TEXT: usize = 256 << 10;

/// What was said of each client and server.
#[derive(Default)]
pub(super) struct OverCollection {
    said: Once<(ClientKey, ServerKey, &'static str)>,
}

impl Rule for OverCollection {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        let target = context.target;
        let Some(endpoint) = world.pins.endpoint(target.endpoint) else {
            return;
        };
        if message.direction != Way::ToServer || endpoint.first_party || !is_third_party(target) {
            return;
        }
        let text = message.params().or(message.result()).unwrap_or_default();
        let text = text.get(..text.len().min(MAX_TEXT)).unwrap_or_default();
        let mut sent: Vec<&'static str> = Vec::new();
        let carries = context
            .request
            .is_some_and(|r| r.headers.get("traceparent").is_some());
        if carries
            || (memchr::memmem::find(text, b"\"traceparent\"").is_some()
                && json::path(text, &["_meta", "traceparent"]).is_some())
        {
            sent.push("traceparent");
        }
        let answers_roots = message.kind == MessageKind::Response
            && memchr::memmem::find(text, b"\"roots\"").is_some()
            && result(message).is_some_and(|r| {
                r.get("roots")
                    .and_then(|r| r.as_array())
                    .is_some_and(|r| !r.is_empty())
            });
        let among_inputs = memchr::memmem::find(text, b"\"inputResponses\"").is_some()
            && memchr::memmem::find(text, b"\"roots\"").is_some()
            && memchr::memmem::find(text, b"file://").is_some();
        if answers_roots || among_inputs {
            sent.push("roots");
        }
        if variables(text) >= MIN_VARIABLES {
            sent.push("environment variables");
        }
        // Roots and addresses of the server itself are not news.
        if message.kind == MessageKind::Request && has_internal_name(text) {
            sent.push("internal host names");
        }
        let session = context.session;
        for what in sent {
            if !self
                .said
                .first((session.client.clone(), session.server.clone(), what))
            {
                continue;
            }
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} sends {what} to {}, which is not first party; turn it off in the client unless the server's work needs it",
                        agent(seen),
                        endpoint.name
                    ),
                )
                .at(target.endpoint)
                .expected([format!("no {what} to a third party")])
                .observed(what),
            );
        }
    }
}

/// A server that others run: not inside the own network, as far as name and address tell.
fn is_third_party(target: &Target) -> bool {
    let (host, ip) = (&target.origin.host, target.address.ip());
    let internal = host.parse::<std::net::IpAddr>().is_ok() || is_internal_name(host);
    let inside = ip.is_loopback() || (internal && local_kind(ip).is_some());
    !inside
}

/// Different names of environment variables that are followed by a value.
fn variables(text: &[u8]) -> usize {
    let Some(matcher) = VARIABLE.as_ref() else {
        return 0;
    };
    let word = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let mut found = 0u32;
    for hit in matcher.find_iter(text) {
        let before = hit.start().checked_sub(1).and_then(|i| text.get(i));
        let rest = text.get(hit.end()..).unwrap_or_default();
        // `PATH=…`, `"PATH":"…"`, and the latter inside a string.
        let value = rest.first() == Some(&b'=')
            || rest.starts_with(b"\":")
            || rest.starts_with(b"\": ")
            || rest.starts_with(b"\\\":");
        // `\nPATH=`: the letter belongs to an escape.
        let escaped =
            before == Some(&b'n') && hit.start().checked_sub(2).and_then(|i| text.get(i)) == Some(&b'\\');
        if value && (!word(before) || escaped) {
            found |= 1u32.checked_shl(hit.pattern().as_u32()).unwrap_or(0);
        }
    }
    found.count_ones() as usize
}

/// A host name with an internal suffix.
fn has_internal_name(text: &[u8]) -> bool {
    let Some(matcher) = SUFFIX.as_ref() else {
        return false;
    };
    matcher.find_iter(text).any(|hit| {
        let label = hit
            .start()
            .checked_sub(1)
            .and_then(|i| text.get(i))
            .is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = text.get(hit.end()..).unwrap_or_default();
        let ends = match rest.first() {
            // A file name or a method call goes on; a port, a path or a sentence's end does not.
            Some(b'.') => !rest.get(1).is_some_and(u8::is_ascii_alphanumeric),
            Some(b'(' | b'_' | b'-') => false,
            Some(b) => !b.is_ascii_alphanumeric(),
            None => true,
        };
        label && ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\n";

    fn calls(pins: &str, arguments: &str) -> Vec<String> {
        let json = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","arguments":{arguments}}}}}"#
        );
        let found = Bench::new(OverCollection::default(), pins).says(&json);
        found.into_iter().filter_map(|f| f.observed).collect()
    }

    const ENVIRONMENT: &str = r#"{"env":"HOME=/srv/a\nPATH=/bin\nUSER=a"}"#;
    const ROOTS: &str = r#"{"jsonrpc":"2.0","id":3,"result":{"roots":[{"uri":"file:///srv/project"}]}}"#;

    #[test]
    fn fires_on_each_kind_once() {
        assert_eq!(calls(PINS, ENVIRONMENT), ["environment variables"]);
        assert_eq!(
            calls(PINS, r#"{"e":{"HOME":"/x","PATH":"/y","LANG":"C"}}"#),
            ["environment variables"]
        );
        assert_eq!(
            calls(PINS, r#"{"url":"http://wiki.corp:8080/x"}"#),
            ["internal host names"]
        );
        let mut bench = Bench::new(OverCollection::default(), PINS);
        assert_eq!(bench.says(ROOTS)[0].observed.as_deref(), Some("roots"));
        assert!(bench.says(ROOTS).is_empty());
        bench.head = request("POST", "/mcp", &[("traceparent", "00-1-2-01")]);
        assert_eq!(bench.says(ROOTS)[0].observed.as_deref(), Some("traceparent"));
        let mut bench = Bench::new(OverCollection::default(), PINS);
        let meta = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"traceparent":"00-1-2-01"}}}"#;
        assert_eq!(bench.says(meta).len(), 1);
    }

    #[test]
    fn stays_silent_on_first_party_inside_and_unpinned_servers_and_on_ordinary_arguments() {
        let own = "endpoints: [{name: a, url: 'https://mcp.example/mcp', first_party: true}]\n";
        assert!(calls(own, ENVIRONMENT).is_empty());
        assert!(calls("", ENVIRONMENT).is_empty());
        for arguments in [
            r#"{"path":"~/.local/share/x","file":"settings.local.json","call":"a.local()"}"#,
            r#"{"text":"set PATH=/bin and HOME"}"#,
            r#"{"roots":[1,2]}"#,
        ] {
            assert!(calls(PINS, arguments).is_empty(), "{arguments}");
        }
        let inside = "endpoints: [{name: a, url: 'http://mcp.test.internal/mcp'}]\n";
        let mut bench = Bench::new(OverCollection::default(), inside);
        bench.server("http://mcp.test.internal/mcp", "10.77.0.1");
        assert!(bench.says(ROOTS).is_empty());
    }
}
