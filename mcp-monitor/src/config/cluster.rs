//! The way to the Kubernetes API.

use std::{path::Path, time::Duration};

use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// Of a kubeconfig file, else of the service account of the pod that this runs in.
///
/// # Errors
///
/// There is neither, or the file cannot be read.
pub(crate) async fn config(kubeconfig: Option<&Path>) -> Result<Config, String> {
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| error.to_string())?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|error| error.to_string())?
        }
        None => Config::incluster().map_err(|error| error.to_string())?,
    };
    config.connect_timeout = Some(Duration::from_secs(10));
    // Whoever asks has waits of its own; a client that tries again by itself would hide that the API is away.
    config.default_retry = false;
    Ok(config)
}
