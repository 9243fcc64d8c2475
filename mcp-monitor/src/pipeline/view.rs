//! Puts an event and what is known around it into the form that rules see.

use crate::{
    detect::SeenKind,
    mcp::{
        FlowEvent, FlowEventKind,
        context::{MessageContext, Session},
        tracker::Step,
    },
};

/// The view of `event`, a message with its session; `None` for events that concern the engine only.
pub(super) fn view<'a>(
    event: &'a FlowEvent,
    step: &'a Step,
    session: Option<&'a Session>,
) -> Option<SeenKind<'a>> {
    Some(match (&event.kind, step) {
        (FlowEventKind::Open, _) => SeenKind::Open,
        (FlowEventKind::Close(end), _) => SeenKind::Close(end),
        (
            FlowEventKind::Dns {
                direction, message, ..
            },
            _,
        ) => SeenKind::Dns {
            direction: *direction,
            message,
        },
        (FlowEventKind::ClientHello(hello), _) => SeenKind::ClientHello(hello),
        (FlowEventKind::ServerHello { hello, client }, _) => SeenKind::ServerHello {
            hello,
            client: client.as_deref(),
        },
        (FlowEventKind::Certificates { direction, chain }, _) => SeenKind::Certificates {
            direction: *direction,
            chain,
        },
        (FlowEventKind::Handshake(handshake), _) => SeenKind::Handshake(handshake),
        (
            FlowEventKind::TlsAlert {
                direction,
                description,
            },
            _,
        ) => SeenKind::TlsAlert {
            direction: *direction,
            description: *description,
        },
        (FlowEventKind::Opaque { why }, _) => SeenKind::Opaque { why: why.as_ref() },
        (FlowEventKind::Request { exchange, head, .. }, Step::Http { target, mcp, .. }) => {
            SeenKind::Request {
                exchange: *exchange,
                head,
                target,
                mcp: *mcp,
            }
        }
        (
            FlowEventKind::Response { exchange, head, .. },
            Step::Http {
                request, target, mcp, ..
            },
        ) => SeenKind::Response {
            exchange: *exchange,
            request: request.as_deref(),
            head,
            target,
            mcp: *mcp,
        },
        (
            FlowEventKind::Document(document),
            Step::Http {
                request,
                response,
                target,
                ..
            },
        ) => SeenKind::Document {
            document,
            request: request.as_deref(),
            response: response.as_deref(),
            target,
        },
        (FlowEventKind::SseEndpoint { event, ordinal, .. }, Step::Http { target, .. }) => {
            SeenKind::SseEndpoint {
                event,
                ordinal: *ordinal,
                target,
            }
        }
        (
            FlowEventKind::Message(message),
            Step::Message {
                target,
                answers,
                request,
                response,
                ..
            },
        ) => {
            let context = MessageContext {
                target,
                session: session?,
                answers: answers.as_ref(),
                request: request.as_deref(),
                response: response.as_deref(),
            };
            SeenKind::Message { message, context }
        }
        (FlowEventKind::AlternativeService { origin, value, .. }, step) => SeenKind::AlternativeService {
            origin: (!origin.is_empty()).then_some(origin.as_ref()),
            value,
            target: match step {
                Step::Http { target, .. } => Some(target.as_ref()),
                _ => None,
            },
        },
        (FlowEventKind::Anomaly(anomaly), _) => SeenKind::Anomaly(anomaly),
        _ => return None,
    })
}
