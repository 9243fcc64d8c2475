//! DST-07 server-egress: a process that serves MCP (in replay: the host) opens a connection it is not known for.

use super::prelude::*;
use std::{net::IpAddr, time::Duration};

use crate::{
    mcp::MessageKind,
    types::{Timestamp, Transport},
};

const META: Meta = Meta {
    id: "DST-07",
    slug: "server-egress",
    category: "destination",
    trigger: "a process that serves MCP (in replay: the host) opens a connection it is not known for",
    silent_on: "telemetry listed in the baseline",
    severity: Severity::High,
    sight: Sight::Handshake,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["update-poisoning", "logic-backdoor"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message, Kind::Open],
    page: Page {
        means: "A host (live: a process) that serves MCP opened a connection to somewhere it had not connected to before.",
        attacker: "Hid code in the server or one of its dependencies that calls home: to deliver what the tools saw, or to fetch orders.",
        wire: "A connection from the address of an MCP server to a new destination, after it had served for ten minutes or sixteen answers.",
        act: "Find out what the server has to do there: look at its code and dependencies for the destination, and at what it was asked just before. Confine its egress to what it needs.",
        quiet: "What the server connected to before that counts as known, as does every destination once it was told. Name resolution, loopback and answers to clients are silent. List telemetry under `suppress` where it starts late.",
    },
};

/// A server is known once it has served for so long, or answered so often.
const SETTLED_AFTER: Duration = Duration::from_secs(600);
const SETTLED_ANSWERS: u32 = 16;
/// Destinations remembered of one host; beyond them nothing is new any more.
const MAX_DESTINATIONS: usize = 1024;
const DNS: u16 = 53;

struct Server {
    since: Timestamp,
    answers: u32,
    /// Executables that were seen serving, live.
    programs: Vec<Box<str>>,
}

/// Remembers hosts that serve MCP, and where hosts connect to.
#[derive(Default)]
pub(super) struct ServerEgress {
    servers: Bounded<IpAddr, Server>,
    destinations: Remembered<IpAddr, Vec<Box<str>>>,
}

impl Rule for ServerEgress {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.destinations)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        if seen.is_unlinked() {
            return;
        }
        let (Some(flow), Some(connection)) = (seen.flow, seen.connection) else {
            return;
        };
        let program = connection.process.as_ref().and_then(|p| p.exe.clone());
        match &seen.kind {
            SeenKind::Message { message, .. } if message.kind == MessageKind::Response => {
                let server = flow.info.server.ip();
                if message.direction == Direction::ToClient && !server.is_loopback() {
                    self.serves(server, seen.at.time, program);
                }
            }
            SeenKind::Open if flow.info.transport == Transport::Tcp && flow.info.from_start => {
                let (from, to) = (flow.info.client.ip(), flow.info.server);
                if from == to.ip() || to.ip().is_loopback() || to.port() == DNS {
                    return;
                }
                let destination: Box<str> = match connection.resolved_as.as_deref() {
                    Some(name) => format!("{name}:{}", to.port()).into(),
                    None => to.to_string().into(),
                };
                let mut known = self.destinations.get(&from).cloned().unwrap_or_default();
                if known.contains(&destination) || known.len() >= MAX_DESTINATIONS {
                    return;
                }
                known.push(destination.clone());
                self.destinations.insert(from, known.clone());
                let Some(server) = self.servers.get_mut(&from) else {
                    return;
                };
                let settled =
                    server.answers >= SETTLED_ANSWERS || seen.at.time.since(server.since) >= SETTLED_AFTER;
                // Live, another program of the same host is none of the server's.
                let other =
                    program.is_some_and(|p| !server.programs.is_empty() && !server.programs.contains(&p));
                if !settled || other {
                    return;
                }
                let index = world.pins.match_socket(from, flow.info.server.port());
                out.push(
                    Finding::new(
                        META.id,
                        format!(
                            "{}, which serves MCP, opened a connection to {}, where it had not been; find out what the server has to do there",
                            agent(seen),
                            shown(&destination)
                        ),
                    )
                    .at(index)
                    .expected(known_before(&known))
                    .observed(shown(&destination)),
                );
            }
            _ => {}
        }
    }
}

/// Some of the destinations known before the last one.
fn known_before(known: &[Box<str>]) -> Vec<String> {
    let before = known.split_last().map_or(&[][..], |(_, before)| before);
    match before {
        [] => vec!["no connections".to_owned()],
        some => some.iter().rev().take(8).map(|d| shown(d)).collect(),
    }
}

impl ServerEgress {
    fn serves(&mut self, host: IpAddr, now: Timestamp, program: Option<Box<str>>) {
        if self.servers.get_mut(&host).is_none() {
            let server = Server {
                since: now,
                answers: 0,
                programs: Vec::new(),
            };
            self.servers.insert(host, server);
        }
        let Some(server) = self.servers.get_mut(&host) else {
            return;
        };
        server.answers = server.answers.saturating_add(1);
        if let Some(program) = program
            && !server.programs.contains(&program)
            && server.programs.len() < 16
        {
            server.programs.push(program);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::types::Process;

    const SERVER: &str = "203.0.113.5";

    /// The server of the bench has answered this often.
    fn after(answers: u32) -> Bench {
        let mut bench = Bench::new(ServerEgress::default(), "");
        for _ in 0..answers {
            bench.answers(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Some("tools/call"));
        }
        bench
    }

    fn connects(bench: &mut Bench, to: &str) -> Vec<Finding> {
        let from = format!("{SERVER}:50000").parse().unwrap();
        bench.reflow(from, to.parse().unwrap(), Transport::Tcp);
        bench.see(SeenKind::Open)
    }

    #[test]
    fn fires_on_a_new_destination_of_a_server() {
        let mut bench = after(SETTLED_ANSWERS);
        let found = connects(&mut bench, "198.51.100.66:443");
        assert_eq!(found[0].observed.as_deref(), Some("198.51.100.66:443"));
        assert_eq!(found[0].expected, ["no connections"]);
        assert!(connects(&mut bench, "198.51.100.66:443").is_empty(), "once");
    }

    #[test]
    fn stays_silent_on_known_destinations_clients_dns_and_other_programs() {
        let mut bench = after(1);
        assert!(
            connects(&mut bench, "192.0.2.9:443").is_empty(),
            "telemetry, from the start"
        );
        bench.server("https://mcp.example/mcp", SERVER);
        for _ in 0..SETTLED_ANSWERS {
            bench.answers(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Some("tools/call"));
        }
        assert!(connects(&mut bench, "192.0.2.9:443").is_empty());
        assert!(connects(&mut bench, "192.0.2.53:53").is_empty());
        bench.reflow(
            "10.1.0.5:5000".parse().unwrap(),
            "192.0.2.80:443".parse().unwrap(),
            Transport::Tcp,
        );
        assert!(bench.see(SeenKind::Open).is_empty(), "a client");
        let mut live = Bench::new(ServerEgress::default(), "");
        let run_by = |bench: &mut Bench, exe: &str| {
            bench.connection.process = Some(Arc::new(Process {
                exe: Some(exe.into()),
                ..Process::default()
            }));
        };
        run_by(&mut live, "/usr/bin/server");
        for _ in 0..SETTLED_ANSWERS {
            live.answers(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Some("tools/call"));
        }
        run_by(&mut live, "/usr/bin/updater");
        assert!(connects(&mut live, "192.0.2.80:443").is_empty());
        run_by(&mut live, "/usr/bin/server");
        assert_eq!(connects(&mut live, "192.0.2.81:443").len(), 1);
    }
}
