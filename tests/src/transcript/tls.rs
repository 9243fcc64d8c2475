//! TLS handshakes as far as they are readable on the wire (RFC 8446, RFC 5246).

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::args::Args;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// What a client offers.
pub(super) struct Offer {
    versions: Vec<u16>,
    /// Of an earlier session, which it wants to go on with.
    session: Vec<u8>,
    body: Vec<u8>,
}

/// What a server chooses.
pub(super) struct Choice {
    version: u16,
    body: Vec<u8>,
    chain: Vec<Vec<u8>>,
    wants_certificate: bool,
    /// An earlier session goes on.
    resumed: bool,
}

impl Offer {
    /// `{versions, ciphers, groups, alpn, ech, psk, session, grease}`, each with what OpenSSL 3 offers as its default.
    pub(super) fn read(args: &mut Args, sni: Option<&str>, seed: u8) -> Result<Self> {
        let versions = match args.texts("versions")? {
            list if list.is_empty() => vec![0x0304, 0x0303],
            list => list.iter().map(|text| version(text)).collect::<Result<_>>()?,
        };
        let highest = versions.iter().copied().max().unwrap_or(0x0303);
        let modern = highest >= 0x0304;
        let ciphers = codes(
            args.list("ciphers"),
            &[0x1302, 0x1303, 0x1301, 0xc02c, 0xc030, 0xc02b, 0xc02f, 0x00ff],
        )?;
        let groups = codes(args.list("groups"), &[0x11ec, 0x001d, 0x0017])?;
        let alpn = args.texts("alpn")?;
        let mut body = highest.min(0x0303).to_be_bytes().to_vec();
        body.extend((0..32_u8).map(|at| at.wrapping_mul(7).wrapping_add(seed)));
        let session = if args.flag("session", false)? {
            vec![0x6d; 32]
        } else {
            Vec::new()
        };
        body.push(session.len() as u8);
        body.extend_from_slice(&session);
        vector16(&mut body, &words(&ciphers));
        body.extend_from_slice(&[1, 0]);
        let mut extensions = Vec::new();
        if args.flag("grease", false)? {
            extension(&mut extensions, 0x3a3a, &[]);
        }
        if let Some(name) = sni {
            let mut list = vec![0];
            vector16(&mut list, name.as_bytes());
            let mut data = Vec::new();
            vector16(&mut data, &list);
            extension(&mut extensions, 0, &data);
        }
        extension(&mut extensions, 10, &sized16(&words(&groups)));
        extension(
            &mut extensions,
            13,
            &sized16(&words(&[0x0403, 0x0503, 0x0804, 0x0805, 0x0401])),
        );
        if !alpn.is_empty() {
            extension(&mut extensions, 16, &sized16(&names(&alpn)));
        }
        if modern {
            let mut list = vec![(versions.len() * 2) as u8];
            list.extend(words(&versions));
            extension(&mut extensions, 43, &list);
            let mut shares = Vec::new();
            for group in groups.iter().take(2) {
                shares.extend_from_slice(&group.to_be_bytes());
                vector16(&mut shares, &vec![0x5a; key_length(*group, true)]);
            }
            extension(&mut extensions, 51, &sized16(&shares));
        }
        // Outer hello of real ECH and of GREASE alike: HPKE suite, config id, key, payload.
        if args.flag("ech", false)? {
            let mut data = vec![0, 0, 1, 0, 1, 42];
            vector16(&mut data, &[0x77; 32]);
            vector16(&mut data, &[0x99; 144]);
            extension(&mut extensions, 0xfe0d, &data);
        }
        if args.flag("psk", false)? {
            extension(
                &mut extensions,
                41,
                &[0, 8, 0, 2, 1, 2, 0, 0, 0, 0, 0, 3, 2, 7, 7],
            );
        }
        vector16(&mut body, &extensions);
        Ok(Self {
            versions,
            session,
            body,
        })
    }

    /// The record.
    pub(super) fn record(&self) -> Vec<u8> {
        // For compatibility, the record layer says TLS 1.0.
        record(HANDSHAKE, 0x0301, &handshake(1, &self.body))
    }
}

impl Choice {
    /// `{version, cipher, group, alpn, sentinel, retry, extensions, chain, certificate_request, resumed}`.
    pub(super) fn read(
        args: &mut Args,
        offer: &Offer,
        seed: u8,
        certificates: &impl Fn(&str) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let version = match args.text("version")? {
            Some(text) => version(&text)?,
            None => offer.versions.iter().copied().max().unwrap_or(0x0303),
        };
        let modern = version >= 0x0304;
        let cipher = codes(args.list("cipher"), &[if modern { 0x1302 } else { 0xc02f }])?[0];
        let group = codes(args.list("group"), &[0x11ec])?[0];
        let mut body = version.min(0x0303).to_be_bytes().to_vec();
        let mut random: [u8; 32] =
            std::array::from_fn(|at| (at as u8).wrapping_mul(11).wrapping_add(seed).wrapping_add(3));
        match args.text("sentinel")?.as_deref() {
            None => {}
            Some("tls12") => random[24..].copy_from_slice(b"DOWNGRD\x01"),
            Some("tls11") => random[24..].copy_from_slice(b"DOWNGRD\x00"),
            Some(other) => bail!("sentinel: {other} is neither tls12 nor tls11"),
        }
        let retry = args.flag("retry", false)?;
        if retry {
            random = RETRY;
        }
        body.extend_from_slice(&random);
        let resumed = args.flag("resumed", false)?;
        let session: &[u8] = if resumed || modern { &offer.session } else { &[] };
        body.push(session.len() as u8);
        body.extend_from_slice(session);
        body.extend_from_slice(&cipher.to_be_bytes());
        body.push(0);
        let mut extensions = Vec::new();
        let order = codes(
            args.list("extensions"),
            if modern { &[43, 51] } else { &[0xff01, 11, 23, 16] },
        )?;
        let alpn = args.texts("alpn")?;
        for kind in order {
            match kind {
                43 => extension(&mut extensions, 43, &version.to_be_bytes()),
                51 => {
                    let mut data = group.to_be_bytes().to_vec();
                    if !retry {
                        vector16(&mut data, &vec![0xa5; key_length(group, false)]);
                    }
                    extension(&mut extensions, 51, &data);
                }
                16 if alpn.is_empty() => {}
                16 => extension(&mut extensions, 16, &sized16(&names(&alpn))),
                11 => extension(&mut extensions, 11, &[1, 0]),
                0xff01 => extension(&mut extensions, 0xff01, &[0]),
                other => extension(&mut extensions, other, &[]),
            }
        }
        vector16(&mut body, &extensions);
        Ok(Self {
            version,
            body,
            chain: args
                .texts("chain")?
                .iter()
                .map(|name| certificates(name))
                .collect::<Result<_>>()?,
            wants_certificate: args.flag("certificate_request", false)?,
            resumed,
        })
    }

    /// The ServerHello alone.
    pub(super) fn hello(&self) -> Vec<u8> {
        record(HANDSHAKE, 0x0303, &handshake(2, &self.body))
    }

    /// What the server sends first.
    pub(super) fn flight(&self) -> Vec<u8> {
        let mut out = self.hello();
        if self.version >= 0x0304 {
            out.extend(record(20, 0x0303, &[1]));
            out.extend(record(DATA, 0x0303, &[0xc3; 1200]));
            return out;
        }
        if self.resumed {
            out.extend(record(20, self.version, &[1]));
            out.extend(record(HANDSHAKE, self.version, &[0xe9; 40]));
            return out;
        }
        let mut rest = handshake(11, &certificates(&self.chain));
        rest.extend(handshake(12, &[0x33; 140]));
        if self.wants_certificate {
            rest.extend(handshake(13, &[1, 1, 0, 2, 4, 3, 0, 0]));
        }
        rest.extend(handshake(14, &[]));
        out.extend(record(HANDSHAKE, self.version, &rest));
        out
    }

    /// What the client answers, and after it the server; `own`: the client's certificates.
    pub(super) fn finish(&self, own: Option<&[Vec<u8>]>) -> (Vec<u8>, Vec<u8>) {
        let version = self.version.min(0x0303);
        let mut client = Vec::new();
        if self.version < 0x0304 && !self.resumed {
            let mut messages = Vec::new();
            if self.wants_certificate {
                messages.extend(handshake(11, &certificates(own.unwrap_or_default())));
            }
            messages.extend(handshake(16, &[0x21; 33]));
            if own.is_some() {
                messages.extend(handshake(15, &[0x44; 72]));
            }
            client = record(HANDSHAKE, version, &messages);
        }
        client.extend(record(20, version, &[1]));
        let kind = if self.version < 0x0304 { HANDSHAKE } else { DATA };
        client.extend(record(kind, version, &[0xe7; 40]));
        let mut server = Vec::new();
        if self.version < 0x0304 && !self.resumed {
            server = record(20, version, &[1]);
            server.extend(record(HANDSHAKE, version, &[0xe9; 40]));
        }
        (client, server)
    }

    /// Encrypted data.
    pub(super) fn data(&self, length: usize) -> Vec<u8> {
        record(DATA, self.version.min(0x0303), &vec![0xd1; length])
    }
}

/// A fatal alert.
pub(super) fn alert(description: u8) -> Vec<u8> {
    record(ALERT, 0x0303, &[2, description])
}

/// RFC 8446 section 4.1.3.
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

fn version(text: &str) -> Result<u16> {
    Ok(match text {
        "1.0" => 0x0301,
        "1.1" => 0x0302,
        "1.2" => 0x0303,
        "1.3" => 0x0304,
        other => bail!("{other} is no TLS version"),
    })
}

/// Code points as numbers or as texts like 0xc02f.
fn codes(list: Vec<Value>, default: &[u16]) -> Result<Vec<u16>> {
    if list.is_empty() {
        return Ok(default.to_vec());
    }
    list.iter()
        .map(|value| {
            let number = match value {
                Value::Number(number) => number.as_u64(),
                Value::String(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16).ok(),
                _ => None,
            };
            number
                .and_then(|number| u16::try_from(number).ok())
                .with_context(|| format!("{value} is no code point"))
        })
        .collect()
}

fn key_length(group: u16, client: bool) -> usize {
    match group {
        // X25519MLKEM768: encapsulation key or ciphertext, and an X25519 share.
        0x11ec if client => 1216,
        0x11ec => 1120,
        0x0017 => 65,
        0x0018 => 97,
        _ => 32,
    }
}

fn words(list: &[u16]) -> Vec<u8> {
    list.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn names(list: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    for name in list {
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
    }
    out
}

fn vector16(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn sized16(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    vector16(&mut out, bytes);
    out
}

fn extension(out: &mut Vec<u8>, kind: u16, data: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    vector16(out, data);
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u32).to_be_bytes().to_vec();
    out[0] = kind;
    out.extend_from_slice(body);
    out
}

fn certificates(chain: &[Vec<u8>]) -> Vec<u8> {
    let mut list = Vec::new();
    for certificate in chain {
        list.extend_from_slice(&(certificate.len() as u32).to_be_bytes()[1..]);
        list.extend_from_slice(certificate);
    }
    let mut out = (list.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend(list);
    out
}

fn record(kind: u8, version: u16, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // A record holds at most 2^14 bytes.
    for piece in bytes.chunks(16_384) {
        out.push(kind);
        out.extend_from_slice(&version.to_be_bytes());
        vector16(&mut out, piece);
    }
    out
}
