//! HTTP as HTTP/1 and HTTP/2 have it in common: heads, exchanges, bodies as streams.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::types::{Anomaly, At, Direction, PacketId};

/// Header fields in wire order. Names compare without case (RFC 9110 section 5.1).
///
/// All of them lie in one buffer, so that a head costs two allocations whatever it holds.
#[derive(Clone, Default)]
pub struct Headers {
    text: Vec<u8>,
    /// Ends of name and value of each field; each begins where the one before ends.
    ends: Vec<(u32, u32)>,
}

impl fmt::Debug for Headers {
    /// Names and lengths: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self
            .iter()
            .map(|(name, value)| (String::from_utf8_lossy(name), value.len()));
        f.debug_map().entries(shown).finish()
    }
}

impl Headers {
    /// None yet, with room for a head of so many bytes.
    pub fn with_room(bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes),
            // A field takes more than 16 bytes as a rule, and few heads have more than a dozen.
            ends: Vec::with_capacity((bytes / 16).min(16)),
        }
    }

    /// Adds a field.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.text.len();
        let end = |text: &Vec<u8>| u32::try_from(text.len());
        self.text.extend_from_slice(name);
        let name_end = end(&self.text);
        self.text.extend_from_slice(value);
        match (name_end, end(&self.text)) {
            (Ok(name), Ok(value)) => self.ends.push((name, value)),
            // Heads are capped far below 4 GiB.
            _ => self.text.truncate(start),
        }
    }

    /// Goes on with the value of the last field, after a space (a folded line, RFC 9112 section 5.2).
    pub(super) fn fold(&mut self, more: &[u8]) {
        let Some((name, value)) = self.ends.last_mut() else {
            return;
        };
        let start = usize::try_from(*name).unwrap_or(usize::MAX);
        let kept = self.text.get(start..).unwrap_or_default().trim_ascii_end().len();
        self.text.truncate(start.saturating_add(kept));
        self.text.push(b' ');
        self.text.extend_from_slice(more);
        *value = u32::try_from(self.text.len()).unwrap_or(*name);
    }

    /// How many fields.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Every field, as sent.
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0_usize;
        self.ends.iter().map(move |(name, value)| {
            let at = |end: u32| usize::try_from(end).unwrap_or(usize::MAX);
            let parts = (
                self.text.get(start..at(*name)).unwrap_or_default(),
                self.text.get(at(*name)..at(*value)).unwrap_or_default(),
            );
            start = at(*value);
            parts
        })
    }

    /// First value of `name`, surrounding white space removed.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields()
            .find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, v)| v.trim_ascii())
    }

    /// First value as text, if it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|v| std::str::from_utf8(v).ok())
    }

    /// Every value of `name`.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.fields()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, v)| v.trim_ascii())
    }

    /// Every field.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields().map(|(n, v)| (n, v.trim_ascii()))
    }

    /// The media type of `Content-Type`, lower case, without parameters.
    pub fn media_type(&self) -> Option<String> {
        let value = self.get_str("content-type")?;
        let essence = value.split(';').next().unwrap_or_default();
        Some(essence.trim().to_ascii_lowercase())
    }
}

/// HTTP version of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Method as sent.
    pub method: Bytes,
    /// Request target as sent (origin, absolute, authority or asterisk form; `:path` in HTTP/2).
    pub target: Bytes,
    /// Version.
    pub version: Version,
    /// `:scheme` where HTTP/2 or the absolute form gives it.
    pub scheme: Option<Bytes>,
    /// Host and port the client names: `Host`, `:authority` or the absolute form.
    pub authority: Option<Bytes>,
    /// Fields.
    pub headers: Headers,
    /// Some fields could not be read after a loss: that one is absent proves nothing.
    pub partial: bool,
    /// Packet in which the head began.
    pub first: PacketId,
    /// When the head was complete.
    pub at: At,
}

impl RequestHead {
    /// Path without query; `/` for the authority and asterisk forms.
    pub fn path(&self) -> &[u8] {
        let target = self.origin_form();
        match memchr::memchr2(b'?', b'#', target) {
            Some(end) => target.get(..end).unwrap_or(target),
            None => target,
        }
    }

    /// Query without `?`, if there is one.
    pub fn query(&self) -> Option<&[u8]> {
        let target = self.origin_form();
        let start = memchr::memchr(b'?', target)?.checked_add(1)?;
        target.get(start..)
    }

    fn origin_form(&self) -> &[u8] {
        if self.target.starts_with(b"/") {
            return &self.target;
        }
        // Absolute form: the path begins at the first slash after the authority.
        let rest = memchr::memmem::find(&self.target, b"://")
            .and_then(|scheme_end| self.target.get(scheme_end.checked_add(3)?..))
            .unwrap_or_default();
        memchr::memchr2(b'/', b'?', rest)
            .and_then(|slash| rest.get(slash..))
            .unwrap_or(b"/")
    }
}

/// The head of a final response (never 1xx, except 101).
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// Version.
    pub version: Version,
    /// Fields.
    pub headers: Headers,
    /// Some fields could not be read after a loss: that one is absent proves nothing.
    pub partial: bool,
    /// Packet in which the head began.
    pub first: PacketId,
    /// When the head was complete.
    pub at: At,
}

/// Which exchange of a connection: the n-th request in HTTP/1, the stream in HTTP/2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExchangeId(pub u64);

/// What an HTTP parser says, in order of the wire within each direction of an exchange.
#[derive(Clone, Debug)]
pub enum HttpEvent {
    /// A request head is complete.
    Request {
        /// Which exchange.
        exchange: ExchangeId,
        /// The head.
        head: Arc<RequestHead>,
    },
    /// A final response head is complete.
    Response {
        /// Which exchange; a response without request gets an id of its own.
        exchange: ExchangeId,
        /// The head.
        head: Arc<ResponseHead>,
    },
    /// A message whose head was not captured, or cannot be read after a loss: its body follows. HTTP/2 alone
    /// knows this; in HTTP/1 such bytes come as [`HttpEvent::Stray`].
    Headless {
        /// Which exchange.
        exchange: ExchangeId,
        /// The request or the response.
        direction: Direction,
        /// When.
        at: At,
    },
    /// Bytes of a body, transfer coding removed, content coding not.
    Body {
        /// Which exchange.
        exchange: ExchangeId,
        /// Of the request or of the response.
        direction: Direction,
        /// The bytes.
        data: Bytes,
        /// When.
        at: At,
    },
    /// Bytes of a body are missing here.
    BodyGap {
        /// Which exchange.
        exchange: ExchangeId,
        /// Of the request or of the response.
        direction: Direction,
        /// How many; `None` if it cannot be known.
        bytes: Option<u64>,
        /// When it was given up.
        at: At,
    },
    /// A message ended.
    End {
        /// Which exchange.
        exchange: ExchangeId,
        /// The request or the response.
        direction: Direction,
        /// False when it was cut short (reset, end of input, loss).
        complete: bool,
        /// When.
        at: At,
    },
    /// After a 101 or a 2xx to CONNECT, the rest of the connection is another protocol.
    /// From here on the parser passes bytes on as [`HttpEvent::Tunnel`].
    Upgraded {
        /// Which exchange.
        exchange: ExchangeId,
        /// Value of `Upgrade`, lower case; `connect` for CONNECT.
        protocol: String,
        /// When.
        at: At,
    },
    /// Bytes after [`HttpEvent::Upgraded`].
    Tunnel {
        /// Which way.
        direction: Direction,
        /// The bytes.
        data: Bytes,
        /// When.
        at: At,
    },
    /// Bytes are missing here after [`HttpEvent::Upgraded`].
    TunnelGap {
        /// Which way.
        direction: Direction,
        /// How many.
        bytes: u64,
        /// When it was given up.
        at: At,
    },
    /// Bytes that no message could be told of, because its head was not captured: framing and bodies mixed.
    Stray {
        /// Which way.
        direction: Direction,
        /// The bytes.
        data: Bytes,
        /// When.
        at: At,
    },
    /// Bytes are missing here between two of [`HttpEvent::Stray`].
    StrayGap {
        /// Which way.
        direction: Direction,
    },
    /// An ALTSVC frame of HTTP/2 (RFC 7838 section 4); the field of the same meaning is among a response's.
    AlternativeService {
        /// Stream of the response it belongs to; `None` where it names an origin.
        exchange: Option<ExchangeId>,
        /// Origin it speaks for; empty on a stream.
        origin: Bytes,
        /// Value as of the `Alt-Svc` field.
        value: Bytes,
        /// When.
        at: At,
    },
    /// Something was wrong.
    Anomaly {
        /// What.
        anomaly: Anomaly,
        /// When.
        at: At,
    },
}
