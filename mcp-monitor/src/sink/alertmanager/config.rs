//! Keys of an Alertmanager sink.

use std::{collections::BTreeMap, time::Duration};

use super::send::Alertmanager;
use crate::{
    config::ConfigError,
    sink::{
        delivery::Sender,
        http::{Endpoint, Http},
        settings::{Fields, Key, Target},
    },
};

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "labels",
        form: "mapping",
        default: "",
        about: "Further labels for every alert, such as `cluster`.",
    },
    Key {
        name: "resolve_after",
        form: "time",
        default: "1h",
        about: "An alert that was not seen again for so long is resolved.",
    },
];

/// Settings.
#[derive(Clone, Debug)]
pub(super) struct Config {
    endpoint: Endpoint,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) resolve_after: Duration,
}

pub(super) fn read(fields: &Fields<'_>) -> Result<Box<dyn Target>, ConfigError> {
    let mut labels = BTreeMap::new();
    for (name, value) in fields.pairs("labels")? {
        let first = name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !first || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(fields.wrong(
                "labels",
                format!("{name:?} in labels"),
                "names of letters, digits and _",
            ));
        }
        labels.insert(name, value.expose().to_owned());
    }
    Ok(Box::new(Config {
        endpoint: Endpoint::read(fields)?,
        labels,
        resolve_after: fields.time("resolve_after")?.unwrap_or(Duration::from_secs(3600)),
    }))
}

impl Target for Config {
    fn sender(self: Box<Self>) -> Result<Box<dyn Sender>, String> {
        let http = Http::new(self.endpoint.clone(), "/api/v2/alerts")?;
        Ok(Box::new(Alertmanager::new(http, self.labels, self.resolve_after)))
    }
}
