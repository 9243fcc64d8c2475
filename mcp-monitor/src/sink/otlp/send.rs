//! Sends to a collector.

use std::time::Duration;

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse, logs_service_client::LogsServiceClient,
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_client::MetricsServiceClient,
        },
    },
    resource::v1::Resource,
};
use prost::Message;
use tonic::{
    Request,
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    transport::{Channel, ClientTlsConfig, Identity},
};

use super::{
    answer,
    config::{Config, Protocol},
    encode, metrics,
};
use crate::sink::{
    delivery::{Entry, Kind, Pending, Sender, Sent, Trouble, wall},
    http::{Endpoint, Http},
};

/// One collector.
pub(super) struct Otlp {
    endpoint: Endpoint,
    resource: Resource,
    client: Client,
}

enum Client {
    Grpc { channel: Channel, metadata: MetadataMap },
    Http { logs: Box<Http>, metrics: Box<Http> },
}

/// Of the answer: how many were rejected, and why.
type Answered = Result<Option<(u64, String)>, Trouble>;

impl Otlp {
    pub(super) fn new(config: Config) -> Result<Self, String> {
        let Config {
            endpoint,
            protocol,
            resource,
        } = config;
        let client = match protocol {
            Protocol::Http => Client::Http {
                logs: Box::new(Http::new(endpoint.clone(), "/v1/logs")?),
                metrics: Box::new(Http::new(endpoint.clone(), "/v1/metrics")?),
            },
            Protocol::Grpc => Client::Grpc {
                channel: channel(&endpoint)?,
                metadata: metadata(&endpoint)?,
            },
        };
        Ok(Self {
            endpoint,
            resource,
            client,
        })
    }

    async fn logs(&self, request: ExportLogsServiceRequest) -> Answered {
        let answer = match &self.client {
            Client::Http { logs, .. } => post::<ExportLogsServiceResponse>(logs, &request).await?,
            Client::Grpc { channel, metadata } => {
                let request = Request::from_parts(metadata.clone(), tonic::Extensions::default(), request);
                let answer = LogsServiceClient::new(channel.clone()).export(request).await;
                answer
                    .map_err(|status| answer::refusal(&status, &self.endpoint))?
                    .into_inner()
            }
        };
        Ok(answer.partial_success.and_then(|partial| {
            answer::partial(
                partial.rejected_log_records,
                &partial.error_message,
                &self.endpoint,
            )
        }))
    }

    async fn metrics(&self, request: ExportMetricsServiceRequest) -> Answered {
        let answer = match &self.client {
            Client::Http { metrics, .. } => post::<ExportMetricsServiceResponse>(metrics, &request).await?,
            Client::Grpc { channel, metadata } => {
                let request = Request::from_parts(metadata.clone(), tonic::Extensions::default(), request);
                let answer = MetricsServiceClient::new(channel.clone()).export(request).await;
                answer
                    .map_err(|status| answer::refusal(&status, &self.endpoint))?
                    .into_inner()
            }
        };
        Ok(answer.partial_success.and_then(|partial| {
            answer::partial(
                partial.rejected_data_points,
                &partial.error_message,
                &self.endpoint,
            )
        }))
    }
}

/// An answer that cannot be read is one without a partial success: its status says that all was taken.
async fn post<Answer: Message + Default>(http: &Http, request: &impl Message) -> Result<Answer, Trouble> {
    let body = request.encode_to_vec();
    let answer = http.post("application/x-protobuf", body, &[]).await?;
    Ok(Answer::decode(answer.as_slice()).unwrap_or_default())
}

fn channel(endpoint: &Endpoint) -> Result<Channel, String> {
    let target =
        Channel::from_shared(endpoint.url().to_owned().into_bytes()).map_err(|_| "bad URL".to_owned())?;
    let mut target = target
        .connect_timeout(Duration::from_secs(10))
        .user_agent(concat!("mcp-monitor/", env!("CARGO_PKG_VERSION")))
        .map_err(|e| e.to_string())?;
    if endpoint.url().starts_with("https:") {
        let ours = endpoint.tls();
        let mut tls = ClientTlsConfig::new().trust_anchors(ours.roots.roots.iter().cloned());
        if let Some((cert, key)) = &ours.pem.identity {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        if let Some(name) = &ours.server_name {
            tls = tls.domain_name(name.to_str());
        }
        target = target.tls_config(tls).map_err(|e| e.to_string())?;
    }
    Ok(target.connect_lazy())
}

fn metadata(endpoint: &Endpoint) -> Result<MetadataMap, String> {
    let mut metadata = MetadataMap::new();
    for (name, value) in endpoint.headers() {
        let bad = |_| format!("bad header field {name:?} for gRPC");
        let key = MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(|_| bad(()))?;
        let mut value = MetadataValue::try_from(value).map_err(|_| bad(()))?;
        value.set_sensitive(true);
        metadata.insert(key, value);
    }
    Ok(metadata)
}

impl Sender for Otlp {
    fn send<'a>(&'a mut self, batch: &'a [Entry]) -> Pending<'a, Sent> {
        Box::pin(async move {
            let Some(first) = batch.first() else {
                return Sent::default();
            };
            // One request has logs or metrics; a spool that is left of another configuration may have both.
            let is_metrics = first.kind == Kind::Metrics;
            let count = batch
                .iter()
                .take_while(|entry| (entry.kind == Kind::Metrics) == is_metrics)
                .count();
            let batch = batch.get(..count).unwrap_or_default();
            let now = wall();
            let (bytes, mut answered) = if is_metrics {
                let request = metrics::metrics(&self.resource, batch, now);
                (request.encoded_len(), self.metrics(request).await)
            } else {
                let request = encode::logs(&self.resource, batch, now);
                (request.encoded_len(), self.logs(request).await)
            };
            if is_metrics && let Ok(Some((_, why))) = &answered {
                // Data points are rejected, not records: which set they were of is not said.
                answered = Ok(Some((1, why.clone())));
            }
            match answered {
                Err(trouble) => Sent::whole(0, 0, Err(trouble)),
                Ok(rejected) => Sent {
                    rejected,
                    ..Sent::whole(count, bytes, Ok(()))
                },
            }
        })
    }

    /// A request without a record, which every collector takes.
    fn probe(&mut self) -> Pending<'_, Result<String, Trouble>> {
        Box::pin(async move {
            self.logs(ExportLogsServiceRequest::default()).await?;
            Ok("the collector takes logs".to_owned())
        })
    }
}
