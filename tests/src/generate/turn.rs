//! What a conversation does next, before it is cut into packets.

use std::ops::Range;

use super::truth::Unit;

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Opened the connection.
    Client,
    /// Was connected to.
    Server,
}

impl Side {
    /// The other one.
    pub fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// A message whose counts stand or fall together when a segment of it is lost.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// What counts.
    pub units: Vec<Unit>,
    /// It is part of an HTTP message that goes on in later turns: after a loss, the rest of that
    /// direction of the connection is hit as well.
    pub endless: bool,
    /// Set when a segment of it was lost.
    pub hit: bool,
}

/// One step.
#[derive(Clone, Debug)]
pub enum Act {
    /// A TCP handshake.
    Open(usize),
    /// FIN both ways.
    Close(usize),
    /// Bytes of one side.
    Write(Write),
}

/// Bytes of one side.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which connection of the conversation.
    pub connection: usize,
    /// Who sends.
    pub from: Side,
    /// Where they are in [`Turn::bytes`].
    pub range: Range<usize>,
    /// Microseconds since what came before.
    pub after: u64,
    /// Index into [`Turn::messages`].
    pub message: usize,
    /// A segment of it may be lost.
    pub may_lose: bool,
}

/// A few messages back and forth.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// What the writes point into.
    pub bytes: Vec<u8>,
    /// In order of time.
    pub acts: Vec<Act>,
    /// What they carry.
    pub messages: Vec<Message>,
    /// Bytes that the conversation may still take; its writer keeps bodies below that.
    pub room: u64,
}

impl Turn {
    /// Opens a connection.
    pub fn open(&mut self, connection: usize) {
        self.acts.push(Act::Open(connection));
    }

    /// Closes a connection.
    pub fn close(&mut self, connection: usize) {
        self.acts.push(Act::Close(connection));
    }

    /// Begins a message.
    pub fn message(&mut self, units: &[Unit]) -> usize {
        self.messages.push(Message {
            units: units.to_vec(),
            ..Message::default()
        });
        self.messages.len() - 1
    }

    /// Begins a message that is part of a stream without end.
    pub fn endless(&mut self, units: &[Unit]) -> usize {
        let message = self.message(units);
        self.messages[message].endless = true;
        message
    }

    /// Sends what `fill` appends, as part of `message`.
    pub fn write(
        &mut self,
        connection: usize,
        from: Side,
        after: u64,
        message: usize,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.bytes.len();
        fill(&mut self.bytes);
        self.acts.push(Act::Write(Write {
            connection,
            from,
            range: start..self.bytes.len(),
            after,
            message,
            may_lose: true,
        }));
    }

    /// The last write is always captured.
    pub fn keep(&mut self) {
        if let Some(Act::Write(write)) = self.acts.last_mut() {
            write.may_lose = false;
        }
    }
}
