//! Against the real libraries of the machine, and against ELF files that lie.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

/// A library by its soname, where this machine has it.
fn library(soname: &str) -> Option<PathBuf> {
    [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ]
    .iter()
    .map(|folder| Path::new(folder).join(soname))
    .find(|path| path.exists())
}

fn examined(path: &Path) -> Examined {
    examine(&open(path).unwrap()).unwrap()
}

/// Functions and kinds of the probes that a name has.
fn probes(plan: &Plan, symbol: &str) -> Vec<(Function, ProbeKind)> {
    let probes = plan.probes.iter().filter(|probe| probe.symbol == symbol);
    probes.map(|probe| (probe.function, probe.kind)).collect()
}

#[test]
fn the_machines_openssl_is_found_and_its_other_half_is_not() {
    let Some(path) = library("libssl.so.3") else {
        return;
    };
    let found = examined(&path);
    let [plan] = &found.plans[..] else {
        panic!("{found:?}")
    };
    assert_eq!(plan.library, Library::OpenSsl);
    assert!(
        plan.version
            .as_deref()
            .is_some_and(|version| version.starts_with("3."))
    );
    let both = |function| vec![(function, ProbeKind::Entry), (function, ProbeKind::Return)];
    assert_eq!(probes(plan, "SSL_read"), both(Function::Read));
    assert_eq!(probes(plan, "SSL_write_ex"), both(Function::WriteEx));
    assert_eq!(probes(plan, "SSL_free"), [(Function::Free, ProbeKind::Entry)]);
    assert!(found.build_id.is_some_and(|id| id.len() == 20));
    let crypto = examined(&library("libcrypto.so.3").unwrap());
    assert!(
        crypto.plans.is_empty() && crypto.unreadable.is_empty(),
        "{crypto:?}"
    );
}

#[test]
fn the_machines_gnutls_is_found() {
    let Some(path) = library("libgnutls.so.30") else {
        return;
    };
    let found = examined(&path);
    let [plan] = &found.plans[..] else {
        panic!("{found:?}")
    };
    assert_eq!(plan.library, Library::GnuTls);
    assert!(
        plan.version
            .as_deref()
            .is_some_and(|version| version.starts_with("3."))
    );
    for needed in [
        "gnutls_record_recv",
        "gnutls_record_send",
        "gnutls_deinit",
        "gnutls_transport_set_int2",
    ] {
        assert!(!probes(plan, needed).is_empty(), "{needed}");
    }
}

/// What an ELF file of a test says of a symbol.
#[derive(Clone, Debug)]
struct Sym {
    name: &'static str,
    address: u64,
    kind: u8,
    section: u16,
    hidden: bool,
}

fn sym(name: &'static str, address: u64) -> Sym {
    Sym {
        name,
        address,
        kind: object::elf::STT_FUNC,
        section: 1,
        hidden: false,
    }
}

/// Code begins at this address, which is not its place in the file.
const CODE: u64 = 0x40_1000;
const CODE_OFFSET: u64 = 0x1000;
const CODE_SIZE: u64 = 0x400;

/// A small executable: one segment of code, a table of symbols, constants.
fn elf(symbols: &[Sym], constants: &[u8]) -> Vec<u8> {
    elf_with(symbols, &[(".rodata", constants)], b"")
}

/// The same with sections of constants by name, and with code.
fn elf_with(symbols: &[Sym], constants: &[(&str, &[u8])], code: &[u8]) -> Vec<u8> {
    let mut strings = vec![0];
    let mut table = vec![0; 24];
    let mut versions = vec![0; 2];
    for symbol in symbols {
        table.extend((strings.len() as u32).to_le_bytes());
        table.extend([symbol.kind | 0x10, 0]);
        table.extend(symbol.section.to_le_bytes());
        table.extend(symbol.address.to_le_bytes());
        table.extend(16_u64.to_le_bytes());
        strings.extend(symbol.name.as_bytes());
        strings.push(0);
        versions.extend((2 | if symbol.hidden { 0x8000_u16 } else { 0 }).to_le_bytes());
    }
    let mut names = b"\0.text\0.dynsym\0.dynstr\0.gnu.version\0.shstrtab\0".to_vec();
    for (label, _) in constants {
        names.extend(label.as_bytes());
        names.push(0);
    }
    let name = |name: &str| {
        let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
        memchr::memmem::find(&names, &wanted).unwrap() as u32 + 1
    };
    let mut file = vec![0; (CODE_OFFSET + CODE_SIZE) as usize];
    file[CODE_OFFSET as usize..][..code.len()].copy_from_slice(code);
    let mut sections = vec![[0; 64]];
    let mut section =
        |file: &mut Vec<u8>, label: &str, kind: u32, flags: u64, link: u32, bytes: Option<&[u8]>| {
            let (offset, size, address) = match bytes {
                Some(bytes) => (file.len() as u64, bytes.len() as u64, 0),
                None => (CODE_OFFSET, CODE_SIZE, CODE),
            };
            file.extend(bytes.unwrap_or_default());
            let mut header = Vec::new();
            header.extend(name(label).to_le_bytes());
            header.extend(kind.to_le_bytes());
            for field in [flags, address, offset, size] {
                header.extend(field.to_le_bytes());
            }
            header.extend(link.to_le_bytes());
            header.resize(64, 0);
            sections.push(header.try_into().unwrap());
        };
    section(&mut file, ".text", 1, 6, 0, None);
    section(&mut file, ".dynsym", 11, 2, 3, Some(&table));
    section(&mut file, ".dynstr", 3, 2, 0, Some(&strings));
    section(&mut file, ".gnu.version", 0x6fff_ffff, 2, 2, Some(&versions));
    for (label, bytes) in constants {
        section(&mut file, label, 1, 2, 0, Some(bytes));
    }
    section(&mut file, ".shstrtab", 3, 0, 0, Some(&names));
    let sections_offset = file.len() as u64;
    let count = sections.len() as u16;
    file.extend(sections.concat());
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    head.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for field in [CODE, 64, sections_offset] {
        head.extend(field.to_le_bytes());
    }
    head.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0]);
    head.extend(count.to_le_bytes());
    head.extend((count - 1).to_le_bytes());
    // PT_LOAD, readable and executable.
    head.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for field in [CODE_OFFSET, CODE, CODE, CODE_SIZE, CODE_SIZE, 0x1000] {
        head.extend(field.to_le_bytes());
    }
    file[..head.len()].copy_from_slice(&head);
    file
}

fn openssl() -> Vec<Sym> {
    vec![sym("SSL_read", CODE), sym("SSL_write", CODE + 0x40)]
}

/// The only thing that an ELF file with these symbols has to say.
fn verdict(symbols: &[Sym]) -> Result<Plan, Unreadable> {
    let found = examine(&elf(symbols, b"")).unwrap();
    match (&found.plans[..], &found.unreadable[..]) {
        ([plan], []) => Ok(plan.clone()),
        ([], [why]) => Err(why.clone()),
        _ => panic!("{found:?}"),
    }
}

#[test]
fn addresses_become_places_in_the_file() {
    let plan = verdict(&openssl()).unwrap();
    let places: Vec<_> = plan
        .probes
        .iter()
        .map(|probe| (probe.symbol, probe.file_offset))
        .collect();
    assert_eq!(
        places,
        [
            ("SSL_read", CODE_OFFSET),
            ("SSL_read", CODE_OFFSET),
            ("SSL_write", CODE_OFFSET + 0x40),
            ("SSL_write", CODE_OFFSET + 0x40)
        ]
    );
}

#[test]
fn imported_functions_are_not_the_programs_own() {
    // An executable that is not position independent gives an import the address of its PLT entry.
    let mut symbols = openssl();
    symbols.iter_mut().for_each(|symbol| symbol.section = 0);
    let found = examine(&elf(&symbols, b"")).unwrap();
    assert_eq!(found, Examined::default());
}

#[test]
fn what_cannot_be_placed_is_refused_with_the_reason() {
    let library = Library::OpenSsl;
    let mut twice = openssl();
    twice.push(sym("SSL_read", CODE + 0x80));
    let symbol = "SSL_read";
    assert_eq!(
        verdict(&twice),
        Err(Unreadable::Ambiguous {
            library,
            symbol,
            places: 2
        })
    );
    twice[2].hidden = true;
    assert!(
        verdict(&twice).is_ok(),
        "an older version of the name is another function"
    );

    let mut indirect = openssl();
    indirect[0].kind = object::elf::STT_GNU_IFUNC;
    assert_eq!(verdict(&indirect), Err(Unreadable::Indirect { library, symbol }));

    let mut outside = openssl();
    outside[0].address = CODE + CODE_SIZE;
    assert_eq!(
        verdict(&outside),
        Err(Unreadable::OutsideCode { library, symbol })
    );

    assert_eq!(
        verdict(&openssl()[..1]),
        Err(Unreadable::Missing {
            library,
            symbol: "SSL_write"
        })
    );

    let mut folded = openssl();
    folded[1].address = CODE;
    assert!(
        matches!(verdict(&folded), Err(Unreadable::Ambiguous { .. })),
        "two functions at one place"
    );
}

#[test]
fn boringssl_is_told_by_what_only_it_has() {
    let mut symbols = openssl();
    symbols.push(sym("SSL_CTX_set_grease_enabled", CODE + 0x80));
    assert_eq!(verdict(&symbols).unwrap().library, Library::BoringSsl);
}

#[test]
fn a_library_without_names_is_said_to_be_there() {
    let cases: [(&[u8], Library); 3] = [
        (b"c hs traffic\0../ssl/ssl_lib.c\0", Library::OpenSsl),
        (
            b"external/boringssl/ssl/ssl_lib.cc\0c hs traffic\0",
            Library::BoringSsl,
        ),
        (b"c hs traffic", Library::Unknown),
    ];
    for (constants, library) in cases {
        let found = examine(&elf(&[], constants)).unwrap();
        assert_eq!(found.unreadable, [Unreadable::Stripped { library }]);
    }
    assert_eq!(examine(&elf(&[], b"ssl_lib.c\0")).unwrap(), Examined::default());
}

#[test]
fn rustls_is_refused_with_or_without_names() {
    let constants = b"c hs traffic\0rustls-0.23.46/src/conn.rs\0/rustls-0.23.46/";
    let library = Library::Rustls;
    let why = |file: Vec<u8>| examine(&file).unwrap().unreadable;
    assert_eq!(why(elf(&[], constants)), [Unreadable::Stripped { library }]);
    let legacy = "_ZN6rustls4conn10connection6Reader16into_first_chunk17h569ebe77316426e5E";
    let full = [(".rodata", &constants[..])];
    let named = |name| {
        let mut file = elf_with(&[sym(name, CODE)], &full, b"");
        // The table of all symbols, not the dynamic one.
        let kind = memchr::memmem::find(&file, &[11, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        file[kind] = 2;
        file
    };
    assert_eq!(why(named(legacy)), [Unreadable::NoConvention { library }]);
    let v0 = "_RNvMNtNtCs1_6rustls4conn10connectionNtB2_6Reader16into_first_chunk";
    assert_eq!(why(named(v0)), [Unreadable::NoConvention { library }]);
    assert_eq!(why(named("main")), [Unreadable::Stripped { library }]);
}

#[test]
fn a_sign_on_the_border_of_two_reads_is_seen() {
    let mut constants = vec![b'x'; (1 << 20) - 6];
    constants.extend(b"c hs traffic");
    constants.extend(vec![b'x'; 4096]);
    let found = examine(&elf(&[], &constants)).unwrap();
    assert_eq!(
        found.unreadable,
        [Unreadable::Stripped {
            library: Library::Unknown
        }]
    );
}

#[test]
fn what_is_no_executable_of_this_machine_is_an_error() {
    assert!(matches!(
        examine(&b"#!/bin/sh".to_vec()),
        Err(BinaryError::NotElf)
    ));
    let mut other = elf(&[], b"");
    other[18] = 40;
    assert!(matches!(examine(&other), Err(BinaryError::Machine(40))));
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(open(folder.path()), Err(BinaryError::NotAFile)));
}

/// `cmp rsp, [r14+16]`, some instructions, two returns, and INT3 up to 64 bytes.
fn go_function() -> [u8; 64] {
    let mut code = [0xcc; 64];
    code[..4].copy_from_slice(&[0x49, 0x3b, 0x66, 0x10]);
    code[4..12].copy_from_slice(&[0x74, 0x02, 0x31, 0xc0, 0xc3, 0xb0, 0xc3, 0xc3]);
    code
}

/// A table of functions as Go 1.20 and later write it, `text_start` as 1.26 leaves it.
fn pclntab(functions: &[&str]) -> Vec<u8> {
    let names: Vec<u8> = functions
        .iter()
        .flat_map(|name| [name.as_bytes(), b"\0"].concat())
        .collect();
    let names = [b"\0", &names[..]].concat();
    let names_at = 72_u64;
    let list_at = names_at + names.len().next_multiple_of(8) as u64;
    let mut table = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
    for word in [
        functions.len() as u64,
        0,
        0,
        names_at,
        list_at,
        list_at,
        list_at,
        list_at,
    ] {
        table.extend(word.to_le_bytes());
    }
    table.extend(&names);
    table.resize(list_at as usize, 0);
    let descriptions = functions.len() as u32 * 8 + 4;
    for index in 0..functions.len() as u32 {
        table.extend((index * 64).to_le_bytes());
        table.extend((descriptions + index * 16).to_le_bytes());
    }
    table.extend((functions.len() as u32 * 64).to_le_bytes());
    for (index, name) in functions.iter().enumerate() {
        let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
        table.extend((index as u32 * 64).to_le_bytes());
        table.extend((memchr::memmem::find(&names, &wanted).unwrap() as u32 + 1).to_le_bytes());
        table.extend([0; 8]);
    }
    table
}

fn build_information(version: &str) -> Vec<u8> {
    let mut head = b"\xff Go buildinf:\x08\x02".to_vec();
    head.resize(32, 0);
    head.push(version.len() as u8);
    head.extend(version.as_bytes());
    head
}

const GO: [&str; 3] = [
    "runtime.main",
    "crypto/tls.(*Conn).Write",
    "crypto/tls.(*Conn).Read",
];

fn go(version: &str, section: &str, functions: &[&str], code: &[u8]) -> Vec<u8> {
    let build = build_information(version);
    elf_with(
        &[],
        &[(".go.buildinfo", &build), (section, &pclntab(functions))],
        code,
    )
}

#[test]
fn go_is_found_by_its_table_and_returns_by_disassembly() {
    let code = go_function().repeat(3);
    // Another linker than Go's gives the table no section of its own.
    for section in [".gopclntab", ".data.rel.ro"] {
        let found = examine(&go("go1.27.3 X:nocoverageredesign", section, &GO, &code)).unwrap();
        let [plan] = &found.plans[..] else {
            panic!("{section}: {found:?}")
        };
        assert_eq!(
            (plan.library, plan.version.as_deref()),
            (Library::Go, Some("1.27.3"))
        );
        let places = |function| -> Vec<_> {
            let probes = plan.probes.iter().filter(|probe| probe.function == function);
            probes
                .map(|probe| (probe.file_offset - CODE_OFFSET, probe.kind))
                .collect()
        };
        // The C3 at offset 10 is the operand of another instruction.
        let sites = |start| {
            [
                (start, ProbeKind::Entry),
                (start + 8, ProbeKind::ReturnSite),
                (start + 11, ProbeKind::ReturnSite),
            ]
        };
        assert_eq!(places(Function::Write), sites(64));
        assert_eq!(places(Function::Read), sites(128));
    }
}

#[test]
fn go_hellos_are_met_where_they_are_whole() {
    let names = [
        GO[1],
        GO[2],
        "crypto/tls.(*Conn).clientHandshake",
        "crypto/tls.(*clientHelloMsg).marshal",
        "crypto/tls.(*clientHelloMsg).unmarshal",
    ];
    let file = go(
        "go1.27.3",
        ".gopclntab",
        &names,
        &go_function().repeat(names.len()),
    );
    let found = examine(&file).unwrap();
    let places = |function| -> Vec<_> {
        let probes = found.plans[0].probes.iter();
        let probes = probes.filter(|probe| probe.function == function);
        probes
            .map(|probe| (probe.file_offset - CODE_OFFSET, probe.kind))
            .collect()
    };
    assert_eq!(places(Function::Handshake), [(128, ProbeKind::Entry)]);
    assert_eq!(
        places(Function::HelloSent),
        [
            (192 + 8, ProbeKind::ReturnSite),
            (192 + 11, ProbeKind::ReturnSite)
        ]
    );
    assert_eq!(places(Function::HelloReceived), [(256, ProbeKind::Entry)]);
}

#[test]
fn go_that_cannot_be_read_is_refused_with_the_reason() {
    let code = go_function().repeat(3);
    let why = |file: Vec<u8>| examine(&file).unwrap().unreadable;
    let library = Library::Go;
    let symbol = GO[1];
    assert_eq!(
        why(go("go1.16.15", ".gopclntab", &GO, &code)),
        [Unreadable::OldGo {
            version: "1.16.15".into()
        }]
    );
    assert_eq!(
        why(go("go1.27", ".gopclntab", &[GO[0], GO[2]], &code)),
        [Unreadable::Missing { library, symbol }]
    );
    // Code that does not begin as Go's: the addresses are not what they were taken for.
    let shifted = [&[0x90][..], &code].concat();
    assert!(matches!(
        why(go("go1.27", ".gopclntab", &GO, &shifted))[..],
        [Unreadable::Code { .. }]
    ));
    let twice = [GO[1], GO[2], GO[1]];
    assert_eq!(
        why(go("go1.27", ".gopclntab", &twice, &code)),
        [Unreadable::Ambiguous {
            library,
            symbol,
            places: 2
        }]
    );
    assert_eq!(
        why(go("go1.27", ".gopclntab", &GO[..1], &code)),
        [],
        "Go without TLS"
    );
}

proptest! {
    #[test]
    fn any_change_of_a_go_program_is_borne(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut file = go("go1.27", ".data.rel.ro", &GO, &go_function().repeat(3));
        let tables = (CODE_OFFSET + CODE_SIZE) as usize;
        let places = file.len() - tables;
        for (place, value) in changes {
            file[tables + place.index(places)] = value;
        }
        let _ = examine(&file);
    }

    #[test]
    fn any_change_of_a_file_is_borne(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24)) {
        let mut file = elf(&openssl(), b"c hs traffic");
        // Code is not looked at: change what is.
        let tables = 4096 + 1024;
        let places = 120 + file.len() - tables;
        for (place, value) in changes {
            let place = place.index(places);
            let place = if place < 120 { place } else { place - 120 + tables };
            file[place] = value;
        }
        if let Ok(found) = examine(&file) {
            for plan in found.plans {
                prop_assert!(plan.probes.iter().all(|probe| probe.file_offset < file.len() as u64));
            }
        }
    }

    #[test]
    fn any_cut_of_a_file_is_borne(keep in 0_usize..7000) {
        let mut file = elf(&openssl(), b"c hs traffic");
        file.truncate(keep);
        let _ = examine(&file);
    }
}
