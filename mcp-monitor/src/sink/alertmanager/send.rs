//! Posts to Alertmanager.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::encode;
use crate::sink::{
    delivery::{Entry, Pending, Sender, Sent, Trouble, wall},
    encoding::View,
    http::Http,
};

/// One Alertmanager.
pub(super) struct Alertmanager {
    http: Http,
    labels: BTreeMap<String, String>,
    resolve_after: Duration,
}

impl Alertmanager {
    pub(super) fn new(http: Http, labels: BTreeMap<String, String>, resolve_after: Duration) -> Self {
        Self {
            http,
            labels,
            resolve_after,
        }
    }
}

impl Sender for Alertmanager {
    fn send<'a>(&'a mut self, batch: &'a [Entry]) -> Pending<'a, Sent> {
        Box::pin(async move {
            let now = wall();
            let alerts: Vec<Value> = batch
                .iter()
                .map(|entry| {
                    encode::alert(
                        &View::of(entry),
                        entry.text(),
                        &self.labels,
                        self.resolve_after,
                        now,
                    )
                })
                .collect();
            let body = Value::from(alerts).to_string().into_bytes();
            let bytes = body.len();
            let result = self.http.post("application/json", body, &[]).await.map(drop);
            Sent::whole(batch.len(), bytes, result)
        })
    }

    fn probe(&mut self) -> Pending<'_, Result<String, Trouble>> {
        Box::pin(self.http.probe(reqwest::Method::GET, Some("/-/ready")))
    }
}
