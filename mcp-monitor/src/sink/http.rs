//! What sinks over HTTP share: the client, its keys, and which answer means what.

use std::time::Duration;

use reqwest::{StatusCode, header::HeaderMap, redirect};
use url::Url;

use super::{
    delivery::Trouble,
    settings::{Fields, Key, Secret, Tls},
};
use crate::{config::ConfigError, detect::text::shown};

/// Bytes of an answer that are looked at.
const MAX_ANSWER: usize = 512;

/// The keys that every sink over HTTP has.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "url",
        form: "URL, or `{file: …}` or `{env: …}` where it is a secret",
        default: "required",
        about: "Where to. Redirects are not followed.",
    },
    Key {
        name: "headers",
        form: "mapping",
        default: "",
        about: "Further header fields; each value is text, `{file: PATH}` or `{env: NAME}`.",
    },
    Key {
        name: "bearer",
        form: "`{file: PATH}` or `{env: NAME}`",
        default: "",
        about: "Token for `Authorization: Bearer`.",
    },
    TLS_KEY,
];

/// The `tls` key, for every sink that may use TLS.
pub(super) const TLS_KEY: Key = Key {
    name: "tls",
    form: "mapping: `ca`, `cert`, `key`, `server_name`",
    default: "what the system trusts",
    about: "PEM files: whom to trust instead of the system's authorities (`ca`), a client certificate and its key. `server_name`: the name that the certificate must have, for syslog; over HTTP it is that of the URL.",
};

/// Where to and with what.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    url: Secret,
    headers: Vec<(String, Secret)>,
    tls: Tls,
}

impl Endpoint {
    /// Reads [`KEYS`].
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, ConfigError> {
        let mut headers = fields.pairs("headers")?;
        if let Some(token) = fields.secret("bearer")? {
            headers.push((
                "authorization".to_owned(),
                Secret::new(format!("Bearer {}", token.expose())),
            ));
        }
        for (name, value) in &headers {
            let fits = reqwest::header::HeaderName::try_from(name.as_str()).is_ok()
                && reqwest::header::HeaderValue::try_from(value.expose()).is_ok();
            if !fits {
                return Err(fields.wrong(
                    "headers",
                    format!("bad header field {name:?}"),
                    "a name and a value of one line",
                ));
            }
        }
        Ok(Self {
            url: fields.url("url", &["http", "https"])?,
            headers,
            tls: fields.tls()?,
        })
    }

    /// Where to.
    pub(super) fn url(&self) -> &str {
        self.url.expose()
    }

    /// How.
    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// What the other side said, without the secrets that it may quote, as one line.
    pub(super) fn mask(&self, said: &str) -> String {
        let mut said = self.url.mask(said);
        for (_, value) in &self.headers {
            said = value.mask(&said);
            if let Some((_, token)) = value.expose().split_once(' ') {
                said = Secret::new(token).mask(&said);
            }
        }
        shown(&said.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// Header fields of every request.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
    }
}

/// A client of one endpoint. Its connections are kept.
pub(super) struct Http {
    client: reqwest::Client,
    endpoint: Endpoint,
    url: Url,
}

impl Http {
    /// For an endpoint; `path` is added to its URL's.
    pub(super) fn new(endpoint: Endpoint, path: &str) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured((*endpoint.tls.config).clone())
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .pool_max_idle_per_host(1)
            .user_agent(concat!("mcp-monitor/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| e.without_url().to_string())?;
        let mut url = Url::parse(endpoint.url.expose()).map_err(|_| "bad URL".to_owned())?;
        if !path.is_empty() {
            let base = url.path().trim_end_matches('/').to_owned();
            url.set_path(&format!("{base}{path}"));
        }
        Ok(Self {
            client,
            endpoint,
            url,
        })
    }

    /// Posts a body. `extra` are header fields of this request. The start of the answer's body.
    pub(super) async fn post(
        &self,
        kind: &str,
        body: Vec<u8>,
        extra: &[(&'static str, String)],
    ) -> Result<Vec<u8>, Trouble> {
        let mut request = self.client.post(self.url.clone()).header("content-type", kind);
        for (name, value) in self.endpoint.headers() {
            request = request.header(name, value);
        }
        for (name, value) in extra {
            request = request.header(*name, value);
        }
        let answer = request.body(body).send().await.map_err(|e| trouble(&e))?;
        self.judge(answer).await
    }

    /// Asks for `path` instead of the endpoint's own; any answer shows that somebody is there.
    pub(super) async fn probe(&self, method: reqwest::Method, path: Option<&str>) -> Result<String, Trouble> {
        let mut url = self.url.clone();
        if let Some(path) = path {
            url.set_path(path);
        }
        let answer = self
            .client
            .request(method, url)
            .send()
            .await
            .map_err(|e| trouble(&e))?;
        let host = self.url.host_str().unwrap_or_default();
        Ok(format!("{host} answers with status {}", answer.status().as_u16()))
    }

    async fn judge(&self, mut answer: reqwest::Response) -> Result<Vec<u8>, Trouble> {
        let status = answer.status();
        if status.is_success() {
            // Read to its end, so that the connection can be used again; an answer that breaks off was one.
            let mut body = Vec::new();
            while let Ok(Some(chunk)) = answer.chunk().await {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_ANSWER.saturating_mul(128) {
                    break;
                }
            }
            return Ok(body);
        }
        let after = retry_after(answer.headers());
        let mut said = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            said.extend_from_slice(&chunk);
            if said.len() >= MAX_ANSWER {
                break;
            }
        }
        said.truncate(MAX_ANSWER);
        Err(Trouble {
            what: self.describe(status, &String::from_utf8_lossy(&said)),
            refused: is_refusal(status),
            after,
        })
    }

    /// The answer may quote what was sent: secrets are taken out.
    fn describe(&self, status: StatusCode, said: &str) -> String {
        let said = self.endpoint.mask(said);
        let note = if status.is_redirection() {
            " (redirects are not followed)"
        } else {
            ""
        };
        if said.is_empty() {
            format!("status {}{note}", status.as_u16())
        } else {
            format!("status {}{note}: {said}", status.as_u16())
        }
    }
}

/// The same request would be answered so again. A wrong token or path is a matter of configuration: it is
/// tried again, and the records wait for whoever sets it right.
fn is_refusal(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY
    )
}

/// `Retry-After` in seconds; a date is as good as nothing, since clocks differ.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Never the URL, which may be a secret.
fn trouble(error: &reqwest::Error) -> Trouble {
    let mut what = if error.is_connect() {
        "cannot connect"
    } else {
        "the exchange failed"
    }
    .to_owned();
    let mut cause = std::error::Error::source(error);
    let mut last = None;
    while let Some(inner) = cause {
        last = Some(inner.to_string());
        cause = inner.source();
    }
    if let Some(last) = last {
        what.push_str(": ");
        what.push_str(&shown(&last));
    }
    Trouble::later(what)
}

#[cfg(test)]
impl Endpoint {
    /// For tests of what answers mean.
    pub(super) fn testing(url: &str, headers: &[(&str, &str)]) -> Self {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Secret::new(*value)));
        Self {
            url: Secret::new(url),
            headers: headers.collect(),
            tls: Tls::testing(),
        }
    }
}
