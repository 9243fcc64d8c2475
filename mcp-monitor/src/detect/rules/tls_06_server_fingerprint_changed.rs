//! TLS-06 server-fingerprint-changed: ServerHello tuple (version, cipher, extension order) new for this name.

use super::prelude::*;
use crate::proto::tls::{ClientHello, ServerHello, ja4::stable_ja4};

const META: Meta = Meta {
    id: "TLS-06",
    slug: "server-fingerprint-changed",
    category: "tls",
    trigger: "ServerHello tuple (version, cipher, extension order) new for this name",
    silent_on: "fleets with several tuples",
    severity: Severity::Medium,
    sight: Sight::Handshake,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::ServerHello],
    page: Page {
        means: "The software that answers for a pinned server is another one than before: it chooses differently among the same offers.",
        attacker: "Put a machine of their own, or a proxy that opens TLS, where the server was, or replaced what the server runs.",
        wire: "A full handshake whose ServerHello has a combination of version, cipher suite and order of extensions that is new for this server and this kind of client, after others had been the same.",
        act: "Compare the certificate and address with the pin. Ask the owner whether they changed their load balancer or TLS library.",
        quiet: "Compared per kind of client (its JA4), and only after five handshakes in a row without anything new: fleets with several stacks are learned. Resumed sessions are left out.",
    },
};

/// Handshakes without a new tuple after which one stands out.
const SETTLE: u32 = 5;

/// Remembers what servers answered, by server and fingerprint of the client.
#[derive(Default)]
pub(super) struct ServerFingerprintChanged {
    tuples: Remembered<(Box<str>, String), Habit<String>>,
}

impl Rule for ServerFingerprintChanged {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.tuples)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::ServerHello {
            hello,
            client: Some(client),
        } = &seen.kind
        else {
            return;
        };
        let index = seen.connection.and_then(|c| c.endpoint);
        let Some(endpoint) = world.pins.endpoint(index) else {
            return;
        };
        if hello.retry || is_resumed(client, hello) {
            return;
        }
        let key = (tls_name(seen), stable_ja4(client));
        let tuple = tuple(hello);
        let habit = self.tuples.get_or_default(&key);
        let Some(before) = habit.and_then(|h| h.breaks(tuple.clone(), SETTLE)) else {
            return;
        };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "what terminates TLS for {} changed: it answers the same client in a new way; compare its certificate and address with the pin",
                    endpoint.name
                ),
            )
            .at(index)
            .expected(before.iter().cloned())
            .observed(tuple),
        );
    }
}

fn is_resumed(client: &ClientHello, server: &ServerHello) -> bool {
    server.psk
        || (server.version < 0x0304
            && !client.session_id.is_empty()
            && client.session_id == server.session_id)
}

/// Version, cipher suite, extensions in order.
fn tuple(hello: &ServerHello) -> String {
    let extensions: Vec<String> = hello.extensions.iter().map(|e| format!("{e:04x}")).collect();
    format!(
        "{:04x} {:04x} {}",
        hello.version,
        hello.cipher,
        extensions.join("-")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\n";

    fn answers(bench: &mut Bench, cipher: u16, extensions: &[u16], psk: bool) -> Vec<Finding> {
        let server = ServerHello {
            version: 0x0304,
            cipher,
            extensions: extensions.to_vec(),
            psk,
            ..ServerHello::default()
        };
        bench.hello(&ClientHello::default(), &server)
    }

    #[test]
    fn fires_on_a_new_tuple() {
        let mut bench = Bench::new(ServerFingerprintChanged::default(), PINS);
        for _ in 0..SETTLE {
            assert!(answers(&mut bench, 0x1301, &[43, 51], false).is_empty());
        }
        let found = answers(&mut bench, 0x1301, &[51, 43], false);
        assert_eq!(found[0].observed.as_deref(), Some("0304 1301 0033-002b"));
        assert_eq!(found[0].expected, ["0304 1301 002b-0033"]);
    }

    #[test]
    fn stays_silent_on_fleets_resumption_and_unpinned_servers() {
        let mut fleet = Bench::new(ServerFingerprintChanged::default(), PINS);
        for n in 0..20 {
            let extensions: &[u16] = if n % 2 == 0 { &[43, 51] } else { &[51, 43] };
            assert!(answers(&mut fleet, 0x1301, extensions, false).is_empty());
        }
        assert!(answers(&mut fleet, 0x1301, &[43, 51, 41], true).is_empty());
        let mut other = Bench::new(ServerFingerprintChanged::default(), "");
        for _ in 0..SETTLE {
            answers(&mut other, 0x1301, &[43], false);
        }
        assert!(answers(&mut other, 0x1302, &[43], false).is_empty());
    }
}
