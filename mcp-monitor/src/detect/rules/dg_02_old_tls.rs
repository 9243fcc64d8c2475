//! DG-02 old-tls: negotiated TLS below the pin, or below 1.2.

use super::super::text::tls_version;
use super::prelude::*;

const META: Meta = Meta {
    id: "DG-02",
    slug: "old-tls",
    category: "downgrade",
    trigger: "negotiated TLS below the pin, or below 1.2",
    silent_on: "",
    severity: Severity::High,
    sight: Sight::Handshake,
    needs: "-/pin",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation", "weak-communication-security"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::ServerHello],
    page: Page {
        means: "A connection was made with a TLS version below the pin, or below 1.2, which RFC 8996 retired.",
        attacker: "Interfered with handshakes until the client offered less, runs an old terminator in front of the server, or changed the client's settings.",
        wire: "A ServerHello whose negotiated version is lower than `tls.min_version`, or than 1.2.",
        act: "Check which side is old: the alert says what the client offered. Update it, or find what sits in between.",
        quiet: "None known on current software. For a server that can do no better, pin its `min_version`, and lower this rule's severity for it.",
    },
};

/// TLS 1.2 (RFC 8996).
const FLOOR: u16 = 0x0303;

/// Nothing to remember.
#[derive(Default)]
pub(super) struct OldTls;

impl Rule for OldTls {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::ServerHello { hello, client } = &seen.kind else {
            return;
        };
        let connection = seen.connection;
        let index = connection.and_then(|c| c.endpoint);
        let pinned = world.pins.endpoint(index).and_then(|e| e.tls.min_version);
        let least = pinned.unwrap_or(FLOOR);
        if hello.retry || hello.version >= least {
            return;
        }
        let host = connection
            .and_then(|c| c.server_name().map(str::to_owned))
            .or_else(|| seen.flow.map(|f| f.info.server.ip().to_string()))
            .unwrap_or_default();
        let offered = client.map_or_else(String::new, |c| {
            format!(
                " although the client offered up to {}",
                tls_version(c.max_version)
            )
        });
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} and {} agreed on TLS {}{offered}; find which side, or what between them, is old",
                    agent(seen),
                    label(world, index, &host),
                    tls_version(hello.version)
                ),
            )
            .at(index)
            .expected([format!("TLS {} or later", tls_version(least))])
            .observed(format!("TLS {}", tls_version(hello.version))),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tls::{ClientHello, ServerHello};

    fn agrees(pins: &str, version: u16, retry: bool) -> Vec<Finding> {
        let client = ClientHello {
            max_version: 0x0304,
            ..ClientHello::default()
        };
        let server = ServerHello {
            version,
            retry,
            ..ServerHello::default()
        };
        Bench::new(OldTls, pins).hello(&client, &server)
    }

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp', tls: {min_version: '1.3'}}]\n";

    #[test]
    fn fires_below_1_2_and_below_the_pin() {
        assert_eq!(agrees("", 0x0302, false)[0].observed.as_deref(), Some("TLS 1.1"));
        assert_eq!(agrees(PINS, 0x0303, false)[0].expected, ["TLS 1.3 or later"]);
    }

    #[test]
    fn stays_silent_on_current_versions_and_retries() {
        assert!(agrees("", 0x0303, false).is_empty());
        assert!(agrees(PINS, 0x0304, false).is_empty());
        assert!(agrees(PINS, 0x0303, true).is_empty());
    }
}
