//! Posts to a webhook.

use super::encode::Template;
use crate::sink::{
    delivery::{Entry, Pending, Sender, Sent, Trouble},
    encoding::View,
    http::Http,
};

/// One webhook.
pub(super) struct Webhook {
    http: Http,
    template: Template,
}

impl Webhook {
    pub(super) fn new(http: Http, template: Template) -> Self {
        Self { http, template }
    }
}

impl Sender for Webhook {
    fn send<'a>(&'a mut self, batch: &'a [Entry]) -> Pending<'a, Sent> {
        Box::pin(async move {
            let body = self.template.body(batch);
            let bytes = body.len();
            let key = match batch {
                [one] => View::of(one)
                    .text("/id")
                    .map(|id| ("idempotency-key", id.to_owned())),
                _ => None,
            };
            let extra: Vec<_> = key.into_iter().collect();
            let mut result = self.http.post("application/json", body, &extra).await.map(drop);
            if let (Err(trouble), Template::PagerDuty { routing_key, .. }) = (&mut result, &self.template) {
                trouble.what = routing_key.mask(&trouble.what);
            }
            Sent::whole(batch.len(), bytes, result)
        })
    }

    fn probe(&mut self) -> Pending<'_, Result<String, Trouble>> {
        Box::pin(self.http.probe(reqwest::Method::HEAD, None))
    }
}
