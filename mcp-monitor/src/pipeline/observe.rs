//! What the traffic taught, each fact once: the raw material of pins.

use std::{net::IpAddr, num::NonZeroUsize};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lru::LruCache;
use serde_json::json;

use super::record::{Observation, Record, hex};
use crate::{
    detect::{Seen, SeenKind, canonical},
    mcp::{MessageKind, json},
    proto::dns::RecordData,
    types::{At, Direction},
};

/// Facts remembered so that each is said once; the least recently seen is forgotten first.
const FACTS: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub(super) struct Observer {
    said: LruCache<(&'static str, String, String), ()>,
}

impl Default for Observer {
    fn default() -> Self {
        Self {
            said: LruCache::new(NonZeroUsize::new(FACTS).unwrap_or(NonZeroUsize::MIN)),
        }
    }
}

impl Observer {
    pub(super) fn see(&mut self, seen: &Seen<'_>, out: &mut Vec<Record>) {
        match &seen.kind {
            SeenKind::Dns {
                direction: Direction::ToClient,
                message,
            } if message.response => {
                let Some(question) = message.questions.first() else {
                    return;
                };
                let addresses: Vec<IpAddr> = message
                    .answers
                    .iter()
                    .filter_map(|r| match r.data {
                        RecordData::Address(a) => Some(a),
                        _ => None,
                    })
                    .collect();
                let cnames: Vec<&str> = message
                    .answers
                    .iter()
                    .filter_map(|r| match &r.data {
                        RecordData::Cname(c) => Some(c.as_ref()),
                        _ => None,
                    })
                    .collect();
                if addresses.is_empty() && cnames.is_empty() {
                    return;
                }
                let resolver = seen.flow.map(|f| f.info.server.ip());
                let value = json!({"addresses": addresses, "cnames": cnames, "resolver": resolver});
                self.say(seen.at, "dns-answer", question.name.to_string(), value, out);
            }
            SeenKind::Certificates {
                direction: Direction::ToClient,
                chain,
            } => {
                let Some(leaf) = chain.leaf() else { return };
                let subject = seen
                    .connection
                    .and_then(|c| c.server_name())
                    .unwrap_or_default()
                    .to_owned();
                let base64 = |digest: &[u8; 32]| STANDARD.encode(digest);
                let value = json!({
                    "sha256": hex(&leaf.sha256),
                    "chain": chain.certificates.len().saturating_add(chain.unreadable),
                    "spki_sha256": chain.certificates.iter().map(|c| base64(&c.spki_sha256)).collect::<Vec<_>>(),
                    "subject": leaf.subject,
                    "issuer": leaf.issuer,
                    "names": leaf.dns_names,
                    "not_before": leaf.not_before,
                    "not_after": leaf.not_after,
                });
                self.say(seen.at, "certificate", subject, value, out);
            }
            SeenKind::Request {
                head,
                target,
                mcp: true,
                ..
            } => {
                let scheme = head
                    .headers
                    .get_str("authorization")
                    .and_then(|v| v.split_ascii_whitespace().next())
                    .map_or_else(|| "none".to_owned(), str::to_ascii_lowercase);
                let value = json!({"scheme": scheme, "path": target.path});
                self.say(seen.at, "authentication", target.origin.to_string(), value, out);
            }
            SeenKind::Message { message, context } if message.kind == MessageKind::Response => {
                let Some(answered) = context.answers else { return };
                let subject = context.target.origin.to_string();
                let result = message.result().unwrap_or_default();
                match answered.method.as_ref() {
                    "initialize" | "server/discover" => {
                        let session = context.session;
                        let info = session.server_info.as_ref();
                        let value = json!({
                            "name": info.map(|i| &i.name),
                            "version": info.map(|i| &i.version),
                            "protocol_version": session.negotiated,
                            "transport": session.transport,
                        });
                        self.say(seen.at, "server", subject, value, out);
                    }
                    "tools/list" => {
                        let Some(tools) = json::path(result, &["tools"]) else {
                            return;
                        };
                        let mut found = Vec::new();
                        let _ = json::elements(tools, |range| found.push(range));
                        for range in found {
                            let tool = tools.get(range).unwrap_or_default();
                            let Some(name) = json::path_str(tool, &["name"]) else {
                                continue;
                            };
                            let value = json!({"tool": name, "hash": canonical::tool_hash(tool)});
                            self.say(seen.at, "tool", subject.clone(), value, out);
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn say(
        &mut self,
        at: At,
        kind: &'static str,
        subject: String,
        value: serde_json::Value,
        out: &mut Vec<Record>,
    ) {
        if self
            .said
            .put((kind, subject.clone(), value.to_string()), ())
            .is_some()
        {
            return;
        }
        out.push(Record::Observation(Box::new(Observation {
            schema: "mcp-monitor.observation/1",
            time: at.time,
            kind,
            subject,
            value,
            packet: at.packet.number,
        })));
    }
}
