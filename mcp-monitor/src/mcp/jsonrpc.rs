//! JSON-RPC 2.0 envelopes: from one JSON text to its messages, parsed once.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    ambiguity::{self, Keys},
    json::{self, JsonError, KeySink},
    message::{MessageKind, RequestId, ResultParts},
    repeated::{Digest, Repeated},
};

/// The envelope of one message; ranges are of `body`.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Kind.
    pub kind: MessageKind,
    /// `id`.
    pub id: Option<RequestId>,
    /// `method`.
    pub method: Option<Arc<str>>,
    /// `params.name` or `params.uri`.
    pub name: Option<Arc<str>>,
    /// `error.code`.
    pub error_code: Option<i64>,
    /// JSON text of this message.
    pub body: Bytes,
    /// `params`.
    pub params: Option<Range<usize>>,
    /// `result`.
    pub result: Option<Range<usize>>,
    /// `error`.
    pub error: Option<Range<usize>>,
    /// Element of a batch.
    pub batch: bool,
    /// What two readers could read differently, see [`super::ambiguity`].
    pub ambiguity: Option<String>,
    /// `result` was read before: it is UTF-8, and this its digest.
    pub repeated: Option<Digest>,
    /// Where members of `result` lie; `None` where it was not looked into.
    pub parts: Option<ResultParts>,
}

/// What a text turned out to be.
#[derive(Debug)]
pub enum Parsed {
    /// JSON-RPC messages, in order; elements of a batch that are none are left out and counted.
    Messages {
        /// The messages.
        messages: Vec<Envelope>,
        /// Batch elements that are not JSON-RPC.
        foreign: usize,
        /// Batch elements above [`MAX_BATCH`].
        beyond: usize,
    },
    /// JSON, but not JSON-RPC.
    Other,
    /// Not JSON.
    Malformed(JsonError),
}

/// More elements of one batch are not looked at.
pub const MAX_BATCH: usize = 4096;

/// Reads `text`. Cost is one pass; nothing is copied but ids, method and name.
pub fn parse(text: &Bytes) -> Parsed {
    parse_with(text, &mut Repeated::default())
}

/// As [`parse`]; results that were read before are passed over.
pub fn parse_with(text: &Bytes, repeated: &mut Repeated) -> Parsed {
    let start = json::skip_space(text, 0);
    match text.get(start) {
        Some(b'{') => match envelope(text, false, repeated) {
            Ok(Some(one)) => Parsed::Messages {
                messages: vec![one],
                foreign: 0,
                beyond: 0,
            },
            Ok(None) => Parsed::Other,
            Err(error) => Parsed::Malformed(error),
        },
        Some(b'[') => batch(text, repeated),
        _ => match json::skip_value(text, 0) {
            Ok(_) => Parsed::Other,
            Err(error) => Parsed::Malformed(error),
        },
    }
}

fn batch(text: &Bytes, repeated: &mut Repeated) -> Parsed {
    let mut ranges = Vec::new();
    let mut beyond = 0_usize;
    let end = json::elements(text, |range| {
        if ranges.len() < MAX_BATCH {
            ranges.push(range);
        } else {
            beyond = beyond.saturating_add(1);
        }
    });
    match end {
        Ok(end) if json::skip_space(text, end) == text.len() => {}
        Ok(end) => return Parsed::Malformed(JsonError::Malformed(end)),
        Err(error) => return Parsed::Malformed(error),
    }
    let mut messages = Vec::new();
    let mut foreign = 0_usize;
    for range in ranges {
        match envelope(&text.slice(range), true, repeated) {
            Ok(Some(one)) => messages.push(one),
            _ => foreign = foreign.saturating_add(1),
        }
    }
    if messages.is_empty() {
        Parsed::Other
    } else {
        Parsed::Messages {
            messages,
            foreign,
            beyond,
        }
    }
}

/// Keys of a message, its result if it repeats, and else what is in that.
struct Walk<'r> {
    keys: Keys,
    repeated: &'r Repeated,
    found: Option<Digest>,
    parts: Option<ResultParts>,
}

impl KeySink for Walk<'_> {
    fn open(&mut self) {
        self.keys.open();
    }

    fn key(&mut self, raw: &[u8]) {
        self.keys.key(raw);
    }

    fn close(&mut self) {
        self.keys.close();
    }

    fn passes(&mut self, key: &str, text: &[u8], at: usize) -> Option<usize> {
        if key != "result" {
            return None;
        }
        // Of a result that comes twice the last one counts.
        (self.found, self.parts) = (None, None);
        let rest = text.get(at..).filter(|rest| rest.starts_with(b"{"))?;
        if let Some((len, digest)) = self.repeated.find(rest) {
            self.found = Some(digest);
            return at.checked_add(len);
        }
        let mut parts = ResultParts::default();
        // What is wrong with it, the walk that follows says.
        let len = json::members_in(rest, 1, &mut self.keys, |key, value| {
            parts.note(&key, value, rest)
        })
        .ok()?;
        self.parts = Some(parts);
        at.checked_add(len)
    }
}

/// `None`: an object, but not JSON-RPC 2.0.
fn envelope(text: &Bytes, batch: bool, repeated: &mut Repeated) -> Result<Option<Envelope>, JsonError> {
    let (mut version, mut id, mut method, mut params, mut result, mut error) =
        (None, None, None, None, None, None);
    let mut walk = Walk {
        keys: Keys::default(),
        repeated,
        found: None,
        parts: None,
    };
    let end = json::members_with(text, &mut walk, |key, value| {
        let slot = match key.as_ref() {
            "jsonrpc" => &mut version,
            "id" => &mut id,
            "method" => &mut method,
            "params" => &mut params,
            "result" => &mut result,
            "error" => &mut error,
            _ => return,
        };
        // The last one wins, as in most decoders.
        *slot = Some(value);
    })?;
    if json::skip_space(text, end) != text.len() {
        return Err(JsonError::Malformed(end));
    }
    let Walk {
        keys, found, parts, ..
    } = walk;
    let suspicious = keys.suspicious();
    if let Some(result) = result.as_ref().filter(|_| found.is_none() && !suspicious) {
        let rest = text.get(result.start..).unwrap_or_default();
        repeated.note(rest, result.len());
    }
    let slice = |range: &Range<usize>| text.get(range.clone()).unwrap_or_default();
    if version.as_ref().is_none_or(|v| slice(v) != br#""2.0""#) {
        return Ok(None);
    }
    let id = id.as_ref().and_then(|range| request_id(slice(range)));
    let method: Option<Arc<str>> = method
        .as_ref()
        .and_then(|range| json::string_at(slice(range), 0))
        .map(|m| m.as_ref().into());
    let kind = match (&method, &id) {
        (Some(_), Some(_)) => MessageKind::Request,
        (Some(_), None) => MessageKind::Notification,
        (None, _) if error.is_some() => MessageKind::Error,
        (None, _) if result.is_some() => MessageKind::Response,
        (None, _) => return Ok(None),
    };
    let name = match (method.as_deref(), params.as_ref()) {
        (Some("tools/call" | "prompts/get"), Some(p)) => json::path_str(slice(p), &["name"]),
        (Some(m), Some(p)) if m.starts_with("resources/") => json::path_str(slice(p), &["uri"]),
        (Some(m), Some(p)) if m.starts_with("tasks/") => json::path_str(slice(p), &["taskId"]),
        _ => None,
    }
    .map(|n| n.as_ref().into());
    let error_code = error
        .as_ref()
        .and_then(|e| json::path(slice(e), &["code"]))
        .and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
    Ok(Some(Envelope {
        kind,
        id,
        method,
        name,
        error_code,
        body: text.clone(),
        params,
        result,
        error,
        batch,
        ambiguity: suspicious.then(|| ambiguity::explain(text)).flatten(),
        repeated: found,
        parts,
    }))
}

fn request_id(text: &[u8]) -> Option<RequestId> {
    match text.first()? {
        b'"' => json::string_at(text, 0).map(|s| RequestId::Text(s.as_ref().into())),
        b'n' => Some(RequestId::Null),
        b'-' | b'0'..=b'9' => std::str::from_utf8(text)
            .ok()
            .map(|s| RequestId::Number(s.into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &'static str) -> Envelope {
        match parse(&Bytes::from_static(text.as_bytes())) {
            Parsed::Messages { mut messages, .. } if messages.len() == 1 => messages.remove(0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn key_order_does_not_matter() {
        let m = one(
            r#"{"method":"tools/call","params":{"arguments":{"name":"no"},"name":"echo"},"jsonrpc":"2.0","id":0}"#,
        );
        assert_eq!(
            (m.kind, m.method.as_deref(), m.name.as_deref()),
            (MessageKind::Request, Some("tools/call"), Some("echo"))
        );
        assert_eq!(m.id, Some(RequestId::Number("0".into())));
    }

    #[test]
    fn kinds() {
        assert_eq!(
            one(r#"{"jsonrpc":"2.0","id":"1","result":{}}"#).kind,
            MessageKind::Response
        );
        assert_eq!(
            one(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).kind,
            MessageKind::Notification
        );
        let e = one(r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"x"},"id":null}"#);
        assert_eq!(
            (e.kind, e.error_code, e.id),
            (MessageKind::Error, Some(-32000), Some(RequestId::Null))
        );
    }

    #[test]
    fn number_and_text_ids_differ() {
        assert_ne!(
            one(r#"{"jsonrpc":"2.0","id":"1","result":1}"#).id,
            one(r#"{"jsonrpc":"2.0","id":1,"result":1}"#).id
        );
    }

    #[test]
    fn batches_and_others() {
        let text = Bytes::from_static(
            br#"[{"jsonrpc":"2.0","id":1,"method":"ping"}, 3, {"jsonrpc":"2.0","method":"x"}]"#,
        );
        let Parsed::Messages {
            messages, foreign, ..
        } = parse(&text)
        else {
            panic!()
        };
        assert_eq!((messages.len(), foreign, messages[0].batch), (2, 1, true));
        assert_eq!(
            &messages[0].body[..],
            br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#
        );
        assert!(matches!(parse(&Bytes::from_static(b"{\"a\":1}")), Parsed::Other));
        assert!(matches!(
            parse(&Bytes::from_static(b"{\"a\":1}x")),
            Parsed::Malformed(_)
        ));
        assert!(matches!(
            parse(&Bytes::from_static(b"{bad")),
            Parsed::Malformed(_)
        ));
    }

    #[test]
    fn members_of_a_result_are_noted_as_a_walk_of_it_finds_them() {
        for result in [
            r#"{"content":[{"type":"text","text":"}"}],"isError":true}"#,
            r#" { "a" : {"content":1} , "structuredContent" : {"b":[]} , "isError" : false , "isError" : true } "#,
            "{}",
            "[1]",
            "1",
        ] {
            let text = Bytes::from(format!(
                r#"{{"result":{{"isError":true}},"id":1,"jsonrpc":"2.0","result":{result}}}"#
            ));
            let Parsed::Messages { messages, .. } = parse(&text) else {
                panic!()
            };
            let message = &messages[0];
            let range = message.result.clone().unwrap();
            let walked = ResultParts::of(text.get(range).unwrap());
            assert_eq!(message.parts.clone().unwrap_or_default(), walked, "{result}");
        }
        let deep = |levels: usize| {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            parse(&Bytes::from(format!(
                r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":{open}{close}}}}}"#
            )))
        };
        assert!(matches!(deep(127), Parsed::Messages { .. }));
        assert!(matches!(deep(129), Parsed::Malformed(JsonError::TooDeep)));
    }

    #[test]
    fn a_result_that_repeats_is_read_as_it_was() {
        let mut repeated = Repeated::default();
        let long = "\u{fc}".repeat(1000);
        let text = |id: u32, tail: &str| {
            Bytes::from(format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"a":"{long}","b":[1,{{"c":"}}"}}]}}{tail}}}"#
            ))
        };
        for (id, tail, known) in [
            (1, "", false),
            (2, "", false),
            (3, "", true),
            (42, "", true),
            // Other lengths are other places.
            (5, r#","x":1"#, false),
            (6, "}", false),
        ] {
            let text = text(id, tail);
            let with = parse_with(&text, &mut repeated);
            let found = matches!(&with, Parsed::Messages { messages, .. } if messages[0].repeated.is_some());
            assert_eq!(found, known, "{id}");
            // But for the digest, and for what is in the result.
            let with = format!("{with:?}").replace("Some(OnceLock(<uninit>))", "None");
            let plain = format!("{:?}", parse(&text));
            let upto = plain.find("repeated: ").unwrap_or(plain.len());
            assert!(with.get(..upto) == plain.get(..upto), "{id}");
        }
        // A key that stands twice is seen each time.
        let twice = Bytes::from(format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":"{long}","a":1}}}}"#
        ));
        for _ in 0..3 {
            let Parsed::Messages { messages, .. } = parse_with(&twice, &mut repeated) else {
                panic!()
            };
            assert!(messages[0].ambiguity.is_some() && messages[0].repeated.is_none());
        }
    }

    #[test]
    fn a_duplicate_envelope_key_is_seen() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#;
        assert!(
            one(text)
                .ambiguity
                .is_some_and(|a| a.starts_with("\"method\" twice"))
        );
    }
}
