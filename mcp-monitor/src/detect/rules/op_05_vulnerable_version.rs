//! OP-05 vulnerable-version: serverInfo or User-Agent matches a loaded advisory.

use super::prelude::*;

use super::mcp::answers;
use crate::config::data::Advisory;

const META: Meta = Meta {
    id: "OP-05",
    slug: "vulnerable-version",
    category: "operations",
    trigger: "serverInfo or User-Agent matches a loaded advisory",
    silent_on: "fixed versions",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "policy",
    taxonomy: Taxonomy {
        air_sec_026: &["update-controls"],
        owasp_mcp: &["MCP04"],
        atlas: &[],
    },
    listens: &[Kind::Message, Kind::Request],
    page: Page {
        means: "A server says in `serverInfo`, or a client in `User-Agent`, that it is a package and version with a published vulnerability, according to the advisories that the pins file names.",
        attacker: "Reads the same advisory, looks for hosts that still run such a version, and uses what is described there.",
        wire: "`\"serverInfo\":{\"name\":\"weather-mcp\",\"version\":\"1.4.0\"}` in the answer to `initialize` or `server/discover`; `User-Agent: mcp-remote/0.1.5`. The name must be that of the package in the advisory (case, `_` and `-` aside).",
        act: "Read the advisory and update to the fixed version (in the alert, where the advisory names one). Until then look at alerts on the same endpoint for signs that it was used.",
        quiet: "Fixed and withdrawn ones are silent, and so are names that no advisory has. A version with a backported fix: list `name@version` under `rules: {OP-05: {allow: [\"weather-mcp@1.4.0\"]}}`. Without `advisories` in the pins file the rule has no data; `mcp-monitor check` says so.",
    },
};

/// User agents that were looked up already.
#[derive(Default)]
pub(super) struct VulnerableVersion {
    agents: Once<Box<str>>,
}

/// Longest `User-Agent` looked at.
const MAX_AGENT: usize = 512;

impl Rule for VulnerableVersion {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let advisories = &world.pins.known_vulnerable;
        if advisories.is_empty() {
            return;
        }
        match &seen.kind {
            SeenKind::Message { message, context }
                if message.result.is_some()
                    && (answers(context, "initialize") || answers(context, "server/discover")) =>
            {
                let Some(info) = &context.session.server_info else {
                    return;
                };
                let index = context.target.endpoint;
                let server = label(world, index, &context.target.origin.host);
                for advisory in advisories.matching(&info.name, &info.version) {
                    if let Some(finding) =
                        finding(world, index, &server, (&info.name, &info.version), &advisory)
                    {
                        out.push(finding);
                    }
                }
            }
            SeenKind::Request {
                head,
                target,
                mcp: true,
                ..
            } => {
                let text = head
                    .headers
                    .get_str("user-agent")
                    .filter(|t| t.len() <= MAX_AGENT);
                let Some(text) = text else { return };
                // What matched is said each time: another client may use the same.
                if self.agents.peek(text).is_some() {
                    return;
                }
                let mut clean = true;
                for (name, version) in text.split(' ').filter_map(|token| token.split_once('/')) {
                    for advisory in advisories.matching(name, version) {
                        clean = false;
                        let who = format!("the client {}", agent(seen));
                        out.extend(finding(world, target.endpoint, &who, (name, version), &advisory));
                    }
                }
                if clean {
                    self.agents.first(text.into());
                }
            }
            _ => {}
        }
    }
}

fn finding(
    world: &World<'_>,
    index: Option<crate::mcp::context::EndpointIndex>,
    who: &str,
    (name, version): (&str, &str),
    advisory: &Advisory,
) -> Option<Finding> {
    if world.pins.accepts(META.id, index, &format!("{name}@{version}")) {
        return None;
    }
    let id = match &advisory.cve {
        Some(cve) => format!("{} ({})", shown(&advisory.id), shown(cve)),
        None => shown(&advisory.id),
    };
    let about = advisory
        .summary
        .as_deref()
        .map(|s| format!(": {}", shown(s)))
        .unwrap_or_default();
    let (expected, update) = match &advisory.fixed {
        Some(fixed) => (
            vec![format!("{} or newer", shown(fixed))],
            format!("update to {}", shown(fixed)),
        ),
        None => (
            Vec::new(),
            "no fixed version is named; take it out of use".to_owned(),
        ),
    };
    let (name, version) = (shown(name), shown(version));
    Some(
        Finding::new(
            META.id,
            format!("{who} runs {name} {version}, which {id} affects{about}; {update}"),
        )
        .at(index)
        .expected(expected)
        .observed(format!("{name} {version}, {id}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::pins::Pins, mcp::context::Implementation};

    const OSV: &str = r#"{"id":"GHSA-aaaa-bbbb-cccc","aliases":["CVE-2025-0001"],"summary":"command injection","affected":[{"package":{"ecosystem":"npm","name":"weather-mcp"},"ranges":[{"type":"SEMVER","events":[{"introduced":"1.0.0"},{"fixed":"1.4.2"}]}]}]}"#;

    fn bench(more: &str) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.json"), OSV).unwrap();
        let pins = dir.path().join("pins.yaml");
        std::fs::write(&pins, format!("version: 1\nadvisories: [a.json]\n{more}")).unwrap();
        let mut bench = Bench::new(VulnerableVersion::default(), "");
        bench.set_pins(Pins::load(&pins).unwrap());
        bench
    }

    fn server(bench: &mut Bench, name: &str, version: &str) -> Vec<Finding> {
        bench.session.server_info = Some(std::sync::Arc::new(Implementation {
            name: name.into(),
            version: version.into(),
        }));
        bench.answers(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Some("initialize"))
    }

    #[test]
    fn fires_on_servers_and_clients() {
        let found = server(&mut bench(""), "Weather_MCP", "1.4.1");
        assert_eq!(
            found[0].observed.as_deref(),
            Some("Weather_MCP 1.4.1, GHSA-aaaa-bbbb-cccc (CVE-2025-0001)")
        );
        assert_eq!(found[0].expected, ["1.4.2 or newer"]);
        let head = request(
            "POST",
            "/mcp",
            &[("User-Agent", "node/24.1.0 weather-mcp/1.0.0 (linux)")],
        );
        let mut b = bench("");
        assert_eq!(b.request(&head, true).len(), 1);
        assert_eq!(b.request(&head, true).len(), 1, "it still does");
    }

    #[test]
    fn stays_silent_on_fixed_versions_other_names_and_without_data() {
        let mut b = bench("rules: {OP-05: {allow: ['weather-mcp@1.3.0']}}\n");
        for (name, version) in [
            ("weather-mcp", "1.4.2"),
            ("weather", "1.4.1"),
            ("weather-mcp", "1.3.0"),
            ("weather-mcp", "dev"),
        ] {
            assert!(server(&mut b, name, version).is_empty(), "{name} {version}");
        }
        let head = request("POST", "/mcp", &[("User-Agent", "weather-mcp/2.0.0")]);
        assert!(b.request(&head, true).is_empty() && b.request(&head, false).is_empty());
        assert!(
            server(
                &mut Bench::new(VulnerableVersion::default(), ""),
                "weather-mcp",
                "1.0.0"
            )
            .is_empty()
        );
    }
}
