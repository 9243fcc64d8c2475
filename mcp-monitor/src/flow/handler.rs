//! What a flow table drives.

use std::sync::Arc;

use bytes::Bytes;

use super::{FlowEnd, FlowInfo, FlowRef};
use crate::{
    decode::UdpDatagram,
    types::{Anomaly, At, Direction},
};

/// What is to happen with a flow after its bytes were looked at.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Control {
    /// Go on.
    #[default]
    Continue,
    /// The sides were taken for one another: swap client and server. Events after this one carry a new
    /// [`FlowInfo`] with the same id. Ignored where the handshake was seen.
    Flip,
    /// Nobody reads on: bytes are no longer delivered. Their order is still followed, so that what is lost
    /// and how the flow ends is told.
    Unread,
    /// No more of this flow is wanted: its bytes are no longer put in order, delivered, or counted as
    /// lost. The end is still told.
    Ignore,
}

/// Receives what happens on flows, with the state that it keeps for each.
///
/// Order per flow: [`open`](Self::open), then any of the others, then [`close`](Self::close). Per
/// direction, bytes come in the order of the stream, each once.
pub trait Handler {
    /// State kept with each flow.
    type App;

    /// A new flow.
    fn open(&mut self, flow: &Arc<FlowInfo>) -> Self::App;

    /// The next bytes of one direction. `at` is the packet that made them the next.
    fn data(
        &mut self,
        flow: &FlowRef,
        app: &mut Self::App,
        direction: Direction,
        at: At,
        data: Bytes,
    ) -> Control;

    /// The next `bytes` bytes of one direction are missing for good; `flow.lost_bytes` has them.
    fn gap(&mut self, flow: &FlowRef, app: &mut Self::App, direction: Direction, at: At, bytes: u64);

    /// Live only: bytes were left out on purpose, and one direction starts anew at an unknown place.
    fn restart(&mut self, flow: &FlowRef, app: &mut Self::App, direction: Direction, at: At) {
        let _ = (flow, app, direction, at);
    }

    /// One direction ended in order (FIN). If bytes follow all the same, an anomaly comes first.
    fn fin(&mut self, flow: &FlowRef, app: &mut Self::App, direction: Direction, at: At);

    /// Something is wrong with the flow.
    fn anomaly(&mut self, flow: &FlowRef, app: &mut Self::App, at: At, anomaly: Anomaly);

    /// A UDP datagram.
    fn datagram(
        &mut self,
        flow: &FlowRef,
        app: &mut Self::App,
        direction: Direction,
        at: At,
        datagram: &UdpDatagram,
    );

    /// The flow ended.
    fn close(&mut self, flow: &FlowRef, app: Self::App, end: FlowEnd);
}
