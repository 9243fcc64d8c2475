//! PV-01 ambiguous-json: duplicate keys, keys equal but for case or Unicode folding.

use super::prelude::*;
use crate::types::AnomalyKind;

const META: Meta = Meta {
    id: "PV-01",
    slug: "ambiguous-json",
    category: "protocol",
    trigger: "duplicate keys, keys equal but for case or Unicode folding",
    silent_on: "same key in different objects",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &["MCP05"],
        atlas: &[],
    },
    listens: &[Kind::Anomaly],
    page: Page {
        means: "A message names one thing twice: a key stands twice in one object, or twice but for letter case. Readers differ in which of the two they take, so that a gateway, this monitor and the server may each have seen another call (CVE-2026-27896: a decoder that ignores case).",
        attacker: "Shows a filter the harmless value and the server the harmful one, for example `\"method\":\"ping\"` beside `\"Method\":\"tools/call\"`, or two `path` arguments.",
        wire: "`{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"ping\",\"Method\":\"tools/call\",\"params\":{…}}`. The alert says which key and in which object.",
        act: "Find who made the message: the agent's host if it went to the server, the server or somebody on the path if it came back. No ordinary JSON library writes such a message. Then look at what the server did with that request id.",
        quiet: "The same key in different objects is silent, and so are keys of free data (structured content, nested arguments) that differ by case alone. A client with a broken encoder: suppress the rule on the endpoint until it is repaired.",
    },
};

/// Has no memory: the parser found it.
#[derive(Default)]
pub(super) struct AmbiguousJson;

impl Rule for AmbiguousJson {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Anomaly(anomaly) = &seen.kind else {
            return;
        };
        if anomaly.kind != AnomalyKind::JsonDuplicateKey {
            return;
        }
        let index = seen.connection.and_then(|c| c.endpoint);
        let host = seen
            .connection
            .and_then(|c| c.server_name())
            .unwrap_or("a server");
        out.push(
            Finding::new(
                META.id,
                format!(
                    "a message between {} and {} has {}: two readers see two different messages; find who made it",
                    agent(seen),
                    label(world, index, host),
                    anomaly.detail
                ),
            )
            .at(index)
            .expected(["each key once in an object"])
            .observed(anomaly.detail.clone()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_on_what_the_parser_found() {
        let mut bench = Bench::new(AmbiguousJson, "");
        let found = bench.anomaly_with(
            AnomalyKind::JsonDuplicateKey,
            "\"path\" twice in params.arguments",
        );
        assert_eq!(
            found[0].observed.as_deref(),
            Some("\"path\" twice in params.arguments")
        );
    }

    /// That the same key in different objects is no anomaly: `mcp::ambiguity`.
    #[test]
    fn stays_silent_on_other_anomalies() {
        let mut bench = Bench::new(AmbiguousJson, "");
        assert!(bench.anomaly(AnomalyKind::JsonMalformed).is_empty());
        assert!(bench.anomaly(AnomalyKind::TcpGap).is_empty());
    }
}
