//! Reading a message.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{EchConfig, Message, Name, Question, Record, RecordData};
use crate::{
    proto::reader::Reader,
    types::{Anomaly, AnomalyKind},
};

/// Records and questions read of one message; what is above is left out, with an anomaly.
const MAX_RECORDS: usize = 1024;
/// Octets of a name on the wire, length octets included (RFC 1035 section 3.1).
const MAX_NAME: usize = 255;

/// Configurations read of one record.
const MAX_ECH_CONFIGS: usize = 8;
/// RFC 9849 section 4.
const ECH_VERSION: u16 = 0xfe0d;

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const SVCB: u16 = 64;
const HTTPS: u16 = 65;

/// Reads a message without its TCP length.
///
/// A message that is cut short or breaks off in nonsense yields what stood before that,
/// and a `DnsMalformed` that says what is wrong. Without a whole header there is no message.
pub fn parse(payload: &[u8]) -> (Option<Message>, Option<Anomaly>) {
    let mut reader = Reader::new(payload);
    let Some((mut message, counts)) = header(&mut reader) else {
        return (None, Some(malformed("shorter than its header")));
    };
    let anomaly = sections(payload, reader, counts, &mut message).err();
    (Some(message), anomaly.map(malformed))
}

fn malformed(detail: &'static str) -> Anomaly {
    Anomaly::new(AnomalyKind::DnsMalformed, detail)
}

fn header(reader: &mut Reader<'_>) -> Option<(Message, [u16; 4])> {
    let id = reader.u16()?;
    let [high, low] = reader.array()?;
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    let message = Message {
        id,
        response: high & 0x80 != 0,
        opcode: high.wrapping_shr(3) & 0x0f,
        authoritative: high & 0x04 != 0,
        truncated: high & 0x02 != 0,
        rcode: u16::from(low & 0x0f),
        questions: Vec::new(),
        answers: Vec::new(),
        authorities: Vec::new(),
        additionals: Vec::new(),
        edns: false,
    };
    Some((message, counts))
}

fn sections<'a>(
    payload: &'a [u8],
    mut reader: Reader<'a>,
    [questions, answers, authorities, additionals]: [u16; 4],
    message: &mut Message,
) -> Result<(), &'static str> {
    let mut budget = MAX_RECORDS;
    for _ in 0..questions {
        spend(&mut budget)?;
        message
            .questions
            .push(question(payload, &mut reader).ok_or("breaks off in the question section")?);
    }
    let wanted = [
        (answers, Section::Answer),
        (authorities, Section::Authority),
        (additionals, Section::Additional),
    ];
    for (count, section) in wanted {
        for _ in 0..count {
            spend(&mut budget)?;
            let (record, opt) = record(payload, &mut reader).ok_or(section.broken())?;
            if opt {
                // RFC 6891 section 6.1.3: the upper eight bits of RCODE.
                message.edns = true;
                let upper = u16::try_from(record.ttl.wrapping_shr(24)).unwrap_or_default();
                message.rcode |= upper.wrapping_shl(4);
                continue;
            }
            match section {
                Section::Answer => message.answers.push(record),
                Section::Authority => message.authorities.push(record),
                Section::Additional => message.additionals.push(record),
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Section {
    Answer,
    Authority,
    Additional,
}

impl Section {
    fn broken(self) -> &'static str {
        match self {
            Self::Answer => "breaks off in the answer section",
            Self::Authority => "breaks off in the authority section",
            Self::Additional => "breaks off in the additional section",
        }
    }
}

fn spend(budget: &mut usize) -> Result<(), &'static str> {
    *budget = budget.checked_sub(1).ok_or("more records than the limit")?;
    Ok(())
}

fn question<'a>(payload: &'a [u8], reader: &mut Reader<'a>) -> Option<Question> {
    Some(Question {
        name: name(payload, reader)?,
        qtype: reader.u16()?,
        qclass: reader.u16()?,
    })
}

/// A record, and whether it is OPT.
fn record<'a>(payload: &'a [u8], reader: &mut Reader<'a>) -> Option<(Record, bool)> {
    let name = name(payload, reader)?;
    let rtype = reader.u16()?;
    let class = reader.u16()?;
    let ttl = reader.u32()?;
    let rdata = reader.run16()?;
    let data = data(payload, rtype, rdata)?;
    let record = Record {
        name,
        rtype,
        class,
        ttl,
        data,
    };
    Some((record, rtype == OPT))
}

fn data<'a>(payload: &'a [u8], rtype: u16, mut rdata: Reader<'a>) -> Option<RecordData> {
    let length = u16::try_from(rdata.rest().len()).ok()?;
    Some(match rtype {
        A if length == 4 => RecordData::Address(IpAddr::V4(Ipv4Addr::from(rdata.array::<4>()?))),
        AAAA if length == 16 => RecordData::Address(IpAddr::V6(Ipv6Addr::from(rdata.array::<16>()?))),
        A | AAAA => return None,
        CNAME => RecordData::Cname(name(payload, &mut rdata)?),
        NS => RecordData::Ns(name(payload, &mut rdata)?),
        SOA => {
            let primary = name(payload, &mut rdata)?;
            name(payload, &mut rdata)?;
            RecordData::Soa {
                primary,
                serial: rdata.u32()?,
            }
        }
        SVCB | HTTPS => svcb(payload, rdata)?,
        _ => RecordData::Other(length),
    })
}

/// RFC 9460 section 2.2.
fn svcb<'a>(payload: &'a [u8], mut rdata: Reader<'a>) -> Option<RecordData> {
    let priority = rdata.u16()?;
    let target = name(payload, &mut rdata)?;
    let mut alpn = Vec::new();
    let mut ech = false;
    let mut ech_configs = Vec::new();
    let mut port = None;
    let mut hints = Vec::new();
    while !rdata.is_empty() {
        let key = rdata.u16()?;
        let mut value = rdata.run16()?;
        match key {
            1 => {
                while !value.is_empty() {
                    let id = value.run8()?.rest();
                    alpn.push(id.iter().map(|b| char::from(*b)).collect::<String>().into());
                }
            }
            3 => port = Some(value.u16()?),
            4 => {
                while !value.is_empty() {
                    hints.push(IpAddr::V4(Ipv4Addr::from(value.array::<4>()?)));
                }
            }
            5 => {
                ech = true;
                ech_configs = ech_config_list(value);
            }
            6 => {
                while !value.is_empty() {
                    hints.push(IpAddr::V6(Ipv6Addr::from(value.array::<16>()?)));
                }
            }
            _ => {}
        }
    }
    Some(RecordData::Svcb {
        priority,
        target,
        alpn,
        ech,
        ech_configs,
        port,
        hints,
    })
}

/// The configurations of an ECHConfigList up to the first that breaks off.
fn ech_config_list(mut value: Reader<'_>) -> Vec<EchConfig> {
    let mut configs = Vec::new();
    let mut list = value.run16().unwrap_or(Reader::new(&[]));
    while configs.len() < MAX_ECH_CONFIGS
        && let (Some(version), Some(content)) = (list.u16(), list.run16())
    {
        if version == ECH_VERSION {
            configs.extend(ech_config(content));
        }
    }
    configs
}

fn ech_config(mut content: Reader<'_>) -> Option<EchConfig> {
    let id = content.u8()?;
    // KEM, public key, cipher suites, maximum name length.
    content.u16()?;
    content.run16()?;
    content.run16()?;
    content.u8()?;
    let public_name = content.run8()?.rest();
    Some(EchConfig {
        id,
        public_name: String::from_utf8_lossy(public_name).to_ascii_lowercase().into(),
    })
}

/// A name, its compression followed.
///
/// A pointer must lead to before the name that holds it (RFC 1035 section 4.1.4: a *prior*
/// occurrence), so following them ends.
fn name<'a>(payload: &'a [u8], reader: &mut Reader<'a>) -> Option<Name> {
    let mut text = String::new();
    let mut octets = 1usize;
    let at = offset(payload, reader.rest())?;
    let mut floor = at;
    let mut cursor = *reader;
    let mut jumped = false;
    loop {
        let length = cursor.u8()?;
        match length {
            0 => break,
            1..=63 => {
                let label = cursor.take(usize::from(length))?;
                octets = octets.checked_add(label.len())?.checked_add(1)?;
                if octets > MAX_NAME {
                    return None;
                }
                if !text.is_empty() {
                    text.push('.');
                }
                push_label(&mut text, label);
            }
            192.. => {
                let low = cursor.u8()?;
                let target = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                if target >= floor {
                    return None;
                }
                floor = target;
                if !jumped {
                    *reader = cursor;
                    jumped = true;
                }
                cursor = Reader::new(payload.get(target..)?);
            }
            _ => return None,
        }
    }
    if !jumped {
        *reader = cursor;
    }
    Some(text.into())
}

/// Where `part` lies in `whole`, of which it is a part.
fn offset(whole: &[u8], part: &[u8]) -> Option<usize> {
    part.as_ptr().addr().checked_sub(whole.as_ptr().addr())
}

fn push_label(text: &mut String, label: &[u8]) {
    for byte in label {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'*' => text.push(char::from(*byte)),
            b'A'..=b'Z' => text.push(char::from(byte.to_ascii_lowercase())),
            // Writing to a String does not fail.
            _ => _ = write!(text, "\\{byte:03}"),
        }
    }
}
