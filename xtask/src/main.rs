//! What a contributor types.
fn main() {}
