//! What a parser says instead of failing.

/// Something on the wire that breaks a rule of its protocol or a limit of ours.
///
/// Parsers never return an error for bytes from the wire: they emit one of these and go on,
/// or give the stream up and say so with one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anomaly {
    /// What it is.
    pub kind: AnomalyKind,
    /// A short remark for people: numbers and names, never payload that may hold a secret.
    pub detail: String,
}

impl Anomaly {
    /// With a remark.
    pub fn new(kind: AnomalyKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident = $slug:literal,)*) => {
        /// Kinds of [`Anomaly`]; the slug is the key under `anomalies` in the summary.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum AnomalyKind { $($(#[doc = $doc])* $name,)* }

        impl AnomalyKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in records, metrics and the summary.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }
        }
    };
}

kinds! {
    /// A frame shorter than its headers say.
    TruncatedPacket = "truncated-packet",
    /// A link type or inner protocol that is not decoded.
    UndecodedLink = "undecoded-link",
    /// Headers that contradict themselves (lengths, versions).
    BadHeader = "bad-header",
    /// Encapsulation nested deeper than the limit.
    TunnelDepth = "tunnel-depth",
    /// IP fragments that overlap with other content.
    FragmentOverlap = "fragment-overlap",
    /// Fragments given up: timeout or memory limit.
    FragmentLost = "fragment-lost",
    /// Overlapping TCP segments with different bytes.
    TcpOverlapConflict = "tcp-overlap-conflict",
    /// Payload after a reset.
    TcpDataAfterReset = "tcp-data-after-reset",
    /// Bytes of a stream that never came.
    TcpGap = "tcp-gap",
    /// Out-of-order memory limit reached; oldest data given up as a gap.
    TcpBufferLimit = "tcp-buffer-limit",
    /// Flow table full; the least recently seen flow was ended.
    FlowEvicted = "flow-evicted",
    /// A DNS message that does not parse.
    DnsMalformed = "dns-malformed",
    /// A TLS record or handshake that does not parse.
    TlsMalformed = "tls-malformed",
    /// A client that begins in the format of SSL 2.0.
    Sslv2Hello = "sslv2-hello",
    /// A QUIC packet whose keys are public and that does not decrypt or parse.
    QuicMalformed = "quic-malformed",
    /// A handshake message above the limit.
    TlsOversize = "tls-oversize",
    /// Logged keys were given, and none is for this connection.
    TlsKeyMissing = "tls-key-missing",
    /// The connection, or the rest of it, could not be decrypted with its logged keys.
    TlsDecryptFailed = "tls-decrypt-failed",
    /// An HTTP head that does not parse; the stream waits for the next message.
    HttpMalformed = "http-malformed",
    /// A head or header count above the limit.
    HttpHeadLimit = "http-head-limit",
    /// Message length that two readers could see differently (CL and TE, repeated CL, bare LF, obs-fold).
    HttpAmbiguous = "http-ambiguous",
    /// A response with no request seen for it.
    HttpUnpaired = "http-unpaired",
    /// More requests in flight than the limit.
    HttpPipelineLimit = "http-pipeline-limit",
    /// A body above the limit; its end was not kept.
    BodyLimit = "body-limit",
    /// A content coding that is unknown or does not decode.
    CodingError = "coding-error",
    /// Decoded size or ratio above the limit.
    InflateLimit = "inflate-limit",
    /// An SSE event above the limit.
    SseLimit = "sse-limit",
    /// A body that says it is JSON and is not.
    JsonMalformed = "json-malformed",
    /// JSON nested deeper than the limit.
    JsonDepth = "json-depth",
    /// Text that is not UTF-8 where it must be.
    InvalidUtf8 = "invalid-utf8",
    /// A JSON object with a key twice, or with keys that differ by case alone where that matters.
    JsonDuplicateKey = "json-duplicate-key",
    /// HTTP/2 framing or header compression error.
    Http2Error = "http2-error",
    /// A WebSocket framing error.
    WebsocketError = "websocket-error",
    /// More MCP transactions or sessions open than the limit.
    McpTableLimit = "mcp-table-limit",
}
