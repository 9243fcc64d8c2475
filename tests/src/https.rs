//! A stage for HTTPS: the scene, with a certificate for its name, and what is asked of a run of the monitor.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::binary;
use crate::certificate::Certificate;
use crate::monitor::{Monitor, Options, Watched};
use crate::peers::{Client, Server};
use crate::process::Process;
use crate::scene::{NAME, Scene};
use crate::undo::TempDir;

/// Where the server listens.
pub const PORT: u16 = 8443;

/// See the module.
#[derive(Debug)]
pub struct Stage {
    /// Hosts and the agent's cgroup.
    pub scene: Scene,
    /// Of the approved server.
    pub certificate: Certificate,
    /// For files of the test.
    pub dir: TempDir,
}

impl Stage {
    /// Builds the stage.
    pub fn new() -> Result<Self> {
        let dir = TempDir::new()?;
        std::fs::write(
            dir.path().join("pins.yaml"),
            format!(
                "version: 1\n\
                 endpoints:\n\
                 \x20 - name: market-data\n\
                 \x20   url: https://{NAME}:{PORT}/mcp\n\
                 \x20   mcp: {{transport: streamable-http, min_protocol_version: \"2025-03-26\",\n\
                 \x20     tools: {{get_quote: \"sha256:{}\"}}}}\n\
                 \x20   first_party: true\n\
                 resolvers: [10.96.0.10]\n",
                // Of no definition: what is listed over either scheme differs from it.
                "0".repeat(64)
            ),
        )?;
        Ok(Self {
            scene: Scene::new()?,
            certificate: Certificate::new(dir.path())?,
            dir,
        })
    }

    /// Starts the monitor on the agent's cgroup, with this configuration.
    pub fn monitor(&self, config: &str) -> Result<Monitor> {
        self.monitor_at(&binary::locate()?, config)
    }

    /// Likewise, of this binary.
    pub fn monitor_at(&self, binary: &Path, config: &str) -> Result<Monitor> {
        let file = self.dir.path().join("config.yaml");
        std::fs::write(&file, config)?;
        let options = Options {
            pins: Some(self.dir.path().join("pins.yaml")),
            cgroup: Some(self.scene.cgroup.path().to_owned()),
            config: Some(file),
            arguments: vec!["--emit".into(), "alerts,messages,flows".into()],
            ..Options::default()
        };
        Monitor::start_at(binary, &options, |_| {})
    }

    /// Starts a server on the approved host, up to this version of TLS.
    pub fn server(&self, server: Server, tls: &str) -> Result<Process> {
        let mut options = self.tls();
        options["max"] = json!(tls);
        server.start(&self.scene.approved, PORT, &json!({"tls": options}))
    }

    /// The files of the certificate, as servers want them.
    pub fn tls(&self) -> Value {
        json!({"cert": self.certificate.cert, "key": self.certificate.key})
    }

    /// Starts a client in the agent's cgroup that trusts the certificate.
    pub fn client(&self, client: Client, options: &Value) -> Result<Process> {
        self.client_in(self.scene.cgroup.path(), client, options)
    }

    /// Likewise, in another cgroup.
    pub fn client_in(&self, cgroup: &Path, client: Client, options: &Value) -> Result<Process> {
        let mut all = json!({"url": self.url(), "ca": self.certificate.cert});
        for (key, value) in options.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        let trust: [(&str, &Path); 2] = [
            ("SSL_CERT_FILE", self.certificate.cert.as_path()),
            ("NODE_EXTRA_CA_CERTS", self.certificate.cert.as_path()),
        ];
        client.start_with(&self.scene.agent, cgroup, &all, &trust)
    }

    /// Where the server is.
    pub fn url(&self) -> String {
        format!("https://{NAME}:{PORT}/mcp")
    }
}

/// Records of a kind that a run gave.
pub fn records(watched: &Watched, schema: &str) -> Vec<Value> {
    let wanted = format!("mcp-monitor.{schema}/1");
    watched
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|record: &Value| record["schema"] == *wanted)
        .collect()
}

/// A count of `plaintext` in the summary.
pub fn plaintext(watched: &Watched, what: &str) -> u64 {
    watched.summary["plaintext"][what].as_u64().unwrap_or(u64::MAX)
}
