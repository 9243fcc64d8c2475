//! Syslog, RFC 5424.

mod config;
mod encode;
mod send;
#[cfg(test)]
mod tests;

use super::{delivery::Kind, encoding, http, settings::SinkKind};

pub(super) const KIND: SinkKind = SinkKind {
    name: "syslog",
    about: "RFC 5424 messages over UDP (RFC 5426), TCP with octet counting (RFC 6587) or TLS (RFC 5425). `MSGID` is the rule, the structured data `mcp-monitor@32473` has `id`, `rule`, `name`, `severity`, `endpoint`, `namespace`, `pod`, `incident`, `count`; the message is the line for people unless `encoding` says otherwise. Syslog has no acknowledgement: over UDP a message that is lost on the way is not noticed, over TCP and TLS what was in flight when the connection broke may be lost, or come twice. Where every alert must arrive, use another sink beside it.",
    keys: &[config::KEYS, &[encoding::KEY, http::TLS_KEY]],
    batch: 500,
    spool: true,
    records: &Kind::RECORDS,
    read: config::read,
};
