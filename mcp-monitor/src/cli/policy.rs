//! Loads what people wrote: pins and configuration.

use std::{path::PathBuf, sync::Arc};

use super::{Failure, args::PolicyArgs};
use crate::config::{origin::OriginTables, pins::Pins, program::Program};

/// Pins and configuration of one run.
pub(super) struct Policy {
    pub(super) pins: Arc<Pins>,
    pub(super) program: Program,
    /// Where the pins came from, if from a file.
    #[cfg_attr(not(feature = "live"), allow(dead_code))]
    pub(super) file: Option<PathBuf>,
    pub(super) origins: Arc<OriginTables>,
}

/// Loads both; a missing flag means the default (the configuration may name a pins file).
pub(super) fn load(args: &PolicyArgs) -> Result<Policy, Failure> {
    let program = args
        .config
        .as_deref()
        .map(Program::load)
        .transpose()?
        .unwrap_or_default();
    // Mistakes are found whatever the command.
    #[cfg(feature = "live")]
    crate::sink::settings::read(&program.sinks)?;
    let path = args.pins.as_deref().or(program.pins.as_deref());
    let pins = path.map(Pins::load).transpose()?.unwrap_or_default();
    let file = path.map(ToOwned::to_owned);
    let origins = OriginTables::load(&program.origins)?;
    Ok(Policy {
        pins: Arc::new(pins),
        origins: Arc::new(origins),
        program,
        file,
    })
}
