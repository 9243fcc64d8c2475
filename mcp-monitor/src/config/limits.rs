//! The limits that a program configuration can set.
//!
//! Each is named once, here, with its documentation and default; the reader, the reference and
//! the structure follow. `pipeline` gives them to the layers.

use std::time::Duration;

use super::{
    ConfigError,
    quantity::{parse_bytes, parse_duration, show_bytes, show_duration},
    yaml::{Node, Reader, Value},
};

/// How a limit is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// A whole number.
    Count,
    /// Bytes: a whole number or `64MiB`.
    Bytes,
    /// `500ms`, `24h`.
    Time,
}

/// One limit, for its documentation.
#[derive(Clone, Debug)]
pub struct Documented {
    /// The key.
    pub key: &'static str,
    /// What it limits and what happens there.
    pub about: &'static str,
    /// How it is written.
    pub unit: Unit,
    /// Its default as it would be written.
    pub default: String,
}

trait Limit: Sized {
    fn read(r: &Reader<'_>, node: &Node, key: &str, unit: Unit) -> Result<Self, ConfigError>;
    fn show(&self, unit: Unit) -> String;
}

impl Limit for u64 {
    fn read(r: &Reader<'_>, node: &Node, key: &str, unit: Unit) -> Result<Self, ConfigError> {
        let bytes = match &node.value {
            Value::Text(text) if unit == Unit::Bytes => parse_bytes(text).filter(|b| *b > 0),
            _ => return r.whole(node, key, 1),
        };
        bytes.ok_or_else(|| {
            r.at(
                node,
                format!("bad size for {key}"),
                "bytes, or a size such as 64KiB, 16MiB or 1GiB",
            )
        })
    }

    fn show(&self, unit: Unit) -> String {
        match unit {
            Unit::Bytes => show_bytes(*self),
            _ => self.to_string(),
        }
    }
}

impl Limit for Duration {
    fn read(r: &Reader<'_>, node: &Node, key: &str, _unit: Unit) -> Result<Self, ConfigError> {
        read_duration(r, node, key)
    }

    fn show(&self, _unit: Unit) -> String {
        show_duration(*self)
    }
}

/// A time at a node.
pub(super) fn read_duration(r: &Reader<'_>, node: &Node, key: &str) -> Result<Duration, ConfigError> {
    const FORM: &str = "a time such as 500ms, 90s, 1h30m or 7d";
    match &node.value {
        Value::Text(text) => {
            parse_duration(text).ok_or_else(|| r.at(node, format!("bad time {text:?} for {key}"), FORM))
        }
        other => Err(r.at(node, format!("{} for {key}", other.kind()), FORM)),
    }
}

macro_rules! limits {
    ($($(#[doc = $about:literal])+ $key:ident: $type:ty, $unit:ident, $default:expr;)+) => {
        /// Caps of tables and buffers, and how long things are waited for (in capture time).
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct Limits {
            $($(#[doc = $about])+ pub $key: $type,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl Limits {
            /// The keys in order.
            pub const KEYS: &'static [&'static str] = &[$(stringify!($key),)+];

            /// Every limit with its documentation.
            pub fn documented() -> Vec<Documented> {
                let defaults = Self::default();
                vec![$(Documented {
                    key: stringify!($key),
                    about: concat!($($about),+).trim_ascii(),
                    unit: Unit::$unit,
                    default: Limit::show(&defaults.$key, Unit::$unit),
                },)+]
            }

            /// Reads the mapping at a node.
            pub(super) fn read(r: &Reader<'_>, node: &Node) -> Result<Self, ConfigError> {
                let mut limits = Self::default();
                for (key, value) in r.map(node, "limits", Self::KEYS)? {
                    match key.name.as_str() {
                        $(stringify!($key) => limits.$key = Limit::read(r, value, stringify!($key), Unit::$unit)?,)+
                        _ => {}
                    }
                }
                Ok(limits)
            }
        }
    };
}

limits! {
    /// Datagrams that wait for fragments; the oldest is given up.
    fragmented_datagrams: u64, Count, 1024;
    /// Bytes held in fragments; the oldest datagram is given up.
    fragment_bytes: u64, Bytes, 4 << 20;
    /// How long a datagram waits for its fragments.
    fragment_timeout: Duration, Time, Duration::from_secs(30);
    /// Two packets with the same headers within this time at one capture point are one; 0s turns this off.
    duplicate_window: Duration, Time, Duration::from_millis(2);
    /// The same across capture files and interfaces, whose clocks may differ.
    duplicate_window_across: Duration, Time, Duration::from_millis(100);
    /// Flows at once; the one least recently seen is given up, unanswered ones first.
    flows: u64, Count, 1 << 20;
    /// Bytes out of order held per direction of a flow; beyond it a gap is declared.
    pending_bytes: u64, Bytes, 1 << 20;
    /// The same over all flows; the stream that waits longest is given up first.
    pending_bytes_total: u64, Bytes, 64 << 20;
    /// How long a hole waits while the receiver says that it waits too.
    wait_retransmission: Duration, Time, Duration::from_secs(60);
    /// A connection in which nothing moves is forgotten after this.
    idle_open: Duration, Time, Duration::from_secs(86_400);
    /// A connection that was never answered is forgotten after this.
    idle_opening: Duration, Time, Duration::from_secs(60);
    /// A UDP flow in which nothing moves is forgotten after this.
    idle_datagram: Duration, Time, Duration::from_secs(120);
    /// Bytes of an HTTP/1 head; a longer one is skipped.
    http_head_bytes: u64, Bytes, 64 << 10;
    /// Header fields of an HTTP/1 head; those above are left out.
    http_headers: u64, Count, 128;
    /// HTTP/1 requests of one connection without response; responses to those above are not paired.
    http_pipeline: u64, Count, 256;
    /// Bytes of one TLS handshake message; beyond it the direction is given up.
    tls_handshake_bytes: u64, Bytes, 128 << 10;
    /// Bytes of one JSON text or event of a stream; a longer one is skipped.
    message_bytes: u64, Bytes, 16 << 20;
    /// Bytes of bodies and events under way over all connections; one that would go above is given up.
    message_bytes_total: u64, Bytes, 1 << 30;
    /// Bytes of one body that is not MCP and that rules look at; a longer one is not looked at.
    document_bytes: u64, Bytes, 256 << 10;
    /// HTTP exchanges of one connection open at once; the oldest is forgotten.
    exchanges: u64, Count, 1024;
    /// Client and address pairs whose resolved name is remembered.
    resolved_names: u64, Count, 65_536;
    /// Server paths known to speak MCP.
    mcp_paths: u64, Count, 16_384;
    /// Local sockets whose process is remembered.
    processes: u64, Count, 65_536;
    /// MCP sessions remembered; the least recently used is forgotten.
    sessions: u64, Count, 65_536;
    /// Unanswered requests of one session; the oldest is forgotten.
    pending_requests: u64, Count, 4096;
}
