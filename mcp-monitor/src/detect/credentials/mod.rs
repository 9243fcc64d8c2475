//! Finds credentials in text, without keeping them.
//!
//! [`scan`] looks at bytes as they are, [`scan_deep`] also through one layer of JSON escapes,
//! percent-encoding, base64 or hex. Both take time in proportion to the text. What is found is a
//! kind and a place; what leaves the process is at most a [`Fingerprint`].
//!
//! A secret is found where an anchor of its format stands (a literal such as `ghp_`, or a name
//! such as `DATADOG_API_KEY =`), the shape fits, the checksum or structure is right, and it is
//! neither a sample from documentation nor too regular to be random.

mod assignment;
mod example;
mod filter;
mod fingerprint;
pub mod format;
pub mod formats;
mod header;
pub mod jwt;
mod mask;
mod matcher;
mod placeholder;
mod scanner;
mod url;
mod validate;
mod view;

pub use example::example;
pub use fingerprint::{Fingerprint, Fingerprinter};
pub use header::{CredentialUse, header_credential};
pub use mask::mask;
pub use url::{UrlCredential, url_credentials};
pub use view::{json_unescaped, percent_decoded, scan_deep};

/// A credential in a text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Hit {
    /// Name of its format.
    pub kind: &'static str,
    /// Where it begins.
    pub start: usize,
    /// Its length in bytes.
    pub len: usize,
}

impl Hit {
    /// Where it lies.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start.saturating_add(self.len)
    }
}

/// Appends the credentials that stand in `text` as it is: in order, without overlaps.
pub fn scan(text: &[u8], out: &mut Vec<Hit>) {
    scanner::scan(text, out);
}

#[cfg(test)]
#[allow(clippy::string_slice, clippy::arithmetic_side_effects)]
mod tests;
