//! How a running monitor shows itself: its log, and over HTTP its counts, health, alerts and a page.
//!
//! Nothing here is in the packet loop's way. The loop hands over a
//! [`Status`](crate::pipeline::status::Status) a second; everything else reads it from the [`board::Board`].

pub mod log;

#[cfg(feature = "live")]
pub mod board;
#[cfg(feature = "live")]
pub mod confinement;
#[cfg(feature = "live")]
mod exposition;
#[cfg(feature = "live")]
pub mod health;
#[cfg(feature = "live")]
pub mod metrics;
#[cfg(feature = "live")]
pub mod notify;
#[cfg(feature = "live")]
mod page;
#[cfg(feature = "live")]
mod parts;
#[cfg(feature = "live")]
pub mod push;
#[cfg(feature = "live")]
mod query;
#[cfg(feature = "live")]
mod recent;
#[cfg(feature = "live")]
mod routes;
#[cfg(feature = "live")]
pub mod server;
#[cfg(feature = "live")]
pub mod state_health;
#[cfg(feature = "live")]
pub mod watchdog;

pub use log::init;
