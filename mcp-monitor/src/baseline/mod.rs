//! What was learned of each server, so that a change can be seen without a pin.
//!
//! In memory and bounded. What should outlive the process is loaded at the start and taken out in
//! rows from time to time: [`Learned`] (facts), [`Memory`] (what rules remember), [`Tally`] (what
//! was verified). This layer does no IO; `sink` has the file.

pub mod canonical;
pub mod draft;
pub mod fact;
pub mod held;
mod known;
pub mod learned;
pub mod memory;
mod principal;
pub mod tally;
mod tools;

pub use crate::types::{Bounded, DEFAULT_CAP, Once};
pub use fact::{Fact, Group, Subject};
pub use held::{Held, Verdict};
pub use known::{Fingerprint, Known, KnownLists};
pub use learned::{Learned, LearningOptions, Row, Standing};
pub use memory::{Memory, MemoryRow, Remembered, Together};
pub use principal::{Principal, jwt_part, of_request as principal_of_request};
pub use tally::{Tally, TallyKey, TallyRow};
pub use tools::{Audience, Hints, MAX_TOOLS, Tool, ToolList, ToolLists};
