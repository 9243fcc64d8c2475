//! The table of a Go program's functions, `runtime.pclntab` (`debug/gosym`).

use memchr::memmem;

use super::super::{
    Library, MAX_SCANNED, Unreadable,
    image::{Image, MAX_STRINGS, Section},
};

/// Functions of a program.
pub const MAX_FUNCTIONS: u64 = 2 << 20;
/// Bytes of descriptions read at a time.
const WINDOW: u64 = 1 << 20;
/// What a description begins with: entry and name.
const DESCRIPTION: u64 = 12;
const WHAT: &str = "the table of Go's functions";

/// The first words of the table, by version.
const GO_1_16: u32 = 0xffff_fffa;
const GO_1_18: u32 = 0xffff_fff0;
const GO_1_20: u32 = 0xffff_fff1;

/// A function that was looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Function {
    /// Address, or offset from `runtime.text`.
    pub(super) entry: u64,
    /// Bytes up to the next function, padding included.
    pub(super) size: u64,
}

/// What the table says.
#[derive(Debug)]
pub(super) struct Functions {
    /// In the order of the names asked for.
    pub(super) found: Vec<Option<Function>>,
    /// Entries are addresses.
    pub(super) absolute: bool,
    /// Else: what they count from, where the table says; 0 where it does not.
    pub(super) text_start: u64,
    /// Written by Go 1.16 or 1.17.
    pub(super) before_1_18: bool,
}

impl Functions {
    /// Looks for functions by their names.
    pub(super) fn read(
        image: &Image<'_>,
        section: &Section,
        names: &[&'static str],
    ) -> Result<Self, Unreadable> {
        let table = Table::read(image, section).ok_or(MALFORMED)??;
        let offsets = table.name_offsets(names)?;
        let mut functions = Self {
            found: vec![None; names.len()],
            absolute: table.old,
            text_start: table.text_start,
            before_1_18: table.old,
        };
        if offsets.iter().any(Option::is_some) {
            table
                .find(names, &offsets, &mut functions.found)
                .ok_or(MALFORMED)??;
        }
        Ok(functions)
    }
}

const MALFORMED: Unreadable = Unreadable::Malformed { what: WHAT };

/// Where the table is: in a section of its own, or, where another linker than Go's put the program together,
/// somewhere in the constants.
pub(super) fn locate(image: &Image<'_>) -> Option<Section> {
    let named = [".gopclntab", ".data.rel.ro.gopclntab"]
        .iter()
        .find_map(|name| image.named(name));
    if named.is_some() {
        return named.cloned();
    }
    let starts =
        [GO_1_16, GO_1_18, GO_1_20].map(|magic| memmem::Finder::new(&magic.to_le_bytes()).into_owned());
    let mut budget = MAX_SCANNED;
    for section in image.sections.iter().filter(|section| section.is_data()) {
        let mut done = 0;
        while done < section.size && budget > 0 {
            let size = section.size.saturating_sub(done).min(WINDOW);
            let piece = image.piece(section.offset.checked_add(done)?, size)?;
            // Aligned to 8 in sections that are too: pieces need no overlap.
            let table = starts
                .iter()
                .flat_map(|start| start.find_iter(&piece))
                .find_map(|place| {
                    let within = done.checked_add(place as u64)?;
                    let table = section.starting_at(within)?;
                    (within % 8 == 0 && Table::read(image, &table)?.is_ok_and(|table| table.is_plausible()))
                        .then_some(table)
                });
            if table.is_some() {
                return table;
            }
            budget = budget.saturating_sub(size);
            done = done.saturating_add(size);
        }
    }
    None
}

/// Where the parts of the table are in the file.
struct Table<'a> {
    image: &'a Image<'a>,
    old: bool,
    text_start: u64,
    functions: u64,
    /// Place and size of the names.
    names: (u64, u64),
    /// Place of the list of functions, which offsets of descriptions count from, and bytes from there.
    list: (u64, u64),
}

impl<'a> Table<'a> {
    /// `None`: it ends too early.
    fn read(image: &'a Image<'a>, section: &Section) -> Option<Result<Self, Unreadable>> {
        let head = image.piece(section.offset, 72.min(section.size))?;
        let magic = u32::from_le_bytes(*head.first_chunk()?);
        let old = match magic {
            GO_1_16 => true,
            GO_1_18 | GO_1_20 => false,
            _ => return None,
        };
        // Two zeros, the size of the shortest instruction, the size of a pointer.
        let [0, 0, 1 | 4, 8] = head.get(4..8)? else {
            return None;
        };
        let word = |index: usize| -> Option<u64> {
            let start = index.checked_mul(8)?.checked_add(8)?;
            let bytes = head.get(start..start.checked_add(8)?)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let functions = word(0)?;
        if functions > MAX_FUNCTIONS {
            return Some(Err(Unreadable::TooLarge {
                what: WHAT,
                size: functions,
                cap: MAX_FUNCTIONS,
            }));
        }
        let (text_start, names, next, list) = if old {
            (0, word(2)?, word(3)?, word(6)?)
        } else {
            (word(2)?, word(3)?, word(4)?, word(7)?)
        };
        Some(Ok(Self {
            image,
            old,
            text_start,
            functions,
            names: (section.offset.checked_add(names)?, next.checked_sub(names)?),
            list: (section.offset.checked_add(list)?, section.size.checked_sub(list)?),
        }))
    }

    /// Whether a first word found among other data is that of a table: its parts are in order and begin as they
    /// do in one.
    fn is_plausible(&self) -> bool {
        let (names, size) = self.names;
        self.functions > 0
            && size <= MAX_STRINGS
            && self.image.piece(names, 8.min(size)).is_some()
            && self.functions.saturating_mul(8) <= self.list.1
    }

    /// Where among the names these are. Each name is there once.
    fn name_offsets(&self, names: &[&'static str]) -> Result<Vec<Option<u32>>, Unreadable> {
        let (offset, size) = self.names;
        if size > MAX_STRINGS {
            return Err(Unreadable::TooLarge {
                what: WHAT,
                size,
                cap: MAX_STRINGS,
            });
        }
        let all = self.image.piece(offset, size).ok_or(MALFORMED)?;
        let place = |symbol: &&'static str| {
            let wanted = [b"\0", symbol.as_bytes(), b"\0"].concat();
            let mut places = memmem::find_iter(&all, &wanted).take(2);
            let first = places.next();
            if places.next().is_some() {
                return Err(ambiguous(symbol));
            }
            Ok(first.and_then(|place| u32::try_from(place.checked_add(1)?).ok()))
        };
        names.iter().map(place).collect()
    }

    /// Goes through the functions for those whose names are at `offsets`. `None`: the table is malformed.
    fn find(
        &self,
        names: &[&'static str],
        offsets: &[Option<u32>],
        found: &mut [Option<Function>],
    ) -> Option<Result<(), Unreadable>> {
        let (list, size) = self.list;
        let field = if self.old { 8 } else { 4 };
        // A pair for each, and the address where the last ends.
        let pairs_size = self
            .functions
            .checked_mul(2)?
            .checked_add(1)?
            .checked_mul(field)?;
        let pairs = self.image.piece(list, pairs_size)?;
        let mut fields = pairs.chunks_exact(usize::try_from(field).ok()?).map(|bytes| {
            bytes
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte))
        });
        let mut window = (0_u64, Vec::new());
        let mut entry = fields.next()?;
        for _ in 0..self.functions {
            let (description, next) = (fields.next()?, fields.next()?);
            let name = self.name_of(description, size, &mut window)?;
            if let Some(index) = offsets.iter().position(|offset| *offset == Some(name)) {
                let slot = found.get_mut(index)?;
                if slot.is_some() {
                    return names.get(index).map(|name| Err(ambiguous(name)));
                }
                *slot = Some(Function {
                    entry,
                    size: next.checked_sub(entry)?,
                });
            }
            entry = next;
        }
        Some(Ok(()))
    }

    /// Offset of the name in a function's description. Descriptions are in the order of the functions, so
    /// the file is read once; a table that goes back is malformed.
    fn name_of(&self, description: u64, size: u64, window: &mut (u64, Vec<u8>)) -> Option<u32> {
        let end = description.checked_add(DESCRIPTION)?;
        let (start, bytes) = window;
        if end > start.checked_add(bytes.len() as u64)? {
            let read = size.checked_sub(description)?.min(WINDOW);
            *bytes = self.image.piece(self.list.0.checked_add(description)?, read)?;
            *start = description;
        }
        let at = usize::try_from(description.checked_sub(*start)?).ok()?;
        // The entry is an address or a 32-bit offset.
        let at = at.checked_add(if self.old { 8 } else { 4 })?;
        let name = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(name.try_into().ok()?))
    }
}

fn ambiguous(symbol: &'static str) -> Unreadable {
    Unreadable::Ambiguous {
        library: Library::Go,
        symbol,
        places: 2,
    }
}
