//! The engine of mcp-monitor: packets in, alerts out, the same live and in replay.
//!
//! Layers, in the order data takes; a layer imports only what stands above it (and
//! [`types`], `mcp-monitor-common`). `cargo xtask tidy` enforces this.
//!
//! `source → decode → flow → proto → mcp → baseline → detect → alert → sink`
//!
//! From `decode` to `alert` nothing reads a clock, opens a file or spawns a task: time
//! arrives with the packets.

pub mod types;

pub mod source;

pub mod decode;

pub mod flow;

pub mod proto;

pub mod mcp;

pub mod config;

#[cfg(feature = "live")]
pub mod sandbox;

pub mod baseline;

pub mod detect;

pub mod alert;

pub mod sink;

pub mod attribution;

pub mod pipeline;

pub mod telemetry;

pub mod cli;
