//! Keys of a file sink.

use std::{path::PathBuf, time::Duration};

use super::send::Rotating;
use crate::{
    config::ConfigError,
    sink::{
        delivery::Sender,
        encoding::Encoding,
        settings::{Fields, Key, Target},
    },
};

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "path",
        form: "path",
        default: "required",
        about: "The file. A relative path is relative to the configuration file; its folder must be there.",
    },
    Key {
        name: "max_bytes",
        form: "size, from 4KiB",
        default: "64MiB",
        about: "Size at which it is rotated.",
    },
    Key {
        name: "max_age",
        form: "time",
        default: "",
        about: "Age at which it is rotated, counted from its first line of this process.",
    },
    Key {
        name: "keep",
        form: "0 to 1000",
        default: "5",
        about: "Rotated files that are kept.",
    },
];

/// A file sink's settings.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) path: PathBuf,
    pub(super) encoding: Encoding,
    pub(super) max_bytes: u64,
    pub(super) max_age: Option<Duration>,
    pub(super) keep: u64,
}

pub(super) fn read(fields: &Fields<'_>) -> Result<Box<dyn Target>, ConfigError> {
    fields.need("path", "the file to write")?;
    Ok(Box::new(Config {
        path: fields.path("path")?.unwrap_or_default(),
        encoding: Encoding::read(fields, Encoding::Json)?,
        max_bytes: fields.size("max_bytes", 4096..=1 << 40, 64 << 20)?,
        max_age: fields.time("max_age")?,
        keep: fields.number("keep", 0..=1000, 5)?,
    }))
}

impl Target for Config {
    fn sender(self: Box<Self>) -> Result<Box<dyn Sender>, String> {
        Ok(Box::new(Rotating::new(*self)))
    }
}
