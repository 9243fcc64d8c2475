//! TLS to receivers: whom to trust, and who we are.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

use super::Fields;
use crate::config::ConfigError;

/// The keys under `tls`.
pub(super) const KEYS: &[&str] = &["ca", "cert", "key", "server_name"];

/// TLS of one sink. Compares by its files, not by what is in them.
#[derive(Clone)]
pub(crate) struct Tls {
    /// For the libraries.
    pub(crate) config: Arc<ClientConfig>,
    /// The name that the certificate must have, where it is not that of the address.
    pub(crate) server_name: Option<ServerName<'static>>,
    /// Whom to trust, for libraries that want it so.
    pub(crate) roots: Arc<RootCertStore>,
    /// PEM of the files.
    pub(crate) pem: Pem,
}

/// What the files hold.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Pem {
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.pem == other.pem && self.server_name == other.server_name
    }
}

impl Tls {
    /// Reads the `tls` mapping, or takes what the system trusts.
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, ConfigError> {
        let Some(node) = fields.get("tls") else {
            return Self::build(Pem::default(), None)
                .map_err(|e| fields.wrong("tls", e, "certificates of the system"));
        };
        let inner = fields.inner(node, "tls", KEYS)?;
        let server_name = match inner.text("server_name")? {
            None => None,
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|_| {
                inner.wrong("server_name", format!("{name:?} for server_name"), "a host name")
            })?),
        };
        let mut pem = Pem {
            ca: inner.file("ca")?,
            identity: None,
        };
        match (inner.file("cert")?, inner.file("key")?) {
            (Some(cert), Some(key)) => pem.identity = Some((cert, key)),
            (None, None) => {}
            (Some(_), None) => return Err(inner.wrong("cert", "cert without key", "both, or none of them")),
            (None, Some(_)) => return Err(inner.wrong("key", "key without cert", "both, or none of them")),
        }
        Self::build(pem, server_name)
            .map_err(|e| fields.wrong("tls", e, "PEM files: certificates, and the key of the first"))
    }

    fn build(pem: Pem, server_name: Option<ServerName<'static>>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match &pem.ca {
            Some(ca) => {
                for cert in CertificateDer::pem_slice_iter(ca) {
                    let cert = cert.map_err(|e| format!("ca: {e}"))?;
                    roots.add(cert).map_err(|e| format!("ca: {e}"))?;
                }
                if roots.is_empty() {
                    return Err("no certificate in ca".to_owned());
                }
            }
            None => {
                // None at all is found out when a certificate cannot be verified.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots.clone());
        let config = match &pem.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
                let certs = certs.map_err(|e| format!("cert: {e}"))?;
                // The message of a wrong key says nothing of what is in it.
                let key =
                    PrivateKeyDer::from_pem_slice(key).map_err(|_| "no private key in key".to_owned())?;
                builder
                    .with_client_auth_cert(certs, key)
                    .map_err(|e| format!("cert and key: {e}"))?
            }
        };
        Ok(Self {
            config: Arc::new(config),
            server_name,
            roots,
            pem,
        })
    }
}

/// A file of at most a megabyte.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    const LARGEST: u64 = 1 << 20;
    let shown = path.display();
    let len = std::fs::metadata(path)
        .map_err(|e| format!("{shown}: {e}"))?
        .len();
    if len > LARGEST {
        return Err(format!("{shown}: more than {LARGEST} bytes"));
    }
    std::fs::read(path).map_err(|e| format!("{shown}: {e}"))
}

#[cfg(test)]
impl Tls {
    /// Trusts what the system does.
    pub(crate) fn testing() -> Self {
        Self::build(Pem::default(), None).unwrap()
    }
}
