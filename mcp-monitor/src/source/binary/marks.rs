//! Signs of a TLS library among a program's constants, for programs that tell nothing by name.

use memchr::memmem::Finder;

use super::{BinaryError, Library, image::Image};

/// Bytes of constants that are searched.
pub const MAX_SCANNED: u64 = 256 << 20;
/// Bytes searched at a time.
const PIECE: u64 = 1 << 20;

/// A label of TLS 1.3's key schedule (RFC 8446 §7.1): every implementation has it, and nothing else does.
const TLS13: &[u8] = b"c hs traffic";
/// What tells the implementation: names of its source files, in its error messages.
const SIGNS: &[(&[u8], Library)] = &[
    (b"ssl_lib.cc", Library::BoringSsl),
    (b"BoringSSL", Library::BoringSsl),
    (b"ssl_lib.c\0", Library::OpenSsl),
    (b"/rustls-", Library::Rustls),
    (b"gnutls", Library::GnuTls),
];
/// Pieces overlap by so much, so that a sign on a border is seen.
const OVERLAP: u64 = 64;

/// Which signs were seen.
#[derive(Default)]
pub(super) struct Marks {
    tls13: bool,
    library: Option<Library>,
}

impl Marks {
    /// Searches the constants and data of a program, in the order of the file.
    pub(super) fn scan(image: &Image<'_>) -> Result<Self, BinaryError> {
        let tls13 = Finder::new(TLS13);
        let signs: Vec<_> = SIGNS
            .iter()
            .map(|(sign, library)| (Finder::new(sign), *library))
            .collect();
        let mut marks = Self::default();
        let mut budget = MAX_SCANNED;
        for section in image.sections.iter().filter(|section| section.is_data()) {
            let mut done = 0;
            while done < section.size && budget > 0 {
                let size = section.size.saturating_sub(done).min(PIECE);
                let piece = section
                    .offset
                    .checked_add(done)
                    .and_then(|offset| image.piece(offset, size))
                    .ok_or(BinaryError::Malformed("a section lies outside the file"))?;
                marks.tls13 |= tls13.find(&piece).is_some();
                // The first of the list that is there, wherever it is.
                let rank = |library| signs.iter().position(|(_, other)| *other == library);
                let seen = signs.iter().find(|(sign, _)| sign.find(&piece).is_some());
                if let Some((_, library)) = seen
                    && marks.library.is_none_or(|known| rank(*library) < rank(known))
                {
                    marks.library = Some(*library);
                }
                budget = budget.saturating_sub(size);
                done = done.saturating_add(if size < PIECE {
                    size
                } else {
                    PIECE.saturating_sub(OVERLAP)
                });
            }
        }
        Ok(marks)
    }

    /// The library that is inside, if any.
    pub(super) fn library(&self) -> Option<Library> {
        self.tls13.then(|| self.library.unwrap_or(Library::Unknown))
    }
}
