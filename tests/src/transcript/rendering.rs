//! The forms that one transcript takes on the wire.

/// How a transcript is put on the wire. What it says stays the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rendering {
    /// As written: IPv4, HTTP/1.1, bodies with a length, whole segments.
    Plain,
    /// Every address is an IPv6 one.
    Ipv6,
    /// TCP segments of 7 bytes.
    Segments7,
    /// TCP segments in another order than sent.
    Reordered,
    /// Every packet captured twice.
    Duplicated,
    /// HTTP bodies in chunks of 11 bytes.
    Chunked,
    /// Response bodies compressed.
    Gzip,
    /// Server-sent events where JSON would do.
    Sse,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Inside VXLAN.
    Vxlan,
    /// IPv6, events, gzip, chunks, reordered segments and VXLAN at once.
    Combined,
}

impl Rendering {
    /// All of them, the plain one first.
    pub const ALL: [Self; 11] = [
        Self::Plain,
        Self::Ipv6,
        Self::Segments7,
        Self::Reordered,
        Self::Duplicated,
        Self::Chunked,
        Self::Gzip,
        Self::Sse,
        Self::Http2,
        Self::Vxlan,
        Self::Combined,
    ];

    /// In tables and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Ipv6 => "ipv6",
            Self::Segments7 => "segments7",
            Self::Reordered => "reordered",
            Self::Duplicated => "duplicated",
            Self::Chunked => "chunked",
            Self::Gzip => "gzip",
            Self::Sse => "sse",
            Self::Http2 => "http2",
            Self::Vxlan => "vxlan",
            Self::Combined => "combined",
        }
    }

    /// Addresses are IPv6.
    pub fn ipv6(self) -> bool {
        matches!(self, Self::Ipv6 | Self::Combined)
    }

    pub(super) fn chunked(self) -> bool {
        matches!(self, Self::Chunked | Self::Combined)
    }

    pub(super) fn gzip(self) -> bool {
        matches!(self, Self::Gzip | Self::Combined)
    }

    pub(super) fn sse(self) -> bool {
        matches!(self, Self::Sse | Self::Combined)
    }

    pub(super) fn http2(self) -> bool {
        self == Self::Http2
    }

    pub(super) fn vxlan(self) -> bool {
        matches!(self, Self::Vxlan | Self::Combined)
    }
}
