//! What an answer means, by the OTLP specification ("OTLP/gRPC Response", "OTLP/HTTP Response").

use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};

use crate::sink::{delivery::Trouble, http::Endpoint};

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// What a collector took of a request, of the partial success of its answer.
pub(super) fn partial(rejected: i64, message: &str, endpoint: &Endpoint) -> Option<(u64, String)> {
    let rejected = u64::try_from(rejected).ok().filter(|rejected| *rejected > 0)?;
    let said = endpoint.mask(message);
    Some((
        rejected,
        format!("the collector took a part only and rejected {rejected}: {said}"),
    ))
}

/// A gRPC status that is not OK.
pub(super) fn refusal(status: &Status, endpoint: &Endpoint) -> Trouble {
    let after = retry_delay(status.details());
    let refused = match status.code() {
        Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition | Code::OutOfRange => true,
        // Without RetryInfo the request itself is too large: a smaller one may be taken.
        Code::ResourceExhausted => after.is_none(),
        _ => false,
    };
    Trouble {
        what: format!(
            "gRPC status {:?}: {}",
            status.code(),
            endpoint.mask(status.message())
        ),
        refused,
        after,
    }
}

/// `RetryInfo` among the details of a status.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let detail = status
        .details
        .iter()
        .find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(detail.value.as_slice()).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).ok()?;
    let nanos = u32::try_from(delay.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// Details of a status that asks to wait.
    pub(crate) fn wait(seconds: i64, nanos: i32) -> Vec<u8> {
        let info = RetryInfo {
            retry_delay: Some(Delay { seconds, nanos }),
        };
        let status = RpcStatus {
            code: Code::Unavailable.into(),
            message: "busy".into(),
            details: vec![
                Detail {
                    type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(),
                    value: vec![0xff],
                },
                Detail {
                    type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
                    value: info.encode_to_vec(),
                },
            ],
        };
        status.encode_to_vec()
    }
}
