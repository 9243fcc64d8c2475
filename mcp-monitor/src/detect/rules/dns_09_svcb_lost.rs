//! DNS-09 svcb-lost: HTTPS/SVCB record lost alpn or ech it had.

use super::prelude::*;
use std::net::IpAddr;

use crate::proto::dns::RecordData;

const META: Meta = Meta {
    id: "DNS-09",
    slug: "svcb-lost",
    category: "dns",
    trigger: "HTTPS/SVCB record lost alpn or ech it had",
    silent_on: "resolver that never gave it",
    severity: Severity::Medium,
    sight: Sight::Handshake,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Dns],
    page: Page {
        means: "The HTTPS record of a pinned name lost protocols or Encrypted Client Hello that the same resolver had given before: clients fall back to what is easier to watch or to forge.",
        attacker: "Strips the record or its parameters on the way, so that the client uses TCP instead of QUIC, an older HTTP, or shows the server's name.",
        wire: "A response to a question of type HTTPS or SVCB without `ech` or without protocols in `alpn` that the last ones had, or with no record at all.",
        act: "Ask the zone's own servers for the record. If it is complete there, look at the resolver and what lies before it.",
        quiet: "A resolver that never gave the record, or its parameters, is silent: each is compared with itself. Errors and truncated answers are left out.",
    },
};

const SVCB: u16 = 64;
const HTTPS: u16 = 65;
/// Protocols remembered of one name.
const MAX_PROTOCOLS: usize = 16;

/// Remembers protocols and `ech` by resolver, name and type.
#[derive(Default)]
pub(super) struct SvcbLost {
    had: Remembered<(IpAddr, Box<str>, u16), Vec<Box<str>>>,
}

impl Rule for SvcbLost {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.had)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::Dns { message, .. }, Some(flow)) = (&seen.kind, seen.flow) else {
            return;
        };
        let Some(question) = message.questions.first() else {
            return;
        };
        let asked = message.response && matches!(question.qtype, SVCB | HTTPS);
        if !asked || message.rcode != 0 || message.truncated {
            return;
        }
        let index = endpoint_of_host(world, &question.name);
        let Some(endpoint) = world.pins.endpoint(index) else {
            return;
        };
        let mut has: Vec<Box<str>> = Vec::new();
        for record in &message.answers {
            match &record.data {
                // Alias mode: the parameters are those of another name.
                RecordData::Svcb { priority: 0, .. } => return,
                RecordData::Svcb { alpn, ech, .. } => {
                    has.extend(alpn.iter().map(|p| format!("alpn {}", shown(p)).into()));
                    has.extend(ech.then(|| Box::from("ech")));
                }
                _ => {}
            }
        }
        has.sort_unstable();
        has.dedup();
        has.truncate(MAX_PROTOCOLS);
        let key = (flow.info.server.ip(), question.name.clone(), question.qtype);
        let had = self.had.insert(key, has.clone()).unwrap_or_default();
        let lost: Vec<&str> = had.iter().filter(|p| !has.contains(p)).map(|p| &**p).collect();
        if lost.is_empty() {
            return;
        }
        out.push(
            Finding::new(
                META.id,
                format!(
                    "the HTTPS record of {} lost {}; ask the zone's own servers whether it is theirs that way",
                    endpoint.name,
                    lost.join(", ")
                ),
            )
            .at(index)
            .expected(had.iter().map(ToString::to_string))
            .observed(if has.is_empty() { "nothing".to_owned() } else { has.join(", ") }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dns::{Message, Record};

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\n";

    fn answer(records: &[(u16, &[&str], bool)]) -> Message {
        let mut answer = dns_answer(1, "mcp.example", &[], &[]);
        answer.questions[0].qtype = HTTPS;
        answer.answers = records
            .iter()
            .map(|(priority, alpn, ech)| Record {
                name: "mcp.example".into(),
                rtype: HTTPS,
                class: 1,
                ttl: 60,
                data: RecordData::Svcb {
                    priority: *priority,
                    target: "".into(),
                    alpn: alpn.iter().map(|p| (*p).into()).collect(),
                    ech: *ech,
                    ech_configs: Vec::new(),
                    port: None,
                    hints: Vec::new(),
                },
            })
            .collect();
        answer
    }

    fn then(second: &Message) -> Vec<Finding> {
        let mut bench = Bench::new(SvcbLost::default(), PINS);
        assert!(
            bench
                .dns(Direction::ToClient, &answer(&[(1, &["h2", "h3"], true)]))
                .is_empty()
        );
        bench.dns(Direction::ToClient, second)
    }

    #[test]
    fn fires_on_lost_protocols_lost_ech_and_a_lost_record() {
        assert_eq!(
            then(&answer(&[(1, &["h2"], true)]))[0].observed.as_deref(),
            Some("alpn h2, ech")
        );
        assert!(
            then(&answer(&[(1, &["h2", "h3"], false)]))[0]
                .summary
                .contains("lost ech")
        );
        assert_eq!(then(&answer(&[]))[0].observed.as_deref(), Some("nothing"));
    }

    #[test]
    fn stays_silent_on_the_same_on_more_on_errors_and_on_resolvers_that_never_gave_it() {
        assert!(then(&answer(&[(2, &["h3"], true), (1, &["h2", "h4"], false)])).is_empty());
        assert!(then(&answer(&[(0, &[], false)])).is_empty());
        let mut failed = answer(&[]);
        failed.rcode = 2;
        assert!(then(&failed).is_empty());
        let mut bench = Bench::new(SvcbLost::default(), PINS);
        for _ in 0..2 {
            assert!(bench.dns(Direction::ToClient, &answer(&[])).is_empty());
        }
    }
}
