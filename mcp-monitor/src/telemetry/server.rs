//! The HTTP server: a thread of its own, and bounds on what a client can hold.
//!
//! One request a connection: what is slow or idle ends after a while, and holds no more than its place.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Semaphore, oneshot},
};
use tokio_rustls::TlsAcceptor;

use super::{board::Board, routes};
use crate::{
    config::{program::Http, service::HttpTls},
    sandbox::{self, Task},
};

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 64;
/// Until the head of a request is there.
const HEAD: Duration = Duration::from_secs(5);
/// Until the answer is read.
const WHOLE: Duration = Duration::from_secs(30);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be had.
    #[error("http cannot listen on {address}: {source}; name another with http.listen")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The server would be open to everybody.
    #[error("{0}; name a loopback address, or set one of them")]
    Exposed(String),
    /// A certificate or key is of no use.
    #[error("http.{key} {path}: {why}")]
    Tls {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: String,
        /// What is the matter.
        why: String,
    },
    /// No thread or runtime can be had.
    #[error("http: {0}")]
    Thread(std::io::Error),
}

/// Bound and ready to serve.
pub struct Server {
    listeners: Vec<(TcpListener, Kind)>,
    tls: Option<TlsAcceptor>,
    http: Http,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    All,
    Probes,
}

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Serving {
    /// Where, in the order of the configuration: everything, then probes.
    pub addresses: Vec<SocketAddr>,
    _end: oneshot::Sender<()>,
}

impl Server {
    /// Takes the addresses and reads certificates, so that what is wrong is known before anything else begins.
    ///
    /// # Errors
    ///
    /// What cannot be had, and what to do.
    pub fn bind(http: &Http) -> Result<Self, ServerError> {
        if let Some(why) = http.exposed() {
            return Err(ServerError::Exposed(why));
        }
        let tls = http.tls.as_ref().map(acceptor).transpose()?;
        let mut listeners = Vec::new();
        for (address, kind) in [(Some(http.listen), Kind::All), (http.probes, Kind::Probes)] {
            let Some(address) = address else { continue };
            let bound = TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            listeners.push((
                bound.map_err(|source| ServerError::Listen { address, source })?,
                kind,
            ));
        }
        Ok(Self {
            listeners,
            tls,
            http: http.clone(),
        })
    }

    /// Begins to serve, on a thread of its own.
    ///
    /// # Errors
    ///
    /// No thread or runtime can be had.
    pub fn serve(self, board: Arc<Board>) -> Result<Serving, ServerError> {
        let addresses = self
            .listeners
            .iter()
            .filter_map(|(l, _)| l.local_addr().ok())
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ServerError::Thread)?;
        let (end, ended) = oneshot::channel::<()>();
        sandbox::thread("http", Task::Serve, move || {
            runtime.block_on(async {
                for (listener, kind) in self.listeners {
                    let router = match kind {
                        Kind::All => routes::all(board.clone(), &self.http),
                        Kind::Probes => routes::probes(board.clone()),
                    };
                    // Probes are for the kubelet, which would not trust the certificate.
                    let tls = self.tls.clone().filter(|_| kind == Kind::All);
                    match tokio::net::TcpListener::from_std(listener) {
                        Ok(listener) => drop(tokio::spawn(accept(listener, router, tls))),
                        Err(error) => tracing::error!(%error, "http: a listener is of no use"),
                    }
                }
                let _ = ended.await;
            });
        })
        .map_err(ServerError::Thread)?;
        Ok(Serving { addresses, _end: end })
    }
}

async fn accept(listener: tokio::net::TcpListener, router: Router, tls: Option<TlsAcceptor>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, as a rule: others will be closed.
                tracing::debug!(%error, "http: not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (router, tls) = (router.clone(), tls.clone());
        tokio::spawn(async move {
            let _ = tokio::time::timeout(WHOLE, converse(stream, router, tls)).await;
            drop(place);
        });
    }
}

async fn converse(stream: TcpStream, router: Router, tls: Option<TlsAcceptor>) {
    match tls {
        None => answer(stream, router).await,
        Some(tls) => match tokio::time::timeout(HEAD, tls.accept(stream)).await {
            Ok(Ok(stream)) => answer(stream, router).await,
            Ok(Err(error)) => tracing::debug!(%error, "http: no TLS"),
            Err(_) => {}
        },
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "http: a connection broke off");
    }
}

fn acceptor(tls: &HttpTls) -> Result<TlsAcceptor, ServerError> {
    fn wrong<E: std::fmt::Display>(key: &'static str, path: &Path) -> impl Fn(E) -> ServerError {
        move |why| ServerError::Tls {
            key,
            path: path.display().to_string(),
            why: why.to_string(),
        }
    }
    let certificates = |key, path: &Path| -> Result<Vec<CertificateDer<'static>>, ServerError> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let read: Vec<_> = read.map_err(wrong(key, path))?;
        match read.is_empty() {
            true => Err(wrong(key, path)("no certificate in it")),
            false => Ok(read),
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(wrong("cert", &tls.cert))?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("client_ca", path)? {
                roots.add(certificate).map_err(wrong("client_ca", path))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(wrong("client_ca", path))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates("cert", &tls.cert)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(wrong("key", &tls.key))?;
    let config = builder
        .with_single_cert(chain, key)
        .map_err(wrong("cert", &tls.cert))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
