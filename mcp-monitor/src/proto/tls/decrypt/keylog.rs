//! Logged secrets, in the format that NSS made and all libraries write (`SSLKEYLOGFILE`,
//! draft-ietf-tls-keylogfile).

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use zeroize::Zeroizing;

use super::rsa::{RsaKeyError, RsaKeys};

/// Connections whose secrets are kept; lines for more are counted as refused.
const MAX_CONNECTIONS: usize = 1 << 20;
/// Longest secret: SHA-384 in TLS 1.3, the master secret before.
const MAX_SECRET: usize = 48;
/// `client_random`, which names the connection.
pub(super) type Random = [u8; 32];
/// A secret; wiped when dropped.
pub(super) type Secret = Zeroizing<Vec<u8>>;

/// Secrets of one connection.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    /// TLS 1.2 and before.
    pub(super) master: Option<Secret>,
    pub(super) client_early: Option<Secret>,
    pub(super) client_handshake: Option<Secret>,
    pub(super) server_handshake: Option<Secret>,
    pub(super) client_traffic: Option<Secret>,
    pub(super) server_traffic: Option<Secret>,
}

/// What a text of key log lines held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Added {
    /// Secrets taken.
    pub secrets: u64,
    /// Lines that are no comment and not of the format, the first of them.
    pub malformed: u64,
    /// Number of the first such line, 1-based; 0 if there is none.
    pub first_malformed: u64,
    /// Lines of kinds that open nothing (exporter secrets, ECH).
    pub unused: u64,
    /// Lines left out because the log is full.
    pub refused: u64,
}

/// Secrets by connection; filled by who reads them, looked up by parsers on any thread.
#[derive(Default)]
pub struct KeyLog {
    connections: RwLock<HashMap<Random, Arc<Secrets>>>,
    rsa: RsaKeys,
    filled: AtomicBool,
}

impl KeyLog {
    /// Nothing in it, so that nobody needs to look.
    pub fn is_empty(&self) -> bool {
        !self.filled.load(Ordering::Acquire)
    }

    /// Takes the lines of `text`. A line without its newline at the end may still be in the
    /// writing: it is taken if it is whole.
    pub fn add(&self, text: &[u8]) -> Added {
        let mut added = Added::default();
        let mut lines = 0_u64;
        let Ok(mut connections) = self.connections.write() else {
            return added;
        };
        for line in text.split(|b| *b == b'\n') {
            lines = lines.saturating_add(1);
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let count = match parse(line) {
                Line::Secret(kind, random, secret) => {
                    if connections.len() >= MAX_CONNECTIONS && !connections.contains_key(&random) {
                        &mut added.refused
                    } else {
                        let entry = Arc::make_mut(connections.entry(random).or_default());
                        *kind.of(entry) = Some(secret);
                        &mut added.secrets
                    }
                }
                Line::Unused => &mut added.unused,
                Line::Malformed => {
                    if added.first_malformed == 0 {
                        added.first_malformed = lines;
                    }
                    &mut added.malformed
                }
            };
            *count = count.saturating_add(1);
        }
        self.filled
            .store(!connections.is_empty() || !self.rsa.is_empty(), Ordering::Release);
        added
    }

    /// Takes the private key of a server, PEM. It opens connections of TLS 1.2 whose key exchange was RSA
    /// and that began with a whole handshake.
    ///
    /// # Errors
    ///
    /// When the text is no such key.
    pub fn add_rsa_key(&mut self, pem: &str) -> Result<(), RsaKeyError> {
        self.rsa.add(pem)?;
        self.filled.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) fn rsa(&self) -> &RsaKeys {
        &self.rsa
    }

    /// What is known of the connection with this `client_random`.
    pub(super) fn get(&self, random: &Random) -> Option<Arc<Secrets>> {
        self.connections.read().ok()?.get(random).cloned()
    }
}

impl fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyLog").finish_non_exhaustive()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Master,
    ClientEarly,
    ClientHandshake,
    ServerHandshake,
    ClientTraffic,
    ServerTraffic,
}

impl Kind {
    fn of(self, secrets: &mut Secrets) -> &mut Option<Secret> {
        match self {
            Self::Master => &mut secrets.master,
            Self::ClientEarly => &mut secrets.client_early,
            Self::ClientHandshake => &mut secrets.client_handshake,
            Self::ServerHandshake => &mut secrets.server_handshake,
            Self::ClientTraffic => &mut secrets.client_traffic,
            Self::ServerTraffic => &mut secrets.server_traffic,
        }
    }
}

enum Line {
    Secret(Kind, Random, Secret),
    Unused,
    Malformed,
}

fn parse(line: &[u8]) -> Line {
    let mut words = line.split(|b| *b == b' ').filter(|w| !w.is_empty());
    let (Some(label), Some(random), Some(secret), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Line::Malformed;
    };
    let kind = match label {
        b"CLIENT_RANDOM" => Kind::Master,
        b"CLIENT_EARLY_TRAFFIC_SECRET" => Kind::ClientEarly,
        b"CLIENT_HANDSHAKE_TRAFFIC_SECRET" => Kind::ClientHandshake,
        b"SERVER_HANDSHAKE_TRAFFIC_SECRET" => Kind::ServerHandshake,
        b"CLIENT_TRAFFIC_SECRET_0" => Kind::ClientTraffic,
        b"SERVER_TRAFFIC_SECRET_0" => Kind::ServerTraffic,
        _ if label
            .iter()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_') =>
        {
            return Line::Unused;
        }
        _ => return Line::Malformed,
    };
    let random = unhex(random).and_then(|r| Random::try_from(r.as_slice()).ok());
    let secret = unhex(secret).filter(|s| s.len() <= MAX_SECRET && s.len() >= 32);
    match (random, secret) {
        (Some(random), Some(secret)) => Line::Secret(kind, random, secret),
        _ => Line::Malformed,
    }
}

fn unhex(text: &[u8]) -> Option<Secret> {
    if text.len() > 2 * MAX_SECRET {
        return None;
    }
    let (pairs, rest) = text.as_chunks::<2>();
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)?.wrapping_shl(4) | digit(*low)?))
        .collect();
    bytes.filter(|_| rest.is_empty()).map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_libraries_write_and_counts_the_rest() {
        let random = "ab".repeat(32);
        let text = format!(
            "# made by a browser\r\nCLIENT_RANDOM {random} {}\r\n\nSERVER_TRAFFIC_SECRET_0 {random} {}\n\
             EXPORTER_SECRET {random} {}\nnonsense\nCLIENT_RANDOM {random} 12",
            "01".repeat(48),
            "02".repeat(32),
            "03".repeat(32),
        );
        let log = KeyLog::default();
        assert!(log.is_empty());
        let added = log.add(text.as_bytes());
        assert_eq!(
            added,
            Added {
                secrets: 2,
                malformed: 2,
                first_malformed: 6,
                unused: 1,
                refused: 0
            }
        );
        assert!(!log.is_empty());
        let secrets = log.get(&[0xab; 32]).unwrap();
        assert_eq!(secrets.master.as_ref().unwrap().as_slice(), [1; 48]);
        assert_eq!(secrets.server_traffic.as_ref().unwrap().as_slice(), [2; 32]);
        assert!(secrets.client_traffic.is_none());
        assert!(log.get(&[0; 32]).is_none());
    }

    #[test]
    fn does_not_show_secrets() {
        let log = KeyLog::default();
        log.add(format!("CLIENT_RANDOM {} {}", "ab".repeat(32), "77".repeat(48)).as_bytes());
        let shown = format!("{log:?} {:?}", log.get(&[0xab; 32]));
        assert!(!shown.contains("77") && !shown.contains("119"), "{shown}");
    }
}
