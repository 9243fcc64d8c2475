//! PV-07 parser-attack: CL/TE ambiguity, obs-fold, depth bomb, oversize, inflate bomb, invalid UTF-8.

use super::prelude::*;
use crate::{flow::FlowId, types::AnomalyKind};

const META: Meta = Meta {
    id: "PV-07",
    slug: "parser-attack",
    category: "protocol",
    trigger: "CL/TE ambiguity, obs-fold, depth bomb, oversize, inflate bomb, invalid UTF-8",
    silent_on: "large honest results",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &["MCP05"],
        atlas: &["AML.T0029"],
    },
    listens: &[Kind::Anomaly, Kind::Message, Kind::Close],
    page: Page {
        means: "Something on an MCP connection is made to break or to mislead a parser: a message length that two readers see differently, nesting beyond reason, a small body that inflates to a huge one, a message above the limit, or text that is no UTF-8.",
        attacker: "Smuggles a second request past a proxy (Content-Length beside Transfer-Encoding, a folded header), or takes down an agent, a server or a monitor with one message.",
        wire: "`Content-Length` and `Transfer-Encoding: chunked` on one message, a header line that begins with a space, JSON deeper than 128 levels, more than 16 MiB in one message, a coded body above the inflate limit, bytes that are no UTF-8.",
        act: "Find out which side made it. For an ambiguous length look at the bytes after that message on the connection: that is where a smuggled request stands. What was above a limit has not been looked at by any other rule.",
        quiet: "Large results below the limits are silent, and so are other protocols on other connections. For a server whose honest results are above them raise `message_bytes` in the configuration.",
    },
};

/// What each connection had before it was known to be MCP, and what has been said.
#[derive(Default)]
pub(super) struct ParserAttack {
    early: Bounded<FlowId, Vec<(&'static str, String)>>,
    said: Once<(FlowId, &'static str)>,
}

/// Kinds kept of one connection that is not known to be MCP yet.
const MAX_EARLY: usize = 8;

impl Rule for ParserAttack {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (Some(flow), Some(connection)) = (seen.flow, seen.connection) else {
            return;
        };
        let id = flow.info.id;
        let concerns = connection.mcp || connection.endpoint.is_some();
        match &seen.kind {
            SeenKind::Anomaly(anomaly) => {
                let Some(what) = attack(anomaly.kind) else { return };
                if concerns {
                    self.say(seen, world, what, &anomaly.detail, out);
                    return;
                }
                let mut early = self.early.remove(&id).unwrap_or_default();
                if early.len() < MAX_EARLY {
                    early.push((what, anomaly.detail.clone()));
                }
                self.early.insert(id, early);
            }
            SeenKind::Message { .. } => {
                for (what, detail) in self.early.remove(&id).unwrap_or_default() {
                    self.say(seen, world, what, &detail, out);
                }
            }
            SeenKind::Close(_) => {
                self.early.remove(&id);
            }
            _ => {}
        }
    }
}

fn attack(kind: AnomalyKind) -> Option<&'static str> {
    Some(match kind {
        AnomalyKind::HttpAmbiguous => "a message length or header that two readers see differently",
        AnomalyKind::JsonDepth => "JSON nested too deep",
        AnomalyKind::BodyLimit | AnomalyKind::SseLimit => "a message above the limit",
        AnomalyKind::HttpHeadLimit => "an HTTP head above the limit",
        AnomalyKind::InflateLimit => "a body that inflates above the limit",
        AnomalyKind::InvalidUtf8 => "JSON that is no UTF-8",
        _ => return None,
    })
}

impl ParserAttack {
    fn say(
        &mut self,
        seen: &Seen<'_>,
        world: &World<'_>,
        what: &'static str,
        detail: &str,
        out: &mut Vec<Finding>,
    ) {
        let (Some(flow), Some(connection)) = (seen.flow, seen.connection) else {
            return;
        };
        if !self.said.first((flow.info.id, what)) {
            return;
        }
        let index = connection.endpoint;
        let address = flow.info.server.ip().to_string();
        let server = connection.server_name().unwrap_or(&address);
        let remark = if detail.is_empty() {
            String::new()
        } else {
            format!(" ({})", shown(detail))
        };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "on a connection of {} with {}: {what}{remark}; find out which side made it and what follows it",
                    agent(seen),
                    label(world, index, server)
                ),
            )
            .at(index)
            .observed(what),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: &[AnomalyKind] = &[
        AnomalyKind::HttpAmbiguous,
        AnomalyKind::JsonDepth,
        AnomalyKind::BodyLimit,
        AnomalyKind::InflateLimit,
        AnomalyKind::InvalidUtf8,
    ];

    #[test]
    fn fires_once_per_connection_and_kind() {
        let mut bench = Bench::new(ParserAttack::default(), "");
        for kind in KINDS {
            assert_eq!(bench.anomaly(*kind).len(), 1, "{kind:?}");
            assert!(bench.anomaly(*kind).is_empty());
        }
    }

    #[test]
    fn waits_for_proof_that_it_is_mcp() {
        let mut bench = Bench::new(ParserAttack::default(), "");
        bench.connection.mcp = false;
        assert!(bench.anomaly(AnomalyKind::HttpAmbiguous).is_empty());
        bench.connection.mcp = true;
        assert_eq!(bench.says(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).len(), 1);
    }

    #[test]
    fn stays_silent_on_loss_and_on_other_protocols() {
        let mut bench = Bench::new(ParserAttack::default(), "");
        assert!(bench.anomaly(AnomalyKind::TcpGap).is_empty());
        assert!(bench.anomaly(AnomalyKind::HttpUnpaired).is_empty());
        bench.connection.mcp = false;
        bench.anomaly(AnomalyKind::HttpAmbiguous);
        assert!(bench.close().is_empty());
    }
}
