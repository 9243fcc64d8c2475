//! The whole engine as a library: bytes of a capture in, records out.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a test may fail"
)]

mod capture;
mod limits;
mod partial;
mod sessions;
mod splits;
mod wire;
