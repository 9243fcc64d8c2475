//! A record as an RFC 5424 message.

use std::fmt::Write as _;

use super::config::Config;
use crate::{
    sink::{
        delivery::{Entry, Kind},
        encoding::{Encoding, View},
    },
    types::Severity,
};

/// The enterprise number that RFC 5612 reserves for documentation: the project has none of its own.
const SD_ID: &str = "mcp-monitor@32473";
/// Bytes of a structured data value.
const MAX_PARAM: usize = 256;

/// Structured data and where its values are.
const PARAMS: &[(&str, &str)] = &[
    ("id", "/id"),
    ("rule", "/rule"),
    ("name", "/name"),
    ("severity", "/severity"),
    ("endpoint", "/endpoint"),
    ("namespace", "/kubernetes/namespace"),
    ("pod", "/kubernetes/pod"),
    ("incident", "/incident/id"),
];

/// One message, without framing. `host` is this machine's name.
pub(super) fn message(entry: &Entry, config: &Config, host: &str) -> Vec<u8> {
    let view = View::of(entry);
    let line = config.encoding.line(entry);
    let whole = assemble(&view, entry.kind, config, host, &line, false);
    if whole.len() <= config.max_bytes {
        return whole;
    }
    // Half a JSON text is of no use: the line for people is shorter, and can be cut.
    let mut short = assemble(&view, entry.kind, config, host, &Encoding::Text.line(entry), true);
    if short.len() > config.max_bytes {
        let end = String::from_utf8_lossy(&short).floor_char_boundary(config.max_bytes);
        short.truncate(end);
    }
    short
}

fn assemble(view: &View, kind: Kind, config: &Config, host: &str, line: &[u8], cut: bool) -> Vec<u8> {
    let severity: u8 = match (kind, view.severity()) {
        (Kind::Alert, Severity::Critical) => 2,
        (Kind::Alert, Severity::High) => 3,
        (Kind::Alert, Severity::Medium) => 4,
        (Kind::Alert, Severity::Low) => 5,
        _ => 6,
    };
    let priority = u16::from(config.facility)
        .saturating_mul(8)
        .saturating_add(severity.into());
    // At most six fractional digits (section 6.2.3).
    let time = view
        .text("/time")
        .and_then(|time| time.get(..26))
        .map_or("-".to_owned(), |t| format!("{t}Z"));
    let host = config
        .hostname
        .as_deref()
        .or(view.text("/kubernetes/node"))
        .unwrap_or(host);
    let id = if kind == Kind::Alert {
        view.text("/rule").unwrap_or("-")
    } else {
        kind.as_str()
    };
    let mut head = format!(
        "<{priority}>1 {time} {} mcp-monitor {} {} ",
        name(host, 255),
        std::process::id(),
        name(id, 32)
    );
    let _ = write!(head, "[{SD_ID}");
    for (param, path) in PARAMS {
        if let Some(value) = view.text(path) {
            let _ = write!(head, " {param}=\"{}\"", escape(value));
        }
    }
    if let Some(count) = view.number("/count") {
        let _ = write!(head, " count=\"{count}\"");
    }
    if cut {
        head.push_str(" cut=\"true\"");
    }
    head.push_str("] ");
    let mut message = head.into_bytes();
    message.extend_from_slice(line);
    message
}

/// `PRINTUSASCII` of at most so many characters; nothing is `-`.
fn name(text: &str, most: usize) -> String {
    let name: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// `PARAM-VALUE` (section 6.3.3): quote, backslash and bracket are escaped.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text
        .get(..text.floor_char_boundary(MAX_PARAM))
        .unwrap_or(text)
        .chars()
    {
        match c {
            '"' | '\\' | ']' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
