//! Libraries with a C interface, found by the names of their functions: OpenSSL, BoringSSL, GnuTLS.

use super::{
    Function, Library, Plan, Probe, ProbeKind, Unreadable,
    image::{Image, Symbol, Table},
};

/// A function of an interface.
struct Name {
    symbol: &'static str,
    function: Function,
    /// Without it nothing can be read.
    needed: bool,
}

const fn needed(symbol: &'static str, function: Function) -> Name {
    Name {
        symbol,
        function,
        needed: true,
    }
}

const fn other(symbol: &'static str, function: Function) -> Name {
    Name {
        symbol,
        function,
        needed: false,
    }
}

/// OpenSSL's, which BoringSSL has as well except for the `_ex` forms.
///
/// `SSL_write_early_data` and its peer call the `_ex` forms and need no probe; `SSL_peek` would give the same
/// bytes twice.
const OPENSSL: &[Name] = &[
    needed("SSL_read", Function::Read),
    needed("SSL_write", Function::Write),
    other("SSL_read_ex", Function::ReadEx),
    other("SSL_write_ex", Function::WriteEx),
    other("SSL_write_ex2", Function::WriteEx),
    other("SSL_do_handshake", Function::Handshake),
    other("SSL_connect", Function::Handshake),
    other("SSL_accept", Function::Handshake),
    other("SSL_shutdown", Function::Shutdown),
    other("SSL_free", Function::Free),
    other("SSL_set_fd", Function::SetFd),
    other("SSL_set_rfd", Function::SetReadFd),
    other("SSL_set_wfd", Function::SetWriteFd),
];

/// GnuTLS's. `gnutls_transport_set_int` is a macro over the form with two; the datagram and file forms are
/// left out, no HTTP client uses them.
const GNUTLS: &[Name] = &[
    needed("gnutls_record_recv", Function::Read),
    needed("gnutls_record_send", Function::Write),
    other("gnutls_record_recv_seq", Function::Read),
    other("gnutls_record_send2", Function::Write),
    other("gnutls_record_send_range", Function::Write),
    other("gnutls_handshake", Function::Handshake),
    other("gnutls_bye", Function::Shutdown),
    other("gnutls_deinit", Function::Free),
    other("gnutls_transport_set_int2", Function::SetFd),
    other("gnutls_transport_set_ptr", Function::SetTransport),
    other("gnutls_transport_set_ptr2", Function::SetTransport),
];

/// What only BoringSSL and its descendants have.
const BORINGSSL_ONLY: &[u8] = b"SSL_CTX_set_grease_enabled";

/// Plans by the dynamic symbols, or else by all symbols; empty where the file defines no such function.
pub(super) fn plans(image: &Image<'_>) -> Result<Vec<Result<Plan, Unreadable>>, Unreadable> {
    let found = Found::read(image, Table::Dynamic)?;
    let found = if found.is_empty() {
        Found::read(image, Table::Full)?
    } else {
        found
    };
    let openssl = if found.boringssl {
        Library::BoringSsl
    } else {
        Library::OpenSsl
    };
    let interfaces = [
        (openssl, OPENSSL, &found.openssl),
        (Library::GnuTls, GNUTLS, &found.gnutls),
    ];
    Ok(interfaces
        .into_iter()
        .filter(|(.., places)| places.iter().any(|places| !places.is_empty()))
        .map(|(library, names, places)| plan(image, library, names, places))
        .collect())
}

/// A place that a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    address: u64,
    indirect: bool,
    outdated: bool,
}

/// Places for each name of the interfaces.
struct Found {
    openssl: Vec<Vec<Place>>,
    gnutls: Vec<Vec<Place>>,
    boringssl: bool,
}

impl Found {
    fn read(image: &Image<'_>, table: Table) -> Result<Self, Unreadable> {
        let mut found = Self {
            openssl: vec![Vec::new(); OPENSSL.len()],
            gnutls: vec![Vec::new(); GNUTLS.len()],
            boringssl: false,
        };
        image.symbols(table, |symbol| found.take(&symbol))?;
        Ok(found)
    }

    fn take(&mut self, symbol: &Symbol<'_>) {
        let (names, places) = if symbol.name.starts_with(b"SSL_") {
            self.boringssl |= symbol.name == BORINGSSL_ONLY;
            (OPENSSL, &mut self.openssl)
        } else if symbol.name.starts_with(b"gnutls_") {
            (GNUTLS, &mut self.gnutls)
        } else {
            return;
        };
        let name = names
            .iter()
            .position(|name| name.symbol.as_bytes() == symbol.name);
        let Some(places) = name.and_then(|name| places.get_mut(name)) else {
            return;
        };
        let place = Place {
            address: symbol.address,
            indirect: symbol.indirect,
            outdated: symbol.outdated,
        };
        // Two are enough to be ambiguous; a hostile table may have millions.
        if places.len() < 16 && !places.contains(&place) {
            places.push(place);
        }
    }

    fn is_empty(&self) -> bool {
        self.openssl.iter().chain(&self.gnutls).all(Vec::is_empty)
    }
}

fn plan(
    image: &Image<'_>,
    library: Library,
    names: &[Name],
    places: &[Vec<Place>],
) -> Result<Plan, Unreadable> {
    let mut probes = Vec::new();
    for (name, places) in names.iter().zip(places) {
        match offset(image, library, name.symbol, places) {
            Ok(file_offset) => probes.extend(kinds(name.function).iter().map(|kind| Probe {
                function: name.function,
                symbol: name.symbol,
                file_offset,
                kind: *kind,
            })),
            Err(why) if name.needed => return Err(why),
            Err(_) => {}
        }
    }
    probes.sort_by_key(|probe| (probe.file_offset, probe.kind));
    // Several names of one function; or two functions whose code a linker found to be the same.
    for pair in probes.windows(2) {
        if let [one, other] = pair
            && (one.file_offset, one.kind) == (other.file_offset, other.kind)
            && one.function != other.function
        {
            return Err(Unreadable::Ambiguous {
                library,
                symbol: one.symbol,
                places: 2,
            });
        }
    }
    probes.dedup_by_key(|probe| (probe.file_offset, probe.kind));
    Ok(Plan {
        library,
        version: abi_version(image, library),
        probes,
    })
}

/// The newest version that a library gives its symbols: `OPENSSL_3.2.0` is 3.2.0.
fn abi_version(image: &Image<'_>, library: Library) -> Option<Box<str>> {
    let prefix = match library {
        Library::OpenSsl => "OPENSSL_",
        Library::GnuTls => "GNUTLS_",
        _ => return None,
    };
    let numbers =
        |version: &str| -> Option<Vec<u32>> { version.split('.').map(|part| part.parse().ok()).collect() };
    image
        .version_names()
        .iter()
        .filter_map(|name| name.strip_prefix(prefix))
        .map(|version| version.replace('_', "."))
        .filter_map(|version| Some((numbers(&version)?, version)))
        .max()
        .map(|(_, version)| version.into())
}

/// Where a name's code is in the file.
fn offset(
    image: &Image<'_>,
    library: Library,
    symbol: &'static str,
    places: &[Place],
) -> Result<u64, Unreadable> {
    let mut current = places.iter().filter(|place| !place.outdated);
    let place = match (current.next(), current.count(), places) {
        (Some(place), 0, _) | (None, _, [place]) => place,
        (None, _, []) => return Err(Unreadable::Missing { library, symbol }),
        _ => {
            return Err(Unreadable::Ambiguous {
                library,
                symbol,
                places: places.len(),
            });
        }
    };
    if place.indirect {
        return Err(Unreadable::Indirect { library, symbol });
    }
    image
        .code_offset(place.address)
        .ok_or(Unreadable::OutsideCode { library, symbol })
}

/// Probes that a C function needs.
const fn kinds(function: Function) -> &'static [ProbeKind] {
    match function {
        Function::Read | Function::ReadEx | Function::Write | Function::WriteEx | Function::Handshake => {
            &[ProbeKind::Entry, ProbeKind::Return]
        }
        Function::HelloSent
        | Function::HelloReceived
        | Function::Shutdown
        | Function::Free
        | Function::SetFd
        | Function::SetReadFd
        | Function::SetWriteFd
        | Function::SetTransport => &[ProbeKind::Entry],
    }
}
