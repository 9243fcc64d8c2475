//! MCP: JSON-RPC messages, transactions, sessions, and what a server has shown of itself.

pub mod context;
pub mod event;
pub mod message;

pub use event::{Document, FlowEvent, FlowEventKind};
pub use message::{Carrier, Message, MessageKind, RequestId, Revision, TransportKind};
