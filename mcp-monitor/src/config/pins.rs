//! The pins file: which servers are approved, and what must hold of them.

/// A pins file, checked.
#[derive(Clone, Debug, Default)]
pub struct Pins {}
