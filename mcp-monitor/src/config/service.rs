//! `http`, `log` and `service` of the program configuration: how a running monitor shows itself, what it
//! logs, and how it ends.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    ConfigError,
    limits::read_duration,
    program::Key,
    quantity::show_duration,
    secret::Secret,
    section::{key, names},
    yaml::{Node, Reader},
};

/// Where the HTTP server listens unless told otherwise.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9464);
/// Characters of a token at least.
const TOKEN: usize = 16;
/// Most alerts and flows kept to be shown.
const MOST_KEPT: u64 = 100_000;

/// The HTTP server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
    /// A second place, for probes only, without token.
    pub probes: Option<SocketAddr>,
    /// Wanted from every client, as a bearer token or as the password of Basic.
    pub token: Option<Secret>,
    /// Speak TLS.
    pub tls: Option<HttpTls>,
    /// Alerts kept to be shown.
    pub keep_alerts: u64,
    /// Ended flows kept to be shown.
    pub keep_flows: u64,
}

/// TLS of the HTTP server: PEM files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpTls {
    /// Its certificate, the chain after it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of client certificates; given, every client must show one.
    pub client_ca: Option<PathBuf>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: LISTEN,
            probes: None,
            token: None,
            tls: None,
            keep_alerts: 1000,
            keep_flows: 1000,
        }
    }
}

impl Http {
    /// Why it must not listen where it is told to, if so: everybody who reaches it would read its alerts.
    pub fn exposed(&self) -> Option<String> {
        let guarded = self.token.is_some() || self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        (!guarded && !self.listen.ip().is_loopback()).then(|| {
            format!(
                "http.listen {} can be reached from elsewhere, without http.token or http.client_ca",
                self.listen
            )
        })
    }
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The program's own log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// Filter in the form of `RUST_LOG`, which has precedence.
    pub level: Option<String>,
}

/// How it ends, and when it counts as stuck.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// How long what is under way is waited for after SIGTERM.
    pub grace: Duration,
    /// A stage that takes longer than this is stuck.
    pub stuck_after: Duration,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(10),
            stuck_after: Duration::from_secs(30),
        }
    }
}

pub(super) const KEYS: &[Key] = &[
    key!(
        "http",
        "listen",
        "address:port",
        LISTEN.to_string(),
        "Where the server listens. Any other than a loopback address is refused without `token` or `client_ca`."
    ),
    key!(
        "http",
        "probes",
        "address:port",
        "none".into(),
        "A second place where only `/healthz` and `/readyz` are served, to anybody: for the kubelet, which has no token."
    ),
    key!(
        "http",
        "token",
        "`{file: PATH}` or `{env: NAME}`",
        "none".into(),
        "Wanted from every client: `Authorization: Bearer TOKEN`, or the password of Basic, as browsers ask for it. At least 16 characters."
    ),
    key!(
        "http",
        "cert",
        "path",
        "none: no TLS".into(),
        "Certificate of the server, PEM, its chain after it. With `key`."
    ),
    key!(
        "http",
        "key",
        "path",
        "none".into(),
        "Private key of the server, PEM."
    ),
    key!(
        "http",
        "client_ca",
        "path",
        "none".into(),
        "Authorities, PEM. Every client must show a certificate of theirs. With `cert` and `key`."
    ),
    key!(
        "http",
        "keep_alerts",
        "number, at most 100000",
        Http::default().keep_alerts.to_string(),
        "Alerts kept in memory for `/` and `/alerts`; the oldest make room. About 2 KiB each."
    ),
    key!(
        "http",
        "keep_flows",
        "number, at most 100000",
        Http::default().keep_flows.to_string(),
        "Ended flows kept in memory for `/flows`; the oldest make room. About 500 bytes each."
    ),
    key!(
        "log",
        "format",
        "`text` or `json`",
        "text".into(),
        "How lines of the log on standard error look."
    ),
    key!(
        "log",
        "level",
        "filter",
        "info".into(),
        "What is logged, in the form of `RUST_LOG` (`warn`, `info,mcp_monitor::source=debug`), which has precedence. `PUT /log` changes it while running."
    ),
    key!(
        "service",
        "grace",
        "time",
        show_duration(Service::default().grace),
        "After SIGTERM, how long slow readers of the output and a busy state file are waited for."
    ),
    key!(
        "service",
        "stuck_after",
        "time",
        show_duration(Service::default().stuck_after),
        "A stage of the packet loop that takes longer is reported as stuck: a line in the log, `/healthz`, a counter."
    ),
];

fn address(r: &Reader<'_>, node: &Node, what: &str) -> Result<SocketAddr, ConfigError> {
    let text = r.text(node, what)?;
    text.parse().map_err(|_| {
        r.at(
            node,
            format!("{text:?} for {what}"),
            "an address and a port such as 127.0.0.1:9464",
        )
    })
}

impl Http {
    pub(super) fn read(r: &Reader<'_>, node: &Node, folder: &Path) -> Result<Self, ConfigError> {
        let mut http = Self::default();
        let (mut cert, mut key_file, mut client_ca) = (None, None, None);
        let mut listen_at = node;
        for (key, node) in r.map(node, "http", &names(KEYS, "http"))? {
            let name = key.name.as_str();
            let kept = |most: u64| {
                let n = r.whole(node, name, 0)?;
                (n <= most)
                    .then_some(n)
                    .ok_or_else(|| r.at(node, format!("{n} for {name}"), format!("at most {most}")))
            };
            match name {
                "listen" => {
                    http.listen = address(r, node, name)?;
                    listen_at = node;
                }
                "probes" => http.probes = Some(address(r, node, name)?),
                "token" => {
                    let token = Secret::read(r, node, folder, name)?;
                    if token.expose().len() < TOKEN {
                        return Err(r.at(node, "a short token", format!("at least {TOKEN} characters")));
                    }
                    http.token = Some(token);
                }
                "keep_alerts" => http.keep_alerts = kept(MOST_KEPT)?,
                "keep_flows" => http.keep_flows = kept(MOST_KEPT)?,
                _ => {
                    let path = Some(folder.join(r.text(node, name)?));
                    match name {
                        "cert" => cert = path,
                        "key" => key_file = path,
                        _ => client_ca = path,
                    }
                }
            }
        }
        http.tls = match (cert, key_file) {
            (Some(cert), Some(key)) => Some(HttpTls { cert, key, client_ca }),
            (None, None) if client_ca.is_none() => None,
            _ => return Err(r.at(node, "TLS for http by halves", "cert and key together")),
        };
        match http.exposed() {
            Some(found) => Err(r.at(listen_at, found, "a loopback address, or one of them")),
            None => Ok(http),
        }
    }
}

impl Log {
    pub(super) fn read(r: &Reader<'_>, node: &Node) -> Result<Self, ConfigError> {
        let mut log = Self::default();
        for (key, node) in r.map(node, "log", &names(KEYS, "log"))? {
            let text = r.text(node, &key.name)?;
            match (key.name.as_str(), text) {
                ("format", "text") => log.format = LogFormat::Text,
                ("format", "json") => log.format = LogFormat::Json,
                ("format", other) => return Err(r.at(node, format!("{other:?} for format"), "text or json")),
                (_, level) => {
                    level.parse::<tracing_subscriber::EnvFilter>().map_err(|error| {
                        r.at(
                            node,
                            format!("bad filter for level: {error}"),
                            "one such as info or warn,mcp_monitor=debug",
                        )
                    })?;
                    log.level = Some(level.to_owned());
                }
            }
        }
        Ok(log)
    }
}

impl Service {
    pub(super) fn read(r: &Reader<'_>, node: &Node) -> Result<Self, ConfigError> {
        let mut service = Self::default();
        for (key, node) in r.map(node, "service", &names(KEYS, "service"))? {
            match key.name.as_str() {
                "grace" => service.grace = read_duration(r, node, "grace")?,
                "stuck_after" => {
                    let time = read_duration(r, node, "stuck_after")?;
                    if time < Duration::from_secs(2) {
                        return Err(r.at(node, "too short a time for stuck_after", "at least 2s"));
                    }
                    service.stuck_after = time;
                }
                _ => {}
            }
        }
        Ok(service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::program::Program;

    fn read(text: &str) -> Result<Program, String> {
        Program::read(text, "c.yaml", Path::new("/etc/m")).map_err(|e| e.to_string())
    }

    #[test]
    fn off_unless_named_and_on_loopback_then() {
        assert_eq!(read("").unwrap().http, None);
        assert_eq!(read("http:\n").unwrap().http, Some(Http::default()));
        assert!(Http::default().listen.ip().is_loopback());
    }

    #[test]
    fn exposed_without_guard_is_refused() {
        for (text, message) in [
            (
                "http: {listen: 0.0.0.0:9464}",
                "c.yaml:1:16: http.listen 0.0.0.0:9464 can be reached from elsewhere",
            ),
            (
                "http: {listen: \"[::]:9464\", cert: c, key: k}",
                "c.yaml:1:16: http.listen [::]:9464 can be reached",
            ),
            ("http: {client_ca: a}", "c.yaml:1:7: TLS for http by halves"),
            (
                "http: {listen: here}",
                "c.yaml:1:16: \"here\" for listen; expected an address and a port",
            ),
            (
                "http: {keep_alerts: 1000000}",
                "c.yaml:1:21: 1000000 for keep_alerts; expected at most 100000",
            ),
            (
                "log: {format: xml}",
                "c.yaml:1:15: \"xml\" for format; expected text or json",
            ),
            ("log: {level: \"mcp=loud\"}", "c.yaml:1:14: bad filter for level"),
            ("service: {stuck_after: 1s}", "c.yaml:1:24: too short a time"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
        let wide = read("http: {listen: 0.0.0.0:1, cert: c, key: k, client_ca: a}")
            .unwrap()
            .http
            .unwrap();
        assert_eq!(
            wide.tls.unwrap().client_ca.as_deref(),
            Some(Path::new("/etc/m/a"))
        );
        // Probes say nothing that is worth guarding.
        assert!(read("http: {probes: 0.0.0.0:9465}").is_ok());
    }
}
