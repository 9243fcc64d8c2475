//! What is in the capture, counted while it is written.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// One countable thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// An HTTP request.
    HttpRequest,
    /// A final HTTP response.
    HttpResponse,
    /// A response of type `text/event-stream`.
    SseStream,
    /// An event that the WHATWG grammar dispatches.
    SseEvent,
    /// A JSON-RPC request of MCP, with its method.
    Request(&'static str),
    /// A JSON-RPC notification of MCP, with its method.
    Notification(&'static str),
    /// A JSON-RPC response of MCP with a result.
    Response,
    /// A JSON-RPC response of MCP with an error.
    Error,
    /// A DNS query.
    DnsQuery,
    /// A DNS answer.
    DnsResponse,
    /// A TLS ClientHello.
    ClientHello,
    /// A TLS ServerHello.
    ServerHello,
}

/// Counts by the dotted names of the summary's fields.
pub type Counts = BTreeMap<String, u64>;

/// See the module.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Truth {
    /// Of what is wholly in the capture, and of packets and flows.
    pub whole: Counts,
    /// Of the messages that a lost segment hit, or that lie behind one in the same HTTP message:
    /// a reader may find them or not.
    pub hit: Counts,
}

impl Truth {
    /// Counts one more.
    pub fn unit(&mut self, unit: Unit, hit: bool) {
        let counts = if hit { &mut self.hit } else { &mut self.whole };
        let mut add = |name: &str| match counts.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                counts.insert(name.to_owned(), 1);
            }
        };
        match unit {
            Unit::HttpRequest => add("http.requests"),
            Unit::HttpResponse => add("http.responses"),
            Unit::SseStream => add("sse.streams"),
            Unit::SseEvent => add("sse.events"),
            Unit::Request(method) => {
                add("mcp.requests");
                add(&format!("mcp.methods.{method}"));
            }
            Unit::Notification(method) => {
                add("mcp.notifications");
                add(&format!("mcp.methods.{method}"));
            }
            Unit::Response => add("mcp.responses"),
            Unit::Error => {
                add("mcp.responses");
                add("mcp.errors");
            }
            Unit::DnsQuery => add("dns.queries"),
            Unit::DnsResponse => add("dns.responses"),
            Unit::ClientHello => add("tls.client_hellos"),
            Unit::ServerHello => add("tls.server_hellos"),
        }
    }

    /// Adds to a count of what is in the capture.
    pub fn add(&mut self, name: &str, count: u64) {
        *self.whole.entry(name.to_owned()).or_default() += count;
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({"whole": self.whole, "hit": self.hit})
    }

    /// Back from JSON.
    pub fn from_json(value: &Value) -> Option<Self> {
        let counts = |object: &Map<String, Value>| -> Option<Counts> {
            object
                .iter()
                .map(|(name, count)| Some((name.clone(), count.as_u64()?)))
                .collect()
        };
        Some(Self {
            whole: counts(value.get("whole")?.as_object()?)?,
            hit: counts(value.get("hit")?.as_object()?)?,
        })
    }

    /// What a reader's counts get wrong, one line each: below what is whole, or above that and
    /// what was hit together.
    pub fn check(&self, seen: impl Fn(&str) -> u64) -> Vec<String> {
        let mut names: Vec<&String> = self.whole.keys().chain(self.hit.keys()).collect();
        names.sort();
        names.dedup();
        names
            .into_iter()
            .filter_map(|name| {
                let count = |counts: &Counts| counts.get(name).copied().unwrap_or(0);
                let (whole, hit, seen) = (count(&self.whole), count(&self.hit), seen(name));
                (seen < whole || seen > whole + hit).then(|| match hit {
                    0 => format!("{name}: {seen}, there are {whole}"),
                    _ => format!("{name}: {seen}, there are {whole} and {hit} hit by loss"),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Truth, Unit};

    #[test]
    fn counts_between_whole_and_hit_pass() {
        let mut truth = Truth::default();
        for (unit, hit) in [
            (Unit::Request("ping"), false),
            (Unit::Request("ping"), true),
            (Unit::Error, false),
        ] {
            truth.unit(unit, hit);
        }
        let with = |requests| {
            truth.check(move |name| match name {
                "mcp.requests" => requests,
                "mcp.methods.ping" | "mcp.responses" | "mcp.errors" => 1,
                _ => 0,
            })
        };
        assert!(with(1).is_empty() && with(2).is_empty());
        assert_eq!(with(0), ["mcp.requests: 0, there are 1 and 1 hit by loss"]);
        assert_eq!(with(3).len(), 1);
        assert_eq!(Truth::from_json(&truth.to_json()), Some(truth));
    }
}
