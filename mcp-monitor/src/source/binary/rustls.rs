//! rustls, of which no function can be probed.
//!
//! Rust fixes neither how arguments are passed nor which functions remain functions. In an optimised client of
//! tokio-rustls, `Reader::read` is inlined away, plaintext leaves through `Reader::into_first_chunk`, and how that
//! returns it is the compiler's choice, by version. Reading registers on a guess would give wrong bytes; so
//! a program with rustls is said to be unreadable, and whether for want of names or of a convention.

use super::{
    Library, Unreadable,
    image::{Image, Table},
};

/// The crate's name in mangled symbols, legacy and v0: its length and itself.
const CRATE: &[u8] = b"6rustls";

/// Why a program with rustls inside cannot be read.
pub(super) fn reason(image: &Image<'_>) -> Unreadable {
    let mut named = false;
    let names = image.symbols(Table::Full, |symbol| {
        named |= memchr::memmem::find(symbol.name, CRATE).is_some();
    });
    let library = Library::Rustls;
    match names {
        Err(why) => why,
        Ok(()) if named => Unreadable::NoConvention { library },
        Ok(()) => Unreadable::Stripped { library },
    }
}
