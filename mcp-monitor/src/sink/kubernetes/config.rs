//! Keys of a sink of Events.

use std::path::PathBuf;

use super::send::Events;
use crate::{
    config::ConfigError,
    sink::{
        delivery::Sender,
        settings::{Fields, Key, Target},
    },
};

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "kubeconfig",
        form: "path",
        default: "the service account of the monitor's own pod",
        about: "How to reach the API, outside a cluster.",
    },
    Key {
        name: "per_minute",
        form: "1 to 6000",
        default: "60",
        about: "Requests to the API in a minute at most; beyond it alerts wait in the spool.",
    },
];

/// Settings.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) kubeconfig: Option<PathBuf>,
    pub(super) per_minute: u64,
    /// The node of the monitor, for alerts that name none.
    pub(super) node: Option<String>,
}

pub(super) fn read(fields: &Fields<'_>) -> Result<Box<dyn Target>, ConfigError> {
    Ok(Box::new(Config {
        kubeconfig: fields.path("kubeconfig")?,
        per_minute: fields.number("per_minute", 1..=6000, 60)?,
        node: std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty()),
    }))
}

impl Target for Config {
    fn sender(self: Box<Self>) -> Result<Box<dyn Sender>, String> {
        Ok(Box::new(Events::new(*self)))
    }
}
