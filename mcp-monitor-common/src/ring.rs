//! Reading of what came up through the ring.

use zerocopy::FromBytes;

use crate::{
    plaintext::{ExecRecord, ObjectEndRecord, ObjectRecord, PlaintextRecord},
    record::{DatagramRecord, DriftRecord, ProcessRecord, SegmentRecord, kind},
};

/// A record, with the bytes that follow it.
#[derive(Clone, Copy, Debug)]
pub enum RingRecord<'a> {
    /// A TCP segment and its payload.
    Segment(SegmentRecord, &'a [u8]),
    /// A UDP datagram and its payload.
    Datagram(DatagramRecord, &'a [u8]),
    /// A drift verdict.
    Drift(DriftRecord),
    /// A process that connects or sends.
    Process(ProcessRecord),
    /// A TLS object and memory of it.
    Object(ObjectRecord, &'a [u8]),
    /// Plaintext of TLS.
    Plaintext(PlaintextRecord, &'a [u8]),
    /// A TLS object that was freed.
    ObjectEnd(ObjectEndRecord),
    /// A process that executes another program.
    Exec(ExecRecord),
}

impl<'a> RingRecord<'a> {
    /// `None` for a kind that is not known, and for one that is shorter than it says. What follows it is not looked at:
    /// the ring pads.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        Some(match *bytes.first()? {
            kind::SEGMENT => {
                let (head, rest) = SegmentRecord::read_from_prefix(bytes).ok()?;
                // A chunk ends inside its packet's numbers.
                head.offset.checked_add(head.length)?;
                Self::Segment(head, first(rest, head.length)?)
            }
            kind::DATAGRAM => {
                let (head, rest) = DatagramRecord::read_from_prefix(bytes).ok()?;
                Self::Datagram(head, first(rest, head.length)?)
            }
            kind::DRIFT => Self::Drift(DriftRecord::read_from_prefix(bytes).ok()?.0),
            kind::PROCESS => Self::Process(ProcessRecord::read_from_prefix(bytes).ok()?.0),
            kind::TLS_OBJECT => {
                let (head, rest) = ObjectRecord::read_from_prefix(bytes).ok()?;
                Self::Object(head, first(rest, head.length)?)
            }
            kind::PLAINTEXT => {
                let (head, rest) = PlaintextRecord::read_from_prefix(bytes).ok()?;
                Self::Plaintext(head, first(rest, head.length)?)
            }
            kind::TLS_END => Self::ObjectEnd(ObjectEndRecord::read_from_prefix(bytes).ok()?.0),
            kind::EXEC => Self::Exec(ExecRecord::read_from_prefix(bytes).ok()?.0),
            _ => return None,
        })
    }

    /// When a record of a packet, a drift or a process was made, in nanoseconds since boot; `None` of others.
    pub fn time(&self) -> Option<u64> {
        match self {
            Self::Segment(head, _) => Some(head.time),
            Self::Datagram(head, _) => Some(head.time),
            Self::Drift(head) => Some(head.time),
            Self::Process(head) => Some(head.time),
            Self::Object(..) | Self::Plaintext(..) | Self::ObjectEnd(_) | Self::Exec(_) => None,
        }
    }
}

fn first(rest: &[u8], length: u32) -> Option<&[u8]> {
    rest.get(..usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    proptest! {
        /// Whatever is read lies in the record, and is what it says it is.
        #[test]
        fn any_bytes_are_read_or_refused(kind in 0_u8..10, rest in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes: Vec<u8> = [kind].into_iter().chain(rest).collect();
            let Some(record) = RingRecord::read(&bytes) else { return Ok(()) };
            let (head, payload, length): (Vec<u8>, &[u8], u32) = match &record {
                RingRecord::Segment(head, payload) => (head.as_bytes().to_vec(), payload, head.length),
                RingRecord::Datagram(head, payload) => (head.as_bytes().to_vec(), payload, head.length),
                RingRecord::Object(head, memory) => (head.as_bytes().to_vec(), memory, head.length),
                RingRecord::Plaintext(head, data) => (head.as_bytes().to_vec(), data, head.length),
                RingRecord::Drift(head) => (head.as_bytes().to_vec(), &[], 0),
                RingRecord::Process(head) => (head.as_bytes().to_vec(), &[], 0),
                RingRecord::ObjectEnd(head) => (head.as_bytes().to_vec(), &[], 0),
                RingRecord::Exec(head) => (head.as_bytes().to_vec(), &[], 0),
            };
            prop_assert_eq!(payload.len(), length as usize);
            let whole: Vec<u8> = head.iter().chain(payload).copied().collect();
            prop_assert!(bytes.starts_with(&whole));
        }

        /// What the kernel writes is read again, and a record that was cut is not.
        #[test]
        fn a_record_is_read_again_and_not_when_it_was_cut(
            data in proptest::collection::vec(any::<u8>(), 0..100),
            offset in any::<u64>(),
            padding in 0_usize..8,
        ) {
            let mut head = PlaintextRecord::new_zeroed();
            head.kind = kind::PLAINTEXT;
            head.offset = offset;
            head.length = data.len() as u32;
            let mut bytes = head.as_bytes().to_vec();
            bytes.extend(&data);
            prop_assert!(RingRecord::read(bytes.split_last().unwrap().1).is_none());
            bytes.extend(core::iter::repeat_n(0xee, padding));
            match RingRecord::read(&bytes) {
                Some(RingRecord::Plaintext(read, payload)) => {
                    prop_assert_eq!(read.offset, offset);
                    prop_assert_eq!(payload, &data[..]);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
