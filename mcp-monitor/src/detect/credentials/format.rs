//! What a provider's credential looks like, as data.

use std::ops::RangeInclusive;

/// Sets of bytes that credentials are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// `0-9`.
    Digit,
    /// `0-9a-f`.
    LowerHex,
    /// `0-9a-fA-F`.
    Hex,
    /// `0-9A-F`.
    UpperHex,
    /// `a-z`.
    Lower,
    /// `a-zA-Z`.
    Letter,
    /// `a-z0-9`.
    LowerAlnum,
    /// `A-Z0-9`.
    UpperAlnum,
    /// `a-zA-Z0-9`.
    Alnum,
    /// Letters, digits, `_`.
    Word,
    /// Letters, digits, `-`, `_`.
    Base64Url,
    /// Letters, digits, `+`, `/`.
    Base64,
    /// `A-Z2-7`.
    Base32,
    /// Bitcoin's alphabet: no `0`, `O`, `I`, `l`.
    Base58,
    /// Bech32's alphabet in upper case.
    Bech32Upper,
    /// Bech32's alphabet in lower case.
    Bech32Lower,
    /// Base64Url and `.`, `~`, `=`.
    Dotted,
    /// Base64Url and `+`, `/`, `=`, `.`.
    Any64,
}

impl Class {
    /// Whether the byte belongs.
    pub fn contains(self, b: u8) -> bool {
        match self {
            Self::Digit => b.is_ascii_digit(),
            Self::LowerHex => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
            Self::Hex => b.is_ascii_hexdigit(),
            Self::UpperHex => matches!(b, b'0'..=b'9' | b'A'..=b'F'),
            Self::Lower => b.is_ascii_lowercase(),
            Self::Letter => b.is_ascii_alphabetic(),
            Self::LowerAlnum => matches!(b, b'0'..=b'9' | b'a'..=b'z'),
            Self::UpperAlnum => matches!(b, b'0'..=b'9' | b'A'..=b'Z'),
            Self::Alnum => b.is_ascii_alphanumeric(),
            Self::Word => b.is_ascii_alphanumeric() || b == b'_',
            Self::Base64Url => b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'),
            Self::Base64 => b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'),
            Self::Base32 => matches!(b, b'A'..=b'Z' | b'2'..=b'7'),
            Self::Base58 => b.is_ascii_alphanumeric() && !matches!(b, b'0' | b'O' | b'I' | b'l'),
            Self::Bech32Upper => BECH32.contains(&b.to_ascii_lowercase()) && !b.is_ascii_lowercase(),
            Self::Bech32Lower => BECH32.contains(&b),
            Self::Dotted => Self::Base64Url.contains(b) || matches!(b, b'.' | b'~' | b'='),
            Self::Any64 => Self::Base64Url.contains(b) || matches!(b, b'+' | b'/' | b'=' | b'.'),
        }
    }

    /// How many bytes belong.
    pub fn size(self) -> u32 {
        match self {
            Self::Digit => 10,
            Self::LowerHex | Self::UpperHex => 16,
            Self::Hex => 22,
            Self::Lower => 26,
            Self::Letter => 52,
            Self::LowerAlnum | Self::UpperAlnum => 36,
            Self::Alnum => 62,
            Self::Word => 63,
            Self::Base64Url | Self::Base64 => 64,
            Self::Base32 | Self::Bech32Upper | Self::Bech32Lower => 32,
            Self::Base58 => 58,
            Self::Dotted => 67,
            Self::Any64 => 68,
        }
    }
}

/// Bech32 (BIP 173) digits in order of value.
pub(super) const BECH32: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// A piece of a shape.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// Between `min` and `max` bytes of a class, as many as there are.
    Run {
        /// Which bytes.
        class: Class,
        /// At least.
        min: usize,
        /// At most.
        max: usize,
    },
    /// Exactly this.
    Text(&'static str),
    /// One of these; the first that fits counts.
    OneOf(&'static [&'static str]),
    /// Up to two `=`.
    Padding,
}

/// Exactly `n` bytes of `class`.
pub(super) const fn n(class: Class, n: usize) -> Part {
    Part::Run {
        class,
        min: n,
        max: n,
    }
}

/// Between `min` and `max` bytes of `class`.
pub(super) const fn r(class: Class, min: usize, max: usize) -> Part {
    Part::Run { class, min, max }
}

/// Exactly this text.
pub(super) const fn t(text: &'static str) -> Part {
    Part::Text(text)
}

/// A UUID in lower-case hex.
pub(super) const UUID: &[Part] = &[
    n(Class::Hex, 8),
    t("-"),
    n(Class::Hex, 4),
    t("-"),
    n(Class::Hex, 4),
    t("-"),
    n(Class::Hex, 4),
    t("-"),
    n(Class::Hex, 12),
];

/// Where the anchor stands in relation to the secret.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// The secret begins with the anchor.
    Start,
    /// The anchor comes just before the secret and is no part of it.
    Before,
    /// As `Before`, for an authentication scheme: without case (RFC 9110 section 11.1).
    Scheme,
    /// The anchor stands inside; before it come this many bytes of the class.
    Inside(Class, usize, usize),
    /// The anchor is a word of the name that the secret is assigned to (`ANCHOR_KEY = "…"`).
    Name,
}

/// What else must hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// Nothing.
    None,
    /// The last six characters are the base62 CRC-32 of those between anchor and them.
    Crc32Base62,
    /// Bech32 checksum (BIP 173) over the whole.
    Bech32,
    /// Base58Check over the whole.
    Base58Check,
    /// A JSON Web Token: two base64url JSON objects, the first with `alg` (RFC 7519).
    Jwt,
    /// Base64 of `user:password` (RFC 7617).
    Basic,
    /// The base64 text before the first `_` or at the start is a JSON object.
    JsonPrefix,
    /// A PEM block follows up to its end line (RFC 7468).
    Pem,
    /// `user:password@host` follows (RFC 3986 section 3.2.1).
    UserInfo,
    /// Upper and lower case letters and digits all occur.
    Mixed,
    /// A password as people choose them: no placeholder, no plain word, no path.
    Password,
    /// Looks random: letters and digits, no word, no path, no UUID of a cursor.
    Generic,
}

/// One kind of credential.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Its name in alerts.
    pub kind: &'static str,
    /// Who issues it.
    pub provider: &'static str,
    /// Literals of at least three bytes, one of which must be there.
    pub anchors: &'static [&'static str],
    /// Where the anchor stands.
    pub place: Place,
    /// What follows the anchor.
    pub shape: &'static [Part],
    /// What else must hold.
    pub check: Check,
    /// Minimum Shannon entropy of the variable part, in hundredths of a bit per byte; `None` for
    /// the default, six tenths of what a random text of its length and alphabet could have.
    pub entropy: Option<u16>,
}

impl Format {
    /// A secret that begins with a literal of its provider.
    pub(super) const fn token(
        kind: &'static str,
        provider: &'static str,
        anchors: &'static [&'static str],
        shape: &'static [Part],
    ) -> Self {
        Self {
            kind,
            provider,
            anchors,
            place: Place::Start,
            shape,
            check: Check::None,
            entropy: None,
        }
    }

    /// A secret without a literal of its own, known by the name it is assigned to.
    pub(super) const fn named(
        kind: &'static str,
        provider: &'static str,
        anchors: &'static [&'static str],
        shape: &'static [Part],
    ) -> Self {
        Self {
            place: Place::Name,
            ..Self::token(kind, provider, anchors, shape)
        }
    }

    /// A secret with a literal inside.
    pub(super) const fn inside(
        kind: &'static str,
        provider: &'static str,
        (class, min, max): (Class, usize, usize),
        anchors: &'static [&'static str],
        shape: &'static [Part],
    ) -> Self {
        Self {
            place: Place::Inside(class, min, max),
            ..Self::token(kind, provider, anchors, shape)
        }
    }

    /// A secret that comes just after a literal.
    pub(super) const fn after(
        kind: &'static str,
        provider: &'static str,
        anchors: &'static [&'static str],
        shape: &'static [Part],
    ) -> Self {
        Self {
            place: Place::Before,
            ..Self::token(kind, provider, anchors, shape)
        }
    }

    /// A secret that comes just after the name of an authentication scheme.
    pub(super) const fn scheme(
        kind: &'static str,
        provider: &'static str,
        anchors: &'static [&'static str],
        shape: &'static [Part],
    ) -> Self {
        Self {
            place: Place::Scheme,
            ..Self::token(kind, provider, anchors, shape)
        }
    }

    /// Its anchors are compared without case.
    pub(super) fn ignores_case(&self) -> bool {
        matches!(self.place, Place::Name | Place::Scheme)
    }

    /// It is known by a name alone, so a format known by its own form goes before it.
    pub(super) fn is_weak(&self) -> bool {
        self.ignores_case()
    }

    /// With a check.
    pub(super) const fn check(self, check: Check) -> Self {
        Self { check, ..self }
    }

    /// With a minimum entropy of its own, in hundredths of a bit per byte.
    pub(super) const fn entropy(self, hundredths: u16) -> Self {
        Self {
            entropy: Some(hundredths),
            ..self
        }
    }

    /// The largest class of its runs, for the default of the entropy.
    pub(super) fn alphabet(&self) -> u32 {
        let runs = self.shape.iter().filter_map(|part| match part {
            Part::Run { class, .. } => Some(class.size()),
            _ => None,
        });
        runs.max().unwrap_or(64)
    }

    /// Whether `b` can stand before an anchor: for the start of a secret, the end of anything but
    /// a word, or of an escape.
    pub(super) fn can_precede(&self, b: u8) -> bool {
        match self.place {
            Place::Start => match b {
                b'n' | b't' | b'r' | b'f' | b'b' => true,
                // Characters beyond ASCII end with one of these.
                0x80.. => b < 0xc0,
                _ => b.is_ascii_hexdigit() || !Class::Word.contains(b),
            },
            Place::Inside(class, ..) => class.contains(b),
            _ => true,
        }
    }

    /// Whether `b` can stand after an anchor: the first byte of the shape, or the rest of a name.
    pub(super) fn can_follow(&self, b: u8) -> bool {
        let next = if let Place::Name = self.place {
            None
        } else {
            self.shape.first()
        };
        match next {
            Some(Part::Run { class, min, .. }) => *min == 0 || class.contains(b),
            Some(Part::Text(text)) => text.as_bytes().first() == Some(&b),
            Some(Part::OneOf(_) | Part::Padding) | None => true,
        }
    }

    /// Bytes that the shape can take.
    pub(super) fn length(&self) -> RangeInclusive<usize> {
        let (mut low, mut high) = (0usize, 0usize);
        for part in self.shape {
            let (min, max) = match part {
                Part::Run { min, max, .. } => (*min, *max),
                Part::Text(text) => (text.len(), text.len()),
                Part::OneOf(texts) => (
                    texts.iter().map(|t| t.len()).min().unwrap_or(0),
                    texts.iter().map(|t| t.len()).max().unwrap_or(0),
                ),
                Part::Padding => (0, 2),
            };
            low = low.saturating_add(min);
            high = high.saturating_add(max);
        }
        low..=high
    }
}
