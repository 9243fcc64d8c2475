//! Lists of tools: pages put together, each tool hashed.

use std::sync::Arc;

use serde_json::Value;

use super::{Bounded, Fingerprint, Known, Principal, canonical::tool_sha256, principal_of_request};
use crate::mcp::{
    Message, MessageKind, RequestId,
    context::{ClientKey, MessageContext, ServerKey},
};

/// Most tools of one list that are kept; the rest of a longer list is not looked at.
pub const MAX_TOOLS: usize = 4096;

/// Lists whose next page is awaited, and requests whose answer is.
const MAX_PENDING: usize = 1024;

/// One tool as a server defines it.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Its name.
    pub name: Arc<str>,
    /// See [`tool_sha256`].
    pub hash: [u8; 32],
    /// The definition, shared by all lists that have it.
    pub definition: Arc<Value>,
    /// Its annotations.
    pub hints: Hints,
    /// It has an `outputSchema`.
    pub output_schema: bool,
}

/// What `annotations` say of a tool, as far as they do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Hints {
    /// There are some.
    pub stated: bool,
    /// `readOnlyHint`.
    pub read_only: Option<bool>,
    /// `destructiveHint`.
    pub destructive: Option<bool>,
    /// `openWorldHint`.
    pub open_world: Option<bool>,
}

impl Hints {
    fn of(definition: &Value) -> Self {
        let annotations = definition.get("annotations");
        let hint = |name: &str| annotations?.get(name)?.as_bool();
        Self {
            stated: annotations.is_some(),
            read_only: hint("readOnlyHint"),
            destructive: hint("destructiveHint"),
            open_world: hint("openWorldHint"),
        }
    }
}

/// A whole list of tools, and for whom it was made.
#[derive(Clone, Debug)]
pub struct ToolList {
    /// The server.
    pub server: ServerKey,
    /// Revision in force.
    pub era: Option<Arc<str>>,
    /// The client's capabilities, canonical JSON.
    pub capabilities: Option<Arc<str>>,
    /// On whose behalf.
    pub principal: Principal,
    /// `serverInfo.version`.
    pub server_version: Option<Box<str>>,
    /// In the order of the list. The same bytes give the same allocation as long as they are remembered, see
    /// [`super::KnownLists`].
    pub tools: Arc<[Tool]>,
    /// `ttlMs` of the last page (2026-07-28), milliseconds.
    pub ttl: Option<u64>,
    /// The list that this audience, this principal and everybody with its stable part, was given before is this
    /// one, byte for byte and with the same server version: who remembers lists by audience has nothing to do.
    pub again: bool,
}

/// For whom a list was made: server, revision, capabilities, principal.
pub type Audience = (ServerKey, Option<Arc<str>>, Option<Arc<str>>, Principal);

impl ToolList {
    /// For whom the list was made, as far as definitions can depend on it: renewal of an opaque
    /// credential makes no difference.
    pub fn audience(&self) -> Audience {
        (
            self.server.clone(),
            self.era.clone(),
            self.capabilities.clone(),
            self.principal.stable_part(),
        )
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Listener {
    server: ServerKey,
    client: ClientKey,
    session: Option<Arc<str>>,
}

#[derive(Clone, Debug)]
struct Partial {
    next: String,
    tools: Arc<[Tool]>,
}

/// Audiences whose latest list is remembered.
const MAX_LATEST: usize = 1024;

/// A list, and the server's version with it.
type Latest = (Arc<[Tool]>, Option<Box<str>>);

/// Puts lists together from `tools/list` requests and responses.
#[derive(Debug)]
pub struct ToolLists {
    /// Cursor of each unanswered request.
    asked: Bounded<(Listener, RequestId), Option<String>>,
    partial: Bounded<Listener, Partial>,
    pages: Known<Option<Arc<Page>>>,
    /// By audience, once with the whole principal and once with its stable part.
    latest: Bounded<Audience, Latest>,
}

/// One response.
#[derive(Debug)]
struct Page {
    tools: Arc<[Tool]>,
    next: Option<String>,
    ttl: Option<u64>,
}

impl Default for ToolLists {
    fn default() -> Self {
        Self {
            asked: Bounded::new(MAX_PENDING),
            partial: Bounded::new(MAX_PENDING),
            pages: Known::default(),
            latest: Bounded::new(MAX_LATEST),
        }
    }
}

impl ToolLists {
    /// Looks at a message; the list, if this response completes one. A page whose
    /// predecessors were not seen completes nothing. `fingerprint` is that of the message.
    pub fn observe(
        &mut self,
        message: &Message,
        context: &MessageContext<'_>,
        fingerprint: Option<Fingerprint>,
    ) -> Option<ToolList> {
        match message.kind {
            MessageKind::Request if message.is("tools/list") => {
                let id = message.id.clone()?;
                let cursor = message
                    .params()
                    .and_then(|p| serde_json::from_slice::<Value>(p).ok())
                    .and_then(|p| Some(p.get("cursor")?.as_str()?.to_owned()));
                self.asked.insert((listener(context), id), cursor);
                None
            }
            MessageKind::Response if context.answers.is_some_and(|a| &*a.method == "tools/list") => {
                self.page(message, context, fingerprint)
            }
            _ => None,
        }
    }

    fn page(
        &mut self,
        message: &Message,
        context: &MessageContext<'_>,
        fingerprint: Option<Fingerprint>,
    ) -> Option<ToolList> {
        let who = listener(context);
        let cursor = self.asked.remove(&(who.clone(), message.id.clone()?))?;
        let result = message.result()?;
        let page = self.pages.get(fingerprint, || Page::read(result).map(Arc::new))?;
        let before = self.partial.remove(&who);
        let tools = match cursor {
            None => Arc::clone(&page.tools),
            Some(cursor) => {
                let before = before.filter(|p| p.next == cursor)?.tools;
                before
                    .iter()
                    .chain(page.tools.iter())
                    .take(MAX_TOOLS)
                    .cloned()
                    .collect()
            }
        };
        if let Some(next) = page.next.clone() {
            self.partial.insert(who, Partial { next, tools });
            return None;
        }
        let session = context.session;
        let mut list = ToolList {
            server: who.server,
            era: session.negotiated.as_ref().map(|r| Arc::clone(&r.0)),
            capabilities: session.client_capabilities.clone(),
            principal: context.request.map(principal_of_request).unwrap_or_default(),
            server_version: session.server_info.as_ref().map(|i| i.version.clone()),
            tools,
            ttl: page.ttl,
            again: false,
        };
        list.again = self.is_latest(&list);
        Some(list)
    }

    /// Whether the list is the latest of its audiences already. From here on it is.
    fn is_latest(&mut self, list: &ToolList) -> bool {
        let stable = list.audience();
        let (server, era, capabilities, principal) = stable.clone();
        let whole = (principal != list.principal).then_some((server, era, capabilities, list.principal));
        let mut again = true;
        for audience in std::iter::once(stable).chain(whole) {
            match self.latest.get_mut(&audience) {
                Some((tools, version))
                    if Arc::ptr_eq(tools, &list.tools) && *version == list.server_version => {}
                _ => {
                    again = false;
                    let latest = (Arc::clone(&list.tools), list.server_version.clone());
                    self.latest.insert(audience, latest);
                }
            }
        }
        again
    }
}

impl Page {
    /// `None` if the result is no JSON.
    fn read(result: &[u8]) -> Option<Self> {
        let mut result: Value = serde_json::from_slice(result).ok()?;
        let next = result
            .get("nextCursor")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let ttl = result.get("ttlMs").and_then(Value::as_u64);
        let mut tools = Vec::new();
        if let Some(Value::Array(list)) = result.get_mut("tools").map(Value::take) {
            for definition in list {
                if tools.len() >= MAX_TOOLS {
                    break;
                }
                let Some(name) = definition.get("name").and_then(Value::as_str) else {
                    continue;
                };
                let Some(hash) = tool_sha256(definition.clone()) else {
                    continue;
                };
                tools.push(Tool {
                    name: name.into(),
                    hash,
                    hints: Hints::of(&definition),
                    output_schema: definition.get("outputSchema").is_some(),
                    definition: Arc::new(definition),
                });
            }
        }
        Some(Self {
            tools: tools.into(),
            next,
            ttl,
        })
    }
}

fn listener(context: &MessageContext<'_>) -> Listener {
    Listener {
        server: context.session.server.clone(),
        client: context.session.client.clone(),
        session: context.session.id.clone(),
    }
}
