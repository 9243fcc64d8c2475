//! DG-05 weak-cipher: export, NULL, RC4, 3DES or static-RSA suite; hybrid key exchange lost.

use super::prelude::*;
use std::net::IpAddr;

const META: Meta = Meta {
    id: "DG-05",
    slug: "weak-cipher",
    category: "downgrade",
    trigger: "export, NULL, RC4, 3DES or static-RSA suite; hybrid key exchange lost",
    silent_on: "HelloRetryRequest",
    severity: Severity::Medium,
    sight: Sight::Handshake,
    needs: "-/base",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation", "weak-communication-security"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::ServerHello],
    page: Page {
        means: "The connection uses a cipher suite that can be broken or that gives up forward secrecy; or post-quantum key exchange, which client and server had used before, is gone although the client still offers it.",
        attacker: "Narrows the handshake to a suite they can decrypt, now or later from a recording.",
        wire: "A ServerHello with an export, NULL, anonymous, RC4, DES or 3DES suite, or one with static RSA key exchange; or a `key_share` that is no longer the hybrid group.",
        act: "Find which side chose it (the client's offer and the server's settings), and what sits between.",
        quiet: "A HelloRetryRequest is silent: it is not the choice yet. Old servers that can do no better: lower the severity for them.",
    },
};

/// Hybrid groups: X25519MLKEM768, SecP256r1MLKEM768, SecP384r1MLKEM1024, and the draft of the first.
const HYBRID: &[u16] = &[0x11ec, 0x11eb, 0x11ed, 0x6399];

/// Why a suite is weak (IANA TLS cipher suite registry).
fn weakness(cipher: u16) -> Option<&'static str> {
    Some(match cipher {
        0x0001
        | 0x0002
        | 0x003b
        | 0x00b0..=0x00b1
        | 0x00b4..=0x00b5
        | 0xc001
        | 0xc006
        | 0xc00b
        | 0xc010
        | 0xc015
        | 0xc039..=0xc03b => "no encryption",
        0x0003 | 0x0006 | 0x0008 | 0x000b | 0x000e | 0x0011 | 0x0014 | 0x0017 | 0x0019 | 0x0062..=0x0065 => {
            "export grade"
        }
        0x0018 | 0x001a | 0x001b | 0x0034 | 0x003a | 0x006c | 0x006d | 0x00a6 | 0x00a7 | 0xc016..=0xc019 => {
            "anonymous"
        }
        0x0004 | 0x0005 | 0x0066 | 0x008a | 0x008e | 0x0092 | 0xc002 | 0xc007 | 0xc00c | 0xc011 | 0xc033 => {
            "RC4"
        }
        0x0007 | 0x0009 | 0x000c | 0x000f | 0x0012 | 0x0015 => "DES",
        0x000a
        | 0x000d
        | 0x0010
        | 0x0013
        | 0x0016
        | 0x008b
        | 0x008f
        | 0x0093
        | 0xc003
        | 0xc008
        | 0xc00d
        | 0xc012
        | 0xc01a..=0xc01c
        | 0xc034 => "3DES",
        0x002f | 0x0035 | 0x003c | 0x003d | 0x0041 | 0x0084 | 0x0096 | 0x009c | 0x009d | 0x00ba | 0x00c0
        | 0xc09c | 0xc09d | 0xc0a0 | 0xc0a1 => "static RSA key exchange",
        _ => return None,
    })
}

/// Pairs of client and server that used a hybrid group.
#[derive(Default)]
pub(super) struct WeakCipher {
    hybrid: Remembered<(IpAddr, Box<str>), ()>,
}

impl Rule for WeakCipher {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.hybrid)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::ServerHello { hello, client }, Some(flow)) = (&seen.kind, seen.flow) else {
            return;
        };
        if hello.retry {
            return;
        }
        let name = client
            .and_then(|c| c.server_name.clone())
            .unwrap_or_else(|| flow.info.server.ip().to_string().into());
        let index = seen.connection.and_then(|c| c.endpoint);
        let server = label(world, index, &name);
        if let Some(why) = weakness(hello.cipher) {
            out.push(
                Finding::new(
                    META.id,
                    format!("{} and {server} agreed on a weak cipher suite ({why}); find which side, or what between them, chose it", agent(seen)),
                )
                .at(index)
                .expected(["a suite with forward secrecy and authenticated encryption"])
                .observed(format!("0x{:04x} {why}", hello.cipher)),
            );
        }
        let Some(group) = hello.key_share else { return };
        let key = (flow.info.client.ip(), name);
        if HYBRID.contains(&group) {
            self.hybrid.insert(key, ());
            return;
        }
        let offered = client.is_some_and(|c| c.key_shares.iter().any(|g| HYBRID.contains(g)));
        if offered && self.hybrid.get(&key).is_some() {
            out.push(
                Finding::new(
                    META.id,
                    format!("{server} no longer takes the hybrid key exchange that {} offers and had used with it; look what terminates TLS there now", agent(seen)),
                )
                .at(index)
                .expected(["hybrid key exchange"])
                .observed(format!("group 0x{group:04x}")),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tls::{ClientHello, ServerHello};

    fn agrees(bench: &mut Bench, cipher: u16, group: u16, retry: bool) -> usize {
        let client = ClientHello {
            key_shares: vec![0x11ec, 0x1d],
            server_name: Some("mcp.example".into()),
            ..ClientHello::default()
        };
        let server = ServerHello {
            cipher,
            key_share: Some(group),
            retry,
            version: 0x0303,
            ..ServerHello::default()
        };
        bench.hello(&client, &server).len()
    }

    #[test]
    fn fires_on_weak_suites_and_on_lost_hybrid_exchange() {
        let mut bench = Bench::new(WeakCipher::default(), "");
        for cipher in [0x0005, 0x000a, 0x002f, 0x009c, 0x0003, 0x0001, 0x0034] {
            assert_eq!(agrees(&mut bench, cipher, 0x1d, false), 1, "{cipher:04x}");
        }
        assert_eq!(agrees(&mut bench, 0x1301, 0x11ec, false), 0);
        assert_eq!(agrees(&mut bench, 0x1301, 0x001d, false), 1);
    }

    #[test]
    fn stays_silent_on_good_suites_retries_and_servers_never_hybrid() {
        let mut bench = Bench::new(WeakCipher::default(), "");
        for cipher in [0x1301, 0x1302, 0x1303, 0xc02f, 0xc030, 0xcca8, 0x009e] {
            assert_eq!(agrees(&mut bench, cipher, 0x1d, false), 0, "{cipher:04x}");
        }
        assert_eq!(agrees(&mut bench, 0x1301, 0x11ec, false), 0);
        assert_eq!(agrees(&mut bench, 0x1301, 0x001d, true), 0);
    }
}
