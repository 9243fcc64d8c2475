//! TD-09 server-identity-changed: serverInfo name or version changed, or version went back.

use super::mcp::{answers, result};
use super::prelude::*;
use crate::mcp::context::{Implementation, ServerKey};

const META: Meta = Meta {
    id: "TD-09",
    slug: "server-identity-changed",
    category: "definition",
    trigger: "serverInfo name or version changed, or version went back",
    silent_on: "version inside a pinned range",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "pin/base",
    taxonomy: Taxonomy {
        air_sec_026: &["update-poisoning", "third-party-server-compromise"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "The server calls itself something else than pinned or before, or its version changed or went back.",
        attacker: "Replaced the server behind an approved address, or rolled it back to a version with known holes; or an update went out that nobody here approved.",
        wire: "`serverInfo.name` or `.version` in the result of `initialize` (or `server/discover`) differs from `mcp.server`, or from what this server said last.",
        act: "Ask the owner for the change. Compare tools with TD-01 and TD-03, then renew the pin.",
        quiet: "Pin a range (`version: \">=4.2, <5\"`) so that updates inside it are silent.",
    },
};

/// What each server called itself last.
#[derive(Default)]
pub(super) struct ServerIdentityChanged {
    known: Remembered<ServerKey, Implementation>,
}

impl Rule for ServerIdentityChanged {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.known)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        if !answers(context, "initialize") && !answers(context, "server/discover") {
            return;
        }
        let Some(result) = result(message) else { return };
        let info = result
            .get("serverInfo")
            .or_else(|| result.get("_meta")?.get("io.modelcontextprotocol/serverInfo"));
        let text = |key| info?.get(key)?.as_str();
        let (Some(name), Some(version)) = (text("name"), text("version")) else {
            return;
        };
        let now = Implementation {
            name: name.into(),
            version: version.into(),
        };
        let before = self.known.insert(context.session.server.clone(), now);
        let index = context.target.endpoint;
        let (expected_name, expected_version) =
            match world.pins.endpoint(index).and_then(|e| e.mcp.server.as_ref()) {
                Some(pin) => (
                    pin.name.clone().filter(|pinned| pinned != name),
                    pin.version
                        .as_ref()
                        .filter(|pinned| !pinned.allows(version))
                        .map(ToString::to_string),
                ),
                None => match before {
                    Some(before) => (
                        Some(before.name.to_string()).filter(|known| known != name),
                        Some(before.version.to_string()).filter(|known| known != version),
                    ),
                    None => return,
                },
            };
        if expected_name.is_none() && expected_version.is_none() {
            return;
        }
        let expected = format!(
            "{} {}",
            shown(expected_name.as_deref().unwrap_or(name)),
            shown(expected_version.as_deref().unwrap_or(version))
        );
        let observed = format!("{} {}", shown(name), shown(version));
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} now calls itself {observed} instead of {expected}; ask the owner for the change and compare its tools",
                    label(world, index, &context.target.origin.host)
                ),
            )
            .at(index)
            .expected([expected])
            .observed(observed),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(bench: &mut Bench, name: &str, version: &str) -> Vec<Finding> {
        let json = format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"serverInfo":{{"name":"{name}","version":"{version}"}}}}}}"#
        );
        bench.answers(&json, Some("initialize"))
    }

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp', mcp: {server: {name: m, version: '>=4.2, <5'}}}]\n";

    #[test]
    fn fires_on_another_name_or_version() {
        let mut bench = Bench::new(ServerIdentityChanged::default(), PINS);
        assert_eq!(says(&mut bench, "m", "5.0.0")[0].expected, ["m >=4.2, <5"]);
        assert_eq!(says(&mut bench, "other", "4.3.0").len(), 1);
        let mut bench = Bench::new(ServerIdentityChanged::default(), "");
        assert!(says(&mut bench, "m", "2.0.0").is_empty());
        assert_eq!(
            says(&mut bench, "m", "1.0.0")[0].observed.as_deref(),
            Some("m 1.0.0")
        );
    }

    #[test]
    fn stays_silent_inside_a_pinned_range_and_on_the_same() {
        let mut bench = Bench::new(ServerIdentityChanged::default(), PINS);
        assert!(says(&mut bench, "m", "4.2.0").is_empty());
        assert!(says(&mut bench, "m", "4.9.1").is_empty());
        let mut bench = Bench::new(ServerIdentityChanged::default(), "");
        says(&mut bench, "m", "1.0.0");
        assert!(says(&mut bench, "m", "1.0.0").is_empty());
    }
}
