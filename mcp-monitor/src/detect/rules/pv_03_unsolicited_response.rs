//! PV-03 unsolicited-response: response to an id never asked, asked twice, or another client's.

use super::prelude::*;
use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{
    flow::FlowId,
    mcp::{
        Message, MessageKind, RequestId,
        context::{MessageContext, ServerKey},
    },
    types::{AnomalyKind, At, Direction as Way},
};

const META: Meta = Meta {
    id: "PV-03",
    slug: "unsolicited-response",
    category: "protocol",
    trigger: "response to an id never asked, asked twice, or another client's",
    silent_on: "capture loss",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &["MCP07"],
        atlas: &[],
    },
    listens: &[Kind::Message, Kind::Anomaly, Kind::Close, Kind::Tick],
    page: Page {
        means: "A response answers nothing: its id was never asked in this session, was answered already, or was asked by another client of the server. The last is how servers leak one user's data to another (CVE-2026-25536: one transport reused for several clients).",
        attacker: "Injects an answer into a session, or reads the answers of others through a server that mixes its clients up.",
        wire: "`{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{…}}` on a stream where no request with id 9 is open.",
        act: "If the alert says another client's: treat the content as disclosed, and take the server out of use until it keeps one transport per client. Else compare the response's packets (time to live, sender) with those around it.",
        quiet: "Silent where bytes were lost on any connection of the session (which can take half a second to show, so the alert waits for one), where the capture began after the session, where a stream resumes with `Last-Event-ID`, and on errors without a usable id.",
    },
};

/// What is known of one session's transactions.
#[derive(Clone, Debug, Default)]
struct Link {
    /// Its handshake was seen.
    whole: bool,
    /// Some request and its response found each other.
    matched: bool,
    /// Bytes are missing on one of its connections.
    blind: bool,
    answered: VecDeque<(Way, RequestId)>,
}

/// Answered ids remembered per session.
const MAX_ANSWERED: usize = 64;

/// A session: by its id, else by its connection.
type Key = (ServerKey, Option<Arc<str>>, Option<FlowId>);

/// A response that answers nothing seen so far. Its request may be in a hole that nothing proves yet: a
/// packet that the capture is only late with looks the same.
#[derive(Debug)]
struct Suspect {
    at: At,
    flow: FlowId,
    key: Key,
    finding: Finding,
}

/// How long a hole can take to be known as one, with room to spare: see `FlowLimits::wait_acknowledged`.
const PROVEN: Duration = Duration::from_secs(1);
/// How long a suspicion waits for an event of its connection, which says whose it is.
const UNDATED: Duration = Duration::from_secs(5);
/// Suspicions that wait; further ones are said at once.
const MAX_SUSPECTS: usize = 256;

/// Transactions of sessions, and who asked which id lately.
#[derive(Default)]
pub(super) struct UnsolicitedResponse {
    links: Bounded<Key, Link>,
    asked: Bounded<(ServerKey, RequestId), Key>,
    /// Connections on which a request may have gone unseen.
    blind: Once<FlowId>,
    /// The session that a connection spoke for last.
    spoke: Bounded<FlowId, Key>,
    suspects: VecDeque<Suspect>,
}

impl Rule for UnsolicitedResponse {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let flow = seen.flow.map(|flow| flow.info.id);
        let (message, context) = match &seen.kind {
            SeenKind::Message { message, context } => (*message, context),
            SeenKind::Anomaly(anomaly) => {
                // Of one byte said twice, nothing is hidden.
                if !matches!(
                    anomaly.kind,
                    AnomalyKind::JsonDuplicateKey | AnomalyKind::InvalidUtf8 | AnomalyKind::HttpAmbiguous
                ) && let Some(flow) = flow
                {
                    self.went_blind(flow);
                }
                return;
            }
            // What was missing on it is known by now.
            SeenKind::Close(_) => return self.judge(seen, |s| Some(s.flow) == flow, out),
            _ => return self.judge(seen, |s| s.waited(seen.at, UNDATED), out),
        };
        self.judge(seen, |s| Some(s.flow) == flow && s.waited(seen.at, PROVEN), out);
        self.message(seen, message, context, world, out);
    }
}

impl Suspect {
    fn waited(&self, now: At, long: Duration) -> bool {
        now.time.since(self.at.time) >= long
    }
}

impl UnsolicitedResponse {
    fn message(
        &mut self,
        seen: &Seen<'_>,
        message: &Message,
        context: &MessageContext<'_>,
        world: &World<'_>,
        out: &mut Vec<Finding>,
    ) {
        let (Some(flow), Some(id)) = (seen.flow, &message.id) else {
            return;
        };
        let session = context.session;
        let unnamed = session.id.is_none().then_some(flow.info.id);
        let key: Key = (session.server.clone(), session.id.clone(), unnamed);
        if self.spoke.peek(&flow.info.id) != Some(&key) {
            self.spoke.insert(flow.info.id, key.clone());
        }
        if message.kind == MessageKind::Request {
            if message.direction == Way::ToServer {
                self.asked.insert((session.server.clone(), id.clone()), key);
            }
            return;
        }
        if let Some(answered) = context.answers {
            self.matched(key, message.direction, id, &answered.method);
            return;
        }
        let lossy = session.lossy || flow.lost_bytes > 0 || !flow.info.from_start;
        if lossy || self.blind.peek(&flow.info.id).is_some() || !speaks(message, context) {
            return;
        }
        let Some(link) = self.links.peek(&key) else { return };
        if !link.matched || link.blind || !(link.whole || unnamed.is_some()) {
            return;
        }
        let again = link.answered.contains(&(message.direction, id.clone()));
        let what = if again {
            "answered already"
        } else if message.direction == Way::ToClient
            && self
                .asked
                .peek(&(session.server.clone(), id.clone()))
                .is_some_and(|other| *other != key)
        {
            "asked by another client"
        } else {
            "never asked"
        };
        let index = context.target.endpoint;
        let name = label(world, index, &context.target.origin.host);
        let (from, to) = match message.direction {
            Way::ToClient => (name, agent(seen)),
            Way::ToServer => (agent(seen), name),
        };
        let id = shown(&id.to_string());
        let finding = Finding::new(
            META.id,
            format!("{from} sent {to} a response to id {id}, which was {what}; look at what it holds and whom it was meant for"),
        )
        .at(index)
        .expected(["responses to open requests of this session"])
        .observed(format!("response to an id {what}"));
        // What was answered already, no lost request explains.
        if again || self.suspects.len() >= MAX_SUSPECTS {
            out.push(finding);
            return;
        }
        self.suspects.push_back(Suspect {
            at: seen.at,
            flow: flow.info.id,
            key,
            finding,
        });
    }

    /// Bytes are missing on this connection, and so from the session it spoke for.
    fn went_blind(&mut self, flow: FlowId) {
        self.blind.first(flow);
        if let Some(link) = self.spoke.peek(&flow).and_then(|key| self.links.get_mut(key)) {
            link.blind = true;
        }
    }

    /// Says the suspicions that are `due`, or lets them go.
    fn judge(&mut self, seen: &Seen<'_>, due: impl Fn(&Suspect) -> bool, out: &mut Vec<Finding>) {
        if self.suspects.is_empty() {
            return;
        }
        for suspect in std::mem::take(&mut self.suspects) {
            let blind = self.blind.peek(&suspect.flow).is_some()
                || self.links.peek(&suspect.key).is_none_or(|link| link.blind);
            if blind {
                continue;
            }
            if !due(&suspect) {
                self.suspects.push_back(suspect);
            } else if suspect.at.packet == seen.at.packet {
                out.push(suspect.finding);
            } else {
                out.push(suspect.finding.shown_by(suspect.at.packet));
            }
        }
    }
}

impl UnsolicitedResponse {
    fn matched(&mut self, key: Key, direction: Way, id: &RequestId, method: &str) {
        if self.links.peek(&key).is_none() {
            self.links.insert(key.clone(), Link::default());
        }
        let Some(link) = self.links.get_mut(&key) else {
            return;
        };
        link.matched = true;
        link.whole |= method == "initialize";
        if link.answered.len() >= MAX_ANSWERED {
            link.answered.pop_front();
        }
        link.answered.push_back((direction, id.clone()));
    }
}

/// The response says something of transactions: it is no refusal of a request that could not be read,
/// and no resumed stream, which repeats what was said before.
fn speaks(message: &Message, context: &MessageContext<'_>) -> bool {
    let Some(request) = context.request else {
        return false;
    };
    let resumed = request.headers.get("last-event-id").is_some();
    let refused = context.response.is_some_and(|r| r.status >= 400);
    let readable = message.kind == MessageKind::Response || matches!(message.id, Some(RequestId::Number(_)));
    // Without a session id, only a POST and its own answer are known to belong together.
    let paired =
        context.session.id.is_some() || (message.direction == Way::ToClient && request.method == "POST");
    !resumed && !refused && readable && paired
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Bench {
        let mut bench = Bench::new(UnsolicitedResponse::default(), "");
        bench.says(r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#);
        bench.answers(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Some("initialize"));
        bench
    }

    const NINE: &str = r#"{"jsonrpc":"2.0","id":9,"result":{}}"#;

    /// What is said of a response that answers nothing, once the time for a hole to show is over.
    fn said(bench: &mut Bench, json: &str) -> Vec<Finding> {
        let mut found = bench.answers(json, None);
        bench.wait(PROVEN);
        found.extend(bench.says(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#));
        found
    }

    #[test]
    fn fires_on_what_nobody_asked_and_says_whose_it_is() {
        let observed = |bench: &mut Bench, json: &str| said(bench, json)[0].observed.clone().unwrap();
        assert_eq!(observed(&mut begun(), NINE), "response to an id never asked");
        let again = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        assert_eq!(
            begun().answers(again, None)[0].observed.as_deref(),
            Some("response to an id answered already"),
            "at once"
        );
        let mut bench = begun();
        let own = bench.session.id.replace("another-session".into());
        bench.says(r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"t"}}"#);
        bench.session.id = own;
        assert_eq!(
            observed(&mut bench, NINE),
            "response to an id asked by another client"
        );
        let mut bench = begun();
        assert!(bench.replies(NINE, None).is_empty(), "not yet");
        let packet = bench.at().packet;
        let found = bench.wait(PROVEN).close();
        assert_eq!(found.len(), 1, "a client that answers nothing");
        assert_eq!(found[0].evidence, [packet]);
    }

    #[test]
    fn a_suspicion_is_said_without_its_connection_if_that_is_idle() {
        let mut bench = begun();
        assert!(bench.answers(NINE, None).is_empty());
        bench.wait(PROVEN);
        assert!(bench.see(SeenKind::Tick).is_empty());
        bench.wait(UNDATED);
        assert_eq!(bench.see(SeenKind::Tick).len(), 1);
        assert!(bench.see(SeenKind::Tick).is_empty());
    }

    #[test]
    fn stays_silent_after_loss_and_where_the_request_may_have_been_missed() {
        let mut bench = begun();
        bench.session.lossy = true;
        assert!(said(&mut bench, NINE).is_empty());
        let mut bench = begun();
        bench.anomaly(AnomalyKind::BodyLimit);
        assert!(said(&mut bench, NINE).is_empty());
        let mut bench = Bench::new(UnsolicitedResponse::default(), "");
        assert!(
            said(&mut bench, NINE).is_empty(),
            "the session's beginning was not seen"
        );
        let mut bench = begun();
        bench.head = request("GET", "/mcp", &[("Last-Event-ID", "4")]);
        assert!(said(&mut bench, NINE).is_empty(), "a resumed stream");
        let mut bench = begun();
        let unread = r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"x"}}"#;
        assert!(said(&mut bench, unread).is_empty());
        assert!(begun().answers(NINE, Some("tools/call")).is_empty());
    }

    #[test]
    fn stays_silent_where_the_hole_shows_after_the_response_even_on_another_connection() {
        let mut bench = begun();
        assert!(bench.answers(NINE, None).is_empty());
        bench.anomaly(AnomalyKind::TcpGap);
        bench.wait(UNDATED);
        assert!(bench.close().is_empty());
        // HTTP+SSE: requests on one connection, answers on the other.
        let mut bench = begun();
        let posts = bench.flow.info.clone();
        bench.reflow(
            "10.1.0.5:41023".parse().unwrap(),
            "203.0.113.5:443".parse().unwrap(),
            crate::types::Transport::Tcp,
        );
        bench.head = request("GET", "/sse", &[]);
        assert!(bench.answers(NINE, None).is_empty());
        let stream = std::mem::replace(&mut bench.flow.info, posts);
        bench.anomaly(AnomalyKind::TcpGap);
        bench.flow.info = stream;
        bench.wait(UNDATED);
        assert!(bench.close().is_empty());
    }
}
