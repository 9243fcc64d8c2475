//! Wires the layers: the per-flow half, the cross-flow half, replay and live around them.

pub mod application;
mod comments;
pub mod correlator;
mod http;
mod judge;
mod judging;
pub mod keep;
mod limits;
#[cfg(feature = "live")]
mod links;
#[cfg(feature = "live")]
pub mod live;
mod observe;
pub mod plaintext;
#[cfg(feature = "live")]
pub mod progress;
mod reading;
pub mod record;
pub mod replay;
pub mod shard;
pub mod shards;
mod shown;
#[cfg(feature = "live")]
pub mod status;
pub mod summary;
mod tls;
mod view;

#[cfg(test)]
mod handshakes;
