//! What people write: the pins file (what must hold) and the program configuration (how it runs).

mod error;
pub mod limits;
pub mod origin;
pub mod pins;
pub mod program;
pub mod quantity;
pub mod yaml;

pub use error::ConfigError;
