//! What people write: the pins file (what must hold) and the program configuration (how it runs).

mod error;
pub mod pins;
pub mod program;
pub mod yaml;

pub use error::ConfigError;
