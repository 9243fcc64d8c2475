//! Keys of a Kafka sink.

use std::sync::Arc;

use rskafka::client::{Credentials, SaslConfig};
use rustls::ClientConfig;

use super::{encode::KeyBy, send::Kafka};
use crate::{
    config::ConfigError,
    sink::{
        delivery::Sender,
        encoding::Encoding,
        settings::{Fields, Key, Target},
    },
};

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "brokers",
        form: "list of `HOST:PORT`",
        default: "required",
        about: "Brokers to ask for the others.",
    },
    Key {
        name: "topic",
        form: "text",
        default: "required",
        about: "Topic to write to. It is not created.",
    },
    Key {
        name: "key",
        form: "`endpoint` or `id`",
        default: "endpoint",
        about: "What the key of a message is: the pinned endpoint that the record is about (records without one have no key), or the record's id, for compacted topics.",
    },
    Key {
        name: "protocol",
        form: "`plain` or `tls`",
        default: "plain",
        about: "How.",
    },
    Key {
        name: "sasl",
        form: "mapping: `mechanism`, `user`, `password`",
        default: "",
        about: "How to log in: `mechanism` is `plain`, `scram-sha-256` or `scram-sha-512` (default); `password` is `{file: PATH}` or `{env: NAME}`. `plain` needs `protocol: tls`.",
    },
];

/// Settings.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) brokers: Vec<String>,
    pub(super) topic: String,
    pub(super) key: KeyBy,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) sasl: Option<SaslConfig>,
    pub(super) encoding: Encoding,
}

#[derive(Clone, Copy, PartialEq)]
enum Mechanism {
    Plain,
    Sha256,
    Sha512,
}

pub(super) fn read(fields: &Fields<'_>) -> Result<Box<dyn Target>, ConfigError> {
    let mut brokers = Vec::new();
    for broker in fields.list("brokers")? {
        let parts = broker.split_once(':');
        let fits = parts
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
        if !fits {
            let expected = "HOST:PORT, such as kafka-0.kafka:9092";
            return Err(fields.wrong("brokers", format!("{broker:?} in brokers"), expected));
        }
        brokers.push(broker.to_owned());
    }
    let topic = fields.need("topic", "a topic's name")?;
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if topic.is_empty() || topic.len() > 249 || !topic.bytes().all(letter) {
        let expected = "at most 249 letters, digits, ., _ and -";
        return Err(fields.wrong("topic", format!("{topic:?} for topic"), expected));
    }
    if brokers.is_empty() {
        return Err(fields.wrong("brokers", "no brokers", "a list of HOST:PORT"));
    }
    let over_tls = fields.choice("protocol", &[("plain", false), ("tls", true)], false)?;
    if !over_tls && fields.get("tls").is_some() {
        return Err(fields.wrong("tls", "tls with another protocol", "protocol: tls"));
    }
    Ok(Box::new(Config {
        brokers,
        topic,
        key: fields.choice(
            "key",
            &[("endpoint", KeyBy::Endpoint), ("id", KeyBy::Id)],
            KeyBy::Endpoint,
        )?,
        tls: over_tls.then(|| fields.tls()).transpose()?.map(|tls| tls.config),
        sasl: sasl(fields, over_tls)?,
        encoding: Encoding::read(fields, Encoding::Json)?,
    }))
}

fn sasl(fields: &Fields<'_>, over_tls: bool) -> Result<Option<SaslConfig>, ConfigError> {
    let Some(node) = fields.get("sasl") else {
        return Ok(None);
    };
    let inner = fields.inner(node, "sasl", &["mechanism", "user", "password"])?;
    let mechanisms = [
        ("plain", Mechanism::Plain),
        ("scram-sha-256", Mechanism::Sha256),
        ("scram-sha-512", Mechanism::Sha512),
    ];
    let mechanism = inner.choice("mechanism", &mechanisms, Mechanism::Sha512)?;
    let user = inner.need("user", "who logs in")?;
    let password = inner.need_secret("password")?;
    let login = Credentials::new(user, password.expose().to_owned());
    Ok(Some(match mechanism {
        Mechanism::Plain if !over_tls => {
            let found = "a password in the clear";
            return Err(inner.wrong(
                "mechanism",
                found,
                "protocol: tls, or one of scram-sha-256, scram-sha-512",
            ));
        }
        Mechanism::Plain => SaslConfig::Plain(login),
        Mechanism::Sha256 => SaslConfig::ScramSha256(login),
        Mechanism::Sha512 => SaslConfig::ScramSha512(login),
    }))
}

impl Target for Config {
    fn sender(self: Box<Self>) -> Result<Box<dyn Sender>, String> {
        Ok(Box::new(Kafka::new(*self)))
    }
}
