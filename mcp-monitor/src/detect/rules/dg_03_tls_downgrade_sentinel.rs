//! DG-03 tls-downgrade-sentinel: ServerHello.random ends in the RFC 8446 sentinel although the client offered more.

use super::super::text::tls_version;
use super::prelude::*;

const META: Meta = Meta {
    id: "DG-03",
    slug: "tls-downgrade-sentinel",
    category: "downgrade",
    trigger: "ServerHello.random ends in the RFC 8446 sentinel although the client offered more",
    silent_on: "sentinel where client offered no more",
    severity: Severity::Critical,
    sight: Sight::Handshake,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::ServerHello],
    page: Page {
        means: "The server itself says that it would have spoken a newer TLS version, and the client had offered one: somebody between them took the offer out.",
        attacker: "Sits on the path and edits the ClientHello so that both sides fall back to a version with known attacks.",
        wire: "The last eight bytes of `ServerHello.random` are `DOWNGRD` and 01 or 00 (RFC 8446 section 4.1.3) although the ClientHello that was seen offered TLS 1.3 (or 1.2).",
        act: "Treat the path as hostile: find the middlebox or machine between client and server. A conforming client aborts; one that goes on is defective and wants updating.",
        quiet: "The mark is ordinary when the client offered nothing newer, and then this rule is silent. Some old TLS-inspecting middleboxes cause it: they are what it reports.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct TlsDowngradeSentinel;

impl Rule for TlsDowngradeSentinel {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::ServerHello {
            hello,
            client: Some(client),
        } = &seen.kind
        else {
            return;
        };
        let would_speak = match hello.random.last_chunk::<8>() {
            Some(b"DOWNGRD\x01") => 0x0304,
            Some(b"DOWNGRD\x00") => 0x0303,
            _ => return,
        };
        if hello.retry || hello.version >= would_speak || client.max_version < would_speak {
            return;
        }
        let index = seen.connection.and_then(|c| c.endpoint);
        let host = client
            .server_name
            .as_deref()
            .map(str::to_owned)
            .or_else(|| seen.flow.map(|f| f.info.server.ip().to_string()))
            .unwrap_or_default();
        out.push(
            Finding::new(
                META.id,
                format!(
                    "the handshake of {} with {} was downgraded to TLS {} in transit; find the machine between them",
                    agent(seen),
                    label(world, index, &host),
                    tls_version(hello.version)
                ),
            )
            .at(index)
            .expected([format!("TLS {}", tls_version(client.max_version))])
            .observed(format!("TLS {} with downgrade mark", tls_version(hello.version))),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tls::{ClientHello, ServerHello};

    fn random(tail: &[u8; 8]) -> [u8; 32] {
        let mut random = [7; 32];
        random[24..].copy_from_slice(tail);
        random
    }

    fn agrees(offered: u16, version: u16, tail: &[u8; 8]) -> usize {
        let client = ClientHello {
            max_version: offered,
            ..ClientHello::default()
        };
        let server = ServerHello {
            version,
            random: random(tail),
            ..ServerHello::default()
        };
        Bench::new(TlsDowngradeSentinel, "").hello(&client, &server).len()
    }

    #[test]
    fn fires_where_the_client_offered_more() {
        assert_eq!(agrees(0x0304, 0x0303, b"DOWNGRD\x01"), 1);
        assert_eq!(agrees(0x0303, 0x0302, b"DOWNGRD\x00"), 1);
    }

    #[test]
    fn stays_silent_where_the_client_offered_no_more() {
        assert_eq!(agrees(0x0303, 0x0303, b"DOWNGRD\x01"), 0);
        assert_eq!(agrees(0x0302, 0x0302, b"DOWNGRD\x00"), 0);
        assert_eq!(agrees(0x0304, 0x0303, b"DOWNGRX\x01"), 0);
    }
}
