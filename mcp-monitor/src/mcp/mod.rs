//! MCP: JSON-RPC messages, transactions, sessions, and what a server has shown of itself.

pub mod ambiguity;
pub mod body;
pub mod context;
pub mod conversation;
pub mod event;
mod exchange;
mod held;
pub mod json;
pub mod jsonrpc;
mod marks;
pub mod message;
pub mod methods;
pub mod names;
pub mod repeated;
pub mod sessions;
mod stray;
pub mod target;
pub mod tracker;

pub use event::{Document, FlowEvent, FlowEventKind};
pub use message::{Carrier, Message, MessageKind, RequestId, ResultParts, Revision, TransportKind};
