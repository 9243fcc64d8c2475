//! gzip (RFC 1952), several members included.

use flate2::Decompress;

use super::{Codec, Step, zlib::inflate};

const HCRC: u8 = 0x02;
const EXTRA: u8 = 0x04;
const NAME: u8 = 0x08;
const COMMENT: u8 = 0x10;

/// The `gzip` coding. The checksum is not verified: an observer has no use for refusing.
pub(super) struct Gzip {
    state: State,
    inflater: Decompress,
    /// Octets of the current part seen.
    seen: u16,
    flags: u8,
    extra: u16,
    /// Header octets of names and comments; bounded.
    text: u32,
}

/// Octets of file name and comment that a header may have.
const MAX_TEXT: u32 = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fixed,
    ExtraLength,
    Extra,
    Name,
    Comment,
    Crc,
    Body,
    Trailer,
    /// Between members.
    Between,
}

impl Default for Gzip {
    fn default() -> Self {
        Self {
            state: State::Fixed,
            inflater: Decompress::new(false),
            seen: 0,
            flags: 0,
            extra: 0,
            text: 0,
        }
    }
}

impl Codec for Gzip {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, &'static str> {
        let mut consumed = 0usize;
        while self.state != State::Body {
            let next = input.get(consumed);
            // After a member comes another one or nothing.
            let done = self.state == State::Between && next.is_some_and(|b| *b != 0x1f);
            let Some(byte) = next.filter(|_| !done) else {
                return Ok(Step {
                    consumed,
                    produced: 0,
                    done,
                });
            };
            self.frame(*byte)?;
            consumed = consumed.saturating_add(1);
        }
        let rest = input.get(consumed..).unwrap_or_default();
        let step = inflate(&mut self.inflater, rest, output)?;
        if step.done {
            self.enter(State::Trailer);
        }
        Ok(Step {
            consumed: consumed.saturating_add(step.consumed),
            produced: step.produced,
            done: false,
        })
    }

    fn complete(&self) -> bool {
        self.state == State::Between
    }
}

impl Gzip {
    fn enter(&mut self, state: State) {
        self.state = state;
        self.seen = 0;
    }

    fn frame(&mut self, byte: u8) -> Result<(), &'static str> {
        let index = self.seen;
        self.seen = self.seen.saturating_add(1);
        match self.state {
            State::Fixed => match (index, byte) {
                (0, 0x1f) | (1, 0x8b) | (2, 8) | (4..=8, _) => {}
                (3, flags) => self.flags = flags,
                (9.., _) => self.after(State::Fixed),
                _ => return Err("not gzip"),
            },
            State::ExtraLength => {
                let shift = u32::from(index).saturating_mul(8);
                self.extra |= u16::from(byte).wrapping_shl(shift);
                if index == 1 {
                    self.after(if self.extra == 0 {
                        State::Extra
                    } else {
                        State::ExtraLength
                    });
                }
            }
            State::Extra => {
                if self.seen >= self.extra {
                    self.after(State::Extra);
                }
            }
            State::Name | State::Comment => {
                self.text = self.text.saturating_add(1);
                if self.text > MAX_TEXT {
                    return Err("gzip header above the limit");
                }
                if byte == 0 {
                    self.after(self.state);
                }
            }
            State::Crc => {
                if index == 1 {
                    self.after(State::Crc);
                }
            }
            State::Trailer => {
                if index == 7 {
                    self.enter(State::Between);
                }
            }
            State::Between => {
                // The first octet of another member.
                let text = self.text;
                *self = Self {
                    text,
                    seen: 1,
                    ..Self::default()
                };
            }
            State::Body => {}
        }
        Ok(())
    }

    /// Goes to the next part that the flags announce.
    fn after(&mut self, part: State) {
        let next = match part {
            State::Fixed if self.flags & EXTRA != 0 => State::ExtraLength,
            State::ExtraLength => State::Extra,
            State::Fixed | State::Extra if self.flags & NAME != 0 => State::Name,
            State::Fixed | State::Extra | State::Name if self.flags & COMMENT != 0 => State::Comment,
            State::Crc => State::Body,
            _ if self.flags & HCRC != 0 => State::Crc,
            _ => State::Body,
        };
        self.enter(next);
    }
}
