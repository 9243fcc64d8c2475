//! The walk to the server name in a ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3).

use crate::{
    Step, Text,
    name::NameWalk,
    verdict::{Host, Tables},
};

/// Steps after which a walk is given up: 64 extensions and the longest name.
pub const MAX_STEPS: u32 = 320;

const RECORD_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
/// Record header, handshake header, version and random stand in front of the session id.
const SESSION_ID: u32 = 43;

/// Whether a stream begins like a TLS handshake record.
#[inline(always)]
#[must_use]
pub const fn looks_like_tls(start: [u8; 8]) -> bool {
    matches!(start, [RECORD_HANDSHAKE, 3, 0..=4, _, _, 1 | 2, _, _])
}

/// State of the walk over the first bytes of a stream.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct HelloWalk {
    walk: NameWalk,
    at: u32,
    /// End of the extensions; then, while hashing, start of the name.
    bound: u32,
    hashing: u8,
}

impl HelloWalk {
    /// Zeroed, to be begun with [`begin`](Self::begin).
    #[must_use]
    pub const fn new() -> Self {
        Self {
            walk: NameWalk::new(0),
            at: 0,
            bound: 0,
            hashing: 0,
        }
    }

    /// Finds the extensions. `Done` if this is no ClientHello, or one without any.
    #[inline(always)]
    pub fn begin<M: Text + ?Sized, T: Tables>(&mut self, message: &M, tables: &T) -> Step {
        self.walk = NameWalk::new(tables.seed());
        self.hashing = 0;
        match extensions(message) {
            Some((at, end)) => {
                self.at = at;
                self.bound = end;
                Step::More
            }
            None => Step::Done,
        }
    }

    /// Does a little more; after `Done`, see [`host`](Self::host).
    #[inline(always)]
    pub fn step<M: Text + ?Sized, T: Tables>(&mut self, message: &M, tables: &T) -> Step {
        let more = if self.hashing == 0 {
            self.extension(message)
        } else {
            self.hash(message, tables)
        };
        if more.is_none() { Step::Done } else { Step::More }
    }

    /// The pinned host that the name falls under.
    #[inline(always)]
    pub fn host<T: Tables>(&self, tables: &T) -> Option<Host> {
        if self.hashing != 0 && self.at == self.bound {
            self.walk.finish(tables)
        } else {
            None
        }
    }

    #[inline(always)]
    fn extension<M: Text + ?Sized>(&mut self, message: &M) -> Option<()> {
        let at = self.at;
        if at >= self.bound {
            return None;
        }
        let kind = message.pair(at)?;
        let length = message.pair(at.wrapping_add(2))?;
        if kind != SERVER_NAME {
            self.at = at.wrapping_add(4).wrapping_add(u32::from(length));
            return Some(());
        }
        // ServerNameList: length, then name type 0 (host_name), length, name.
        if message.byte(at.wrapping_add(6))? != 0 {
            return None;
        }
        let name = message.pair(at.wrapping_add(7))?;
        if name == 0 || name > 255 {
            return None;
        }
        self.bound = at.wrapping_add(9);
        self.at = self.bound.wrapping_add(u32::from(name));
        self.hashing = 1;
        // A final dot does not belong there (RFC 6066) but names the same host.
        if message.byte(self.at.wrapping_sub(1))? == b'.' {
            self.at = self.at.wrapping_sub(1);
        }
        Some(())
    }

    #[inline(always)]
    fn hash<M: Text + ?Sized, T: Tables>(&mut self, message: &M, tables: &T) -> Option<()> {
        if self.at == self.bound {
            return None;
        }
        self.at = self.at.wrapping_sub(1);
        let byte = message.byte(self.at)?;
        self.walk.before(byte, tables);
        Some(())
    }
}

impl Default for HelloWalk {
    fn default() -> Self {
        Self::new()
    }
}

#[inline(always)]
fn extensions<M: Text + ?Sized>(message: &M) -> Option<(u32, u32)> {
    if message.byte(0)? != RECORD_HANDSHAKE || message.byte(1)? != 3 || message.byte(5)? != CLIENT_HELLO {
        return None;
    }
    let session = message.byte(SESSION_ID)?;
    let at = SESSION_ID.wrapping_add(1).wrapping_add(u32::from(session));
    let suites = message.pair(at)?;
    let at = at.wrapping_add(2).wrapping_add(u32::from(suites));
    let compression = message.byte(at)?;
    let at = at.wrapping_add(1).wrapping_add(u32::from(compression));
    let length = message.pair(at)?;
    let at = at.wrapping_add(2);
    Some((at, at.wrapping_add(u32::from(length))))
}

/// The pinned host that the ClientHello at the start of `message` names.
pub fn walk<T: Tables>(message: &[u8], tables: &T) -> Option<Host> {
    let mut walk = HelloWalk::new();
    if walk.begin(message, tables) == Step::Done {
        return None;
    }
    (0..MAX_STEPS)
        .any(|_| walk.step(message, tables) == Step::Done)
        .then(|| walk.host(tables))
        .flatten()
}
