//! Certificates (X.509, RFC 5280) and the chains that handshakes carry.

use std::net::IpAddr;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use x509_cert::{
    certificate::{CertificateInner, Raw},
    der::{Decode, Encode, oid::ObjectIdentifier},
    name::Name,
};

use crate::{proto::reader::Reader, types::Timestamp};

const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// RFC 6962 section 3.3.
const EMBEDDED_SCTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");
/// The same timestamps inside an OCSP response, as encoded.
const OCSP_SCTS: &[u8] = &[
    0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x05,
];

const STATUS_REQUEST: u16 = 5;
const SIGNED_CERTIFICATE_TIMESTAMP: u16 = 18;

/// Names of one certificate that are kept; what is above is left out.
const MAX_NAMES: usize = 256;
/// Certificates of one chain that are read; what is above is left out.
const MAX_CHAIN: usize = 32;
/// Bytes of a name in RFC 4514 form that are kept.
const MAX_NAME: usize = 4096;

/// One certificate: the fields that rules judge by. Its signature is not verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// SHA-256 of the whole.
    pub sha256: [u8; 32],
    /// SHA-256 of SubjectPublicKeyInfo, as RFC 7469 pins it.
    pub spki_sha256: [u8; 32],
    /// Subject (RFC 4514).
    pub subject: Box<str>,
    /// Issuer (RFC 4514).
    pub issuer: Box<str>,
    /// The same two as encoded, without the outer tag and length: what tables of roots compare by.
    pub subject_der: Bytes,
    /// See [`Self::subject_der`].
    pub issuer_der: Bytes,
    /// Relative names of the issuer, each as `CN=Example CA`, in the order of RFC 4514.
    pub issuer_rdns: Vec<Box<str>>,
    /// First moment of validity.
    pub not_before: Timestamp,
    /// Last moment of validity.
    pub not_after: Timestamp,
    /// `dNSName` of subjectAltName, lower case, at most 256.
    pub dns_names: Vec<Box<str>>,
    /// `iPAddress` of subjectAltName, at most 256.
    pub addresses: Vec<IpAddr>,
    /// Last `CN` of the subject, lower case: what stands in where there is no subjectAltName.
    pub common_name: Option<Box<str>>,
    /// Signed certificate timestamps inside it.
    pub scts: usize,
}

impl Certificate {
    /// Reads DER. `None` if it is no certificate.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let certificate = CertificateInner::<Raw>::from_der(der).ok()?;
        let tbs = certificate.tbs_certificate();
        let spki = tbs.subject_public_key_info().to_der().ok()?;
        let mut read = Self {
            sha256: Sha256::digest(der).into(),
            spki_sha256: Sha256::digest(&spki).into(),
            subject: shown(tbs.subject()),
            issuer: shown(tbs.issuer()),
            subject_der: content(tbs.subject())?,
            issuer_der: content(tbs.issuer())?,
            issuer_rdns: rdns(tbs.issuer()),
            not_before: Timestamp::from_secs(tbs.validity().not_before.to_unix_duration().as_secs()),
            not_after: Timestamp::from_secs(tbs.validity().not_after.to_unix_duration().as_secs()),
            dns_names: Vec::new(),
            addresses: Vec::new(),
            common_name: common_name(tbs.subject()),
            scts: 0,
        };
        for extension in tbs.extensions().into_iter().flatten() {
            let value = extension.extn_value.as_bytes();
            match extension.extn_id {
                SUBJECT_ALT_NAME => read.alternative_names(value),
                EMBEDDED_SCTS => read.scts = count_scts(value).unwrap_or_default(),
                _ => {}
            }
        }
        Some(read)
    }

    /// Subject and issuer are one.
    pub fn is_self_signed(&self) -> bool {
        self.subject_der == self.issuer_der
    }

    /// `at` lies in its validity.
    pub fn is_valid_at(&self, at: Timestamp) -> bool {
        self.not_before <= at && at <= self.not_after
    }

    /// It is for this host (RFC 6125 section 6.4): a name, lower case, or an address. The common name
    /// counts only where there is no subjectAltName at all.
    pub fn names(&self, host: &str) -> bool {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.addresses.contains(&ip);
        }
        if self.dns_names.is_empty() && self.addresses.is_empty() {
            return self.common_name.as_deref().is_some_and(|name| covers(name, host));
        }
        self.dns_names.iter().any(|name| covers(name, host))
    }

    /// GeneralNames, the two kinds that name a server. Read by hand so that one odd name of another kind
    /// does not hide the others.
    fn alternative_names(&mut self, value: &[u8]) {
        let mut reader = Reader::new(value);
        let Some((0x30, mut names)) = element(&mut reader) else {
            return;
        };
        while let Some((tag, name)) = element(&mut names) {
            match tag {
                0x82 if self.dns_names.len() < MAX_NAMES => {
                    self.dns_names.push(lower(name.rest()));
                }
                0x87 if self.addresses.len() < MAX_NAMES => {
                    let v4 = <[u8; 4]>::try_from(name.rest()).map(IpAddr::from);
                    let v6 = <[u8; 16]>::try_from(name.rest()).map(IpAddr::from);
                    self.addresses.extend(v4.or(v6));
                }
                _ => {}
            }
        }
    }
}

/// `pattern` is `host`, or a wildcard for its first label.
fn covers(pattern: &str, host: &str) -> bool {
    let pattern = pattern.strip_suffix('.').unwrap_or(pattern);
    match pattern.strip_prefix("*.") {
        Some(zone) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest == zone),
        None => pattern == host,
    }
}

/// One DER element: its tag, and its content.
fn element<'a>(reader: &mut Reader<'a>) -> Option<(u8, Reader<'a>)> {
    let tag = reader.u8()?;
    let length = match reader.u8()? {
        short @ 0..=0x7f => usize::from(short),
        0x81 => usize::from(reader.u8()?),
        0x82 => usize::from(reader.u16()?),
        _ => return None,
    };
    Some((tag, Reader::new(reader.take(length)?)))
}

/// Entries of a SignedCertificateTimestampList inside the OCTET STRING of its extension.
fn count_scts(value: &[u8]) -> Option<usize> {
    let (0x04, mut list) = element(&mut Reader::new(value))? else {
        return None;
    };
    let mut list = list.run16()?;
    let mut count = 0_usize;
    while !list.is_empty() {
        list.run16()?;
        count = count.saturating_add(1);
    }
    Some(count)
}

fn lower(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).to_ascii_lowercase().into()
}

fn shown(name: &Name) -> Box<str> {
    let mut text = name.to_string();
    let mut end = MAX_NAME.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.truncate(end);
    text.into()
}

fn rdns(name: &Name) -> Vec<Box<str>> {
    let mut rdns: Vec<Box<str>> = name
        .iter_rdn()
        .take(MAX_NAMES)
        .map(|rdn| rdn.to_string().into())
        .collect();
    rdns.reverse();
    rdns
}

fn common_name(name: &Name) -> Option<Box<str>> {
    let last = name.iter().filter(|a| a.oid == COMMON_NAME).last()?;
    Some(lower(last.value.value()))
}

/// The content of a Name: what is inside its SEQUENCE.
fn content(name: &Name) -> Option<Bytes> {
    let der = name.to_der().ok()?;
    let (_, content) = element(&mut Reader::new(&der))?;
    Some(Bytes::copy_from_slice(content.rest()))
}

/// A chain of certificates as one side showed it, leaf first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Chain {
    /// Those that could be read, in order, at most 32.
    pub certificates: Vec<Certificate>,
    /// How many could not: nothing can be said of what they hold.
    pub unreadable: usize,
    /// The first certificate could be read, so that `certificates` begins with the leaf.
    pub has_leaf: bool,
}

impl Chain {
    /// Reads a chain, leaf first.
    pub fn parse<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut chain = Self::default();
        for (n, der) in certificates.into_iter().enumerate().take(MAX_CHAIN) {
            match Certificate::parse(der) {
                Some(certificate) => {
                    chain.has_leaf |= n == 0;
                    chain.certificates.push(certificate);
                }
                None => chain.unreadable = chain.unreadable.saturating_add(1),
            }
        }
        chain
    }

    /// The Certificate message of TLS 1.2 and before (RFC 5246 section 7.4.2); `None` if it breaks off.
    pub(super) fn of_message(body: &[u8]) -> Option<Self> {
        let mut list = Reader::new(body).run24()?;
        let mut certificates = Vec::new();
        while !list.is_empty() {
            let certificate = list.run24()?.rest();
            if certificates.len() < MAX_CHAIN {
                certificates.push(certificate);
            }
        }
        Some(Self::parse(certificates))
    }

    /// The Certificate message of TLS 1.3 (RFC 8446 section 4.4.2), and whether certificate timestamps
    /// came with it, in an extension of the leaf or in its stapled OCSP response.
    pub(super) fn of_message13(body: &[u8]) -> Option<(Self, bool)> {
        let mut reader = Reader::new(body);
        reader.run8()?;
        let mut list = reader.run24()?;
        let mut certificates = Vec::new();
        let mut scts = false;
        while !list.is_empty() {
            let certificate = list.run24()?.rest();
            let mut extensions = list.run16()?;
            if certificates.is_empty() {
                while !extensions.is_empty() {
                    let kind = extensions.u16()?;
                    let data = extensions.run16()?.rest();
                    scts |= match kind {
                        STATUS_REQUEST => status_has_scts(data),
                        SIGNED_CERTIFICATE_TIMESTAMP => data.len() > 2,
                        _ => false,
                    };
                }
            }
            if certificates.len() < MAX_CHAIN {
                certificates.push(certificate);
            }
        }
        Some((Self::parse(certificates), scts))
    }

    /// The server's or client's own certificate.
    pub fn leaf(&self) -> Option<&Certificate> {
        self.certificates.first().filter(|_| self.has_leaf)
    }

    /// There was no certificate in it.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.unreadable == 0
    }
}

/// A stapled OCSP response (CertificateStatus, RFC 6066 section 8) holds certificate timestamps.
pub(super) fn status_has_scts(body: &[u8]) -> bool {
    memchr::memmem::find(body, OCSP_SCTS).is_some()
}

#[cfg(test)]
mod tests;
