//! Lists other than tools (prompts, resources, templates), put together from their pages.

use std::sync::Arc;

use serde_json::Value;

use super::mcp;
use crate::{
    baseline::Bounded,
    mcp::{
        Message, MessageKind, RequestId,
        context::{ClientKey, MessageContext, ServerKey},
    },
};

/// Most items of one list; the rest is not looked at.
const MAX_ITEMS: usize = 4096;
/// Lists whose next page is awaited, and requests whose answer is.
const MAX_PENDING: usize = 1024;

type Listener = (ServerKey, ClientKey, Option<Arc<str>>);

/// Puts lists together.
pub(super) struct Listings {
    /// Method whose answers are lists, and the member that holds the items.
    kinds: &'static [(&'static str, &'static str)],
    asked: Bounded<(Listener, RequestId), Option<String>>,
    partial: Bounded<(Listener, &'static str), (String, Vec<Value>)>,
}

impl Listings {
    /// Of these methods, each with the member of the result that holds the items.
    pub(super) fn new(kinds: &'static [(&'static str, &'static str)]) -> Self {
        Self {
            kinds,
            asked: Bounded::new(MAX_PENDING),
            partial: Bounded::new(MAX_PENDING),
        }
    }

    /// The member and all items, if this message completes a list whose pages were all seen.
    pub(super) fn observe(
        &mut self,
        message: &Message,
        context: &MessageContext<'_>,
    ) -> Option<(&'static str, Vec<Value>)> {
        let method = match message.kind {
            MessageKind::Request => message.method.as_deref()?,
            MessageKind::Response => &context.answers?.method,
            MessageKind::Error | MessageKind::Notification => return None,
        };
        let (_, member) = *self.kinds.iter().find(|(m, _)| *m == method)?;
        let session = context.session;
        let who = (session.server.clone(), session.client.clone(), session.id.clone());
        let id = message.id.clone()?;
        if message.kind == MessageKind::Request {
            let cursor = mcp::params(message).and_then(|p| Some(p.get("cursor")?.as_str()?.to_owned()));
            self.asked.insert((who, id), cursor);
            return None;
        }
        let cursor = self.asked.remove(&(who.clone(), id))?;
        let mut result = mcp::result(message)?;
        let before = self.partial.remove(&(who.clone(), member));
        let mut items = match cursor {
            None => Vec::new(),
            Some(cursor) => before.filter(|(next, _)| *next == cursor)?.1,
        };
        if let Some(Value::Array(page)) = result.get_mut(member).map(Value::take) {
            let room = MAX_ITEMS.saturating_sub(items.len());
            items.extend(page.into_iter().take(room));
        }
        if let Some(next) = result.get("nextCursor").and_then(Value::as_str) {
            self.partial.insert((who, member), (next.to_owned(), items));
            return None;
        }
        Some((member, items))
    }
}
