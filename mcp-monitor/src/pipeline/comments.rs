//! What people wrote into captures (comments of pcapng packets), for the alerts that name those packets.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::record::Record;
use crate::{detect::credentials, source::Comment};

/// Comments remembered over a run, bytes; later ones are counted only.
const MAX_COMMENTED: usize = 4 << 20;

/// What a comment takes beside its text, bytes.
const OVERHEAD: usize = 64;

/// Filled by whoever reads, asked by whoever writes records: a packet is read before it is in an alert, so
/// what an alert finds does not depend on how far ahead the reading is.
#[derive(Clone, Debug, Default)]
pub(super) struct Comments(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// By file and number of the packet. Credentials are masked.
    packets: HashMap<(u16, u64), Vec<String>>,
    /// Of all of them, each with its bookkeeping.
    bytes: usize,
    not_kept: u64,
}

impl Comments {
    /// Keeps those that belong to packets; each comes with the index of its file.
    pub(super) fn keep(&self, comments: Vec<(usize, Comment)>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (file, comment) in comments {
            let (Some(packet), Ok(file)) = (comment.packet, u16::try_from(file)) else {
                continue;
            };
            let text = credentials::mask(comment.text.as_bytes());
            let bytes = kept.bytes.saturating_add(text.len()).saturating_add(OVERHEAD);
            if bytes > MAX_COMMENTED {
                kept.not_kept = kept.not_kept.saturating_add(1);
                continue;
            }
            kept.bytes = bytes;
            kept.packets.entry((file, packet)).or_default().push(text);
        }
    }

    /// Adds to alerts what was written on the packets that they name.
    pub(super) fn add_to(&self, records: &mut [Record]) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.packets.is_empty() {
            return;
        }
        for record in records {
            if let Record::Alert(alert) = record {
                let evidence = &mut alert.evidence;
                let texts = evidence
                    .packets
                    .iter()
                    .filter_map(|packet| kept.packets.get(&(evidence.file, *packet)));
                evidence.comments = texts.flatten().cloned().collect();
            }
        }
    }

    /// Comments that were counted only.
    pub(super) fn not_kept(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).not_kept
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a test may panic, and plain sums are easier to read"
)]
mod tests {
    use std::{convert::Infallible, path::Path};

    use bytes::Bytes;

    use super::*;
    use crate::{
        alert::{Alert, AlerterOptions},
        config::pins::Pins,
        decode::DecodeLimits,
        mcp::tracker::TrackerLimits,
        pipeline::{
            correlator::Wanted,
            replay::{ReplayOptions, replay},
            shard::ShardLimits,
        },
        source::{CaptureReader, Merged},
    };

    const CAPTURE: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/captures/benign/veth-dns-mcp.pcap"
    );

    /// Alerts that a name is elsewhere than pinned.
    fn alerts(reader: CaptureReader) -> Vec<Alert> {
        let pins = "version: 1\nendpoints:\n  - {name: a, url: 'http://mcp.test.internal:3101/mcp', addresses: [203.0.113.0/24]}\n";
        let options = ReplayOptions {
            learning: None,
            pins: Arc::new(Pins::parse(pins, "pins.yaml").unwrap()),
            wanted: Wanted {
                alerts: true,
                ..Wanted::default()
            },
            threads: 2,
            decode: DecodeLimits::default(),
            shard: ShardLimits::default(),
            tracker: TrackerLimits::default(),
            alerts: AlerterOptions::default(),
            keys: Arc::default(),
            fingerprint_key: None,
            origins: Arc::default(),
        };
        let mut found = Vec::new();
        let take = |records: Vec<Record>| {
            found.extend(records.into_iter().filter_map(|record| match record {
                Record::Alert(alert) if alert.rule == "DNS-01" => Some(*alert),
                _ => None,
            }));
            Ok::<(), Infallible>(())
        };
        replay(Merged::new(vec![reader]), options, take, |_| {}).unwrap();
        found
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
        [&kind.to_le_bytes()[..], &len, body, &len].concat()
    }

    /// The capture as pcapng, with a comment on one packet.
    fn commented(number: u64, comment: &str) -> Bytes {
        let mut reader = CaptureReader::open(Path::new(CAPTURE), 0).unwrap();
        let mut out = block(
            0x0a0d_0d0a,
            &[&[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0][..], &[0xff; 8]].concat(),
        );
        let mut interface = false;
        while let Some(packet) = reader.next_packet().unwrap() {
            if !interface {
                let link = u16::try_from(packet.link.0).unwrap().to_le_bytes();
                // if_tsresol: nanoseconds.
                let body = [&link[..], &[0; 6], &[9, 0, 1, 0, 9, 0, 0, 0], &[0; 4]].concat();
                out.extend(block(1, &body));
                interface = true;
            }
            let padded =
                |bytes: &[u8]| [bytes, &vec![0; bytes.len().next_multiple_of(4) - bytes.len()]].concat();
            let len = u32::try_from(packet.data.len()).unwrap();
            let (high, low) = ((packet.time.0 >> 32) as u32, packet.time.0 as u32);
            let mut body = Vec::new();
            for word in [0, high, low, len, packet.wire_len] {
                body.extend(word.to_le_bytes());
            }
            body.extend(padded(&packet.data));
            if packet.id.number == number {
                let len = u16::try_from(comment.len()).unwrap().to_le_bytes();
                body.extend([&[1, 0][..], &len, &padded(comment.as_bytes()), &[0; 4]].concat());
            }
            out.extend(block(6, &body));
        }
        out.into()
    }

    #[test]
    fn what_people_wrote_on_packets_is_in_the_evidence() {
        let plain = alerts(CaptureReader::open(Path::new(CAPTURE), 0).unwrap());
        let evidence = &plain.first().unwrap().evidence;
        assert!(evidence.comments.is_empty());
        assert!(!serde_json::to_string(evidence).unwrap().contains("comments"));
        let secret = format!("AKIA{}", "Q3EGRZJ7L4TPXW2M");
        let data = commented(evidence.packets[0], &format!("seen by Ana, key {secret}"));
        let again = alerts(CaptureReader::from_bytes(data, Path::new("c.pcapng"), 0).unwrap());
        assert_eq!(again.len(), plain.len());
        let comments = &again.first().unwrap().evidence.comments;
        assert_eq!(comments.len(), 1);
        assert!(comments[0].starts_with("seen by Ana, key ‹"), "{comments:?}");
        assert!(!comments[0].contains(&secret));
    }

    #[test]
    fn what_is_not_kept_is_counted() {
        let comments = Comments::default();
        let comment = |packet| Comment {
            packet: Some(packet),
            text: "x".to_owned(),
        };
        let many = (MAX_COMMENTED / (OVERHEAD + 1)) as u64 + 3;
        comments.keep((0..many).map(|n| (0, comment(n))).collect());
        assert_eq!(comments.not_kept(), 3);
    }
}
