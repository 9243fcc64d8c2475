//! Opens a TLS 1.2 or 1.3 connection whose secrets were logged.
//!
//! It stands beside [`Stream`](super::Stream), which reads what every observer can: this one
//! follows both directions from the first record, takes the secrets of the connection by its
//! `client_random`, and yields the plaintext where it lay in the stream. What cannot be opened is
//! said once, with the reason; the next connection begins anew.

mod keylog;
mod record;
mod rsa;
mod schedule;
mod side;
mod suite;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

pub use self::{
    keylog::{Added, KeyLog},
    rsa::RsaKeyError,
};

use self::{
    keylog::{Random, Secrets},
    record::{Header, Keys12, Opened, Opener},
    rsa::Transcript,
    schedule::prf,
    side::{Framed, Side, Stage},
    suite::{CbcMac, Cipher, Suite, exchanges_by_rsa, suite},
};
use super::{
    Chain, HandshakeEnd, TlsEvent,
    hello::{latin1, parse_client_hello, parse_server_hello},
};
use crate::{
    proto::reader::Reader,
    types::{Anomaly, AnomalyKind, At, Direction},
};

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const END_OF_EARLY_DATA: u8 = 5;
const ENCRYPTED_EXTENSIONS: u8 = 8;
const CERTIFICATE: u8 = 11;
const CERTIFICATE_REQUEST: u8 = 13;
const CLIENT_KEY_EXCHANGE: u8 = 16;
const FINISHED: u8 = 20;
const KEY_UPDATE: u8 = 24;

const ALPN: u16 = 16;
const ENCRYPT_THEN_MAC: u16 = 22;
const EXTENDED_MASTER_SECRET: u16 = 23;
const EARLY_DATA: u16 = 42;
const CLOSE_NOTIFY: u8 = 0;
const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct DecryptLimits {
    /// Bytes of a handshake message; a longer one is passed over. Default 128 KiB: certificate
    /// chains stay below.
    pub max_handshake: usize,
    /// Bytes of client records held until the server has said whether it takes early data. Above
    /// it the connection is given up. Default 256 KiB: servers allow 16 KiB as a rule.
    pub max_held: usize,
    /// Records tried after a loss before the direction waits for the next segment. Default 256:
    /// a loss of up to 4 MiB of full records is bridged.
    pub max_lost_records: u64,
}

impl Default for DecryptLimits {
    fn default() -> Self {
        Self {
            max_handshake: 128 * 1024,
            max_held: 256 * 1024,
            max_lost_records: 256,
        }
    }
}

/// What came out.
#[derive(Clone, Debug)]
pub enum Decrypted {
    /// Plaintext, in order.
    Data {
        /// Who sent it.
        direction: Direction,
        /// Of the segment that completed its record.
        at: At,
        /// Content of one record.
        data: Bytes,
    },
    /// Plaintext that is missing here.
    Gap {
        /// Whose.
        direction: Direction,
        /// When the loss was noticed.
        at: At,
        /// At least so many bytes.
        bytes: u64,
    },
    /// `close_notify`: the direction ended in order.
    End {
        /// Which.
        direction: Direction,
        /// When.
        at: At,
    },
    /// The server chose this application protocol (ALPN); comes before any plaintext.
    Protocol(Box<str>),
    /// From the encrypted part of the handshake.
    Tls(TlsEvent),
    /// The rest of the connection stays closed, and why.
    Failed {
        /// What.
        anomaly: Anomaly,
        /// When.
        at: At,
    },
}

/// See the module.
pub struct Decryptor {
    limits: DecryptLimits,
    keys: Arc<KeyLog>,
    to_server: Side,
    to_client: Side,
    state: Handshake,
    failed: bool,
}

/// What the hellos agreed on.
#[derive(Default)]
struct Handshake {
    client_random: Option<Random>,
    server_random: Option<Random>,
    version: Option<u16>,
    suite: Option<Suite>,
    encrypt_then_mac: bool,
    extended_master_secret: bool,
    /// Kept while a private key may open the connection.
    transcript: Option<Transcript>,
    early_offered: bool,
    /// `None` until the server has said.
    early_accepted: Option<bool>,
    secrets: Option<Arc<Secrets>>,
    /// What a handshake of TLS 1.3 came to, until it was reported.
    outcome: Option<super::Handshake>,
}

impl Handshake {
    /// The handshake of TLS 1.3 is over; the first word on it counts.
    fn over(&mut self, end: HandshakeEnd, at: At, out: &mut Vec<Decrypted>) {
        if let Some(outcome) = self.outcome.take() {
            let handshake = Box::new(super::Handshake { end, ..outcome });
            out.push(Decrypted::Tls(TlsEvent::Handshake { handshake, at }));
        }
    }

    /// Encrypted records of the client can be understood.
    fn client_ready(&self) -> bool {
        match self.version {
            None => false,
            Some(TLS13) => !self.early_offered || self.early_accepted.is_some(),
            Some(_) => true,
        }
    }
}

impl std::fmt::Debug for Decryptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decryptor")
            .field("version", &self.state.version)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl Decryptor {
    /// For a connection whose first byte comes next, in both directions.
    pub fn new(keys: Arc<KeyLog>, limits: DecryptLimits) -> Self {
        let transcript = (!keys.rsa().is_empty()).then(Transcript::default);
        Self {
            limits,
            keys,
            to_server: Side::default(),
            to_client: Side::default(),
            state: Handshake {
                transcript,
                ..Handshake::default()
            },
            failed: false,
        }
    }

    /// Nothing more will come out.
    pub fn is_done(&self) -> bool {
        self.failed
    }

    /// The next bytes of a direction.
    pub fn data(&mut self, direction: Direction, at: At, data: Bytes, out: &mut Vec<Decrypted>) {
        if self.failed {
            return;
        }
        self.side(direction).push(data);
        while !self.failed {
            match self.side(direction).next_record() {
                Framed::Record(header, payload) => self.record(direction, at, header, payload, out),
                Framed::More => break,
                Framed::NotTls => {
                    self.fail(at, AnomalyKind::TlsDecryptFailed, "not a TLS record", out);
                }
            }
        }
    }

    /// `bytes` of a direction will never come.
    pub fn gap(&mut self, direction: Direction, at: At, bytes: u64, out: &mut Vec<Decrypted>) {
        if self.failed || bytes == 0 {
            return;
        }
        if !self.side(direction).is_protected() && self.state.secrets.is_none() {
            return self.fail(
                at,
                AnomalyKind::TlsDecryptFailed,
                "part of the handshake is missing",
                out,
            );
        }
        let lost = self.side(direction).gap(bytes);
        out.extend(lost.map(|bytes| Decrypted::Gap { direction, at, bytes }));
    }

    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    fn fail(&mut self, at: At, kind: AnomalyKind, detail: &str, out: &mut Vec<Decrypted>) {
        self.failed = true;
        self.to_server = Side::default();
        self.to_client = Side::default();
        out.push(Decrypted::Failed {
            anomaly: Anomaly::new(kind, detail),
            at,
        });
    }

    fn no_secret(&mut self, at: At, out: &mut Vec<Decrypted>) {
        self.fail(
            at,
            AnomalyKind::TlsKeyMissing,
            "the key log has no secret for this connection",
            out,
        );
    }

    fn record(
        &mut self,
        direction: Direction,
        at: At,
        header: Header,
        payload: Bytes,
        out: &mut Vec<Decrypted>,
    ) {
        if self.side(direction).is_protected() && !self.plain_in_between(header) {
            return self.protected(direction, at, header, &payload, out);
        }
        match header.kind {
            HANDSHAKE => self.handshake(direction, at, &payload, out),
            CHANGE_CIPHER_SPEC => self.change_cipher_spec(direction, at, out),
            APPLICATION_DATA if direction == Direction::ToServer && !self.state.client_ready() => {
                self.hold(at, header, payload, out);
            }
            APPLICATION_DATA => {
                self.fail(
                    at,
                    AnomalyKind::TlsDecryptFailed,
                    "encrypted before keys were agreed",
                    out,
                );
            }
            // A plain alert is for Stream.
            _ => {}
        }
    }

    /// Keeps a record of the client for when the server has answered.
    fn hold(&mut self, at: At, header: Header, payload: Bytes, out: &mut Vec<Decrypted>) {
        if !self.to_server.hold(at, header, payload, self.limits.max_held) {
            self.fail(
                at,
                AnomalyKind::TlsDecryptFailed,
                "too much early data before the answer of the server",
                out,
            );
        }
    }

    /// In TLS 1.3 a ChangeCipherSpec means nothing, and an alert in the clear may come as long as
    /// the peer has no keys (RFC 8446 appendix D.4).
    fn plain_in_between(&self, header: Header) -> bool {
        self.state.version == Some(TLS13) && header.kind != APPLICATION_DATA
    }

    fn protected(
        &mut self,
        direction: Direction,
        at: At,
        header: Header,
        payload: &[u8],
        out: &mut Vec<Decrypted>,
    ) {
        let max_lost = self.limits.max_lost_records;
        let rejected = self.state.early_accepted == Some(false);
        let side = self.side(direction);
        let Some(opened) = side.open(header, payload, max_lost) else {
            if side.is_seeking() {
                // Not a record after all, or too much was lost: the next segment may begin one.
                return side.seek();
            }
            if direction == Direction::ToServer && rejected && side.at_first_handshake_record() {
                // Early data that the server refused; the client sends it again.
                return;
            }
            let detail = if side.opened_any() {
                "a record does not authenticate"
            } else {
                "the logged secret does not open the first record"
            };
            return self.fail(at, AnomalyKind::TlsDecryptFailed, detail, out);
        };
        self.content(direction, at, opened, out);
    }

    fn content(&mut self, direction: Direction, at: At, opened: Opened, out: &mut Vec<Decrypted>) {
        match opened.kind {
            APPLICATION_DATA if !opened.content.is_empty() => {
                // Early data comes before the client has seen what the server shows.
                if direction == Direction::ToServer && !self.to_server.in_early_data() {
                    self.state.over(HandshakeEnd::Established, at, out);
                }
                out.push(Decrypted::Data {
                    direction,
                    at,
                    data: opened.content,
                });
            }
            HANDSHAKE => self.handshake(direction, at, &opened.content, out),
            CHANGE_CIPHER_SPEC => self.change_cipher_spec(direction, at, out),
            ALERT => {
                if let [level, description] = *opened.content {
                    let end = HandshakeEnd::Refused {
                        by: direction,
                        description: Some(description),
                    };
                    self.state.over(end, at, out);
                    if description == CLOSE_NOTIFY {
                        out.push(Decrypted::End { direction, at });
                    } else {
                        out.push(Decrypted::Tls(TlsEvent::Alert {
                            direction,
                            level,
                            description,
                            at,
                        }));
                    }
                }
            }
            _ => {}
        }
    }

    fn handshake(&mut self, direction: Direction, at: At, content: &[u8], out: &mut Vec<Decrypted>) {
        let max = self.limits.max_handshake;
        self.side(direction).push_handshake(content);
        while let Some((kind, body)) = self.side(direction).next_message(max) {
            self.message(direction, at, kind, &body, out);
            if self.failed {
                return;
            }
        }
        if direction == Direction::ToClient && self.state.client_ready() {
            self.release(out);
        }
    }

    /// Goes through the records that the client sent before the server's answer was known.
    fn release(&mut self, out: &mut Vec<Decrypted>) {
        for (at, header, payload) in self.to_server.take_held() {
            if self.failed {
                return;
            }
            self.record(Direction::ToServer, at, header, payload, out);
        }
    }

    fn message(&mut self, direction: Direction, at: At, kind: u8, body: &Bytes, out: &mut Vec<Decrypted>) {
        let tls13 = self.state.version == Some(TLS13);
        if let Some(transcript) = self.state.transcript.as_mut().filter(|_| kind != HELLO_REQUEST) {
            transcript.push(kind, body);
        }
        match (kind, direction) {
            (CLIENT_HELLO, Direction::ToServer) => self.client_hello(body),
            (SERVER_HELLO, Direction::ToClient) => self.server_hello(at, body, out),
            (ENCRYPTED_EXTENSIONS, Direction::ToClient) if tls13 => self.encrypted_extensions(body, out),
            (CERTIFICATE, _) if tls13 && self.side(direction).is_protected() => {
                if let Some((chain, scts)) = Chain::of_message13(body).filter(|(c, _)| !c.is_empty()) {
                    let chain = Arc::new(chain);
                    if let Some(outcome) = &mut self.state.outcome {
                        match direction {
                            Direction::ToClient => outcome.server = Some(Arc::clone(&chain)),
                            Direction::ToServer => outcome.client = Some(Arc::clone(&chain)),
                        }
                        outcome.scts |= scts && direction == Direction::ToClient;
                    }
                    out.push(Decrypted::Tls(TlsEvent::Certificates { direction, chain, at }));
                }
            }
            (CERTIFICATE_REQUEST, Direction::ToClient) if tls13 => {
                if let Some(outcome) = &mut self.state.outcome {
                    outcome.certificate_requested = true;
                }
            }
            (CLIENT_KEY_EXCHANGE, Direction::ToServer) if self.state.secrets.is_none() => {
                self.key_exchange(at, body, out);
            }
            // A renegotiation of TLS 1.2; the first handshake is in the clear.
            (CERTIFICATE, _) if self.side(direction).is_protected() => {
                if let Some(chain) = Chain::of_message(body).filter(|c| !c.is_empty()) {
                    let chain = Arc::new(chain);
                    out.push(Decrypted::Tls(TlsEvent::Certificates { direction, chain, at }));
                }
            }
            (END_OF_EARLY_DATA, Direction::ToServer) if tls13 => self.to_server.leave(Stage::Early),
            (FINISHED, _) if tls13 => {
                let side = self.side(direction);
                side.leave(Stage::Handshake);
                if !side.is_protected() {
                    self.no_secret(at, out);
                }
            }
            (KEY_UPDATE, _) if tls13 && !self.side(direction).update() => {
                self.fail(at, AnomalyKind::TlsDecryptFailed, "key update", out);
            }
            _ => {}
        }
    }

    fn client_hello(&mut self, body: &[u8]) {
        let (Some(hello), _) = parse_client_hello(body) else {
            return;
        };
        // After a HelloRetryRequest the random is the same and early data is over.
        self.state.client_random = Some(hello.random);
        self.state.early_offered = hello.extensions.contains(&EARLY_DATA);
    }

    fn server_hello(&mut self, at: At, body: &[u8], out: &mut Vec<Decrypted>) {
        let (Some(hello), _) = parse_server_hello(body) else {
            return;
        };
        if hello.retry {
            self.state.early_accepted = Some(false);
            return;
        }
        let Some(client_random) = self.state.client_random else {
            return self.fail(
                at,
                AnomalyKind::TlsDecryptFailed,
                "the ClientHello is missing",
                out,
            );
        };
        let logged = self.keys.get(&client_random);
        let by_rsa = hello.version == TLS12 && exchanges_by_rsa(hello.cipher);
        if logged.is_some() || !by_rsa {
            self.state.transcript = None;
        }
        if logged.is_none() && self.state.transcript.is_none() {
            return self.no_secret(at, out);
        }
        let Some(suite) = suite(hello.cipher).filter(|_| matches!(hello.version, TLS12 | TLS13)) else {
            let detail = format!(
                "cipher suite 0x{:04x} of version 0x{:04x} cannot be opened",
                hello.cipher, hello.version
            );
            return self.fail(at, AnomalyKind::TlsDecryptFailed, &detail, out);
        };
        self.state.server_random = Some(hello.random);
        self.state.version = Some(hello.version);
        self.state.suite = Some(suite);
        out.extend(hello.alpn.clone().map(Decrypted::Protocol));
        self.state.encrypt_then_mac = hello.extensions.contains(&ENCRYPT_THEN_MAC);
        self.state.extended_master_secret = hello.extensions.contains(&EXTENDED_MASTER_SECRET);
        // Else the secret comes with the key exchange.
        let Some(secrets) = logged else { return };
        if hello.version == TLS13 {
            self.state.outcome = Some(super::Handshake {
                version: Some(TLS13),
                resumption: hello.psk.then_some(super::Resumption::Psk),
                ..super::Handshake::default()
            });
            let opener = |secret: &Option<_>| secret.as_ref().and_then(|s| Opener::tls13(suite, s));
            for (stage, secret) in [
                (Stage::Handshake, &secrets.server_handshake),
                (Stage::Traffic, &secrets.server_traffic),
            ] {
                self.to_client.enter(stage, opener(secret));
            }
            for (stage, secret) in [
                (Stage::Handshake, &secrets.client_handshake),
                (Stage::Traffic, &secrets.client_traffic),
            ] {
                self.to_server.enter(stage, opener(secret));
            }
            if !self.to_client.is_protected() || !self.to_server.is_protected() {
                return self.no_secret(at, out);
            }
        } else if secrets.master.is_none() {
            return self.no_secret(at, out);
        }
        self.state.secrets = Some(secrets);
    }

    /// The premaster secret, for a private key of the server.
    fn key_exchange(&mut self, at: At, body: &[u8], out: &mut Vec<Decrypted>) {
        let transcript = self.state.transcript.take();
        let (Some(transcript), Some(suite), Some(client), Some(server)) = (
            transcript,
            self.state.suite,
            &self.state.client_random,
            &self.state.server_random,
        ) else {
            return;
        };
        let extended = self.state.extended_master_secret.then_some(&transcript);
        let master = self
            .keys
            .rsa()
            .premaster(body)
            .and_then(|secret| rsa::master(suite.hash, &secret, client, server, extended));
        match master {
            Some(master) => {
                self.state.secrets = Some(Arc::new(Secrets {
                    master: Some(master),
                    ..Secrets::default()
                }));
            }
            None => self.fail(
                at,
                AnomalyKind::TlsKeyMissing,
                "no private key opens the key exchange of this connection",
                out,
            ),
        }
    }

    fn encrypted_extensions(&mut self, body: &[u8], out: &mut Vec<Decrypted>) {
        let (early, protocol) = extensions(body);
        self.state.early_accepted.get_or_insert(early);
        out.extend(protocol.map(Decrypted::Protocol));
        let early = self.state.secrets.as_ref().and_then(|s| s.client_early.as_ref());
        if let (true, Some(suite), Some(secret)) = (
            self.state.early_offered && self.state.early_accepted == Some(true),
            self.state.suite,
            early,
        ) {
            self.to_server.enter_first(Opener::tls13(suite, secret));
        }
    }

    fn change_cipher_spec(&mut self, direction: Direction, at: At, out: &mut Vec<Decrypted>) {
        if self.state.version != Some(TLS12) {
            // TLS 1.3, where it means nothing, or early data before the ServerHello.
            return;
        }
        match self.keys12(direction) {
            Some(opener) => self.side(direction).replace(opener),
            // Without key exchange the secret is that of an earlier connection.
            None if self.state.transcript.is_some() => self.fail(
                at,
                AnomalyKind::TlsKeyMissing,
                "a resumed session, which a private key does not open",
                out,
            ),
            None => self.no_secret(at, out),
        }
    }

    /// The keys of one direction from the master secret (RFC 5246 section 6.3).
    fn keys12(&self, direction: Direction) -> Option<Opener> {
        let Suite { cipher, hash } = self.state.suite?;
        let master = self.state.secrets.as_ref()?.master.as_ref()?;
        let (mac, iv) = match cipher {
            Cipher::Cbc { mac, .. } => (CbcMac::len(mac), 0),
            Cipher::ChaCha20Poly1305 => (0, 12),
            _ => (0, 4),
        };
        let key = cipher.key_len();
        let total = mac.checked_add(key)?.checked_add(iv)?.checked_mul(2)?;
        let block = prf(
            hash,
            master,
            b"key expansion",
            &[&self.state.server_random?, &self.state.client_random?],
            total,
        );
        let mut reader = Reader::new(&block);
        let mut pair = |len: usize| {
            let (client, server) = (reader.take(len)?, reader.take(len)?);
            let own = match direction {
                Direction::ToServer => client,
                Direction::ToClient => server,
            };
            Some(zeroize::Zeroizing::new(own.to_vec()))
        };
        let keys = Keys12 {
            mac: pair(mac)?,
            key: pair(key)?,
            iv: pair(iv)?,
        };
        Opener::tls12(Suite { cipher, hash }, keys, self.state.encrypt_then_mac)
    }
}

/// Of EncryptedExtensions: whether early data is taken, and the application protocol.
fn extensions(body: &[u8]) -> (bool, Option<Box<str>>) {
    let mut early = false;
    let mut protocol = None;
    let mut list = Reader::new(body).run16();
    while let Some(list) = list.as_mut()
        && let (Some(kind), Some(mut data)) = (list.u16(), list.run16())
    {
        match kind {
            EARLY_DATA => early = true,
            ALPN => {
                protocol = data
                    .run16()
                    .and_then(|mut names| names.run8())
                    .map(|n| latin1(n.rest()).into())
            }
            _ => {}
        }
    }
    (early, protocol)
}
