//! MCP: JSON-RPC messages, transactions, sessions, and what a server has shown of itself.

pub mod ambiguity;
pub mod body;
pub mod context;
pub mod conversation;
pub mod event;
pub mod json;
pub mod jsonrpc;
pub mod message;
pub mod methods;
pub mod names;
pub mod sessions;
pub mod target;
pub mod tracker;

pub use event::{Document, FlowEvent, FlowEventKind};
pub use message::{Carrier, Message, MessageKind, RequestId, Revision, TransportKind};
