//! DNS-07 racing-answers: two differing answers to one transaction.

use super::prelude::*;
use std::{net::SocketAddr, time::Duration};

use crate::{
    proto::dns::{Message, RecordData},
    types::{PacketId, Timestamp},
};

const META: Meta = Meta {
    id: "DNS-07",
    slug: "racing-answers",
    category: "dns",
    trigger: "two differing answers to one transaction",
    silent_on: "retransmitted identical answer",
    severity: Severity::Critical,
    sight: Sight::Handshake,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Dns],
    page: Page {
        means: "One DNS question got two different answers: somebody answers beside the resolver, and the faster one wins.",
        attacker: "Sees the questions (same network, a compromised router) and races the resolver with a forged answer, or floods guesses of the transaction id.",
        wire: "Two responses with the same id, ports and question but other addresses, aliases or result code, to one query. A repeated identical answer, or a second query that gets a second answer, is ordinary.",
        act: "Compare both answers with a trusted resolver: the one that differs is forged, and the other end of its address is the attacker's. Look at the network between the host and its resolver. Use DNS over TLS to the resolver.",
        quiet: "Order and TTL of records make no difference, nor do repeated queries of an impatient client.",
    },
};

/// Answers later than this after the first are of another transaction.
const WINDOW: Duration = Duration::from_secs(10);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Transaction {
    client: SocketAddr,
    server: SocketAddr,
    id: u16,
    name: Box<str>,
    qtype: u16,
}

struct Race {
    started: Timestamp,
    queries: u32,
    answers: u32,
    first: Option<(Vec<String>, PacketId)>,
}

/// Remembers the transactions of the last [`WINDOW`], at most the default number.
#[derive(Default)]
pub(super) struct RacingAnswers {
    races: Bounded<Transaction, Race>,
}

impl Rule for RacingAnswers {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::Dns { message, .. }, Some(flow)) = (&seen.kind, seen.flow) else {
            return;
        };
        let Some(question) = message.questions.first() else {
            return;
        };
        let key = Transaction {
            client: flow.info.client,
            server: flow.info.server,
            id: message.id,
            name: question.name.clone(),
            qtype: question.qtype,
        };
        let now = seen.at.time;
        let fresh = || Race {
            started: now,
            queries: 0,
            answers: 0,
            first: None,
        };
        let stale = self
            .races
            .get_mut(&key)
            .is_none_or(|r| now.since(r.started) > WINDOW);
        if stale {
            self.races.insert(key.clone(), fresh());
        }
        let Some(race) = self.races.get_mut(&key) else {
            return;
        };
        if !message.response {
            race.queries = race.queries.saturating_add(1);
            return;
        }
        if message.truncated {
            return;
        }
        race.answers = race.answers.saturating_add(1);
        let said = content(message);
        let Some((first, packet)) = &race.first else {
            race.first = Some((said, seen.at.packet));
            return;
        };
        // An impatient client that asked twice may well be answered twice.
        if *first == said || race.queries >= race.answers {
            return;
        }
        let index = endpoint_of_host(world, &question.name);
        out.push(
            Finding::new(
                META.id,
                format!(
                    "two different answers to one question for {}: one is forged; compare both with a trusted resolver and inspect the path to {}",
                    label(world, index, &question.name),
                    flow.info.server.ip()
                ),
            )
            .at(index)
            .expected([first.join(" ")])
            .observed(said.join(" "))
            .shown_by(*packet),
        );
    }
}

/// What an answer says, without order and TTL.
fn content(message: &Message) -> Vec<String> {
    let mut said: Vec<String> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RecordData::Address(ip) => Some(ip.to_string()),
            RecordData::Cname(name) => Some(shown(name)),
            _ => None,
        })
        .collect();
    said.sort_unstable();
    said.dedup();
    if message.rcode != 0 || said.is_empty() {
        said.push(format!("rcode {}", message.rcode));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Transport;

    fn bench() -> Bench {
        let mut bench = Bench::new(RacingAnswers::default(), "");
        bench.reflow(
            "10.1.0.5:40000".parse().unwrap(),
            "10.96.0.10:53".parse().unwrap(),
            Transport::Udp,
        );
        bench
    }

    fn query(bench: &mut Bench) {
        let mut query = dns_answer(7, "mcp.example", &[], &[]);
        query.response = false;
        assert!(bench.dns(Direction::ToServer, &query).is_empty());
    }

    #[test]
    fn fires_on_two_answers_to_one_query() {
        let mut bench = bench();
        query(&mut bench);
        assert!(
            bench
                .dns(
                    Direction::ToClient,
                    &dns_answer(7, "mcp.example", &[], &["198.51.100.66"])
                )
                .is_empty()
        );
        let found = bench.dns(
            Direction::ToClient,
            &dns_answer(7, "mcp.example", &[], &["203.0.113.5"]),
        );
        assert_eq!(found[0].expected, ["198.51.100.66"]);
        assert_eq!(found[0].observed.as_deref(), Some("203.0.113.5"));
        assert_eq!(found[0].evidence.len(), 1);
    }

    #[test]
    fn stays_silent_on_repeats_order_second_queries_and_other_ids() {
        let mut bench = bench();
        query(&mut bench);
        let mut answer = dns_answer(7, "mcp.example", &[], &["203.0.113.5", "203.0.113.6"]);
        assert!(bench.dns(Direction::ToClient, &answer).is_empty());
        answer.answers.reverse();
        assert!(bench.dns(Direction::ToClient, &answer).is_empty());
        query(&mut bench);
        query(&mut bench);
        assert!(
            bench
                .dns(
                    Direction::ToClient,
                    &dns_answer(7, "mcp.example", &[], &["203.0.113.9"])
                )
                .is_empty()
        );
        assert!(
            bench
                .dns(
                    Direction::ToClient,
                    &dns_answer(8, "mcp.example", &[], &["203.0.113.7"])
                )
                .is_empty()
        );
        bench.wait(Duration::from_secs(60));
        assert!(
            bench
                .dns(
                    Direction::ToClient,
                    &dns_answer(7, "mcp.example", &[], &["203.0.113.8"])
                )
                .is_empty()
        );
    }
}
