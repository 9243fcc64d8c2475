//! Who talks to whom, how much and when.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::connection::Connection;
use super::mcp::{Mcp, Transport};
use super::other::{self, Binary, Dns, Site, Tls, Web};
use super::random::Random;
use super::text::Text;
use super::turn::Turn;
use super::{Flow, Parameters, Script};

/// 2026-11-23 09:00 UTC, in microseconds since 1970.
const START: u64 = 1_795_424_400_000_000;
/// MCP servers.
const SERVERS: usize = 40;
const RESOLVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 53);

/// An MCP conversation that begins with a look-up of the server's name.
struct Resolved {
    script: Mcp,
    /// Its connection and what is asked, until then.
    lookup: Option<(usize, String, [u8; 4])>,
}

impl Script for Resolved {
    fn turn(&mut self, turn: &mut Turn, random: &mut Random, text: &Text, last: bool) {
        if let Some((connection, name, address)) = self.lookup.take() {
            other::lookup(turn, connection, random, &name, address);
        }
        self.script.turn(turn, random, text, last);
    }
}

/// All conversations.
pub(super) fn flows(parameters: &Parameters, random: &mut Random) -> Vec<Flow> {
    let mut flows = Vec::with_capacity(parameters.mcp_flows + parameters.other_flows);
    for index in 0..parameters.mcp_flows + parameters.other_flows {
        let mut own = random.fork();
        let mcp = index < parameters.mcp_flows;
        let host = Host {
            index,
            v6: own.chance(0.15),
        };
        let (script, connections, weight) = if mcp {
            agent(&host, &mut own)
        } else {
            bystander(&host, &mut own)
        };
        let span = parameters.seconds * 1_000_000;
        let length = if mcp { own.range(60, 85) } else { own.range(5, 80) };
        let duration = span * length / 100;
        let latest = if mcp { span / 8 } else { span - duration };
        flows.push(Flow {
            script,
            connections,
            mcp,
            start: START + own.range(0, latest),
            duration,
            // For now, its weight.
            budget: (weight * own.log_range(if mcp { 4_000 } else { 1_000 }, 20_000) as f64) as u64,
            random: own,
            used: 0,
            turn: Turn::default(),
            planned: Default::default(),
            over: false,
        });
    }
    let share = |mcp| {
        if mcp {
            parameters.mcp_share
        } else {
            1.0 - parameters.mcp_share
        }
    };
    for mcp in [true, false] {
        let bytes = parameters.size as f64 * share(mcp);
        let total: u64 = flows
            .iter()
            .filter(|flow| flow.mcp == mcp)
            .map(|flow| flow.budget)
            .sum();
        for flow in flows.iter_mut().filter(|flow| flow.mcp == mcp) {
            flow.budget = (flow.budget as f64 / total as f64 * bytes) as u64;
        }
    }
    flows
}

struct Host {
    index: usize,
    v6: bool,
}

impl Host {
    fn client(&self, port: u16, v6: bool) -> SocketAddr {
        let [_, _, high, low] = (self.index as u32).to_be_bytes();
        let ip: IpAddr = if v6 {
            Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, high.into(), low.into()).into()
        } else {
            Ipv4Addr::new(10, 1, high, low).into()
        };
        SocketAddr::new(ip, port)
    }

    /// `net` tells kinds of servers apart.
    fn server(&self, net: u8, number: usize, port: u16) -> SocketAddr {
        let ip: IpAddr = if self.v6 {
            Ipv6Addr::new(0xfd00, 0, 0, 2, 0, 0, net.into(), number as u16 + 1).into()
        } else {
            Ipv4Addr::new(10, 96, net, number as u8 + 1).into()
        };
        SocketAddr::new(ip, port)
    }
}

fn agent(host: &Host, random: &mut Random) -> (Box<dyn Script>, Vec<Connection>, f64) {
    let number = random.index(SERVERS);
    let port = [8000, 3000, 8080, 80][number % 4];
    let name = format!("mcp-{number}.tools.example");
    let shares = Transport::SHARES.map(|(_, share)| share);
    let transport = Transport::SHARES[random.weighted(&shares)].0;
    let authority = if port == 80 {
        name.clone()
    } else {
        format!("{name}:{port}")
    };
    let script = Mcp::new(transport, authority, number, random);
    let source = random.range(32_768, 60_000) as u16;
    let server = host.server(1, number, port);
    let mut connections: Vec<Connection> = (0..script.connections() as u16)
        .map(|index| Connection::new(host.client(source + index, host.v6), server, false, random))
        .collect();
    let mut lookup = None;
    if !host.v6 && random.chance(0.5) {
        lookup = Some((connections.len(), name, [10, 96, 1, number as u8 + 1]));
        connections.push(Connection::new(
            host.client(source, false),
            RESOLVER,
            true,
            random,
        ));
    }
    (Box::new(Resolved { script, lookup }), connections, 1.0)
}

fn bystander(host: &Host, random: &mut Random) -> (Box<dyn Script>, Vec<Connection>, f64) {
    let number = random.index(200);
    let name = format!("www{number}.site.example");
    let begun = false;
    let (script, server, weight): (Box<dyn Script>, SocketAddr, f64) =
        match random.weighted(&[45, 27, 15, 13]) {
            0 => (Box::new(Tls { name, begun }), host.server(2, number, 443), 1.2),
            1 => {
                let sites = [
                    Site::Downloads,
                    Site::Pages,
                    Site::Api,
                    Site::JsonRpc,
                    Site::Model,
                ];
                let site = sites[random.weighted(&[30, 25, 30, 5, 10])];
                let weight = match site {
                    Site::Downloads => 2.0,
                    Site::Model => 0.2,
                    _ => 0.8,
                };
                let web = Web {
                    site,
                    host: name,
                    begun,
                };
                (Box::new(web), host.server(3, number, 80), weight)
            }
            2 => (Box::new(Binary { begun }), host.server(4, number, 5432), 1.0),
            _ => {
                let address = [10, 96, 2, number as u8 + 1];
                let dns = Dns {
                    name,
                    address,
                    done: false,
                };
                let source = random.range(32_768, 60_000) as u16;
                let connection = Connection::new(host.client(source, false), RESOLVER, true, random);
                return (Box::new(dns), vec![connection], 1e-4);
            }
        };
    let source = random.range(32_768, 60_000) as u16;
    let connection = Connection::new(host.client(source, host.v6), server, false, random);
    (script, vec![connection], weight)
}
