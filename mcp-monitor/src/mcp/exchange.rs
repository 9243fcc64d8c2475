//! What is known of one HTTP exchange, and where its bodies go.

use std::sync::Arc;

use super::{body::Collected, held::Share, stray::Scanner};
use crate::{
    proto::{coding, http::RequestHead, sse},
    types::PacketId,
};

/// How sure it is that an exchange is MCP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Mark {
    No,
    Maybe,
    Yes,
}

#[derive(Debug)]
pub(super) enum Sink {
    /// Not looked at.
    Ignore,
    /// Collected whole.
    Whole {
        decoder: Option<coding::Decoder>,
        collected: Collected,
        media_type: Box<str>,
    },
    /// Decoded as it comes.
    Events {
        decoder: Option<coding::Decoder>,
        sse: sse::Decoder,
        first: Option<PacketId>,
        endpoints: u32,
        share: Share,
    },
    /// Its head was not captured: searched for whole messages.
    Headless(Box<Scanner>),
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) request: Option<Arc<RequestHead>>,
    pub(super) mark: Mark,
    /// Accept names both JSON and SSE, as Streamable HTTP demands of clients.
    pub(super) streamable: bool,
    pub(super) request_body: Sink,
    pub(super) response_body: Sink,
    pub(super) request_ended: bool,
    pub(super) response_ended: bool,
}

impl Exchange {
    /// Of which no head was seen.
    pub(super) fn unseen() -> Self {
        Self {
            request: None,
            mark: Mark::Maybe,
            streamable: false,
            request_body: Sink::Ignore,
            response_body: Sink::Ignore,
            request_ended: false,
            response_ended: false,
        }
    }
}
