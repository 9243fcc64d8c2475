//! Where in a file the functions of a TLS library begin.

use std::fs::File;

use object::{
    Object as _, ObjectSymbol as _, SymbolKind,
    read::{ReadCache, elf::ElfFile64},
};

/// Which program belongs on a function.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Site {
    /// Entry of a function: this program.
    Entry(&'static str),
    /// Its return too.
    EntryAndReturn(&'static str),
}

/// Functions of OpenSSL, BoringSSL and GnuTLS, and what belongs on them.
const FUNCTIONS: [(&str, Site); 13] = [
    ("SSL_write", Site::EntryAndReturn("mcp_tls_write")),
    ("SSL_write_ex", Site::EntryAndReturn("mcp_tls_write_ex")),
    ("SSL_read", Site::EntryAndReturn("mcp_tls_read")),
    ("SSL_read_ex", Site::EntryAndReturn("mcp_tls_read_ex")),
    ("SSL_set_connect_state", Site::Entry("mcp_tls_client")),
    ("SSL_connect", Site::Entry("mcp_tls_client")),
    ("SSL_set_accept_state", Site::Entry("mcp_tls_server")),
    ("SSL_accept", Site::Entry("mcp_tls_server")),
    ("SSL_clear", Site::Entry("mcp_tls_free")),
    ("SSL_free", Site::Entry("mcp_tls_free")),
    ("gnutls_record_send2", Site::EntryAndReturn("mcp_tls_write")),
    ("gnutls_record_recv", Site::EntryAndReturn("mcp_tls_read")),
    ("gnutls_deinit", Site::Entry("mcp_tls_free")),
];

/// Why the TLS of a file cannot be read.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Unreadable {
    /// It has no TLS functions that could be found.
    #[error("no TLS functions are named in it")]
    NoFunctions,
    /// It is no ELF file for this machine.
    #[error("not a 64-bit ELF file")]
    NotElf,
    /// Functions of more than one library lie in it.
    #[error("{0} is in it more than once")]
    Ambiguous(&'static str),
}

/// Functions found, by place in the file.
pub(super) fn functions(file: &File) -> Result<Vec<(u64, Site)>, Unreadable> {
    let cache = ReadCache::new(file);
    let elf = ElfFile64::<object::Endianness, _>::parse(&cache).map_err(|_| Unreadable::NotElf)?;
    let mut found: Vec<(u64, Site)> = Vec::new();
    let mut seen: Vec<(&'static str, u64)> = Vec::new();
    for symbol in elf.dynamic_symbols().chain(elf.symbols()) {
        if symbol.kind() != SymbolKind::Text || symbol.is_undefined() {
            continue;
        }
        let Ok(name) = symbol.name() else { continue };
        let Some((name, site)) = FUNCTIONS.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        let Some(offset) = file_offset(&elf, symbol.address()) else {
            continue;
        };
        match seen.iter().find(|(known, _)| known == name) {
            Some((_, other)) if *other == offset => {}
            Some(_) => return Err(Unreadable::Ambiguous(name)),
            None => {
                seen.push((name, offset));
                found.push((offset, *site));
            }
        }
    }
    let carries = found
        .iter()
        .any(|(_, site)| matches!(site, Site::EntryAndReturn(_)));
    if carries {
        Ok(found)
    } else {
        Err(Unreadable::NoFunctions)
    }
}

/// The kernel wants places in the file, symbols name places in memory.
fn file_offset<'d, R: object::ReadRef<'d>>(
    elf: &ElfFile64<'d, object::Endianness, R>,
    address: u64,
) -> Option<u64> {
    use object::read::elf::ProgramHeader as _;
    let endian = elf.endian();
    elf.elf_program_headers().iter().find_map(|header| {
        let begin = header.p_vaddr(endian);
        let within = address.checked_sub(begin)?;
        (header.p_type(endian) == object::elf::PT_LOAD && within < header.p_filesz(endian))
            .then(|| header.p_offset(endian).checked_add(within))?
    })
}
