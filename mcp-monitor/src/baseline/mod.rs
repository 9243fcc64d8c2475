//! What was learned of each server, so that a change can be seen without a pin.
//!
//! In memory only; every table is bounded.

mod bounded;
pub mod canonical;
mod known;
mod principal;
mod tools;

pub use bounded::{Bounded, DEFAULT_CAP, Once};
pub use known::{Fingerprint, Known};
pub use principal::{Principal, jwt_part, of_request as principal_of_request};
pub use tools::{Audience, MAX_TOOLS, Tool, ToolList, ToolLists};
