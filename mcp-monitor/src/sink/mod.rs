//! Where records go.

pub mod state;
mod stream;

pub use stream::{Format, RecordWriter, Written};
