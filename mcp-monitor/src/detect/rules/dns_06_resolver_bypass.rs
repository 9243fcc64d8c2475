//! DNS-06 resolver-bypass: DoH, DoT or DoQ from an agent.

use super::prelude::*;
use crate::{config::pins::EncryptedDns, flow::FlowId};

const META: Meta = Meta {
    id: "DNS-06",
    slug: "resolver-bypass",
    category: "dns",
    trigger: "DoH, DoT or DoQ from an agent",
    silent_on: "",
    severity: Severity::Medium,
    sight: Sight::Handshake,
    needs: "policy",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure", "limited-monitoring"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Open, Kind::ClientHello, Kind::Request],
    page: Page {
        means: "A program resolves names over an encrypted channel of its own, past the resolver and past this monitor's DNS rules.",
        attacker: "Malware and tunnels use it to hide where they go; a changed agent, to escape the resolver's policy.",
        wire: "DNS over TLS or QUIC (port 853, ALPN `dot` or `doq`), a ClientHello for a well-known DoH provider, or an HTTP request with `application/dns-message`.",
        act: "Find the program and its setting. Where encrypted DNS is wanted, let the node's resolver do it.",
        quiet: "Servers listed under `resolvers` are silent; `policy.encrypted_dns: allow` turns the rule off.",
    },
};

const PORT: u16 = 853;

/// Names of public DoH services.
const PROVIDERS: &[&str] = &[
    "dns.google",
    "dns.google.com",
    "dns64.dns.google",
    "cloudflare-dns.com",
    "mozilla.cloudflare-dns.com",
    "chrome.cloudflare-dns.com",
    "security.cloudflare-dns.com",
    "family.cloudflare-dns.com",
    "one.one.one.one",
    "1dot1dot1dot1.cloudflare-dns.com",
    "dns.quad9.net",
    "dns9.quad9.net",
    "dns10.quad9.net",
    "dns11.quad9.net",
    "doh.opendns.com",
    "doh.umbrella.com",
    "dns.nextdns.io",
    "dns.adguard-dns.com",
    "dns.adguard.com",
    "doh.cleanbrowsing.org",
    "doh.mullvad.net",
    "dns.mullvad.net",
    "doh.dns.sb",
    "dns.alidns.com",
    "doh.pub",
    "freedns.controld.com",
    "ordns.he.net",
    "dns.controld.com",
];

/// Says it once per connection.
#[derive(Default)]
pub(super) struct ResolverBypass {
    said: Once<FlowId>,
}

impl Rule for ResolverBypass {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let Some(flow) = seen.flow else { return };
        let pins = world.pins;
        let server = flow.info.server.ip();
        if pins.policy.encrypted_dns == EncryptedDns::Allow
            || pins.resolvers.iter().any(|n| n.contains(&server))
        {
            return;
        }
        let observed = match &seen.kind {
            SeenKind::Open if flow.info.server.port() == PORT => format!("DNS over TLS or QUIC to {server}"),
            SeenKind::ClientHello(hello) => {
                let name = hello.server_name.as_deref().unwrap_or_default();
                if hello.alpn.iter().any(|a| matches!(&**a, "dot" | "doq")) {
                    format!("DNS over TLS or QUIC to {server}")
                } else if PROVIDERS.contains(&name) {
                    format!("TLS with the DoH service {name}")
                } else {
                    return;
                }
            }
            SeenKind::Request { head, target, .. } => {
                let is_dns = |name| {
                    head.headers
                        .get_str(name)
                        .is_some_and(|v| v.contains("application/dns-message"))
                };
                if !is_dns("content-type") && !is_dns("accept") {
                    return;
                }
                format!("DNS over HTTPS to {}", shown(&target.origin.host))
            }
            _ => return,
        };
        if !self.said.first(flow.info.id) {
            return;
        }
        let expected: Vec<String> = if pins.resolvers.is_empty() {
            vec!["the system's resolver".to_owned()]
        } else {
            pins.resolvers.iter().map(ToString::to_string).collect()
        };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} resolves names past the resolver ({observed}); find the program and its setting",
                    agent(seen)
                ),
            )
            .expected(expected)
            .observed(observed),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tls::ClientHello;

    fn opens(pins: &str, port: u16) -> usize {
        let mut bench = Bench::new(ResolverBypass::default(), pins);
        bench.server(&format!("https://203.0.113.53:{port}/"), "203.0.113.53");
        bench.see(SeenKind::Open).len()
    }

    fn hello(name: &str) -> usize {
        let hello = ClientHello {
            server_name: Some(name.into()),
            ..ClientHello::default()
        };
        Bench::new(ResolverBypass::default(), "")
            .see(SeenKind::ClientHello(&hello))
            .len()
    }

    #[test]
    fn fires_on_encrypted_dns() {
        assert_eq!(opens("", 853), 1);
        assert_eq!(hello("dns.google"), 1);
        let head = request(
            "POST",
            "/dns-query",
            &[("content-type", "application/dns-message")],
        );
        assert_eq!(
            Bench::new(ResolverBypass::default(), "")
                .request(&head, false)
                .len(),
            1
        );
    }

    #[test]
    fn stays_silent_on_listed_resolvers_where_allowed_and_on_other_tls() {
        assert_eq!(opens("resolvers: [203.0.113.53]\n", 853), 0);
        assert_eq!(opens("policy: {encrypted_dns: allow}\n", 853), 0);
        assert_eq!(opens("", 443), 0);
        assert_eq!(hello("www.google.com"), 0);
    }
}
