//! OP-03 threat-feed: address, name, JA4 or certificate in a loaded feed (file, STIX or plain list).

use super::prelude::*;

use crate::{
    config::data::Indicator,
    proto::{dns::RecordData, tls::ja4::ja4},
    types::Direction as Way,
};

const META: Meta = Meta {
    id: "OP-03",
    slug: "threat-feed",
    category: "operations",
    trigger: "address, name, JA4 or certificate in a loaded feed (file, STIX or plain list)",
    silent_on: "expired entries",
    severity: Severity::High,
    sight: Sight::Handshake,
    needs: "policy",
    taxonomy: Taxonomy {
        air_sec_026: &["third-party-server-compromise", "dns-infrastructure"],
        owasp_mcp: &["MCP09"],
        atlas: &["AML.T0008"],
    },
    listens: &[
        Kind::Open,
        Kind::Dns,
        Kind::ClientHello,
        Kind::Certificates,
        Kind::Request,
    ],
    page: Page {
        means: "An agent or server on this machine has to do with something that a threat feed of yours lists: it asked for the name, connected to the address, requested the URL, or met the certificate or TLS client fingerprint.",
        attacker: "Uses infrastructure that was seen in another attack. Which one, the feed's entry says.",
        wire: "A DNS question, a connection, a ClientHello, a certificate in the clear (TLS 1.2 and before, or opened), or a request whose name, address, JA4, SHA-256 or URL is in a file under `feeds`.",
        act: "Look the entry up in its feed (label and file are in the alert) for what it means and how sure it is. Then find the process, and what it fetched from there or sent.",
        quiet: "Entries are silent from their expiry on (`valid_until` in STIX, the date after an entry in a plain list) and revoked ones always. STIX patterns that join conditions by AND are left out; `mcp-monitor check` says how many. Without `feeds` in the pins file the rule has no data and says so there. List what is wrong in a feed under `rules: {OP-03: {allow: [cdn.example]}}`.",
    },
};

/// Has no memory.
#[derive(Default)]
pub(super) struct ThreatFeed;

impl Rule for ThreatFeed {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let feeds = &*world.pins.indicators;
        if feeds.is_empty() {
            return;
        }
        let at = seen.at.time;
        let mut say = |what: &str, value: &str, found: Option<&Indicator>| {
            if let Some(indicator) = found {
                say(seen, world, what, value, indicator, out);
            }
        };
        match &seen.kind {
            SeenKind::Open => {
                let Some(flow) = seen.flow else { return };
                for ip in [flow.info.server.ip(), flow.info.client.ip()] {
                    say("the address", &ip.to_string(), feeds.address(ip, at));
                }
            }
            SeenKind::Dns { direction, message } => {
                if *direction == Way::ToServer {
                    for question in &message.questions {
                        say("the name", &question.name, feeds.name(&question.name, at));
                    }
                    return;
                }
                for record in &message.answers {
                    match &record.data {
                        RecordData::Address(ip) => {
                            say("the address", &ip.to_string(), feeds.address(*ip, at))
                        }
                        RecordData::Cname(name) => say("the name", name, feeds.name(name, at)),
                        _ => {}
                    }
                }
            }
            SeenKind::ClientHello(hello) => {
                if let Some(name) = &hello.server_name {
                    say("the name", name, feeds.name(name, at));
                }
                if feeds.lists_ja4() {
                    let print = ja4(hello);
                    say("the TLS client", &print, feeds.ja4(&print, at));
                }
            }
            SeenKind::Certificates { chain, .. } if feeds.lists_certificates() => {
                for digest in chain.certificates.iter().map(|c| c.sha256) {
                    if let Some(indicator) = feeds.certificate(&digest, at) {
                        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
                        say("the certificate", &hex, Some(indicator));
                    }
                }
            }
            SeenKind::Request { target, .. } => {
                let host = &target.origin.host;
                say("the name", host, feeds.name(host, at));
                let url = format!("{}{}", target.origin, target.path);
                say("the URL", &url, feeds.url(&url, at));
            }
            _ => {}
        }
    }
}

fn say(
    seen: &Seen<'_>,
    world: &World<'_>,
    what: &str,
    value: &str,
    indicator: &Indicator,
    out: &mut Vec<Finding>,
) {
    let index = seen.connection.and_then(|c| c.endpoint);
    if world.pins.accepts(META.id, index, value) {
        return;
    }
    let value = shown(value);
    let origin = shown(&indicator.origin());
    out.push(
        Finding::new(
            META.id,
            format!(
                "{} has to do with {what} {value}, which a threat feed lists as {origin}; look the entry up, then find what the process fetched or sent",
                agent(seen)
            ),
        )
        .at(index)
        .expected([format!("nothing listed in {}", shown(&indicator.source))])
        .observed(format!("{value}, listed as {origin}")),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::pins::Pins, proto::tls::ClientHello, types::Timestamp};

    const FEED: &str = r#"{"type":"bundle","id":"bundle--1","objects":[
        {"type":"indicator","id":"indicator--1","name":"Example C2","pattern_type":"stix","pattern":"[domain-name:value = 'c2.example' OR ipv4-addr:value ISSUBSET '198.51.100.0/24']","valid_from":"2026-01-01T00:00:00Z","valid_until":"2026-12-01T00:00:00Z"}]}"#;

    /// Pins with that feed and a plain list beside it, loaded from files.
    fn bench(more: &str) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("c2.json"), FEED).unwrap();
        let hello = ja4(&ClientHello::default());
        let der: String = certificate("c2.example", "CN=Some CA")
            .sha256
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let list = format!("https://files.example/drop\n{hello}\n{der}\n");
        std::fs::write(dir.path().join("list.txt"), list).unwrap();
        let pins = dir.path().join("pins.yaml");
        std::fs::write(&pins, format!("version: 1\nfeeds: [.]\n{more}")).unwrap();
        let mut bench = Bench::new(ThreatFeed, "");
        bench.set_pins(Pins::load(&pins).unwrap());
        bench
    }

    fn opens(bench: &mut Bench, ip: &str) -> Vec<Finding> {
        bench.server("https://mcp.example/mcp", ip);
        bench.see(SeenKind::Open)
    }

    #[test]
    fn fires_on_each_kind_of_entry() {
        let found = opens(&mut bench(""), "198.51.100.66");
        assert_eq!(
            found[0].observed.as_deref(),
            Some("198.51.100.66, listed as Example C2 (c2.json)")
        );
        let mut b = bench("");
        assert_eq!(
            b.dns(Way::ToServer, &dns_answer(1, "c2.example", &[], &[])).len(),
            1
        );
        assert_eq!(
            b.dns(
                Way::ToClient,
                &dns_answer(1, "a.example", &["c2.example"], &["198.51.100.1"])
            )
            .len(),
            2
        );
        let hello = ClientHello {
            server_name: Some("c2.example".into()),
            ..ClientHello::default()
        };
        assert_eq!(b.see(SeenKind::ClientHello(&hello)).len(), 2, "name and JA4");
        let chain = chain(vec![certificate("c2.example", "CN=Some CA")]);
        let certificates = SeenKind::Certificates {
            direction: Way::ToClient,
            chain: &chain,
        };
        assert_eq!(b.see(certificates).len(), 1);
        b.server("https://files.example/drop", "203.0.113.9");
        assert_eq!(b.request(&request("GET", "/drop", &[]), false).len(), 1);
    }

    #[test]
    fn stays_silent_on_expired_entries_on_what_is_not_listed_and_without_data() {
        let mut late = bench("");
        let end = Timestamp::parse_rfc3339("2026-12-01T00:00:00Z").unwrap();
        late.wait(end.since(late.at().time));
        assert!(opens(&mut late, "198.51.100.66").is_empty());
        let mut b = bench("rules: {OP-03: {allow: [c2.example]}}\n");
        assert!(opens(&mut b, "203.0.113.5").is_empty());
        assert!(
            b.dns(Way::ToServer, &dns_answer(1, "c2.example", &[], &[]))
                .is_empty(),
            "listed as allowed"
        );
        assert!(
            b.dns(Way::ToServer, &dns_answer(1, "ok.example", &[], &[]))
                .is_empty()
        );
        assert!(opens(&mut Bench::new(ThreatFeed, ""), "198.51.100.66").is_empty());
    }
}
