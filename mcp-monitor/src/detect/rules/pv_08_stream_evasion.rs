//! PV-08 stream-evasion: conflicting TCP overlaps, data after RST, bad fragment overlaps.

use super::prelude::*;
use crate::{flow::FlowId, types::AnomalyKind};

const META: Meta = Meta {
    id: "PV-08",
    slug: "stream-evasion",
    category: "protocol",
    trigger: "conflicting TCP overlaps, data after RST, bad fragment overlaps",
    silent_on: "plain retransmission",
    severity: Severity::High,
    sight: Sight::Handshake,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Anomaly],
    page: Page {
        means: "The same bytes of a stream were sent twice with different content, or data came where a receiver takes none. What the monitor reads and what the receiver reads may differ.",
        attacker: "Hides content from inspection, or injects into a session from beside it, by segments or fragments that overlap.",
        wire: "Overlapping TCP segments with different bytes, payload after a reset, or IP fragments that overlap with other content.",
        act: "Find the sender of the second copy (time to live, MAC address and timing differ from the real one's). Treat what was said on this connection as unproven.",
        quiet: "A plain retransmission carries the same bytes and is silent. Defective middleboxes that rewrite content cause it: they are what it reports.",
    },
};

/// Says each kind once per connection.
#[derive(Default)]
pub(super) struct StreamEvasion {
    said: Once<(FlowId, AnomalyKind)>,
}

impl Rule for StreamEvasion {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Anomaly(anomaly) = &seen.kind else {
            return;
        };
        let what = match anomaly.kind {
            AnomalyKind::TcpOverlapConflict => "overlapping TCP segments with different content",
            AnomalyKind::TcpDataAfterReset => "data after a TCP reset",
            AnomalyKind::FragmentOverlap => "overlapping IP fragments with different content",
            _ => return,
        };
        if seen
            .flow
            .is_some_and(|flow| !self.said.first((flow.info.id, anomaly.kind)))
        {
            return;
        }
        let index = seen.connection.and_then(|c| c.endpoint);
        let between = match seen.flow {
            Some(flow) => {
                let server = seen
                    .connection
                    .and_then(|c| c.server_name().map(str::to_owned))
                    .unwrap_or_else(|| flow.info.server.ip().to_string());
                format!(" between {} and {}", agent(seen), label(world, index, &server))
            }
            None => String::new(),
        };
        out.push(
            Finding::new(
                META.id,
                format!("{what}{between}: somebody injects, or evades inspection; find the sender of the second copy"),
            )
            .at(index)
            .observed(what),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_once_per_connection_and_kind() {
        let mut bench = Bench::new(StreamEvasion::default(), "");
        for kind in [
            AnomalyKind::TcpOverlapConflict,
            AnomalyKind::TcpDataAfterReset,
            AnomalyKind::FragmentOverlap,
        ] {
            assert_eq!(bench.anomaly(kind).len(), 1);
            assert!(bench.anomaly(kind).is_empty());
        }
    }

    #[test]
    fn stays_silent_on_loss_and_on_other_anomalies() {
        let mut bench = Bench::new(StreamEvasion::default(), "");
        for kind in [
            AnomalyKind::TcpGap,
            AnomalyKind::FragmentLost,
            AnomalyKind::HttpAmbiguous,
        ] {
            assert!(bench.anomaly(kind).is_empty());
        }
    }
}
