//! SS-02 session-shared: one session id from two clients or principals, or unchanged across initialize.

use super::prelude::*;
use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
};

use super::mcp::answers;
use crate::{
    baseline::{Principal, principal_of_request},
    mcp::context::ServerKey,
    types::{Direction as Way, PacketId},
};

const META: Meta = Meta {
    id: "SS-02",
    slug: "session-shared",
    category: "session",
    trigger: "one session id from two clients or principals, or unchanged across initialize",
    silent_on: "several connections of one client",
    severity: Severity::Critical,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting", "protocol-manipulation"],
        owasp_mcp: &["MCP07"],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "One session id is used by two clients, or was given to two sessions. Each can act, and read, in the name of the other.",
        attacker: "Stole or guessed a session id (from a cleartext connection, a log, a redirect) and speaks in the session.",
        wire: "The same session id at one server from two client addresses, or with tokens of two subjects; or the id of an earlier session in the answer to another `initialize`.",
        act: "End the session. Find the second client: its address is in the alert. Make the server bind sessions to the user.",
        quiet: "Several connections of one client are one client. Clients behind one proxy have one address.",
    },
};

struct Holder {
    client: IpAddr,
    principal: Option<Principal>,
    packet: PacketId,
    opened: bool,
}

/// Who holds each session, by a keyed hash of its id.
#[derive(Default)]
pub(super) struct SessionShared {
    holders: Bounded<(ServerKey, u64), Holder>,
    key: RandomState,
}

impl Rule for SessionShared {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        if seen.is_unlinked() {
            return;
        }
        let (SeenKind::Message { message, context }, Some(flow)) = (&seen.kind, seen.flow) else {
            return;
        };
        let opens = message.result.is_some() && answers(context, "initialize");
        let id = match (opens, message.direction) {
            (true, _) => context.response.and_then(|r| r.headers.get("mcp-session-id")),
            (false, Way::ToServer) => context.request.and_then(|r| r.headers.get("mcp-session-id")),
            _ => None,
        };
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            return;
        };
        let key = (context.session.server.clone(), self.key.hash_one(id));
        let client = flow.info.client.ip();
        let principal = context.request.map(principal_of_request).filter(|p| p.stable);
        let Some(holder) = self.holders.get_mut(&key) else {
            let holder = Holder {
                client,
                principal,
                packet: seen.at.packet,
                opened: opens,
            };
            self.holders.insert(key, holder);
            return;
        };
        let observed = if holder.client != client {
            format!("used by {} and {client}", holder.client)
        } else if holder.principal.is_some() && principal.is_some() && holder.principal != principal {
            "used with tokens of two subjects".to_owned()
        } else if opens && holder.opened {
            "given to two sessions".to_owned()
        } else {
            holder.opened |= opens;
            holder.principal = holder.principal.or(principal);
            return;
        };
        let packet = holder.packet;
        let index = context.target.endpoint;
        out.push(
            Finding::new(
                META.id,
                format!(
                    "one session id of {} was {observed}; end the session and find the second client",
                    label(world, index, &context.target.origin.host)
                ),
            )
            .at(index)
            .expected(["one client per session"])
            .observed(observed)
            .shown_by(packet),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

    fn bench() -> Bench {
        let mut bench = Bench::new(SessionShared::default(), "");
        bench.head = request("POST", "/mcp", &[("mcp-session-id", "abc")]);
        bench.reply = response(200, &[("mcp-session-id", "abc")]);
        bench
    }

    fn from(bench: &mut Bench, client: &str) {
        let server = bench.flow.info.server;
        bench.reflow(client.parse().unwrap(), server, crate::types::Transport::Tcp);
    }

    #[test]
    fn fires_on_two_clients_two_subjects_and_two_sessions() {
        let mut b = bench();
        b.says(PING);
        from(&mut b, "10.1.0.66:5000");
        assert_eq!(
            b.says(PING)[0].observed.as_deref(),
            Some("used by 10.1.0.5 and 10.1.0.66")
        );
        let mut b = bench();
        let as_user = |sub: &str| {
            let bearer = format!("Bearer {}", jwt("{}", &format!(r#"{{"sub":"{sub}"}}"#)));
            request(
                "POST",
                "/mcp",
                &[("mcp-session-id", "abc"), ("authorization", &bearer)],
            )
        };
        b.head = as_user("ann");
        b.says(PING);
        b.head = as_user("bob");
        assert_eq!(b.says(PING).len(), 1);
        let mut b = bench();
        b.head = request("POST", "/mcp", &[]);
        assert!(b.answers(RESULT, Some("initialize")).is_empty());
        assert_eq!(
            b.answers(RESULT, Some("initialize"))[0].observed.as_deref(),
            Some("given to two sessions")
        );
    }

    #[test]
    fn stays_silent_on_several_connections_of_one_client() {
        let mut b = bench();
        b.answers(RESULT, Some("initialize"));
        assert!(b.says(PING).is_empty());
        from(&mut b, "10.1.0.5:5001");
        assert!(b.says(PING).is_empty());
        // On a connection whose ends are not known.
        from(&mut b, "0.0.0.0:0");
        b.unlink();
        assert!(b.says(PING).is_empty());
        b.reply = response(200, &[("mcp-session-id", "def")]);
        assert!(b.answers(RESULT, Some("initialize")).is_empty());
    }
}
