//! RED-04 alternative-service: `Alt-Svc`, HTTP/2 ALTSVC or SVCB target off the pin.

use super::prelude::*;
use crate::{
    config::pins::Endpoint,
    proto::dns::{Message, RecordData},
};

const META: Meta = Meta {
    id: "RED-04",
    slug: "alternative-service",
    category: "redirection",
    trigger: "`Alt-Svc`, HTTP/2 ALTSVC or SVCB target off the pin",
    silent_on: "same host h3",
    severity: Severity::Medium,
    sight: Sight::Either,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Response, Kind::AlternativeService, Kind::Dns],
    page: Page {
        means: "A pinned server, or its DNS, sends clients to another place for the same origin: another host or port that speaks for it from now on.",
        attacker: "Got one response or one DNS answer under their control and turns it into a lasting one: browsers and some HTTP libraries remember an alternative service for as long as `ma` says.",
        wire: "`Alt-Svc` in a response of a pinned server, an ALTSVC frame of HTTP/2, or a record of type HTTPS or SVCB for a pinned name, with a host that is not pinned or a port that is not the pinned one.",
        act: "Ask the owner whether the place is theirs. Clear what clients remember (restart, or `Alt-Svc: clear`).",
        quiet: "`h3` on the same host and port is silent, and so are hosts under `cnames` and origins under `redirects`. Service targets are judged only where `cnames` are pinned.",
    },
};

/// Alternatives of one header that are judged.
const MAX_ALTERNATIVES: usize = 16;

/// Says each alternative once per endpoint.
#[derive(Default)]
pub(super) struct AlternativeService {
    said: Once<(usize, String)>,
}

impl Rule for AlternativeService {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (index, stray, how) = match &seen.kind {
            SeenKind::Response { head, target, .. } => {
                let Some(endpoint) = world.pins.endpoint(target.endpoint) else {
                    return;
                };
                let Some(value) = head.headers.get_str("alt-svc") else {
                    return;
                };
                let stray = of_header(value, endpoint, &target.origin.host, target.origin.port);
                (target.endpoint, stray, "Alt-Svc")
            }
            SeenKind::AlternativeService {
                origin,
                value,
                target,
            } => {
                let Ok(value) = std::str::from_utf8(value) else {
                    return;
                };
                let stated = origin
                    .and_then(|origin| std::str::from_utf8(origin).ok())
                    .and_then(|origin| url::Url::parse(origin).ok());
                let index = match stated.as_ref().and_then(|url| url.host_str()) {
                    Some(host) => endpoint_of_host(world, host),
                    None => target
                        .and_then(|t| t.endpoint)
                        .or(seen.connection.and_then(|c| c.endpoint)),
                };
                let Some(endpoint) = world.pins.endpoint(index) else {
                    return;
                };
                let own = endpoint.url.host.to_string();
                let stray = of_header(value, endpoint, &own, endpoint.url.port);
                (index, stray, "an ALTSVC frame")
            }
            SeenKind::Dns { message, .. } if message.response => {
                let Some(question) = message.questions.first() else {
                    return;
                };
                let index = endpoint_of_host(world, &question.name);
                let Some(endpoint) = world.pins.endpoint(index) else {
                    return;
                };
                (index, of_records(message, endpoint), "its DNS record")
            }
            _ => return,
        };
        let (Some(endpoint), Some(index)) = (world.pins.endpoint(index), index) else {
            return;
        };
        for place in stray {
            if !self.said.first((index, place.clone())) {
                continue;
            }
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{how} sends clients of {} to {place}, which is off its pin; ask its owner whether that is theirs",
                        endpoint.name
                    ),
                )
                .at(Some(index))
                .expected([endpoint.url.to_string()])
                .observed(place),
            );
        }
    }
}

/// Port of HTTP/2 and HTTP/3 over TLS.
const HTTPS: u16 = 443;

/// Hosts and ports of `Alt-Svc` (RFC 7838 section 3) that are off the pin.
fn of_header(value: &str, endpoint: &Endpoint, own: &str, own_port: u16) -> Vec<String> {
    let mut stray = Vec::new();
    for alternative in value.split(',').take(MAX_ALTERNATIVES) {
        // protocol="host:port"; parameters
        let Some(authority) = alternative.split('"').nth(1) else {
            continue;
        };
        let Some((host, port)) = authority.rsplit_once(':') else {
            continue;
        };
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        let Ok(port) = port.parse::<u16>() else { continue };
        let same_host = host.is_empty() || host == own;
        let pinned = endpoint
            .redirects
            .iter()
            .any(|o| *o.host == *host && o.port == port)
            || endpoint.url.host.matches(&host) && port == endpoint.url.port
            || endpoint.cnames.iter().any(|c| c.matches(&host)) && port == endpoint.url.port;
        // Of a server pinned as http too: HTTP/3 has no other port.
        let usual = [own_port, endpoint.url.port, HTTPS];
        if !(pinned || same_host && usual.contains(&port)) {
            stray.push(format!(
                "{}:{port}",
                shown(if host.is_empty() { own } else { &host })
            ));
        }
    }
    stray
}

/// Targets and ports of service records (RFC 9460) that are off the pin.
fn of_records(message: &Message, endpoint: &Endpoint) -> Vec<String> {
    let mut stray = Vec::new();
    for record in message.answers.iter().take(MAX_ALTERNATIVES) {
        let RecordData::Svcb { target, port, .. } = &record.data else {
            continue;
        };
        let strange_host = !target.is_empty()
            && !endpoint.cnames.is_empty()
            && !endpoint.url.host.matches(target)
            && !endpoint.cnames.iter().any(|c| c.matches(target));
        let strange_port = port.is_some_and(|port| port != endpoint.url.port);
        if strange_host || strange_port {
            let host = if target.is_empty() { &record.name } else { target };
            stray.push(format!("{}:{}", shown(host), port.unwrap_or(endpoint.url.port)));
        }
    }
    stray
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dns::Record;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp', cnames: [edge.example], redirects: ['https://eu.example']}]\n";

    fn header(value: &str) -> Vec<Finding> {
        let mut bench = Bench::new(AlternativeService::default(), PINS);
        bench.response(&response(200, &[("Alt-Svc", value)]), true)
    }

    fn record(target: &str, port: Option<u16>) -> Vec<Finding> {
        let mut answer = dns_answer(1, "mcp.example", &[], &[]);
        answer.answers.push(Record {
            name: "mcp.example".into(),
            rtype: 65,
            class: 1,
            ttl: 60,
            data: RecordData::Svcb {
                priority: 1,
                target: target.into(),
                alpn: vec!["h3".into()],
                ech: false,
                ech_configs: Vec::new(),
                port,
                hints: Vec::new(),
            },
        });
        Bench::new(AlternativeService::default(), PINS).dns(Direction::ToClient, &answer)
    }

    #[test]
    fn fires_on_another_host_or_port() {
        let found = header("h3=\":443\", h2=\"evil.example:443\"; ma=86400");
        assert_eq!(found[0].observed.as_deref(), Some("evil.example:443"));
        assert_eq!(found[0].expected, ["https://mcp.example/mcp"]);
        assert_eq!(
            header("h3=\":8443\"")[0].observed.as_deref(),
            Some("mcp.example:8443")
        );
        assert_eq!(
            record("evil.example", None)[0].observed.as_deref(),
            Some("evil.example:443")
        );
        assert_eq!(record("", Some(8443)).len(), 1);
    }

    #[test]
    fn frames_are_judged_as_headers_are() {
        let frame = |origin: &[u8], value: &[u8]| {
            let mut bench = Bench::new(AlternativeService::default(), PINS);
            let event = SeenKind::AlternativeService {
                origin: (!origin.is_empty()).then_some(origin),
                value,
                target: None,
            };
            bench.see(event).len()
        };
        assert_eq!(frame(b"https://mcp.example", b"h2=\"evil.example:443\""), 1);
        assert_eq!(frame(b"", b"h2=\"evil.example:443\""), 1);
        assert_eq!(frame(b"https://other.example", b"h2=\"evil.example:443\""), 0);
        assert_eq!(frame(b"", b"h3=\":443\""), 0);
    }

    #[test]
    fn stays_silent_on_the_same_host_and_what_is_pinned() {
        for value in [
            "h3=\":443\"; ma=86400, h3-29=\":443\"",
            "h3=\"mcp.example:443\"",
            "h2=\"eu.example:443\"",
            "h2=\"edge.example:443\"",
            "clear",
            "nonsense",
            "h3=\"x",
        ] {
            assert!(header(value).is_empty(), "{value}");
        }
        assert!(record("", None).is_empty());
        assert!(record("edge.example", Some(443)).is_empty());
    }

    #[test]
    fn says_it_once() {
        let mut bench = Bench::new(AlternativeService::default(), PINS);
        let head = response(200, &[("Alt-Svc", "h3=\"evil.example:443\"")]);
        assert_eq!(bench.response(&head, true).len(), 1);
        assert!(bench.response(&head, true).is_empty());
    }
}
