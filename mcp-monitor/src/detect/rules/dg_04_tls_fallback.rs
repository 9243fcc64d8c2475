//! DG-04 tls-fallback: TLS_FALLBACK_SCSV (0x5600) offered, or inappropriate_fallback alert (86).

use super::prelude::*;

const META: Meta = Meta {
    id: "DG-04",
    slug: "tls-fallback",
    category: "downgrade",
    trigger: "TLS_FALLBACK_SCSV (0x5600) offered, or inappropriate_fallback alert (86)",
    silent_on: "",
    severity: Severity::High,
    sight: Sight::Handshake,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::ClientHello, Kind::TlsAlert],
    page: Page {
        means: "A client repeated a failed handshake with a lower version on offer and said so, or a server refused such a repeat. Current software does not fall back; something made the better handshake fail.",
        attacker: "Drops or resets handshakes of new versions until the client tries an old one.",
        wire: "Cipher suite value 0x5600 (TLS_FALLBACK_SCSV, RFC 7507) in a ClientHello, or alert 86 (`inappropriate_fallback`).",
        act: "Look at the handshakes just before on the same pair of hosts: what ended them? Check middleboxes on the path.",
        quiet: "Very old clients send the value on every retry on a bad line. Update them.",
    },
};

/// TLS_FALLBACK_SCSV (RFC 7507).
const FALLBACK_SCSV: u16 = 0x5600;

/// inappropriate_fallback (RFC 7507).
const INAPPROPRIATE_FALLBACK: u8 = 86;

/// Nothing to remember.
#[derive(Default)]
pub(super) struct TlsFallback;

impl Rule for TlsFallback {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let observed = match &seen.kind {
            SeenKind::ClientHello(hello) if hello.ciphers.contains(&FALLBACK_SCSV) => {
                "TLS_FALLBACK_SCSV offered"
            }
            SeenKind::TlsAlert { description, .. } if *description == INAPPROPRIATE_FALLBACK => {
                "alert inappropriate_fallback"
            }
            _ => return,
        };
        let connection = seen.connection;
        let index = connection.and_then(|c| c.endpoint);
        let host = connection
            .and_then(|c| c.server_name().map(str::to_owned))
            .or_else(|| seen.flow.map(|f| f.info.server.ip().to_string()))
            .unwrap_or_default();
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} fell back to a lower TLS version with {} ({observed}); look at what ended the handshakes before",
                    agent(seen),
                    label(world, index, &host)
                ),
            )
            .at(index)
            .observed(observed),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tls::ClientHello;

    #[test]
    fn fires_on_the_value_and_on_the_alert() {
        let hello = ClientHello {
            ciphers: vec![0xc02f, 0x5600],
            ..ClientHello::default()
        };
        assert_eq!(
            Bench::new(TlsFallback, "")
                .see(SeenKind::ClientHello(&hello))
                .len(),
            1
        );
        let alert = SeenKind::TlsAlert {
            direction: Direction::ToClient,
            description: 86,
        };
        assert_eq!(Bench::new(TlsFallback, "").see(alert).len(), 1);
    }

    #[test]
    fn stays_silent_on_ordinary_handshakes_and_alerts() {
        // 0x00ff is the renegotiation value, which ordinary clients send.
        let hello = ClientHello {
            ciphers: vec![0x1301, 0x00ff],
            ..ClientHello::default()
        };
        assert!(
            Bench::new(TlsFallback, "")
                .see(SeenKind::ClientHello(&hello))
                .is_empty()
        );
        let alert = SeenKind::TlsAlert {
            direction: Direction::ToClient,
            description: 0,
        };
        assert!(Bench::new(TlsFallback, "").see(alert).is_empty());
    }
}
