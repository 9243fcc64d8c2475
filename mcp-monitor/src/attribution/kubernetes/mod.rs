//! Names, labels and owners of this node's pods, from a watch of the Kubernetes API.
//!
//! [`Identity::start`] follows the API in a thread of its own and writes what it learns into [`Pods`], which
//! the packet loop reads without waiting. While the API is away, what is known stays in use, and
//! [`Identity::status`] says how old it is.

mod facts;
mod status;
mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use kube::Client;
use tokio::sync::oneshot;

pub use self::status::{IdentityStatus, State};
use super::Pods;
use crate::{
    config::cluster,
    sandbox::{self, Task},
};

/// How to follow the API.
#[derive(Clone, Debug)]
pub struct IdentityOptions {
    /// Name of this node, as the API has it.
    pub node: String,
    /// A kubeconfig file; `None` is the service account of the pod that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// A watch is begun anew after this long; 290 seconds by default, with jitter.
    pub watch: Duration,
    /// A watch that says nothing this long is begun anew: the API sends a bookmark about once a minute.
    pub silence: Duration,
    /// Waits after failures, from the first of a row to the longest.
    pub backoff: (Duration, Duration),
}

impl IdentityOptions {
    /// The defaults for a node.
    #[must_use]
    pub fn new(node: String) -> Self {
        Self {
            node,
            kubeconfig: None,
            watch: Duration::from_secs(290),
            silence: Duration::from_secs(150),
            backoff: (Duration::from_secs(1), Duration::from_secs(30)),
        }
    }
}

/// Why the API cannot be followed at all.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No way to it.
    #[error("no way to the Kubernetes API: {0}; give the pod a service account, or name a kubeconfig")]
    Config(String),
    /// The thread could not be started.
    #[error("cannot start the thread that follows the Kubernetes API: {0}")]
    Thread(#[from] std::io::Error),
}

/// The watch. It ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Identity {
    board: Arc<status::Board>,
    pods: Pods,
    _stop: Arc<oneshot::Sender<()>>,
}

impl Identity {
    /// Follows the API from here on. Returns at once: an API that is away is asked again.
    ///
    /// # Errors
    ///
    /// There is neither a service account nor a readable kubeconfig.
    pub fn start(options: IdentityOptions, pods: Pods) -> Result<Self, IdentityError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let config = runtime
            .block_on(cluster::config(options.kubeconfig.as_deref()))
            .map_err(IdentityError::Config)?;
        let board = Arc::new(status::Board::new(options.node.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let (told, into) = (board.clone(), pods.clone());
        sandbox::thread("pods", Task::Serve, move || {
            runtime.block_on(async move {
                let client = match Client::try_from(config) {
                    Ok(client) => client,
                    Err(error) => {
                        told.failed(&error.to_string());
                        tracing::error!("the Kubernetes API cannot be followed: {error}");
                        return;
                    }
                };
                tokio::select! {
                    () = watch::follow(client, &options, &into, &told) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self {
            board,
            pods,
            _stop: Arc::new(stop),
        })
    }

    /// How it stands.
    pub fn status(&self) -> IdentityStatus {
        self.board.status(self.pods.counts())
    }
}
