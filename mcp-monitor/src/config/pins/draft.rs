//! A pins file to be: what `pin learn` writes.
//!
//! Each line says in a comment from what it was learned, so that a person can judge it.

use std::fmt::Write as _;

/// A value and the comment beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line<T> {
    /// The value.
    pub value: T,
    /// From what it was learned. One line; never text from the wire as it came.
    pub note: String,
}

/// One endpoint to be. What is `None` or empty is not pinned.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DraftEndpoint {
    /// Unique in the file.
    pub name: String,
    /// See [`super::EndpointUrl`].
    pub url: String,
    /// From what.
    pub url_note: String,
    /// Prefixes.
    pub addresses: Vec<Line<String>>,
    /// CNAME targets.
    pub cnames: Vec<Line<String>>,
    /// `1.2`.
    pub min_tls: Option<Line<String>>,
    /// Base64.
    pub spki_sha256: Vec<Line<String>>,
    /// RFC 4514.
    pub issuers: Vec<Line<String>>,
    /// Transport.
    pub transport: Option<Line<String>>,
    /// Revision.
    pub min_protocol_version: Option<Line<String>>,
    /// `serverInfo.name`.
    pub server_name: Option<Line<String>>,
    /// `serverInfo.version`.
    pub server_version: Option<Line<String>>,
    /// Name and `sha256:` hash.
    pub tools: Vec<Line<(String, String)>>,
    /// Credentials are required.
    pub auth_required: Option<Line<String>>,
    /// Audience of tokens.
    pub audience: Option<Line<String>>,
    /// Issuers of tokens.
    pub authorization_servers: Vec<Line<String>>,
    /// What could not be pinned, and why.
    pub remarks: Vec<String>,
    /// First observation, RFC 3339.
    pub since: String,
    /// How many.
    pub observations: u64,
}

/// A pins file to be.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Draft {
    /// Comment at the top, by line.
    pub head: Vec<String>,
    /// In the order to write them.
    pub endpoints: Vec<DraftEndpoint>,
    /// Resolvers.
    pub resolvers: Vec<Line<String>>,
}

impl Draft {
    /// The file.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        for line in &self.head {
            let _ = writeln!(out, "# {line}");
        }
        out.push_str("version: 1\n");
        if self.endpoints.is_empty() {
            out.push_str("endpoints: []\n");
        } else {
            out.push_str("endpoints:\n");
        }
        for endpoint in &self.endpoints {
            endpoint.write(&mut out);
        }
        list(&mut out, 0, "resolvers", &self.resolvers, None);
        out
    }
}

impl DraftEndpoint {
    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "  - name: {}", quote(&self.name));
        scalar(
            out,
            4,
            "url",
            &Line {
                value: self.url.clone(),
                note: self.url_note.clone(),
            },
        );
        for remark in &self.remarks {
            let _ = writeln!(out, "    # {remark}");
        }
        list(out, 4, "addresses", &self.addresses, None);
        list(out, 4, "cnames", &self.cnames, None);
        if self.min_tls.is_some() || !self.spki_sha256.is_empty() || !self.issuers.is_empty() {
            out.push_str("    tls:\n");
            option(out, 6, "min_version", self.min_tls.as_ref());
            let slot = "backup slot: add the hash of the next key here before the server changes to it";
            list(out, 6, "spki_sha256", &self.spki_sha256, Some(slot));
            list(out, 6, "issuers", &self.issuers, None);
        }
        self.write_mcp(out);
        if self.auth_required.is_some() || self.audience.is_some() || !self.authorization_servers.is_empty() {
            out.push_str("    auth:\n");
            if let Some(line) = &self.auth_required {
                let _ = writeln!(out, "      required: {}  # {}", line.value, line.note);
            }
            option(out, 6, "audience", self.audience.as_ref());
            list(out, 6, "authorization_servers", &self.authorization_servers, None);
        }
        let _ = writeln!(
            out,
            "    learned: {{since: {}, observations: {}}}",
            self.since, self.observations
        );
    }

    fn write_mcp(&self, out: &mut String) {
        let server = self.server_name.is_some() || self.server_version.is_some();
        let any = self.transport.is_some() || self.min_protocol_version.is_some() || server;
        if !any && self.tools.is_empty() {
            return;
        }
        out.push_str("    mcp:\n");
        option(out, 6, "transport", self.transport.as_ref());
        option(out, 6, "min_protocol_version", self.min_protocol_version.as_ref());
        if server {
            out.push_str("      server:\n");
            option(out, 8, "name", self.server_name.as_ref());
            option(out, 8, "version", self.server_version.as_ref());
        }
        if !self.tools.is_empty() {
            out.push_str("      tools:\n");
            for line in &self.tools {
                let (name, hash) = &line.value;
                let _ = writeln!(out, "        {}: {}  # {}", quote(name), quote(hash), line.note);
            }
        }
    }
}

fn option(out: &mut String, indent: usize, key: &str, line: Option<&Line<String>>) {
    if let Some(line) = line {
        scalar(out, indent, key, line);
    }
}

fn scalar(out: &mut String, indent: usize, key: &str, line: &Line<String>) {
    let _ = writeln!(
        out,
        "{:indent$}{key}: {}  # {}",
        "",
        quote(&line.value),
        line.note
    );
}

fn list(out: &mut String, indent: usize, key: &str, lines: &[Line<String>], after: Option<&str>) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "{:indent$}{key}:", "");
    for line in lines {
        let _ = writeln!(out, "{:indent$}  - {}  # {}", "", quote(&line.value), line.note);
    }
    if let Some(after) = after {
        let _ = writeln!(out, "{:indent$}  # {after}", "");
    }
}

/// A YAML scalar that is read back as this text: plain where that is safe, else in double quotes.
pub fn quote(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._/:-".contains(&b))
        && !text.ends_with(':')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    // Three dots: no number, whatever reads it.
    let v4 = text
        .split('/')
        .next()
        .is_some_and(|ip| ip.parse::<std::net::Ipv4Addr>().is_ok())
        && text.bytes().all(|b| b.is_ascii_digit() || b"./".contains(&b));
    if plain || v4 {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(c),
            c if c.is_control() || !c.is_alphanumeric() => {
                let code = u32::from(c);
                let _ = match code {
                    0..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{
        pins::Pins,
        yaml::{Reader, Value},
    };

    fn line(value: &str) -> Line<String> {
        Line {
            value: value.to_owned(),
            note: "seen once".to_owned(),
        }
    }

    #[test]
    fn a_whole_file_is_read_back() {
        let hash = format!("sha256:{}", "a".repeat(64));
        let endpoint = DraftEndpoint {
            name: "market-data".to_owned(),
            url: "https://mcp.example/mcp".to_owned(),
            url_note: "seen twice".to_owned(),
            addresses: vec![line("203.0.113.0/24"), line("2001:db8::1")],
            cnames: vec![line("edge.example")],
            min_tls: Some(line("1.3")),
            spki_sha256: vec![line("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")],
            issuers: vec![line("CN=Example, CA #1: \"x\"".replace(", ", "\\, ").as_str())],
            transport: Some(line("streamable-http")),
            min_protocol_version: Some(line("2025-11-25")),
            server_name: Some(line("market data: # 1")),
            server_version: Some(line("4.2")),
            tools: vec![
                Line {
                    value: ("get_quote".to_owned(), hash.clone()),
                    note: "x".to_owned(),
                },
                Line {
                    value: ("no\u{202e}\n- evil".to_owned(), hash),
                    note: "x".to_owned(),
                },
            ],
            auth_required: Some(line("true")),
            audience: Some(line("https://mcp.example")),
            authorization_servers: vec![line("https://login.example")],
            remarks: vec!["nothing was seen of it".to_owned()],
            since: "2026-11-01T00:00:00Z".to_owned(),
            observations: 3,
        };
        let draft = Draft {
            head: vec!["Learned".to_owned()],
            endpoints: vec![endpoint],
            resolvers: vec![line("10.0.0.1")],
        };
        let text = draft.to_yaml();
        let pins = Pins::parse(&text, "p").unwrap_or_else(|e| panic!("{e}\n{text}"));
        let e = &pins.endpoints[0];
        assert_eq!(e.addresses.len(), 2);
        assert_eq!(e.tls.min_version, Some(0x0304));
        assert_eq!(e.mcp.tools.as_ref().unwrap().len(), 2);
        assert!(e.mcp.tools.as_ref().unwrap().contains_key("no\u{202e}\n- evil"));
        let server = e.mcp.server.as_ref().unwrap();
        assert_eq!(server.name.as_deref(), Some("market data: # 1"));
        assert_eq!(e.auth.required, Some(true));
        assert_eq!(e.learned.unwrap().observations, 3);
        assert!(text.is_ascii(), "direction marks do not reach the file");
        assert!(Pins::parse(&Draft::default().to_yaml(), "p").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(text in "\\PC{1,40}|[ -~\\n\\t]{1,40}") {
            let file = format!("key: {}  # note\n", quote(&text));
            let root = Reader { file: "f" }.read(&file).unwrap();
            let Value::Map(entries) = &root.value else { panic!("{file}") };
            let Value::Text(read) = &entries[0].1.value else { panic!("{file}") };
            prop_assert_eq!(read, &text);
        }
    }
}
