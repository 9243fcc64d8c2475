//! DNS messages (RFC 1035, RFC 9460).

use std::net::IpAddr;

use anyhow::{Context, Result, bail};

use super::args::Args;

/// A question, and what answers it.
pub(super) struct Lookup {
    pub(super) id: u16,
    pub(super) name: String,
    pub(super) kind: u16,
}

/// A record of an answer.
pub(super) struct Record {
    owner: String,
    kind: u16,
    ttl: u32,
    data: Vec<u8>,
    /// It belongs into the authority section.
    authority: bool,
}

/// The number of a type.
pub(super) fn kind(name: &str) -> Result<u16> {
    Ok(match name {
        "A" => 1,
        "NS" => 2,
        "CNAME" => 5,
        "SOA" => 6,
        "TXT" => 16,
        "AAAA" => 28,
        "SVCB" => 64,
        "HTTPS" => 65,
        other => bail!("DNS type {other}"),
    })
}

impl Record {
    /// An address or an alias of `owner`.
    pub(super) fn address(owner: &str, ttl: u32, ip: IpAddr) -> Self {
        let (kind, data) = match ip {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (28, ip.octets().to_vec()),
        };
        Self {
            owner: owner.to_owned(),
            kind,
            ttl,
            data,
            authority: false,
        }
    }

    /// `owner` is an alias of `target`.
    pub(super) fn alias(owner: &str, ttl: u32, target: &str) -> Self {
        Self {
            owner: owner.to_owned(),
            kind: 5,
            ttl,
            data: encoded(target),
            authority: false,
        }
    }

    /// `{type, owner?, ttl?, authority?, …}`: NS and CNAME have a `target`, SOA a `primary` and a
    /// `serial`, TXT a `text`, HTTPS and SVCB `priority`, `target`, `alpn`, `ech`.
    pub(super) fn other(args: &mut Args, owner: &str, ttl: u32) -> Result<Self> {
        let name = args.needed("type")?;
        let kind = kind(&name)?;
        let owner = args.text("owner")?.unwrap_or_else(|| owner.to_owned());
        let ttl = args.number("ttl")?.unwrap_or(u64::from(ttl)) as u32;
        let authority = args.flag("authority", name == "SOA")?;
        let data = match kind {
            1 | 28 => {
                let ip: IpAddr = args.needed("address")?.parse()?;
                return Ok(Self {
                    authority,
                    ..Self::address(&owner, ttl, ip)
                });
            }
            2 | 5 => encoded(&args.needed("target")?),
            6 => {
                let mut data = encoded(&args.needed("primary")?);
                data.extend(encoded("hostmaster.example"));
                for word in [
                    args.number("serial")?.unwrap_or(1) as u32,
                    7200,
                    3600,
                    1_209_600,
                    300,
                ] {
                    data.extend_from_slice(&word.to_be_bytes());
                }
                data
            }
            16 => {
                let text = args.needed("text")?;
                let mut data = vec![u8::try_from(text.len()).context("TXT of at most 255 bytes")?];
                data.extend_from_slice(text.as_bytes());
                data
            }
            _ => service(args)?,
        };
        Ok(Self {
            owner,
            kind,
            ttl,
            data,
            authority,
        })
    }
}

/// SvcPriority, TargetName, SvcParams.
fn service(args: &mut Args) -> Result<Vec<u8>> {
    let mut data = (args.number("priority")?.unwrap_or(1) as u16)
        .to_be_bytes()
        .to_vec();
    data.extend(encoded(&args.text("target")?.unwrap_or_default()));
    let mut parameter = |key: u16, value: &[u8]| {
        data.extend_from_slice(&key.to_be_bytes());
        data.extend_from_slice(&(value.len() as u16).to_be_bytes());
        data.extend_from_slice(value);
    };
    let alpn = args.texts("alpn")?;
    if !alpn.is_empty() {
        let mut list = Vec::new();
        for name in alpn {
            list.push(name.len() as u8);
            list.extend_from_slice(name.as_bytes());
        }
        parameter(1, &list);
    }
    if let Some(port) = args.number("port")? {
        parameter(3, &(port as u16).to_be_bytes());
    }
    if args.flag("ech", false)? {
        parameter(5, &[0, 8, 0xfe, 0x0d, 0, 4, 1, 2, 3, 4]);
    }
    Ok(data)
}

/// The question.
pub(super) fn question(lookup: &Lookup) -> Vec<u8> {
    let mut out = Vec::new();
    head(&mut out, lookup, 0x0100, 0, 0);
    out
}

/// An answer with this RCODE.
pub(super) fn answer(lookup: &Lookup, rcode: u16, records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    let authority = records.iter().filter(|record| record.authority).count();
    head(
        &mut out,
        lookup,
        0x8180 | rcode,
        records.len() - authority,
        authority,
    );
    for wanted in [false, true] {
        for record in records.iter().filter(|record| record.authority == wanted) {
            if record.owner == lookup.name {
                out.extend_from_slice(&[0xc0, 12]);
            } else {
                out.extend(encoded(&record.owner));
            }
            out.extend_from_slice(&record.kind.to_be_bytes());
            out.extend_from_slice(&[0, 1]);
            out.extend_from_slice(&record.ttl.to_be_bytes());
            out.extend_from_slice(&(record.data.len() as u16).to_be_bytes());
            out.extend_from_slice(&record.data);
        }
    }
    out
}

fn head(out: &mut Vec<u8>, lookup: &Lookup, flags: u16, answers: usize, authority: usize) {
    for word in [lookup.id, flags, 1, answers as u16, authority as u16, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend(encoded(&lookup.name));
    out.extend_from_slice(&lookup.kind.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
}

fn encoded(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}
