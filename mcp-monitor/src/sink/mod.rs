//! Where records go.

mod stream;

pub use stream::{Format, RecordWriter, Written};
