//! The walk over a DNS answer (RFC 1035 section 4): question, CNAME targets, A and AAAA.
//!
//! Every address of the answer section counts for the question's name and for every CNAME target:
//! that is how the least careful resolver libraries read it, and a record that belongs to neither
//! has no business there. Two passes, so that order does not matter: names first, then, only if one
//! of them is pinned, addresses.

use crate::{
    Step, Text,
    address::{Address, from_v4},
    name::NameWalk,
    verdict::{Host, Tables, dns_answer},
};

/// UDP port of DNS.
pub const PORT: u16 = 53;
/// Bytes of a message that are looked at; the rest is left to the parser of the protocol layer.
pub const MAX_MESSAGE: u32 = 16 * 1024;
/// Steps after which a walk is given up. Reached only by messages built for it.
pub const MAX_STEPS: u32 = 24 * 1024;
/// CNAME targets read in one answer; resolvers give up earlier.
pub const MAX_ALIASES: u8 = 16;
/// Pinned hosts that one answer can be about.
pub const MAX_HOSTS: usize = 4;
/// Compression pointers followed in one name.
const MAX_POINTERS: u8 = 16;

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
const HEADER: u32 = 12;

/// What the next step does.
mod phase {
    /// Skip labels of a name nobody asks about.
    pub(super) const SKIP: u8 = 0;
    /// Read a label's length.
    pub(super) const NAME: u8 = 1;
    /// Copy one byte of a label.
    pub(super) const LABEL: u8 = 2;
    /// Hash one byte of the copied name.
    pub(super) const HASH: u8 = 3;
    /// Read type, class and length of a record.
    pub(super) const RECORD: u8 = 4;
    /// Judge one address for one host.
    pub(super) const JUDGE: u8 = 5;
}

/// State of the walk.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DnsWalk {
    name: [u8; 256],
    walk: NameWalk,
    hosts: [Host; MAX_HOSTS],
    address: Address,
    at: u32,
    /// Where the record after the name being read begins.
    next: u32,
    /// Where the answer section begins; 0 until it is known.
    answers_at: u32,
    questions: u16,
    answers: u16,
    left: u16,
    phase: u8,
    length: u8,
    label: u8,
    pointers: u8,
    aliases: u8,
    host_count: u8,
    judged: u8,
    second_pass: u8,
}

impl DnsWalk {
    /// Zeroed, to be begun with [`begin`](Self::begin).
    #[must_use]
    pub const fn new() -> Self {
        Self {
            name: [0; 256],
            walk: NameWalk::new(0),
            hosts: [Host::NONE; MAX_HOSTS],
            address: [0; 16],
            at: 0,
            next: 0,
            answers_at: 0,
            questions: 0,
            answers: 0,
            left: 0,
            phase: 0,
            length: 0,
            label: 0,
            pointers: 0,
            aliases: 0,
            host_count: 0,
            judged: 0,
            second_pass: 0,
        }
    }

    /// Reads the header. `Done` if the message is no answer to a query with anything in it.
    #[inline(always)]
    pub fn begin<M: Text + ?Sized>(&mut self, message: &M) -> Step {
        let Some((flags, questions, answers)) = header(message) else {
            return Step::Done;
        };
        // QR set, OPCODE 0 (query).
        if flags & 0xf800 != 0x8000 || questions == 0 || answers == 0 {
            return Step::Done;
        }
        self.at = HEADER;
        self.next = 0;
        self.answers_at = 0;
        self.questions = questions;
        self.answers = answers;
        self.left = answers;
        self.phase = phase::NAME;
        self.length = 0;
        self.label = 0;
        self.pointers = 0;
        self.aliases = 0;
        self.host_count = 0;
        self.judged = 0;
        self.second_pass = 0;
        Step::More
    }

    /// Does a little more.
    #[inline(always)]
    pub fn step<M: Text + ?Sized, T: Tables>(&mut self, message: &M, tables: &mut T) -> Step {
        let done = match self.phase {
            phase::SKIP => self.skip(message),
            phase::NAME => self.name(message, tables),
            phase::LABEL => self.label(message),
            phase::HASH => self.hash(tables),
            phase::RECORD => self.record(message),
            _ => self.judge(tables),
        };
        match done {
            Some(()) => Step::More,
            None => self.second_pass(),
        }
    }

    /// After the names, whether they ended well or in bad bytes: what can be read is judged.
    #[inline(always)]
    fn second_pass(&mut self) -> Step {
        if self.second_pass != 0 || self.host_count == 0 || self.answers_at == 0 {
            return Step::Done;
        }
        self.second_pass = 1;
        self.left = self.answers;
        self.at = self.answers_at;
        self.phase = phase::SKIP;
        Step::More
    }

    #[inline(always)]
    fn skip<M: Text + ?Sized>(&mut self, message: &M) -> Option<()> {
        let length = message.byte(self.at)?;
        if length >= 0xc0 {
            self.at = self.at.wrapping_add(2);
        } else if length >= 0x40 {
            return None;
        } else {
            self.at = self.at.wrapping_add(u32::from(length)).wrapping_add(1);
            if length != 0 {
                return Some(());
            }
        }
        if self.answers_at == 0 {
            self.question_end()
        } else {
            self.phase = phase::RECORD;
            Some(())
        }
    }

    /// Past QTYPE and QCLASS.
    #[inline(always)]
    fn question_end(&mut self) -> Option<()> {
        self.at = self.at.wrapping_add(4);
        self.questions = self.questions.wrapping_sub(1);
        self.phase = phase::SKIP;
        if self.questions == 0 {
            self.answers_at = self.at;
        }
        Some(())
    }

    #[inline(always)]
    fn name<M: Text + ?Sized, T: Tables>(&mut self, message: &M, tables: &T) -> Option<()> {
        let length = message.byte(self.at)?;
        if length >= 0xc0 {
            let low = message.byte(self.at.wrapping_add(1))?;
            let target = (u32::from(length & 0x3f) << 8) | u32::from(low);
            // Backwards only (RFC 1035: "a prior occurrence"), so there is no loop.
            if self.pointers >= MAX_POINTERS || target >= self.at {
                return None;
            }
            if self.pointers == 0 && self.next == 0 {
                self.next = self.at.wrapping_add(2);
            }
            self.pointers = self.pointers.wrapping_add(1);
            self.at = target;
            return Some(());
        }
        if length >= 0x40 {
            return None;
        }
        if length == 0 {
            if self.next == 0 {
                self.next = self.at.wrapping_add(1);
            }
            self.walk = NameWalk::new(tables.seed());
            self.phase = phase::HASH;
            return Some(());
        }
        if self.length != 0 {
            self.put(b'.')?;
        }
        self.label = length;
        self.at = self.at.wrapping_add(1);
        self.phase = phase::LABEL;
        Some(())
    }

    #[inline(always)]
    fn put(&mut self, byte: u8) -> Option<()> {
        if self.length == u8::MAX {
            return None;
        }
        *self.name.get_mut(usize::from(self.length))? = byte;
        self.length = self.length.wrapping_add(1);
        Some(())
    }

    #[inline(always)]
    fn label<M: Text + ?Sized>(&mut self, message: &M) -> Option<()> {
        let byte = message.byte(self.at)?;
        // A dot inside a label would make one label look like two; no pin holds a zero byte.
        self.put(if byte == b'.' { 0 } else { byte })?;
        self.at = self.at.wrapping_add(1);
        self.label = self.label.wrapping_sub(1);
        if self.label == 0 {
            self.phase = phase::NAME;
        }
        Some(())
    }

    #[inline(always)]
    fn hash<T: Tables>(&mut self, tables: &T) -> Option<()> {
        if self.length != 0 {
            self.length = self.length.wrapping_sub(1);
            let byte = *self.name.get(usize::from(self.length))?;
            self.walk.before(byte, tables);
            return Some(());
        }
        if let Some(host) = self.walk.finish(tables)
            && let Some(slot) = self.hosts.get_mut(usize::from(self.host_count))
        {
            *slot = host;
            self.host_count = self.host_count.wrapping_add(1);
        }
        self.at = self.next;
        self.next = 0;
        self.pointers = 0;
        if self.answers_at == 0 {
            self.question_end()
        } else {
            self.record_end()
        }
    }

    #[inline(always)]
    fn record<M: Text + ?Sized>(&mut self, message: &M) -> Option<()> {
        let at = self.at;
        let kind = message.pair(at)?;
        let class = message.pair(at.wrapping_add(2))?;
        let length = message.pair(at.wrapping_add(8))?;
        let data = at.wrapping_add(10);
        let end = data.wrapping_add(u32::from(length));
        if class == CLASS_IN {
            if self.second_pass == 0 {
                if kind == TYPE_CNAME && self.aliases < MAX_ALIASES {
                    self.aliases = self.aliases.wrapping_add(1);
                    self.at = data;
                    self.next = end;
                    self.length = 0;
                    self.phase = phase::NAME;
                    return Some(());
                }
            } else if kind == TYPE_A && length == 4 {
                self.address = from_v4(quad(message, data)?);
                return self.judge_from(end);
            } else if kind == TYPE_AAAA && length == 16 {
                let [a, b, c, d] = quad(message, data)?;
                let [e, f, g, h] = quad(message, data.wrapping_add(4))?;
                let [i, j, k, l] = quad(message, data.wrapping_add(8))?;
                let [m, n, o, p] = quad(message, data.wrapping_add(12))?;
                self.address = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p];
                return self.judge_from(end);
            }
        }
        self.at = end;
        self.record_end()
    }

    #[inline(always)]
    fn judge_from(&mut self, next: u32) -> Option<()> {
        self.at = next;
        self.judged = 0;
        self.phase = phase::JUDGE;
        Some(())
    }

    #[inline(always)]
    fn judge<T: Tables>(&mut self, tables: &mut T) -> Option<()> {
        let judged = self.judged;
        if judged < self.host_count
            && let Some(host) = self.hosts.get(usize::from(judged)).copied()
        {
            self.judged = judged.wrapping_add(1);
            dns_answer(tables, host, &self.address);
            return Some(());
        }
        self.record_end()
    }

    #[inline(always)]
    fn record_end(&mut self) -> Option<()> {
        self.phase = phase::SKIP;
        self.left = self.left.wrapping_sub(1);
        if self.left == 0 { None } else { Some(()) }
    }
}

impl Default for DnsWalk {
    fn default() -> Self {
        Self::new()
    }
}

#[inline(always)]
fn header<M: Text + ?Sized>(message: &M) -> Option<(u16, u16, u16)> {
    Some((message.pair(2)?, message.pair(4)?, message.pair(6)?))
}

#[inline(always)]
fn quad<M: Text + ?Sized>(message: &M, at: u32) -> Option<[u8; 4]> {
    Some([
        message.byte(at)?,
        message.byte(at.wrapping_add(1))?,
        message.byte(at.wrapping_add(2))?,
        message.byte(at.wrapping_add(3))?,
    ])
}

/// Walks a whole message where loops need no ceremony. `false` if it was given up at [`MAX_STEPS`].
pub fn walk<T: Tables>(message: &[u8], tables: &mut T) -> bool {
    let message = message.get(..MAX_MESSAGE as usize).unwrap_or(message);
    let mut walk = DnsWalk::new();
    if walk.begin(message) == Step::Done {
        return true;
    }
    (0..MAX_STEPS).any(|_| walk.step(message, tables) == Step::Done)
}
