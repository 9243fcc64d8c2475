//! Plays the steps of a transcript.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::args::{Args, Field, microseconds};
use super::dns::{self, Lookup, Record};
use super::http::{Body, Http, Request, Response, overlay};
use super::mcp::Talk;
use super::network::Network;
use super::rendering::Rendering;
use super::scene::{Client, Server};
use super::tls::{self, Choice, Offer};
use crate::generate::turn::Side;

/// Reads a certificate by its name.
pub(super) type Certificates<'a> = dyn Fn(&str) -> Result<Vec<u8>> + 'a;

/// Whom a step concerns, and how its answer differs from the ordinary one.
pub(super) struct Who {
    pub(super) client: Client,
    pub(super) server: Server,
    /// The server is reached at this address instead of its own.
    pub(super) at: Option<IpAddr>,
    /// Label of a connection of its own.
    pub(super) on: String,
    pub(super) path: Option<String>,
    pub(super) headers: Vec<Field>,
    pub(super) reply: Reply,
}

/// What is unusual about an answer.
pub(super) struct Reply {
    pub(super) status: Option<u16>,
    pub(super) headers: Vec<Field>,
    pub(super) body: Option<Value>,
    /// Events of an exchange that is no MCP request: `{event, data}`.
    pub(super) events: Vec<Value>,
    /// The capture misses it.
    pub(super) lost: bool,
    /// It never comes.
    pub(super) none: bool,
}

/// See the module.
pub(super) struct Player<'a> {
    pub(super) rendering: Rendering,
    pub(super) network: Network,
    clients: Vec<Client>,
    servers: Vec<Server>,
    resolver: IpAddr,
    certificates: &'a Certificates<'a>,
    links: BTreeMap<String, Http>,
    pub(super) talks: BTreeMap<(String, String), Talk>,
    raw: BTreeMap<String, usize>,
    dns_id: u16,
    seed: u8,
}

impl<'a> Player<'a> {
    pub(super) fn new(
        scene: &Value,
        rendering: Rendering,
        certificates: &'a Certificates<'a>,
    ) -> Result<Self> {
        let all = |key: &str| scene.get(key).and_then(Value::as_object).into_iter().flatten();
        let resolver = scene.get("resolver").and_then(Value::as_str);
        Ok(Self {
            rendering,
            network: Network::new(rendering)?,
            clients: all("clients")
                .map(|(name, value)| Client::read(name, value.clone()))
                .collect::<Result<_>>()?,
            servers: all("servers")
                .map(|(name, value)| Server::read(name, value.clone()))
                .collect::<Result<_>>()?,
            resolver: resolver.context("a resolver")?.parse()?,
            certificates,
            links: BTreeMap::new(),
            talks: BTreeMap::new(),
            raw: BTreeMap::new(),
            dns_id: 0x1000,
            seed: 0,
        })
    }

    /// Plays one step: `{verb: {…}}`.
    pub(super) fn step(&mut self, step: &Value) -> Result<()> {
        let Some((verb, value)) = step
            .as_object()
            .filter(|map| map.len() == 1)
            .and_then(|map| map.iter().next())
        else {
            bail!("a step is one verb with its arguments, not {step}");
        };
        if verb == "wait" {
            let text = value.as_str().context("wait: a time such as 10s")?;
            self.network.wait(microseconds(text)?);
            return Ok(());
        }
        let mut args = Args::new(verb, value.clone())?;
        match verb.as_str() {
            "dns" => self.dns(&mut args)?,
            "tls" => self.tls(&mut args)?,
            "http" => self.http(&mut args)?,
            "write" => self.write(&mut args)?,
            "datagram" => self.datagram(&mut args)?,
            "close" => self.close(&mut args)?,
            _ => self.speak(verb, &mut args)?,
        }
        args.done()
    }

    /// Everything that is still open ends.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        for http in self.links.values_mut() {
            if http.busy && self.network.is_open(http.connection) {
                http.end(&mut self.network)?;
            }
        }
        self.network.finish()
    }

    fn client(&self, name: Option<&str>) -> Result<Client> {
        let found = match name {
            None => self.clients.first(),
            Some(name) => self.clients.iter().find(|client| client.name == name),
        };
        found.cloned().with_context(|| format!("no client {name:?}"))
    }

    fn server(&self, name: Option<&str>) -> Result<Server> {
        let found = match name {
            None => self.servers.first(),
            Some(name) => self.servers.iter().find(|server| server.name == name),
        };
        found.cloned().with_context(|| format!("no server {name:?}"))
    }

    /// Takes `from`, `to`, `at`, `on`, `path`, `headers` and `reply`.
    pub(super) fn who(&self, args: &mut Args) -> Result<Who> {
        let client = self.client(args.text("from")?.as_deref())?;
        let server = self.server(args.text("to")?.as_deref())?;
        let mut reply = args.nested("reply")?;
        let who = Who {
            client,
            server,
            at: args.text("at")?.map(|text| text.parse()).transpose()?,
            on: args.text("on")?.unwrap_or_default(),
            path: args.text("path")?,
            headers: args.headers("headers")?,
            reply: Reply {
                status: reply.number("status")?.map(|status| status as u16),
                headers: reply.headers("headers")?,
                body: reply.value("body"),
                events: reply.list("events"),
                lost: reply.flag("lost", false)?,
                none: reply.flag("none", false)?,
            },
        };
        reply.done()?;
        Ok(who)
    }

    /// An address: a client's, a server's or a literal one, perhaps with a port.
    fn address(&self, text: &str, port: u16) -> Result<SocketAddr> {
        if let Ok(address) = text.parse() {
            return Ok(address);
        }
        if let Ok(ip) = text.parse() {
            return Ok(SocketAddr::new(ip, port));
        }
        if let Ok(client) = self.client(Some(text)) {
            return Ok(SocketAddr::new(client.ip, port));
        }
        let server = self.server(Some(text))?;
        Ok(SocketAddr::new(
            server.ip,
            if port == 0 { server.port } else { port },
        ))
    }

    /// The connection between two, opened if there is none that is free.
    pub(super) fn link(&mut self, who: &Who, label: &str) -> Result<String> {
        let at = who.at.unwrap_or(who.server.ip);
        let mut key = format!("{} {} {at} {}{label}", who.client.name, who.server.name, who.on);
        loop {
            match self.links.get(&key) {
                Some(http) if !self.network.is_open(http.connection) => break,
                Some(http) if http.busy => key.push('\''),
                Some(_) => return Ok(key),
                None => break,
            }
        }
        let server = SocketAddr::new(at, who.server.port);
        let connection = self.network.open(who.client.ip, server)?;
        self.links
            .insert(key.clone(), Http::new(connection, self.rendering));
        Ok(key)
    }

    /// A connection by its key.
    pub(super) fn at(&mut self, key: &str) -> Result<(&mut Http, &mut Network)> {
        let http = self
            .links
            .get_mut(key)
            .with_context(|| format!("no connection {key}"))?;
        Ok((http, &mut self.network))
    }

    /// One exchange. With an open body, more is to come on the same connection.
    pub(super) fn exchange(
        &mut self,
        key: &str,
        request: &Request,
        response: Option<&Response>,
    ) -> Result<()> {
        let (http, network) = self.at(key)?;
        http.request(network, request)?;
        network.wait(2_000);
        match response {
            Some(response) => http.respond(network, response),
            None => Ok(()),
        }
    }

    fn dns(&mut self, args: &mut Args) -> Result<()> {
        let client = self.client(args.text("from")?.as_deref())?;
        let resolver = match args.text("resolver")? {
            Some(text) => self.address(&text, 53)?,
            None => SocketAddr::new(self.resolver, 53),
        };
        let name = args.needed("name")?;
        let ttl = args.number("ttl")?.unwrap_or(60) as u32;
        let rcode = args.number("rcode")?.unwrap_or(0) as u16;
        let chain = args.texts("cname")?;
        let mut owner = name.clone();
        let mut records = Vec::new();
        for target in chain {
            records.push(Record::alias(&owner, ttl, &target));
            owner = target;
        }
        let answers = self.addresses(args, "answers")?;
        let racing = self.addresses(args, "racing")?;
        let kind = match args.text("type")? {
            Some(name) => dns::kind(&name)?,
            None if answers.iter().chain(&racing).any(IpAddr::is_ipv6) => 28,
            None => 1,
        };
        for ip in &answers {
            records.push(Record::address(&owner, ttl, *ip));
        }
        for record in args.list("records") {
            let mut args = Args::new("record", record)?;
            records.push(Record::other(&mut args, &name, ttl)?);
            args.done()?;
        }
        self.dns_id += 1;
        let lookup = Lookup {
            id: self.dns_id,
            name,
            kind,
        };
        let from = SocketAddr::new(client.ip, self.network.port());
        if args.flag("tcp", false)? {
            let connection = self.network.open(client.ip, resolver)?;
            for (side, message) in [
                (Side::Client, dns::question(&lookup)),
                (Side::Server, dns::answer(&lookup, rcode, &records)),
            ] {
                let mut out = (message.len() as u16).to_be_bytes().to_vec();
                out.extend(message);
                self.network.send(connection, side, &out)?;
            }
            return self.network.close(connection);
        }
        self.network.datagram(from, resolver, &dns::question(&lookup))?;
        self.network.wait(3_000);
        let mut answer = |records: &[Record]| {
            self.network
                .datagram(resolver, from, &dns::answer(&lookup, rcode, records))
        };
        answer(&records)?;
        if args.flag("twice", false)? {
            answer(&records)?;
        }
        if !racing.is_empty() {
            let racing: Vec<Record> = racing
                .iter()
                .map(|ip| Record::address(&lookup.name, ttl, *ip))
                .collect();
            answer(&racing)?;
        }
        Ok(())
    }

    fn addresses(&self, args: &mut Args, key: &str) -> Result<Vec<IpAddr>> {
        args.texts(key)?
            .iter()
            .map(|text| Ok(self.address(text, 0)?.ip()))
            .collect()
    }

    /// The connection of `on`, opened if it is new.
    fn bare(&mut self, args: &mut Args, default_port: u16) -> Result<(String, usize)> {
        let client = self.client(args.text("from")?.as_deref())?;
        let to = match args.text("to")? {
            Some(text) => text,
            None => self.server(None)?.name,
        };
        let port = args.number("port")?.map_or(default_port, |port| port as u16);
        let mut address = self.address(&to, port)?;
        if let Some(at) = args.text("at")? {
            address.set_ip(at.parse()?);
        }
        let label = args.text("on")?.unwrap_or_default();
        let key = format!("{} {address} {label}", client.name);
        if let Some(connection) = self.raw.get(&key).filter(|at| self.network.is_open(**at)) {
            return Ok((key, *connection));
        }
        let connection = self.network.open(client.ip, address)?;
        self.raw.insert(key.clone(), connection);
        Ok((key, connection))
    }

    fn tls(&mut self, args: &mut Args) -> Result<()> {
        let (key, connection) = self.bare(args, 443)?;
        self.raw.remove(&key);
        self.seed = self.seed.wrapping_add(29);
        let sni = args.text("sni")?;
        let mut client = args.nested("client")?;
        let offer = Offer::read(&mut client, sni.as_deref(), self.seed)?;
        let chain = client.texts("chain")?;
        client.done()?;
        self.network.send(connection, Side::Client, &offer.record())?;
        let mut server = args.nested("server")?;
        let retry = server.flag("hello_retry", false)?;
        let choice = Choice::read(&mut server, &offer, self.seed, &self.certificates)?;
        server.done()?;
        let mut alert = args.nested("alert")?;
        let from = alert.text("from")?;
        let description = alert.number("description")?.unwrap_or(40) as u8;
        alert.done()?;
        if from.as_deref() == Some("server") {
            self.network
                .send(connection, Side::Server, &tls::alert(description))?;
            return self.network.close(connection);
        }
        if retry {
            let mut args = Args::new("server", serde_json::json!({"retry": true}))?;
            let first = Choice::read(&mut args, &offer, self.seed, &self.certificates)?;
            self.network.send(connection, Side::Server, &first.hello())?;
            self.network.send(connection, Side::Client, &offer.record())?;
        }
        self.network.send(connection, Side::Server, &choice.flight())?;
        if from.is_some() {
            self.network
                .send(connection, Side::Client, &tls::alert(description))?;
            return self.network.close(connection);
        }
        let own = chain
            .iter()
            .map(|name| (self.certificates)(name))
            .collect::<Result<Vec<_>>>()?;
        let (client, server) = choice.finish((!own.is_empty()).then_some(&own));
        self.network.send(connection, Side::Client, &client)?;
        self.network.send(connection, Side::Server, &server)?;
        if args.flag("data", true)? {
            self.network.send(connection, Side::Client, &choice.data(420))?;
            self.network.send(connection, Side::Server, &choice.data(900))?;
        }
        self.network.close(connection)
    }

    fn write(&mut self, args: &mut Args) -> Result<()> {
        let (_, connection) = self.bare(args, 0)?;
        let by = match args.text("by")?.as_deref() {
            None | Some("client") => Side::Client,
            Some("server") => Side::Server,
            Some(other) => bail!("write: by client or server, not {other}"),
        };
        let bytes = bytes(args)?;
        let back = args.number("back")?;
        let lost = args.flag("lost", false)?;
        if args.flag("reset", false)? {
            return self.network.reset(connection, by);
        }
        match back {
            Some(back) => self.network.again(connection, by, back as u32, &bytes),
            None if lost => self.network.lose(connection, by, &bytes),
            None => self.network.send(connection, by, &bytes),
        }
    }

    fn datagram(&mut self, args: &mut Args) -> Result<()> {
        let client = self.client(args.text("from")?.as_deref())?;
        let to = args.needed("to")?;
        let port = args.number("port")?.unwrap_or(0) as u16;
        let to = self.address(&to, port)?;
        let from = SocketAddr::new(client.ip, self.network.port());
        let bytes = bytes(args)?;
        self.network.datagram(from, to, &bytes)?;
        if let Some(answer) = args.text("answer_hex")? {
            self.network.datagram(to, from, &hex(&answer)?)?;
        }
        Ok(())
    }

    /// Ends the connections of a client to a server, and what both know of each other.
    fn close(&mut self, args: &mut Args) -> Result<()> {
        let client = self.client(args.text("from")?.as_deref())?;
        let server = self.server(args.text("to")?.as_deref())?;
        let pair = format!("{} {} ", client.name, server.name);
        for (key, http) in &mut self.links {
            if key.starts_with(&pair) {
                if http.busy && self.network.is_open(http.connection) {
                    http.end(&mut self.network)?;
                }
                self.network.close(http.connection)?;
            }
        }
        self.talks.remove(&(client.name, server.name));
        Ok(())
    }

    /// An exchange that is not MCP, or is written out whole.
    fn http(&mut self, args: &mut Args) -> Result<()> {
        let who = self.who(args)?;
        let body = args.value("body");
        let form = args.text("form")?;
        let method = args.text("method")?.unwrap_or_else(|| {
            if body.is_some() || form.is_some() {
                "POST"
            } else {
                "GET"
            }
            .to_owned()
        });
        let mut headers = who.client.sdk.request(&method, &who.server.authority(), &[]);
        overlay(&mut headers, &[("accept".to_owned(), Some("*/*".to_owned()))]);
        match (&body, &form) {
            (_, Some(_)) => overlay(
                &mut headers,
                &[(
                    "content-type".to_owned(),
                    Some("application/x-www-form-urlencoded".to_owned()),
                )],
            ),
            (None, _) => overlay(&mut headers, &[("content-type".to_owned(), None)]),
            _ => {}
        }
        overlay(&mut headers, &who.headers);
        let request = Request {
            method,
            target: who.path.clone().unwrap_or_else(|| "/".to_owned()),
            headers,
            body: match (body, form) {
                (Some(body), _) => plain(&body).into_bytes(),
                (_, Some(form)) => form.into_bytes(),
                _ => Vec::new(),
            },
        };
        let events = &who.reply.events;
        let (media, body) = match (events.is_empty(), &who.reply.body) {
            (false, _) => ("text/event-stream", Body::Open),
            (true, body) => (
                "application/json",
                Body::Whole(body.as_ref().map(plain).unwrap_or_default().into_bytes()),
            ),
        };
        let mut headers = who.server.sdk.response(media, &[]);
        overlay(&mut headers, &who.reply.headers);
        let response = Response {
            status: who.reply.status.unwrap_or(200),
            headers,
            body,
        };
        let key = self.link(&who, "")?;
        self.at(&key)?.0.lossy = who.reply.lost;
        self.exchange(&key, &request, (!who.reply.none).then_some(&response))?;
        for event in events {
            let mut args = Args::new("event", event.clone())?;
            let (name, data) = (args.needed("event")?, args.value("data").unwrap_or_default());
            args.done()?;
            let event = who.server.sdk.event(&name, &plain(&data));
            let (http, network) = self.at(&key)?;
            http.more(network, &event)?;
        }
        self.at(&key)?.0.lossy = false;
        Ok(())
    }
}

/// A text as it is, anything else as JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn bytes(args: &mut Args) -> Result<Vec<u8>> {
    Ok(
        match (args.text("text")?, args.text("hex")?, args.text("base64")?) {
            (Some(text), None, None) => text.into_bytes(),
            (None, Some(text), None) => hex(&text)?,
            (None, None, Some(text)) => STANDARD.decode(text)?,
            (None, None, None) => Vec::new(),
            _ => bail!("one of text, hex and base64"),
        },
    )
}

fn hex(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).context("hex digits"))
        .collect::<Result<_>>()?;
    Ok(digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |all, digit| all * 16 + *digit as u8))
        .collect())
}
