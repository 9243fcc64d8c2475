//! From a decoded header block to the head of a message (RFC 9113 section 8.3).

use std::sync::Arc;

use bytes::Bytes;

use super::hpack::Block;
use crate::{
    proto::http::{ExchangeId, Headers, HttpEvent, RequestHead, ResponseHead, Version},
    types::{At, Direction, PacketId},
};

/// Fields of a block, pseudo-header fields taken out.
pub(super) struct Head {
    method: Bytes,
    target: Bytes,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    pub(super) status: u16,
    headers: Headers,
    partial: bool,
}

impl Head {
    pub(super) fn new(block: Block) -> Self {
        let mut head = Self {
            method: Bytes::new(),
            target: Bytes::new(),
            scheme: None,
            authority: None,
            status: 0,
            headers: Headers::default(),
            partial: block.unknown > 0,
        };
        for (name, value) in block.fields {
            match name.as_ref() {
                b":method" => head.method = value,
                b":path" => head.target = value,
                b":scheme" => head.scheme = Some(value),
                b":authority" => head.authority = Some(value),
                b":status" => {
                    let text = std::str::from_utf8(&value).unwrap_or_default();
                    head.status = text.parse().unwrap_or_default();
                }
                [b':', ..] => {}
                _ => head.headers.push(&name, &value),
            }
        }
        if head.authority.is_none() {
            head.authority = head.headers.get("host").map(Bytes::copy_from_slice);
        }
        head
    }

    /// Every field is there that says what the message is; always so where nothing was lost.
    pub(super) fn names_itself(&self, direction: Direction) -> bool {
        let named = match direction {
            Direction::ToServer => {
                let target = !self.target.is_empty() || self.method.as_ref() == b"CONNECT";
                !self.method.is_empty() && target && self.authority.is_some()
            }
            Direction::ToClient => self.status != 0,
        };
        named || !self.partial
    }

    pub(super) fn event(
        self,
        direction: Direction,
        exchange: ExchangeId,
        first: PacketId,
        at: At,
    ) -> HttpEvent {
        let version = Version::Http2;
        match direction {
            Direction::ToServer => HttpEvent::Request {
                exchange,
                head: Arc::new(RequestHead {
                    method: self.method,
                    target: self.target,
                    version,
                    scheme: self.scheme,
                    authority: self.authority,
                    headers: self.headers,
                    partial: self.partial,
                    first,
                    at,
                }),
            },
            Direction::ToClient => HttpEvent::Response {
                exchange,
                head: Arc::new(ResponseHead {
                    status: self.status,
                    version,
                    headers: self.headers,
                    partial: self.partial,
                    first,
                    at,
                }),
            },
        }
    }
}
