//! TLS-07 hidden-sni: real ECH hides the SNI of a flow to a pinned address.

use super::prelude::*;
use crate::proto::{dns::RecordData, tls::Ech};

const META: Meta = Meta {
    id: "TLS-07",
    slug: "hidden-sni",
    category: "tls",
    trigger: "real ECH hides the SNI of a flow to a pinned address",
    silent_on: "GREASE ECH",
    severity: Severity::Low,
    sight: Sight::Handshake,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["limited-monitoring"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::ClientHello, Kind::Dns],
    page: Page {
        means: "A flow to a pinned server's address hides the name it is for with Encrypted Client Hello, so that rules on the name cannot judge it.",
        attacker: "Uses ECH on purpose, so that a connection to another tenant behind the same addresses passes for one to the pinned server, or for nothing in particular.",
        wire: "A ClientHello with `encrypted_client_hello` in its outer form whose server name is the public name of a published ECH configuration (DNS record of type HTTPS, or that of a known provider), or is not the pinned name although the address was resolved from it.",
        act: "If policy wants names to be seen, turn ECH off in the agent, or have the resolver take `ech` out of HTTPS records.",
        quiet: "GREASE, which sends the extension with nothing in it, is silent: the true name stands beside it. So is real ECH to addresses that no pin holds.",
    },
};

/// Public names of providers that turn ECH on for everybody.
const PROVIDERS: &[&str] = &["cloudflare-ech.com"];

/// Remembers the ECH configurations that DNS published: public name and id.
#[derive(Default)]
pub(super) struct HiddenSni {
    published: Bounded<(Box<str>, u8), ()>,
}

impl Rule for HiddenSni {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let hello = match &seen.kind {
            SeenKind::Dns { message, .. } if message.response => {
                for record in &message.answers {
                    if let RecordData::Svcb { ech_configs, .. } = &record.data {
                        for config in ech_configs {
                            self.published.insert((config.public_name.clone(), config.id), ());
                        }
                    }
                }
                return;
            }
            SeenKind::ClientHello(hello) => hello,
            _ => return,
        };
        let (Some(Ech::Outer { config_id, .. }), Some(flow), Some(connection)) =
            (hello.ech, seen.flow, seen.connection)
        else {
            return;
        };
        let outer = hello.server_name.clone().unwrap_or_default();
        if endpoint_of_host(world, &outer).is_some() {
            return;
        }
        let resolved = connection.resolved_as.as_deref();
        let by_name = resolved.and_then(|name| endpoint_of_host(world, name));
        let by_address = || world.pins.match_address(flow.info.server.ip());
        let index = match resolved {
            Some(_) => by_name,
            None => by_address(),
        };
        let known =
            PROVIDERS.contains(&&*outer) || self.published.get_mut(&(outer.clone(), config_id)).is_some();
        let Some(endpoint) = world.pins.endpoint(index).filter(|_| known || by_name.is_some()) else {
            return;
        };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} hides from the network which name at the addresses of {} it connects to; rules on the name are blind there",
                    agent(seen),
                    endpoint.name
                ),
            )
            .at(index)
            .expected([endpoint.url.host.to_string()])
            .observed(format!("encrypted ClientHello behind {}", shown(&outer))),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{
        dns::{EchConfig, Record},
        tls::ClientHello,
    };

    const PINS: &str =
        "endpoints: [{name: a, url: 'https://mcp.example/mcp', addresses: [203.0.113.0/24]}]\n";

    fn hello(name: &str) -> ClientHello {
        ClientHello {
            server_name: Some(name.into()),
            ech: Some(Ech::Outer {
                config_id: 7,
                payload_len: 200,
            }),
            ..ClientHello::default()
        }
    }

    fn bench(resolved: Option<&str>) -> Bench {
        let mut bench = Bench::new(HiddenSni::default(), PINS);
        bench.connection.resolved_as = resolved.map(Into::into);
        bench
    }

    #[test]
    fn fires_on_a_pinned_address_behind_a_public_name() {
        let fires = |resolved, name| bench(resolved).see(SeenKind::ClientHello(&hello(name))).len();
        assert_eq!(fires(Some("mcp.example"), "front.example"), 1);
        assert_eq!(fires(None, "cloudflare-ech.com"), 1);
        let mut bench = bench(None);
        let mut answer = dns_answer(1, "mcp.example", &[], &[]);
        answer.answers.push(Record {
            name: "mcp.example".into(),
            rtype: 65,
            class: 1,
            ttl: 60,
            data: RecordData::Svcb {
                priority: 1,
                target: "".into(),
                alpn: Vec::new(),
                ech: true,
                ech_configs: vec![EchConfig {
                    id: 7,
                    public_name: "public.example".into(),
                }],
                port: None,
                hints: Vec::new(),
            },
        });
        bench.dns(Direction::ToClient, &answer);
        let found = bench.see(SeenKind::ClientHello(&hello("public.example")));
        assert_eq!(
            found[0].observed.as_deref(),
            Some("encrypted ClientHello behind public.example")
        );
    }

    #[test]
    fn stays_silent_on_grease_and_elsewhere() {
        let silent =
            |resolved, hello: &ClientHello| bench(resolved).see(SeenKind::ClientHello(hello)).is_empty();
        assert!(silent(Some("mcp.example"), &hello("mcp.example")), "GREASE");
        assert!(
            silent(None, &hello("neighbour.example")),
            "GREASE to another tenant"
        );
        assert!(silent(Some("other.example"), &hello("cloudflare-ech.com")));
        let plain = ClientHello {
            ech: None,
            ..hello("front.example")
        };
        assert!(silent(Some("mcp.example"), &plain));
    }
}
