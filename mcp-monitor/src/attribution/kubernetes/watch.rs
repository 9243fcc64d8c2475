//! List and watch, as the API wants it: a list, then its changes from the list's version on; a list again
//! where that version is too old (410 Gone).
//!
//! Not `kube::runtime::watcher`: it keeps bookmarks to itself, and they are what tells a quiet cluster from
//! an API that is away.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ListParams, WatchEvent, WatchParams},
};

use super::{IdentityOptions, facts::told, status::Board};
use crate::attribution::Pods;

/// Pods of one page of a list.
const PAGE: u32 = 500;
/// How long one page may take.
const PAGE_TIME: Duration = Duration::from_secs(30);

/// Why a list or watch ended early.
enum Broken {
    /// The version is too old: list again.
    Gone,
    /// Anything else.
    Failed(String),
}

impl From<kube::Error> for Broken {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 410 => Self::Gone,
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Follows the node's pods. Never ends by itself.
pub(super) async fn follow(client: Client, options: &IdentityOptions, pods: &Pods, board: &Board) {
    let api: Api<Pod> = Api::all(client);
    let selector = format!("spec.nodeName={}", options.node);
    let (first, longest) = options.backoff;
    let mut wait = first;
    let mut version = None;
    loop {
        let began = Instant::now();
        let ended = step(&api, &selector, options, &mut version, pods, board).await;
        if began.elapsed() > longest {
            wait = first;
        }
        match ended {
            // One that ends at once must not be asked in a busy loop.
            Ok(()) if began.elapsed() < first => {}
            Ok(()) => {
                wait = first;
                continue;
            }
            Err(Broken::Gone) => {
                version = None;
                tracing::info!(
                    "the Kubernetes API has forgotten where the watch of pods stood: listing again"
                );
            }
            Err(Broken::Failed(error)) => {
                if board.failed(&error) {
                    tracing::warn!(
                        "the Kubernetes API does not answer, pods known so far stay in use: {error}"
                    );
                } else {
                    tracing::debug!("the Kubernetes API still does not answer: {error}");
                }
            }
        }
        // Many monitors lose the same API at once: full jitter, so that they do not come back at once.
        let most = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(2);
        let least = most.checked_div(2).unwrap_or(1);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(least..=most))).await;
        wait = wait.saturating_mul(2).min(longest);
    }
}

/// One list where no version is known, then one watch.
async fn step(
    api: &Api<Pod>,
    selector: &str,
    options: &IdentityOptions,
    version: &mut Option<String>,
    pods: &Pods,
    board: &Board,
) -> Result<(), Broken> {
    let from = match version {
        Some(version) => version.clone(),
        None => {
            let listed = list(api, selector, pods).await?;
            if board.list() {
                tracing::info!("the Kubernetes API answers again");
            }
            version.insert(listed).clone()
        }
    };
    watch(api, selector, options, from, version, pods, board).await
}

/// The version of the list.
async fn list(api: &Api<Pod>, selector: &str, pods: &Pods) -> Result<String, Broken> {
    pods.begin_list();
    // Any version will do, so that the API answers from memory; the watch tells what came since.
    let mut params = ListParams::default().fields(selector).limit(PAGE).match_any();
    loop {
        let page = tokio::time::timeout(PAGE_TIME, api.list(&params))
            .await
            .map_err(|_| Broken::Failed(format!("no list within {} s", PAGE_TIME.as_secs())))??;
        let now = Instant::now();
        for pod in &page.items {
            if let Some((uid, qos, facts)) = told(pod) {
                pods.tell(&uid, qos, facts, now);
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => {
                params = ListParams::default()
                    .fields(selector)
                    .limit(PAGE)
                    .continue_token(&token);
            }
            None => {
                pods.end_list(now);
                return Ok(page.metadata.resource_version.unwrap_or_default());
            }
        }
    }
}

async fn watch(
    api: &Api<Pod>,
    selector: &str,
    options: &IdentityOptions,
    from: String,
    version: &mut Option<String>,
    pods: &Pods,
    board: &Board,
) -> Result<(), Broken> {
    let seconds = options.watch.as_secs();
    let jitter = seconds.checked_div(8).unwrap_or(0);
    let seconds = seconds.saturating_sub(fastrand::u64(0..=jitter)).max(1);
    let params = WatchParams::default()
        .fields(selector)
        .timeout(u32::try_from(seconds).unwrap_or(u32::MAX));
    let silent = || Broken::Failed(format!("nothing for {} s", options.silence.as_secs()));
    let events = tokio::time::timeout(options.silence, api.watch(&params, &from))
        .await
        .map_err(|_| silent())??;
    if board.watch() {
        tracing::info!("the Kubernetes API answers again");
    }
    pin_mut!(events);
    loop {
        let event = match tokio::time::timeout(options.silence, events.next()).await {
            Ok(Some(event)) => event?,
            Ok(None) => return Ok(()),
            // Not every API sends bookmarks: the next watch tells whether it is there.
            Err(_) => return Ok(()),
        };
        let now = Instant::now();
        match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                if let Some((uid, qos, facts)) = told(&pod) {
                    pods.tell(&uid, qos, facts, now);
                }
                *version = pod.metadata.resource_version.or(version.take());
                board.event();
            }
            WatchEvent::Deleted(pod) => {
                if let Some((uid, ..)) = told(&pod) {
                    pods.gone(&uid, now);
                }
                *version = pod.metadata.resource_version.or(version.take());
                board.event();
            }
            WatchEvent::Bookmark(mark) => {
                *version = Some(mark.metadata.resource_version);
                board.bookmark();
            }
            WatchEvent::Error(status) if status.code == 410 => return Err(Broken::Gone),
            WatchEvent::Error(status) => return Err(Broken::Failed(status.message)),
        }
    }
}
