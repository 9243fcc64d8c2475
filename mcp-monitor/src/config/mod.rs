//! What people write: the pins file (what must hold) and the program configuration (how it runs).

#[cfg(feature = "live")]
pub(crate) mod cluster;
pub mod data;
mod error;
mod kubernetes;
pub mod limits;
#[cfg(feature = "live")]
pub(crate) mod mark;
pub mod origin;
pub mod pins;
pub mod plaintext;
pub mod program;
pub mod quantity;
pub mod sandbox;
pub mod secret;
mod section;
pub mod service;
pub mod sinks;
pub mod state;
pub mod yaml;

pub use error::ConfigError;
