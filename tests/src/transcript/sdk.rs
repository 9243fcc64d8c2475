//! The wire habits of MCP SDKs, copied from the real captures under `tests/captures/benign`.

use serde_json::{Map, Value, json};

/// Whose habits a peer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sdk {
    /// Python mcp 2.3.0 on httpx and uvicorn, after `lo-py-json.pcap` and `lo-py-modern.pcap`.
    Python,
    /// TypeScript SDK 1.32.2 on Node and Express, after `veth-dns-mcp.pcap` and `lo-ts-legacy-sse.pcap`.
    Typescript,
}

impl Sdk {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "python" => Some(Self::Python),
            "typescript" => Some(Self::Typescript),
            _ => None,
        }
    }

    /// Header fields of a client. `own` are the MCP ones.
    pub(super) fn request(self, method: &str, host: &str, own: &[(String, String)]) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut put = |name: &str, value: &str| out.push((name.to_owned(), value.to_owned()));
        let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        match self {
            Self::Python => {
                put("Host", host);
                put("Accept-Encoding", "gzip, deflate");
                put("Connection", "keep-alive");
                put("User-Agent", "python-httpx2/2.16.2");
                if method == "GET" {
                    put("Cache-Control", "no-store");
                }
                put("accept", "application/json, text/event-stream");
                put("content-type", "application/json");
                own.for_each(|(name, value)| put(name, value));
            }
            Self::Typescript => {
                put("host", host);
                put("connection", "keep-alive");
                own.for_each(|(name, value)| put(name, value));
                match method {
                    "POST" => {
                        put("content-type", "application/json");
                        put("accept", "application/json, text/event-stream");
                    }
                    "GET" => put("Accept", "text/event-stream"),
                    _ => {}
                }
                put("accept-language", "*");
                put("sec-fetch-mode", "cors");
                put("user-agent", "node");
                put("accept-encoding", "gzip, deflate");
            }
        }
        out
    }

    /// Header fields of a server.
    pub(super) fn response(self, media: &str, own: &[(String, String)]) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut put = |name: &str, value: &str| out.push((name.to_owned(), value.to_owned()));
        let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let events = media == "text/event-stream";
        match self {
            Self::Python => {
                put("date", "Sun, 22 Nov 2026 08:00:00 GMT");
                put("server", "uvicorn");
                if events {
                    put("cache-control", "no-cache, no-transform");
                    put("connection", "keep-alive");
                    put("x-accel-buffering", "no");
                }
                put("content-type", media);
                own.for_each(|(name, value)| put(name, value));
            }
            Self::Typescript => {
                put("X-Powered-By", "Express");
                if events {
                    put("cache-control", "no-cache, no-transform");
                    put("connection", "keep-alive");
                }
                put("content-type", media);
                own.for_each(|(name, value)| put(name, value));
                put("Date", "Sun, 22 Nov 2026 08:00:00 GMT");
            }
        }
        out
    }

    /// A JSON-RPC message of these members, in the order in which the SDK writes them.
    pub(super) fn message(self, id: Option<&Value>, rest: Map<String, Value>) -> Value {
        let mut out = Map::new();
        let id = id.map(|id| ("id".to_owned(), id.clone()));
        match self {
            Self::Python => {
                out.insert("jsonrpc".to_owned(), json!("2.0"));
                out.extend(id);
                out.extend(rest);
            }
            Self::Typescript => {
                out.extend(rest);
                out.insert("jsonrpc".to_owned(), json!("2.0"));
                out.extend(id);
            }
        }
        Value::Object(out)
    }

    /// A message as a server-sent event.
    pub(super) fn event(self, name: &str, data: &str) -> Vec<u8> {
        let end = match self {
            Self::Python => "\r\n",
            Self::Typescript => "\n",
        };
        format!("event: {name}{end}data: {data}{end}{end}").into_bytes()
    }
}
