//! DG-07 forced-legacy-fallback: modern probe refused with a non-modern 4xx, then `initialize`, at a server seen modern.

use super::prelude::*;
use std::{net::IpAddr, time::Duration};

use crate::{
    mcp::{MessageKind, Revision, context::ServerKey},
    types::{PacketId, Timestamp},
};

const META: Meta = Meta {
    id: "DG-07",
    slug: "forced-legacy-fallback",
    category: "downgrade",
    trigger: "modern probe refused with a non-modern 4xx, then `initialize`, at a server seen modern",
    silent_on: "server never seen modern",
    severity: Severity::Critical,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message, Kind::Response],
    page: Page {
        means: "A server that speaks the modern protocol refused a modern request in a way it never would, and the client fell back to `initialize`: somebody forced the older protocol.",
        attacker: "Sits on the path and answers the probe with an empty 4xx. The session then lacks what 2026-07-28 gives: version and method in headers, no session ids.",
        wire: "A 4xx without a JSON-RPC error of 2026-07-28 to a request of that revision, then `initialize` from the same client within 30 seconds, at a server that answered modern requests before.",
        act: "Compare captures at both ends: the server will not have sent that 4xx. Treat the path as hostile; pin `min_protocol_version: \"2026-07-28\"` and configure the client for that revision only.",
        quiet: "A server never seen modern is silent, and so are 401, 403, 404, 408 and 429.",
    },
};

/// `initialize` later than this is not the refusal's.
const WITHIN: Duration = Duration::from_secs(30);

/// HeaderMismatch, MissingRequiredClientCapability, UnsupportedProtocolVersion.
const MODERN_ERRORS: std::ops::RangeInclusive<i64> = -32022..=-32020;

/// Servers seen modern, and refusals that may yet lead to `initialize`.
#[derive(Default)]
pub(super) struct ForcedLegacyFallback {
    modern: Remembered<ServerKey, ()>,
    refused: Bounded<(IpAddr, ServerKey), (Timestamp, PacketId, u16)>,
}

fn is_modern(version: Option<&str>) -> bool {
    version
        .and_then(Revision::parse)
        .is_some_and(|r| r.at_least(Revision::V2026_07_28))
}

impl Rule for ForcedLegacyFallback {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.modern)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let Some(flow) = seen.flow else { return };
        let client = flow.info.client.ip();
        match &seen.kind {
            SeenKind::Response {
                request: Some(request),
                head,
                target,
                ..
            } => {
                let odd =
                    (400..500).contains(&head.status) && !matches!(head.status, 401 | 403 | 404 | 408 | 429);
                if odd && is_modern(request.headers.get_str("mcp-protocol-version")) {
                    let refusal = (seen.at.time, seen.at.packet, head.status);
                    self.refused.insert((client, target.server_key()), refusal);
                }
            }
            SeenKind::Message { message, context } => {
                let key = context.target.server_key();
                let modern = is_modern(super::mcp::version_header(context));
                match message.kind {
                    MessageKind::Response if modern => {
                        self.modern.insert(key, ());
                    }
                    MessageKind::Error
                        if modern && message.error_code.is_some_and(|c| MODERN_ERRORS.contains(&c)) =>
                    {
                        self.refused.remove(&(client, key));
                    }
                    MessageKind::Request if message.is("initialize") => {
                        let Some((at, packet, status)) = self.refused.remove(&(client, key.clone())) else {
                            return;
                        };
                        if seen.at.time.since(at) > WITHIN || self.modern.get(&key).is_none() {
                            return;
                        }
                        let index = context.target.endpoint;
                        out.push(
                            Finding::new(
                                META.id,
                                format!(
                                    "{} was made to fall back from 2026-07-28 at {} by a bare {status}; compare captures at both ends, the path may be hostile",
                                    agent(seen),
                                    label(world, index, &context.target.origin.host)
                                ),
                            )
                            .at(index)
                            .expected([Revision::V2026_07_28])
                            .observed(format!("status {status}, then initialize"))
                            .shown_by(packet),
                        );
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    const INIT: &str = r#"{"jsonrpc":"2.0","id":2,"method":"initialize","params":{}}"#;

    fn falls_back(seen_modern: bool, status: u16, error: Option<&str>) -> usize {
        let mut bench = Bench::new(ForcedLegacyFallback::default(), "");
        bench.head = request("POST", "/mcp", &[("mcp-protocol-version", "2026-07-28")]);
        if seen_modern {
            bench.answers(RESULT, Some("tools/list"));
        }
        bench.response(&response(status, &[]), true);
        if let Some(error) = error {
            bench.answers(error, Some("server/discover"));
        }
        bench.head = request("POST", "/mcp", &[]);
        bench.says(INIT).len()
    }

    #[test]
    fn fires_on_a_bare_refusal_at_a_modern_server() {
        assert_eq!(falls_back(true, 400, None), 1);
        assert_eq!(
            falls_back(
                true,
                405,
                Some(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"x"}}"#)
            ),
            1
        );
    }

    #[test]
    fn stays_silent_on_legacy_servers_real_errors_and_authentication() {
        assert_eq!(falls_back(false, 400, None), 0);
        assert_eq!(
            falls_back(
                true,
                400,
                Some(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"x"}}"#)
            ),
            0
        );
        assert_eq!(falls_back(true, 401, None), 0);
        assert_eq!(falls_back(true, 200, None), 0);
    }
}
