//! TD-02 silent-change: changed without `list_changed`, or before its ttl.

use super::prelude::*;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    baseline::{Audience, KnownLists, ToolList},
    flow::FlowId,
    mcp::{
        MessageKind, TransportKind,
        context::{ClientKey, ServerKey, Session},
    },
    types::Timestamp,
};

const META: Meta = Meta {
    id: "TD-02",
    slug: "silent-change",
    category: "definition",
    trigger: "changed without `list_changed`, or before its ttl",
    silent_on: "client that never subscribed",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["update-poisoning"],
        owasp_mcp: &["MCP03"],
        atlas: &["AML.T0109"],
    },
    listens: &[Kind::Message, Kind::Response, Kind::Close],
    page: Page {
        means: "A server's tools changed in the middle of a session and the server did not say so, although the client was listening; or they changed while the server had promised that they would not. What was approved at the start of the session is not what is called now.",
        attacker: "Shows harmless definitions while somebody looks and swaps them later, without the notification that would make clients ask for approval again (rug pull).",
        wire: "Two complete `tools/list` results in one session with different definitions and no `notifications/tools/list_changed` in between, while the client had a stream open for it from the first of them on (GET stream, HTTP+SSE, or `subscriptions/listen`); or a list that differs from one whose `ttlMs` had not run out, for the same kind of client and the same credential.",
        act: "Compare both definitions (TD-01 and TD-03 name the tools). A server under development may do this; one in production should not: ask its owner.",
        quiet: "A client that had no stream open, or opened it after the first list, cannot be told of every change, so its lists are only held against `ttlMs`. Sessions with lost bytes are silent, because the notification may have been in them.",
    },
};

type Listener = (ServerKey, ClientKey, Option<Arc<str>>);
type Hashes = BTreeMap<Arc<str>, [u8; 32]>;

/// What one session knows.
#[derive(Clone, Default)]
struct Known {
    /// With when they were listed.
    tools: Option<(Arc<Hashes>, Timestamp)>,
    announced: bool,
    /// Since when notifications reach it by `subscriptions/listen`.
    subscribed: Option<Timestamp>,
}

/// A list that was promised to hold.
#[derive(Clone)]
struct Promised {
    tools: Arc<Hashes>,
    until: Timestamp,
}

/// What each session was given, and what was promised to each audience.
#[derive(Default)]
pub(super) struct SilentChange {
    sessions: Bounded<Listener, Known>,
    promised: Bounded<Audience, Promised>,
    /// The hashes of each list.
    lists: KnownLists<Arc<Hashes>>,
    /// Sessions with an open stream from the server, and since when.
    streaming: Bounded<(ServerKey, Arc<str>), Timestamp>,
    /// The session whose stream a connection carries.
    carries: Bounded<FlowId, (ServerKey, Arc<str>)>,
}

impl Rule for SilentChange {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (message, context) = match &seen.kind {
            SeenKind::Response {
                request: Some(request),
                head,
                target,
                mcp: true,
                ..
            } => {
                let stream = request.method == "GET"
                    && head.status == 200
                    && head.headers.media_type().as_deref() == Some("text/event-stream");
                if let (Some(id), Some(flow)) = (
                    request.headers.get_str("mcp-session-id").filter(|_| stream),
                    seen.flow,
                ) {
                    let key: (ServerKey, Arc<str>) = (target.server_key(), id.into());
                    self.carries.insert(flow.info.id, key.clone());
                    if self.streaming.get_mut(&key).is_none() {
                        self.streaming.insert(key, seen.at.time);
                    }
                }
                return;
            }
            SeenKind::Close(_) => {
                if let Some(key) = seen.flow.and_then(|flow| self.carries.remove(&flow.info.id)) {
                    self.streaming.remove(&key);
                }
                return;
            }
            SeenKind::Message { message, context } => (message, context),
            _ => return,
        };
        let session = context.session;
        if message.is("notifications/tools/list_changed") {
            let mut known = self.sessions.remove(&listener(session)).unwrap_or_default();
            known.announced = true;
            self.sessions.insert(listener(session), known);
            return;
        }
        if message.kind == MessageKind::Request && message.is("subscriptions/listen") {
            let mut known = self.sessions.remove(&listener(session)).unwrap_or_default();
            known.subscribed.get_or_insert(seen.at.time);
            self.sessions.insert(listener(session), known);
            return;
        }
        let Some(list) = world.tools else { return };
        let now = self.lists.get(list, || {
            Arc::new(
                list.tools
                    .iter()
                    .map(|t| (Arc::clone(&t.name), t.hash))
                    .collect::<Hashes>(),
            )
        });
        let mut known = self.sessions.remove(&listener(session)).unwrap_or_default();
        let stream = session.id.as_ref().and_then(|id| {
            self.streaming
                .peek(&(session.server.clone(), Arc::clone(id)))
                .copied()
        });
        let legacy = (session.transport == Some(TransportKind::HttpSse)).then_some(session.start);
        let listens = [known.subscribed, stream, legacy].into_iter().flatten().min();
        let before = known.tools.replace((Arc::clone(&now), seen.at.time));
        let announced = std::mem::take(&mut known.announced);
        // A stream that opened after the first list may have missed what changed before it.
        let told = |listed: Timestamp| listens.is_some_and(|since| since <= listed);
        let unsaid = before
            .filter(|(tools, listed)| {
                told(*listed) && !announced && !session.lossy && !Arc::ptr_eq(tools, &now) && **tools != *now
            })
            .map(|(tools, _)| tools);
        self.sessions.insert(listener(session), known);
        let early = self.promise(seen.at.time, list, &now);
        let (what, before) = match (unsaid, early.filter(|_| !announced)) {
            (Some(before), _) => ("without notifications/tools/list_changed", before),
            (None, Some(before)) => ("before their ttlMs ran out", before),
            (None, None) => return,
        };
        let index = context.target.endpoint;
        let changed = changes(&before, &now);
        out.push(
            Finding::new(
                META.id,
                format!(
                    "the tools of {} changed {what} ({changed}); compare both definitions and ask its owner",
                    label(world, index, &context.target.origin.host)
                ),
            )
            .at(index)
            .expected(["the same tools, or a notification"])
            .observed(format!("{changed}, {what}")),
        );
    }
}

impl SilentChange {
    /// Notes how long the list holds; the list before if it should still hold and does not.
    fn promise(&mut self, now: Timestamp, list: &ToolList, tools: &Arc<Hashes>) -> Option<Arc<Hashes>> {
        let (server, era, capabilities, _) = list.audience();
        let key = (server, era, capabilities, list.principal);
        let before = self
            .promised
            .remove(&key)
            .filter(|p| now < p.until && !Arc::ptr_eq(&p.tools, tools) && *p.tools != **tools)
            .map(|p| p.tools);
        if let Some(ms) = list.ttl.filter(|ms| *ms > 0) {
            let promised = Promised {
                tools: Arc::clone(tools),
                until: now.saturating_add(Duration::from_millis(ms)),
            };
            self.promised.insert(key, promised);
        }
        before
    }
}

fn listener(session: &Session) -> Listener {
    (session.server.clone(), session.client.clone(), session.id.clone())
}

/// The tools that differ, at most four by name.
fn changes(before: &Hashes, now: &Hashes) -> String {
    let mut names: Vec<&Arc<str>> = now
        .iter()
        .filter(|(name, hash)| before.get(*name) != Some(hash))
        .map(|(name, _)| name)
        .collect();
    names.extend(before.keys().filter(|name| !now.contains_key(*name)));
    let mut text = names
        .iter()
        .take(4)
        .map(|n| shown(n))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > 4 {
        text.push_str(&format!(" and {} more", names.len().saturating_sub(4)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = r#"[{"name":"t","description":"adds"}]"#;
    const B: &str = r#"[{"name":"t","description":"adds, then mails"}]"#;

    fn streams(bench: &mut Bench) {
        let id = bench.session.id.clone().unwrap();
        let get = request("GET", "/mcp", &[("Mcp-Session-Id", &id)]);
        bench.request(&get, true);
        bench.response(&response(200, &[("Content-Type", "text/event-stream")]), true);
    }

    #[test]
    fn fires_on_a_change_that_a_listening_client_was_not_told() {
        let mut bench = Bench::new(SilentChange::default(), "");
        streams(&mut bench);
        assert!(bench.lists_tools(A).is_empty() && bench.lists_tools(A).is_empty());
        let found = bench.lists_tools(B);
        assert_eq!(
            found[0].observed.as_deref(),
            Some("t, without notifications/tools/list_changed")
        );
        let mut bench = Bench::new(SilentChange::default(), "");
        bench.session.transport = Some(TransportKind::HttpSse);
        bench.lists_tools(A);
        assert_eq!(bench.lists_tools("[]").len(), 1);
    }

    #[test]
    fn fires_before_the_ttl() {
        let lists = |bench: &mut Bench, tools: &str| {
            bench.says(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#);
            let answer = format!(r#"{{"jsonrpc":"2.0","id":2,"result":{{"ttlMs":60000,"tools":{tools}}}}}"#);
            bench.answers(&answer, Some("tools/list")).len()
        };
        let mut bench = Bench::new(SilentChange::default(), "");
        assert_eq!(lists(&mut bench, A), 0);
        bench.session.id = Some("another-session-of-the-client".into());
        bench.wait(Duration::from_secs(30));
        assert_eq!(lists(&mut bench, B), 1);
        bench.wait(Duration::from_secs(61));
        assert_eq!(lists(&mut bench, A), 0);
    }

    #[test]
    fn stays_silent_without_a_subscription_after_a_notification_and_in_another_session() {
        let mut bench = Bench::new(SilentChange::default(), "");
        bench.lists_tools(A);
        assert!(bench.lists_tools(B).is_empty());
        let mut bench = Bench::new(SilentChange::default(), "");
        bench.lists_tools(A);
        streams(&mut bench);
        assert!(bench.lists_tools(B).is_empty(), "the stream opened too late");
        assert_eq!(bench.lists_tools(A).len(), 1, "now it was open");
        bench.close();
        assert!(bench.lists_tools(B).is_empty(), "the stream is gone");
        let mut bench = Bench::new(SilentChange::default(), "");
        streams(&mut bench);
        bench.lists_tools(A);
        bench.answers(
            r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
            None,
        );
        assert!(bench.lists_tools(B).is_empty());
        bench.session.id = Some("next".into());
        streams(&mut bench);
        assert!(bench.lists_tools(A).is_empty());
        bench.session.lossy = true;
        assert!(bench.lists_tools(B).is_empty());
    }
}
