//! Keys of a syslog sink.

use super::send::Syslog;
use crate::{
    config::ConfigError,
    sink::{
        delivery::Sender,
        encoding::Encoding,
        settings::{Fields, Key, Target, Tls},
    },
};

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "address",
        form: "`HOST:PORT`",
        default: "required",
        about: "Where to; usual ports are 514 (UDP), 601 (TCP) and 6514 (TLS).",
    },
    Key {
        name: "protocol",
        form: "`udp`, `tcp` or `tls`",
        default: "udp",
        about: "How.",
    },
    Key {
        name: "facility",
        form: "`user`, `daemon`, `auth`, `authpriv`, `local0` to `local7`",
        default: "authpriv",
        about: "Facility of every message.",
    },
    Key {
        name: "hostname",
        form: "text",
        default: "the node, else the host's name",
        about: "`HOSTNAME` of every message.",
    },
    Key {
        name: "max_bytes",
        form: "size, from 480",
        default: "8192 over UDP, else 256KiB",
        about: "Longest message. A longer one goes out with the line for people instead of JSON, and is cut if that is too long as well; `cut=\"true\"` in its structured data says so.",
    },
];

/// How it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Protocol {
    Udp,
    Tcp,
    Tls,
}

/// Settings.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    pub(super) facility: u8,
    pub(super) hostname: Option<String>,
    pub(super) encoding: Encoding,
    pub(super) max_bytes: usize,
    pub(super) tls: Option<Tls>,
}

const FACILITIES: &[(&str, u8)] = &[
    ("user", 1),
    ("daemon", 3),
    ("auth", 4),
    ("authpriv", 10),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

pub(super) fn read(fields: &Fields<'_>) -> Result<Box<dyn Target>, ConfigError> {
    let address = fields.need("address", "HOST:PORT")?;
    let parts = address.rsplit_once(':').and_then(|(host, port)| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some((host, port.parse::<u16>().ok().filter(|port| *port > 0)?)).filter(|(host, _)| !host.is_empty())
    });
    let Some((host, port)) = parts else {
        return Err(fields.wrong(
            "address",
            format!("{address:?} for address"),
            "HOST:PORT, such as logs.example:6514",
        ));
    };
    let protocols = [
        ("udp", Protocol::Udp),
        ("tcp", Protocol::Tcp),
        ("tls", Protocol::Tls),
    ];
    let protocol = fields.choice("protocol", &protocols, Protocol::Udp)?;
    if protocol != Protocol::Tls && fields.get("tls").is_some() {
        return Err(fields.wrong("tls", "tls with another protocol", "protocol: tls"));
    }
    let usual = if protocol == Protocol::Udp {
        8192
    } else {
        256 << 10
    };
    let most = if protocol == Protocol::Udp {
        65_000
    } else {
        16 << 20
    };
    Ok(Box::new(Config {
        host: host.to_owned(),
        port,
        protocol,
        facility: fields.choice("facility", FACILITIES, 10)?,
        hostname: fields.text("hostname")?,
        encoding: Encoding::read(fields, Encoding::Text)?,
        max_bytes: usize::try_from(fields.size("max_bytes", 480..=most, usual)?).unwrap_or(8192),
        tls: (protocol == Protocol::Tls).then(|| fields.tls()).transpose()?,
    }))
}

impl Target for Config {
    fn sender(self: Box<Self>) -> Result<Box<dyn Sender>, String> {
        Ok(Box::new(Syslog::new(*self)))
    }
}
