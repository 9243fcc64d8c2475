//! Where records go.
//!
//! Standard output ([`RecordWriter`]) and the state file ([`state`]) are written by the commands themselves.
//! Every other sink is a folder here with the same files (`config`: its keys, `encode`: what goes out, `send`:
//! how, `tests`), listed in [`settings`]; [`delivery`] feeds them all.

pub mod state;
mod stream;

#[cfg(feature = "live")]
mod alertmanager;
#[cfg(feature = "live")]
pub mod delivery;
#[cfg(feature = "live")]
mod encoding;
#[cfg(feature = "live")]
mod file;
#[cfg(feature = "live")]
mod http;
#[cfg(feature = "live")]
mod kafka;
#[cfg(feature = "live")]
mod kubernetes;
#[cfg(feature = "live")]
mod otlp;
#[cfg(feature = "live")]
pub mod settings;
#[cfg(feature = "live")]
mod syslog;
#[cfg(feature = "live")]
mod webhook;

pub use stream::{Format, RecordWriter, Written};
