//! Who takes part: clients, servers, and what is known of them.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::args::{Args, Field};
use super::sdk::Sdk;

/// An agent.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) name: String,
    pub(super) ip: IpAddr,
    pub(super) sdk: Sdk,
    /// `clientInfo`.
    pub(super) info: Value,
    pub(super) capabilities: Value,
    /// Newest revision it speaks.
    pub(super) protocol: String,
    /// On every MCP request.
    pub(super) headers: Vec<Field>,
}

/// How messages travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    StreamableHttp,
    HttpSse,
    WebSocket,
}

/// A server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) ip: IpAddr,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
    pub(super) sdk: Sdk,
    pub(super) transport: Transport,
    /// `serverInfo`.
    pub(super) info: Value,
    pub(super) capabilities: Value,
    pub(super) instructions: Option<String>,
    /// What it agrees on; the client's wish without it.
    pub(super) protocol: Option<String>,
    pub(super) session: Option<String>,
    pub(super) tools: Vec<Value>,
    /// Answers come as server-sent events.
    pub(super) events: bool,
    /// On every MCP response.
    pub(super) headers: Vec<Field>,
}

impl Client {
    pub(super) fn read(name: &str, value: Value) -> Result<Self> {
        let mut args = Args::new(&format!("client {name}"), value)?;
        let client = Self {
            name: name.to_owned(),
            ip: args.needed("ip")?.parse()?,
            sdk: sdk(&mut args)?,
            info: args
                .value("info")
                .unwrap_or_else(|| json!({"name": name, "version": "1.0.0"})),
            capabilities: args.value("capabilities").unwrap_or_else(|| json!({})),
            protocol: args.text("protocol")?.unwrap_or_else(|| "2025-11-25".to_owned()),
            headers: args.headers("headers")?,
        };
        args.done()?;
        Ok(client)
    }
}

impl Server {
    pub(super) fn read(name: &str, value: Value) -> Result<Self> {
        let mut args = Args::new(&format!("server {name}"), value)?;
        let url = args.needed("url")?;
        let (host, port, path) = split(&url)?;
        let sdk = sdk(&mut args)?;
        let ip = match args.text("ip")? {
            Some(text) => text.parse()?,
            None => host
                .trim_matches(['[', ']'])
                .parse()
                .with_context(|| format!("server {name}: an ip"))?,
        };
        let server = Self {
            name: name.to_owned(),
            ip,
            host,
            port,
            path,
            sdk,
            transport: match args.text("transport")?.as_deref() {
                None | Some("streamable-http") => Transport::StreamableHttp,
                Some("http-sse") => Transport::HttpSse,
                Some("websocket") => Transport::WebSocket,
                Some(other) => bail!("server {name}: {other} is no transport"),
            },
            info: args
                .value("info")
                .unwrap_or_else(|| json!({"name": name, "version": "1.0.0"})),
            capabilities: args
                .value("capabilities")
                .unwrap_or_else(|| json!({"tools": {"listChanged": false}})),
            instructions: args.text("instructions")?,
            protocol: args.text("protocol")?,
            session: args.text("session")?,
            tools: args.list("tools"),
            events: args.flag("events", false)?,
            headers: args.headers("headers")?,
        };
        args.done()?;
        Ok(server)
    }

    /// As in the `Host` field.
    pub(super) fn authority(&self) -> String {
        match self.port {
            80 => self.host.clone(),
            port => format!("{}:{port}", self.host),
        }
    }
}

fn sdk(args: &mut Args) -> Result<Sdk> {
    let name = args.text("sdk")?.unwrap_or_else(|| "python".to_owned());
    Sdk::parse(&name).with_context(|| format!("{name} is no SDK that is known: python, typescript"))
}

/// Host (brackets kept), port and path of an http URL.
pub(super) fn split(url: &str) -> Result<(String, u16, String)> {
    let rest = url
        .strip_prefix("http://")
        .with_context(|| format!("{url}: what is readable on the wire begins with http://"))?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let path = if path.is_empty() { "/" } else { path };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse()?),
        _ => (authority, 80),
    };
    Ok((host.to_owned(), port, path.to_owned()))
}
