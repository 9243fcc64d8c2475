//! `crypto/tls` of the Go standard library.
//!
//! Go programs keep a table of all functions, for their stack traces, also when stripped. Arguments
//! and results are in registers from Go 1.17 on, on 64-bit ARM from 1.18: on entry of `(*Conn).Write(b)` the
//! connection is in the first, the slice's pointer, length and capacity in the three after it; on return the
//! count is in the first, the error in the two after it. On x86 these are RAX, RBX, RCX, RDI; on ARM X0 to X3.
//!
//! A goroutine's stack moves, so a return probe, which rewrites the return address, would crash the program:
//! probes sit on the return instructions. A goroutine may return on another thread than it entered on; it
//! is told by the register that holds it (R14 on x86, X28 on ARM).
//!
//! No offset of Go's structures is assumed. A connection is told by its ClientHello, which the goroutine that
//! shakes hands writes or reads as the bytes that go over the wire.

mod build;
mod pclntab;
mod returns;

use self::pclntab::{Function as Found, Functions};
pub use self::{
    pclntab::MAX_FUNCTIONS,
    returns::{MAX_CODE, MAX_RETURNS},
};
use super::{
    Function, Library, Plan, Probe, ProbeKind, Unreadable,
    image::{Image, Machine},
};

/// Functions of interest; without the first two nothing can be read, without the others less is known of it.
const NAMES: &[(&str, Function)] = &[
    ("crypto/tls.(*Conn).Read", Function::Read),
    ("crypto/tls.(*Conn).Write", Function::Write),
    ("crypto/tls.(*Conn).Close", Function::Shutdown),
    ("crypto/tls.(*Conn).clientHandshake", Function::Handshake),
    ("crypto/tls.(*Conn).serverHandshake", Function::Handshake),
    ("crypto/tls.(*clientHelloMsg).marshal", Function::HelloSent),
    ("crypto/tls.(*clientHelloMsg).unmarshal", Function::HelloReceived),
];
const NEEDED: usize = 2;

/// The plan for a Go program; `None` for others, and for Go programs without TLS.
pub(super) fn plan(image: &Image<'_>) -> Result<Option<Plan>, Unreadable> {
    if image.named(".go.buildinfo").is_none() && image.named(".gopclntab").is_none() {
        return Ok(None);
    }
    let library = Library::Go;
    let table = pclntab::locate(image).ok_or(Unreadable::Stripped { library })?;
    let names: Vec<&'static str> = NAMES.iter().map(|(name, _)| *name).collect();
    let functions = Functions::read(image, &table, &names)?;
    if functions.found.iter().all(Option::is_none) {
        return Ok(None);
    }
    let version = build::version(image);
    require_registers(image.machine, version.as_deref(), functions.before_1_18)?;
    let missing = functions.found.iter().take(NEEDED).position(Option::is_none);
    if let Some((symbol, _)) = missing.and_then(|index| NAMES.get(index)) {
        return Err(Unreadable::Missing { library, symbol });
    }
    let text = text_start(image, &functions)?;
    let mut probes = Vec::new();
    for (index, ((symbol, function), found)) in NAMES.iter().zip(&functions.found).enumerate() {
        let Some(found) = found else { continue };
        match place(image, text, symbol, *function, *found) {
            Ok(places) => probes.extend(places),
            Err(why) if index < NEEDED => return Err(why),
            Err(_) => {}
        }
    }
    probes.sort_by_key(|probe| (probe.file_offset, probe.kind));
    Ok(Some(Plan {
        library,
        version,
        probes,
    }))
}

/// Refuses toolchains that pass arguments on the stack.
fn require_registers(machine: Machine, version: Option<&str>, before_1_18: bool) -> Result<(), Unreadable> {
    let minor = version.and_then(|version| {
        let rest = version.strip_prefix("1.")?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse::<u32>().ok()
    });
    let first = match machine {
        Machine::X86_64 => 17,
        Machine::Aarch64 => 18,
    };
    // A development version says no number; its table then tells whether it is old.
    if minor.map_or(before_1_18, |minor| minor < first) {
        return Err(Unreadable::OldGo {
            version: version.unwrap_or("1.17 or older").into(),
        });
    }
    Ok(())
}

/// The address that the table's offsets count from: `runtime.text`.
///
/// Until 1.25 the table says it, but position-independent programs need a relocation there; from 1.26 on the
/// module data does. With C inside, `.text` begins before it. Each candidate is held against
/// how Go functions begin.
fn text_start(image: &Image<'_>, functions: &Functions) -> Result<u64, Unreadable> {
    /// Offset of `text` in `runtime.moduledata`, which is its own section since 1.26.
    const MODULE_TEXT: u64 = 176;
    if functions.absolute {
        return Ok(0);
    }
    let module = image.named(".go.module").and_then(|section| {
        let word = image.memory(section.address.checked_add(MODULE_TEXT)?, 8)?;
        Some(u64::from_le_bytes(word.try_into().ok()?))
    });
    let section = image.named(".text").map(|section| section.address);
    let begins = |start: u64| {
        let mut found = functions.found.iter().flatten();
        found.all(|function| {
            let code = start
                .checked_add(function.entry)
                .and_then(|address| image.memory(address, returns::PROLOGUE));
            code.is_some_and(|code| returns::begins_function(image.machine, &code))
        })
    };
    [Some(functions.text_start), module, section]
        .into_iter()
        .flatten()
        .find(|start| *start > 0 && begins(*start))
        .ok_or(Unreadable::Code {
            library: Library::Go,
            symbol: NAMES.first().map_or("", |(name, _)| name),
        })
}

/// Probes of one function.
fn place(
    image: &Image<'_>,
    text: u64,
    symbol: &'static str,
    function: Function,
    found: Found,
) -> Result<Vec<Probe>, Unreadable> {
    let library = Library::Go;
    let misunderstood = Unreadable::Code { library, symbol };
    let entry = text
        .checked_add(found.entry)
        .ok_or_else(|| misunderstood.clone())?;
    let at = |address: u64| {
        image
            .code_offset(address)
            .ok_or(Unreadable::OutsideCode { library, symbol })
    };
    let probe = |file_offset, kind| Probe {
        function,
        symbol,
        file_offset,
        kind,
    };
    let (entered, returned) = match function {
        Function::Read | Function::Write => (true, true),
        Function::HelloSent => (false, true),
        _ => (true, false),
    };
    let mut probes = Vec::new();
    if entered {
        probes.push(probe(at(entry)?, ProbeKind::Entry));
    }
    if !returned {
        return Ok(probes);
    }
    let code = image
        .memory(entry, found.size)
        .filter(|code| returns::begins_function(image.machine, code));
    let sites = code
        .and_then(|code| returns::sites(image.machine, &code))
        .ok_or(misunderstood)?;
    for site in sites {
        probes.push(probe(at(entry.saturating_add(site))?, ProbeKind::ReturnSite));
    }
    Ok(probes)
}
