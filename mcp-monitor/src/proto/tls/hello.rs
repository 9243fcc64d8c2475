//! ClientHello and ServerHello messages (RFC 8446 section 4, RFC 5246 section 7.4).

use super::{ClientHello, Ech, ServerHello, is_grease};
use crate::proto::reader::Reader;

const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const SIGNED_CERTIFICATE_TIMESTAMP: u16 = 18;
const SESSION_TICKET: u16 = 35;
const PRE_SHARED_KEY: u16 = 41;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// Longest host name kept (RFC 1035).
const MAX_NAME: usize = 255;

/// The random of a HelloRetryRequest (RFC 8446 section 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// A ClientHello without its handshake header, as far as it can be read, and whether that
/// is all of it. `None` where not even the part before the cipher suites is there.
pub fn parse_client_hello(body: &[u8]) -> (Option<ClientHello>, bool) {
    let mut reader = Reader::new(body);
    let mut hello = ClientHello::default();
    let Some(()) = client_fixed(&mut reader, &mut hello) else {
        return (None, false);
    };
    let whole = client_rest(&mut reader, &mut hello).is_some();
    hello.max_version = hello
        .supported_versions
        .iter()
        .copied()
        .filter(|v| !is_grease(*v))
        .max()
        .unwrap_or(hello.legacy_version);
    (Some(hello), whole)
}

fn client_fixed(reader: &mut Reader<'_>, hello: &mut ClientHello) -> Option<()> {
    hello.legacy_version = reader.u16()?;
    hello.random = reader.array()?;
    hello.session_id = reader.run8()?.rest().to_vec();
    Some(())
}

fn client_rest(reader: &mut Reader<'_>, hello: &mut ClientHello) -> Option<()> {
    hello.ciphers = reader.run16()?.u16s();
    reader.run8()?;
    if reader.is_empty() {
        // Before TLS 1.3 a hello may have no extensions.
        return Some(());
    }
    let mut extensions = reader.run16()?;
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.run16()?;
        hello.extensions.push(kind);
        client_extension(kind, data, hello)?;
    }
    Some(())
}

fn client_extension(kind: u16, mut data: Reader<'_>, hello: &mut ClientHello) -> Option<()> {
    match kind {
        SERVER_NAME => {
            let mut names = data.run16()?;
            while !names.is_empty() {
                let host = names.u8()? == 0;
                let name = names.run16()?.rest();
                if host && hello.server_name.is_none() && name.len() <= MAX_NAME {
                    hello.server_name = Some(latin1(name).to_ascii_lowercase().into());
                }
            }
        }
        SUPPORTED_GROUPS => hello.groups = data.run16()?.u16s(),
        SIGNATURE_ALGORITHMS => hello.signature_algorithms = data.run16()?.u16s(),
        ALPN => {
            let mut protocols = data.run16()?;
            while !protocols.is_empty() {
                hello.alpn.push(latin1(protocols.run8()?.rest()).into());
            }
        }
        PRE_SHARED_KEY => hello.psk = true,
        SUPPORTED_VERSIONS => hello.supported_versions = data.run8()?.u16s(),
        KEY_SHARE => {
            let mut shares = data.run16()?;
            while !shares.is_empty() {
                hello.key_shares.push(shares.u16()?);
                shares.run16()?;
            }
        }
        SESSION_TICKET => hello.ticket = !data.is_empty(),
        ENCRYPTED_CLIENT_HELLO => hello.ech = Some(ech(data).unwrap_or(Ech::Unknown)),
        _ => {}
    }
    Some(())
}

/// RFC 9849 section 5.
fn ech(mut data: Reader<'_>) -> Option<Ech> {
    match data.u8()? {
        0 => {
            let _kdf_and_aead: [u8; 4] = data.array()?;
            let config_id = data.u8()?;
            data.run16()?;
            let payload_len = u16::try_from(data.run16()?.rest().len()).ok()?;
            Some(Ech::Outer {
                config_id,
                payload_len,
            })
        }
        1 => Some(Ech::Inner),
        _ => None,
    }
}

/// A ServerHello without its handshake header, as far as it can be read, and whether that
/// is all of it. `None` where not even the cipher suite is there.
pub fn parse_server_hello(body: &[u8]) -> (Option<ServerHello>, bool) {
    let mut reader = Reader::new(body);
    let mut hello = ServerHello::default();
    let Some(()) = server_fixed(&mut reader, &mut hello) else {
        return (None, false);
    };
    let whole = server_rest(&mut reader, &mut hello).is_some();
    (Some(hello), whole)
}

fn server_fixed(reader: &mut Reader<'_>, hello: &mut ServerHello) -> Option<()> {
    hello.legacy_version = reader.u16()?;
    hello.version = hello.legacy_version;
    hello.random = reader.array()?;
    hello.retry = hello.random == RETRY_RANDOM;
    hello.session_id = reader.run8()?.rest().to_vec();
    hello.cipher = reader.u16()?;
    Some(())
}

fn server_rest(reader: &mut Reader<'_>, hello: &mut ServerHello) -> Option<()> {
    reader.u8()?;
    if reader.is_empty() {
        return Some(());
    }
    let mut extensions = reader.run16()?;
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let mut data = extensions.run16()?;
        hello.extensions.push(kind);
        match kind {
            SUPPORTED_VERSIONS => hello.version = data.u16()?,
            ALPN => hello.alpn = Some(latin1(data.run16()?.run8()?.rest()).into()),
            KEY_SHARE => hello.key_share = Some(data.u16()?),
            PRE_SHARED_KEY => hello.psk = true,
            SIGNED_CERTIFICATE_TIMESTAMP => hello.scts = !data.run16()?.is_empty(),
            _ => {}
        }
    }
    Some(())
}

/// Bytes one to one as the code points of the same number, so that nothing is lost.
pub(super) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}
