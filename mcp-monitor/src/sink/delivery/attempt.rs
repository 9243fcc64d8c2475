//! What a sink implements, and what can come of an attempt.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use super::Entry;

/// Future of one attempt. It need not be `Send`: each sink has a thread of its own.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// The sending half of a sink.
pub(crate) trait Sender {
    /// Sends records in order. An attempt is bounded in time by the caller.
    fn send<'a>(&'a mut self, batch: &'a [Entry]) -> Pending<'a, Sent>;

    /// Whether the receiver can be reached, without sending a record; what was found.
    fn probe(&mut self) -> Pending<'_, Result<String, Trouble>>;
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// The first so many records were taken.
    pub(crate) taken: usize,
    /// Bytes of payload that went out with them.
    pub(crate) bytes: u64,
    /// Records among those taken that the receiver says it dropped for good, and why.
    pub(crate) rejected: Option<(u64, String)>,
    /// Why the next one was not, unless all were.
    pub(crate) trouble: Option<Trouble>,
}

impl Sent {
    /// All or nothing.
    pub(crate) fn whole(count: usize, bytes: usize, result: Result<(), Trouble>) -> Self {
        match result {
            Ok(()) => Self {
                taken: count,
                bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
                ..Self::default()
            },
            Err(trouble) => Self {
                trouble: Some(trouble),
                ..Self::default()
            },
        }
    }
}

/// Why records were not taken. Never quotes a secret of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Trouble {
    /// One sentence.
    pub(crate) what: String,
    /// The same records would be refused again.
    pub(crate) refused: bool,
    /// How long the receiver wants to be left alone.
    pub(crate) after: Option<Duration>,
}

impl Trouble {
    /// It may work later.
    pub(crate) fn later(what: impl fmt::Display) -> Self {
        Self {
            what: what.to_string(),
            refused: false,
            after: None,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
