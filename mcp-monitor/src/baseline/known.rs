//! Definitions that were read before. Every client of a server lists the same tools, so that most
//! lists on a wire repeat one byte for byte; what follows from the bytes alone is kept for the next.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{Bounded, Tool, ToolList};
use crate::mcp::{Message, context::MessageContext};

/// SHA-256 of the bytes of a definition's `result`. A keyless hash that nobody can make collide:
/// else one definition could pass for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fingerprint([u8; 32]);

/// Methods whose result defines the server.
const METHODS: [&str; 6] = [
    "initialize",
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
];

/// Results larger than this are read each time.
const MAX_RESULT: usize = 256 << 10;
/// Results remembered by one reader.
const MAX_RESULTS: usize = 256;

impl Fingerprint {
    /// Of a response that defines the server; `None` for other messages, and above 256 KiB.
    pub fn of(message: &Message, context: &MessageContext<'_>) -> Option<Self> {
        let method = &*context.answers?.method;
        let result = message.result().filter(|r| r.len() <= MAX_RESULT)?;
        let digest = || Sha256::digest(result).into();
        METHODS.contains(&method).then(|| {
            Self(match &message.repeated {
                Some(known) => *known.get_or_init(digest),
                None => digest(),
            })
        })
    }
}

/// What one reader made of each result: at most 256, the least recently used forgotten first.
#[derive(Debug)]
pub struct Known<T>(Bounded<Fingerprint, T>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(Bounded::new(MAX_RESULTS))
    }
}

impl<T: Clone> Known<T> {
    /// What was made of this result before, else what `make` makes of it now.
    pub fn get(&mut self, of: Option<Fingerprint>, make: impl FnOnce() -> T) -> T {
        let Some(key) = of else { return make() };
        if let Some(known) = self.0.get_mut(&key) {
            return known.clone();
        }
        let made = make();
        self.0.insert(key, made.clone());
        made
    }
}

/// What one reader made of each list of tools, by identity: the lists made of the same bytes are one. At most
/// 256, the least recently used forgotten first.
#[derive(Debug)]
pub struct KnownLists<T>(Bounded<usize, (Arc<[Tool]>, T)>);

impl<T> Default for KnownLists<T> {
    fn default() -> Self {
        Self(Bounded::new(MAX_RESULTS))
    }
}

impl<T: Clone> KnownLists<T> {
    /// What was made of this list before, else what `make` makes of it now.
    pub fn get(&mut self, list: &ToolList, make: impl FnOnce() -> T) -> T {
        // The list is kept, so that no other one comes to lie at its place.
        let place = list.tools.as_ptr().addr();
        if let Some((_, known)) = self.0.get_mut(&place) {
            return known.clone();
        }
        let made = make();
        self.0.insert(place, (Arc::clone(&list.tools), made.clone()));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_once_what_has_a_fingerprint() {
        let mut known = Known::default();
        let key = Some(Fingerprint([7; 32]));
        assert_eq!(known.get(key, || 1), 1);
        assert_eq!(known.get(key, || 2), 1);
        assert_eq!(known.get(None, || 3), 3);
        assert_eq!(known.get(Some(Fingerprint([8; 32])), || 4), 4);
    }
}
