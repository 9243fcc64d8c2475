//! Writes Events.

use std::time::{Duration, Instant};

use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use lru::LruCache;
use serde_json::Value;

use super::{
    config::Config,
    encode,
    series::{Bucket, Series, table},
};
use crate::{
    config::cluster,
    detect::text::shown,
    sink::{
        delivery::{Entry, Pending, Sender, Sent, Trouble, wall},
        encoding::View,
    },
};

/// The API of one cluster.
pub(super) struct Events {
    settings: Config,
    client: Option<Client>,
    series: LruCache<String, Series>,
    bucket: Bucket,
}

impl Events {
    pub(super) fn new(settings: Config) -> Self {
        Self {
            client: None,
            series: table(),
            bucket: Bucket::new(settings.per_minute, Instant::now()),
            settings,
        }
    }

    async fn client(&mut self) -> Result<Client, Trouble> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let config = cluster::config(self.settings.kubeconfig.as_deref())
            .await
            .map_err(Trouble::later)?;
        let client = Client::try_from(config).map_err(|error| trouble(&error))?;
        Ok(self.client.insert(client).clone())
    }

    /// One alert; the bytes that went out.
    async fn write(&mut self, entry: &Entry) -> Result<usize, Trouble> {
        let view = View::of(entry);
        let node = self.settings.node.clone();
        let Some(first) = encode::about(&view, node.as_deref(), 0) else {
            return Err(Trouble {
                refused: true,
                ..Trouble::later("an alert without pod or node; set NODE_NAME")
            });
        };
        let before = self.series.get(&first.name).cloned();
        let id = view.text("/id").unwrap_or_default();
        let count = view.number("/count").unwrap_or(1);
        let Some(mut now) = before.clone().unwrap_or_default().with(id, count) else {
            return Ok(0);
        };
        let client = self.client().await?;
        let mut bytes = 0;
        if before.is_some() || now.count > 1 {
            // It may be there from before a restart; where it is not, it is made below.
            let about = encode::about(&view, node.as_deref(), now.turn).unwrap_or(first.clone());
            self.may_ask()?;
            let api: Api<Event> = Api::namespaced(client.clone(), &about.namespace);
            let series = encode::series(now.count, &micro());
            bytes = series.to_string().len();
            match api
                .patch(&about.name, &PatchParams::default(), &Patch::Merge(&series))
                .await
            {
                Ok(_) => {
                    self.series.put(first.name, now);
                    return Ok(bytes);
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    if before.is_some() {
                        // It has expired: the next one has another name, or it would be the old one's.
                        now.turn = now.turn.saturating_add(1);
                    }
                }
                Err(error) => return Err(trouble(&error)),
            }
        }
        let about = encode::about(&view, node.as_deref(), now.turn).unwrap_or(first.clone());
        self.may_ask()?;
        let api: Api<Event> = Api::namespaced(client, &about.namespace);
        let instance = node.as_deref().unwrap_or("mcp-monitor");
        let mut value = encode::event(&view, &about, instance, &micro());
        if now.count > 1
            && let (Some(event), Value::Object(series)) =
                (value.as_object_mut(), encode::series(now.count, &micro()))
        {
            event.extend(series);
        }
        let event: Event = serde_json::from_value(value.clone()).map_err(Trouble::later)?;
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {}
            // Sent before, by this process or the one before it.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(trouble(&error)),
        }
        self.series.put(first.name, now);
        Ok(bytes.saturating_add(value.to_string().len()))
    }

    fn may_ask(&mut self) -> Result<(), Trouble> {
        self.bucket.take(Instant::now()).map_err(|seconds| Trouble {
            after: Some(Duration::from_secs_f64(seconds)),
            ..Trouble::later(format!(
                "the bound of {} requests a minute",
                self.settings.per_minute
            ))
        })
    }
}

/// Now, as the API writes times of Events.
fn micro() -> String {
    let text = wall().to_string();
    // RFC 3339 with nanoseconds.
    match text
        .strip_suffix("000Z")
        .or_else(|| text.get(..text.len().saturating_sub(4)))
    {
        Some(text) => format!("{text}Z"),
        None => text,
    }
}

fn trouble(error: &kube::Error) -> Trouble {
    let refused = match error {
        kube::Error::Api(status) => {
            matches!(status.code, 400 | 404 | 422) || status.message.contains("is being terminated")
        }
        _ => false,
    };
    let after = match error {
        kube::Error::Api(status) => status.details.as_ref().map(|details| details.retry_after_seconds),
        _ => None,
    };
    let after = after.filter(|seconds| *seconds > 0);
    Trouble {
        refused,
        after: after.map(|seconds| Duration::from_secs(seconds.into())),
        ..Trouble::later(shown(&error.to_string()))
    }
}

impl Sender for Events {
    fn send<'a>(&'a mut self, batch: &'a [Entry]) -> Pending<'a, Sent> {
        Box::pin(async move {
            let mut sent = Sent::default();
            for entry in batch {
                match self.write(entry).await {
                    Ok(bytes) => {
                        sent.taken = sent.taken.saturating_add(1);
                        sent.bytes = sent
                            .bytes
                            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
                    }
                    Err(trouble) => {
                        sent.trouble = Some(trouble);
                        break;
                    }
                }
            }
            sent
        })
    }

    fn probe(&mut self) -> Pending<'_, Result<String, Trouble>> {
        Box::pin(async move {
            let client = self.client().await?;
            let version = client
                .apiserver_version()
                .await
                .map_err(|error| trouble(&error))?;
            Ok(format!("the API of Kubernetes {} answers", version.git_version))
        })
    }
}
