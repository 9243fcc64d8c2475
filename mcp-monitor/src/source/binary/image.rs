//! An ELF file: segments, sections, symbols.
//!
//! Structures and constants are those of the `object` crate. Its readers want the whole file in memory or
//! cache every read; an executable has a hundred megabytes, so tables are read here a piece at a time.

use object::{
    LittleEndian as Le,
    elf::{
        self, EM_AARCH64, EM_X86_64, FileHeader64, NT_GNU_BUILD_ID, PF_X, PT_LOAD, PT_NOTE, ProgramHeader64,
        SHF_ALLOC, SHF_EXECINSTR, SHN_ABS, SHN_UNDEF, SHT_NOBITS, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE,
        SectionHeader64, Sym64, Verdaux, Verdef, Versym,
    },
    pod::{Pod, from_bytes, slice_from_all_bytes},
};

use super::{BinaryError, Contents, Unreadable};

/// Segments of a file that are looked at.
pub const MAX_SEGMENTS: usize = 256;
/// Sections of a file that are looked at; a file with more counts as malformed. Compilers that give every
/// function its section do so in object files only.
pub const MAX_SECTIONS: usize = 4096;
/// Bytes of one table that is held whole: symbol names, Go's function names.
pub const MAX_STRINGS: u64 = 64 << 20;
/// Symbols of one table.
pub const MAX_SYMBOLS: u64 = 4 << 20;
/// Bytes of a symbol's name; longer ones are passed over. Mangled names of Rust reach hundreds.
pub const MAX_NAME: usize = 2048;
/// Symbols read at a time.
const SYMBOLS_AT_ONCE: u64 = 4096;
/// Bytes of notes that are read for the build id.
const NOTES_READ: u64 = 64 << 10;

/// A machine that is supported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Machine {
    X86_64,
    Aarch64,
}

/// A part of the file that is mapped.
#[derive(Clone, Copy, Debug)]
struct Segment {
    kind: u32,
    flags: u32,
    address: u64,
    offset: u64,
    size: u64,
}

/// A named part of the file.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) name: Box<str>,
    pub(super) address: u64,
    pub(super) offset: u64,
    pub(super) size: u64,
    kind: u32,
    flags: u64,
    link: u32,
}

impl Section {
    /// Constants or data: mapped, in the file, no code.
    pub(super) fn is_data(&self) -> bool {
        let flags = self.flags;
        flags & u64::from(SHF_ALLOC) != 0 && flags & u64::from(SHF_EXECINSTR) == 0 && self.kind != SHT_NOBITS
    }

    /// What follows from a place in it on.
    pub(super) fn starting_at(&self, within: u64) -> Option<Self> {
        Some(Self {
            address: self.address.checked_add(within)?,
            offset: self.offset.checked_add(within)?,
            size: self.size.checked_sub(within)?,
            ..self.clone()
        })
    }
}

/// A function's symbol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Symbol<'a> {
    pub(super) name: &'a [u8],
    pub(super) address: u64,
    /// The address is that of a function that returns the function's address.
    pub(super) indirect: bool,
    /// An older version of the name, kept for programs linked against it.
    pub(super) outdated: bool,
}

/// Which symbol table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Table {
    /// What the dynamic linker needs; always there where symbols are exported.
    Dynamic,
    /// All symbols; gone from stripped files.
    Full,
}

/// An ELF file of a supported machine.
pub(super) struct Image<'a> {
    contents: &'a dyn Contents,
    length: u64,
    pub(super) machine: Machine,
    segments: Vec<Segment>,
    pub(super) sections: Vec<Section>,
}

impl<'a> Image<'a> {
    pub(super) fn read(contents: &'a dyn Contents) -> Result<Self, BinaryError> {
        let length = contents.length()?;
        let mut head = [0; size_of::<FileHeader64<Le>>()];
        if length < head.len() as u64 {
            return Err(BinaryError::NotElf);
        }
        contents.fill(0, &mut head)?;
        let (header, _) = from_bytes::<FileHeader64<Le>>(&head).map_err(|()| BinaryError::NotElf)?;
        if header.e_ident.magic != elf::ELFMAG {
            return Err(BinaryError::NotElf);
        }
        let machine = header.e_machine.get(Le);
        let wide = header.e_ident.class == elf::ELFCLASS64 && header.e_ident.data == elf::ELFDATA2LSB;
        let machine = match machine {
            EM_X86_64 if wide => Machine::X86_64,
            EM_AARCH64 if wide => Machine::Aarch64,
            _ => return Err(BinaryError::Machine(machine)),
        };
        let mut image = Self {
            contents,
            length,
            machine,
            segments: Vec::new(),
            sections: Vec::new(),
        };
        image.segments = image.read_segments(header)?;
        image.sections = image.read_sections(header)?;
        Ok(image)
    }

    fn read_segments(&self, header: &FileHeader64<Le>) -> Result<Vec<Segment>, BinaryError> {
        let count = usize::from(header.e_phnum.get(Le));
        if count > MAX_SEGMENTS {
            return Err(BinaryError::Malformed("too many program headers"));
        }
        let bytes = self.table::<ProgramHeader64<Le>>(
            header.e_phoff.get(Le),
            count,
            header.e_phentsize.get(Le),
            "program headers",
        )?;
        let headers = slice_from_all_bytes(&bytes).map_err(|()| BinaryError::Malformed("program headers"))?;
        Ok(headers
            .iter()
            .map(|header: &ProgramHeader64<Le>| Segment {
                kind: header.p_type.get(Le),
                flags: header.p_flags.get(Le),
                address: header.p_vaddr.get(Le),
                offset: header.p_offset.get(Le),
                size: header.p_filesz.get(Le),
            })
            .collect())
    }

    fn read_sections(&self, header: &FileHeader64<Le>) -> Result<Vec<Section>, BinaryError> {
        let count = usize::from(header.e_shnum.get(Le));
        if count > MAX_SECTIONS {
            return Err(BinaryError::Malformed("too many section headers"));
        }
        let bytes = self.table::<SectionHeader64<Le>>(
            header.e_shoff.get(Le),
            count,
            header.e_shentsize.get(Le),
            "section headers",
        )?;
        let headers: &[SectionHeader64<Le>] =
            slice_from_all_bytes(&bytes).map_err(|()| BinaryError::Malformed("section headers"))?;
        let names = match headers.get(usize::from(header.e_shstrndx.get(Le))) {
            Some(names) => self
                .piece(names.sh_offset.get(Le), names.sh_size.get(Le).min(1 << 20))
                .ok_or(BinaryError::Malformed("section names"))?,
            None => Vec::new(),
        };
        let name = |offset| String::from_utf8_lossy(text(&names, offset).unwrap_or_default()).into();
        Ok(headers
            .iter()
            .map(|header| Section {
                name: name(header.sh_name.get(Le)),
                address: header.sh_addr.get(Le),
                offset: header.sh_offset.get(Le),
                size: header.sh_size.get(Le),
                kind: header.sh_type.get(Le),
                flags: header.sh_flags.get(Le),
                link: header.sh_link.get(Le),
            })
            .collect())
    }

    /// The bytes of a table of headers, whose entries must have the size they are known to have.
    fn table<T: Pod>(
        &self,
        offset: u64,
        count: usize,
        entry: u16,
        what: &'static str,
    ) -> Result<Vec<u8>, BinaryError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if usize::from(entry) != size_of::<T>() {
            return Err(BinaryError::Malformed(what));
        }
        let size = count.saturating_mul(size_of::<T>()) as u64;
        self.piece(offset, size).ok_or(BinaryError::Malformed(what))
    }

    /// A piece of the file, at most [`MAX_STRINGS`] long; `None` where the file is not so long.
    pub(super) fn piece(&self, offset: u64, size: u64) -> Option<Vec<u8>> {
        if size > MAX_STRINGS || offset.checked_add(size)? > self.length {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        self.contents.fill(offset, &mut bytes).ok()?;
        Some(bytes)
    }

    /// A whole section.
    pub(super) fn section(&self, section: &Section, what: &'static str) -> Result<Vec<u8>, Unreadable> {
        if section.size > MAX_STRINGS {
            return Err(Unreadable::TooLarge {
                what,
                size: section.size,
                cap: MAX_STRINGS,
            });
        }
        self.piece(section.offset, section.size)
            .ok_or(Unreadable::Malformed { what })
    }

    /// The section of this name.
    pub(super) fn named(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| &*section.name == name)
    }

    /// The bytes at an address; `None` where the file does not give them.
    pub(super) fn memory(&self, address: u64, size: u64) -> Option<Vec<u8>> {
        self.segments.iter().find_map(|segment| {
            let within = address.checked_sub(segment.address)?;
            let inside = segment.kind == PT_LOAD && within.checked_add(size)? <= segment.size;
            self.piece(segment.offset.checked_add(within).filter(|_| inside)?, size)
        })
    }

    /// Where in the file the code at this address is; `None` if there is no code.
    pub(super) fn code_offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let within = address.checked_sub(segment.address)?;
            let is_code = segment.kind == PT_LOAD && segment.flags & PF_X != 0 && within < segment.size;
            let offset = segment.offset.checked_add(within)?;
            (is_code && offset < self.length).then_some(offset)
        })
    }

    /// The GNU build id.
    pub(super) fn build_id(&self) -> Option<Box<[u8]>> {
        let notes = self.segments.iter().filter(|segment| segment.kind == PT_NOTE);
        notes
            .take(8)
            .filter_map(|segment| self.piece(segment.offset, segment.size.min(NOTES_READ)))
            .find_map(|notes| build_id_in(&notes))
    }

    /// Calls `each` with every function that a table defines.
    pub(super) fn symbols(&self, table: Table, mut each: impl FnMut(Symbol<'_>)) -> Result<(), Unreadable> {
        let (kind, what) = match table {
            Table::Dynamic => (elf::SHT_DYNSYM, "the dynamic symbol table"),
            Table::Full => (elf::SHT_SYMTAB, "the symbol table"),
        };
        let Some(section) = self.sections.iter().find(|section| section.kind == kind) else {
            return Ok(());
        };
        let entry = size_of::<Sym64<Le>>() as u64;
        let count = section.size.checked_div(entry).unwrap_or(0);
        if count > MAX_SYMBOLS {
            return Err(Unreadable::TooLarge {
                what,
                size: section.size,
                cap: MAX_SYMBOLS.saturating_mul(entry),
            });
        }
        let names = usize::try_from(section.link)
            .ok()
            .and_then(|link| self.sections.get(link))
            .ok_or(Unreadable::Malformed { what })?;
        let names = self.section(names, "the names of the symbols")?;
        let versions = match table {
            Table::Dynamic => self.versions(),
            Table::Full => Vec::new(),
        };
        let versions: &[Versym<Le>] = slice_from_all_bytes(&versions).unwrap_or_default();
        let mut done = 0_u64;
        while done < count {
            let some = count.saturating_sub(done).min(SYMBOLS_AT_ONCE);
            let bytes = done
                .checked_mul(entry)
                .and_then(|start| section.offset.checked_add(start))
                .and_then(|offset| self.piece(offset, some.saturating_mul(entry)))
                .ok_or(Unreadable::Malformed { what })?;
            let symbols: &[Sym64<Le>] =
                slice_from_all_bytes(&bytes).map_err(|()| Unreadable::Malformed { what })?;
            for (index, symbol) in (done..).zip(symbols) {
                let version = usize::try_from(index).ok().and_then(|index| versions.get(index));
                if let Some(symbol) = function(symbol, &names, version) {
                    each(symbol);
                }
            }
            done = done.saturating_add(some);
        }
        Ok(())
    }

    /// Names of the versions that a library defines for its symbols.
    pub(super) fn version_names(&self) -> Vec<String> {
        let definitions = self
            .sections
            .iter()
            .find(|section| section.kind == elf::SHT_GNU_VERDEF);
        let tables = definitions.and_then(|section| {
            let strings = self.sections.get(usize::try_from(section.link).ok()?)?;
            Some((
                self.piece(section.offset, section.size)?,
                self.piece(strings.offset, strings.size)?,
            ))
        });
        tables.map_or_else(Vec::new, |(definitions, strings)| {
            version_names(&definitions, &strings)
        })
    }

    /// The version of each dynamic symbol.
    fn versions(&self) -> Vec<u8> {
        let section = self
            .sections
            .iter()
            .find(|section| section.kind == elf::SHT_GNU_VERSYM);
        section
            .and_then(|section| self.piece(section.offset, section.size))
            .unwrap_or_default()
    }
}

/// Names in a table of version definitions; the first is the library itself.
fn version_names(mut definitions: &[u8], strings: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    // A C library that is decades old has some forty.
    for _ in 0..256 {
        let name = from_bytes::<Verdef<Le>>(definitions)
            .ok()
            .and_then(|(definition, _)| {
                let auxiliary = definitions.get(usize::try_from(definition.vd_aux.get(Le)).ok()?..)?;
                let (auxiliary, _) = from_bytes::<Verdaux<Le>>(auxiliary).ok()?;
                let name = text(strings, auxiliary.vda_name.get(Le))?;
                Some((
                    String::from_utf8_lossy(name).into_owned(),
                    definition.vd_next.get(Le),
                ))
            });
        let Some((name, next)) = name else { break };
        names.push(name);
        match usize::try_from(next)
            .ok()
            .and_then(|next| definitions.get(next..))
        {
            Some(rest) if next > 0 => definitions = rest,
            _ => break,
        }
    }
    names
}

/// What a symbol says, if it is a function that the file defines.
///
/// An undefined symbol of an executable may have an address too: that of its jump in the PLT.
fn function<'a>(symbol: &Sym64<Le>, names: &'a [u8], version: Option<&Versym<Le>>) -> Option<Symbol<'a>> {
    let section = symbol.st_shndx.get(Le);
    let kind = symbol.st_type();
    if section == SHN_UNDEF || section == SHN_ABS || ![STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE].contains(&kind) {
        return None;
    }
    Some(Symbol {
        name: text(names, symbol.st_name.get(Le))?,
        address: symbol.st_value.get(Le),
        indirect: kind == STT_GNU_IFUNC,
        outdated: version.is_some_and(|version| version.0.get(Le) & elf::VERSYM_HIDDEN != 0),
    })
}

/// The text at an offset of a table of strings, up to its NUL; `None` if it is too long or outside.
pub(super) fn text(strings: &[u8], offset: u32) -> Option<&[u8]> {
    let rest = strings.get(usize::try_from(offset).ok()?..)?;
    let rest = rest.get(..MAX_NAME.min(rest.len()))?;
    rest.get(..memchr::memchr(0, rest)?)
}

/// Finds the build id among notes: three words (name's and value's length, kind), name and value padded to 4.
fn build_id_in(mut notes: &[u8]) -> Option<Box<[u8]>> {
    // A file has a handful.
    for _ in 0..64 {
        let (header, rest) = from_bytes::<elf::NoteHeader64<Le>>(notes).ok()?;
        let (name_size, size) = (header.n_namesz.get(Le), header.n_descsz.get(Le));
        let name_end = usize::try_from(name_size.checked_next_multiple_of(4)?).ok()?;
        let size = usize::try_from(size).ok()?;
        let value_end = name_end.checked_add(size)?;
        if header.n_type.get(Le) == NT_GNU_BUILD_ID && rest.starts_with(b"GNU\0") && size <= 64 {
            return Some(rest.get(name_end..value_end)?.into());
        }
        notes = rest.get(value_end.checked_next_multiple_of(4)?..)?;
    }
    None
}
