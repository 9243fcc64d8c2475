//! Key material and tokens of open standards.

use super::super::format::{Check, Class::*, Format, Part, n, r, t};

pub(super) const FORMATS: &[Format] = &[
    Format::token(
        "jwt",
        "RFC 7519",
        &["eyJ"],
        &[
            r(Base64Url, 8, 4096),
            t("."),
            r(Base64Url, 8, 16384),
            t("."),
            r(Base64Url, 0, 2048),
        ],
    )
    .check(Check::Jwt),
    Format::token(
        "rsa-private-key",
        "PEM",
        &["-----BEGIN RSA PRIVATE KEY-----"],
        &[],
    )
    .check(Check::Pem),
    Format::token("ec-private-key", "PEM", &["-----BEGIN EC PRIVATE KEY-----"], &[]).check(Check::Pem),
    Format::token(
        "dsa-private-key",
        "PEM",
        &["-----BEGIN DSA PRIVATE KEY-----"],
        &[],
    )
    .check(Check::Pem),
    Format::token(
        "openssh-private-key",
        "OpenSSH",
        &["-----BEGIN OPENSSH PRIVATE KEY-----"],
        &[],
    )
    .check(Check::Pem),
    Format::token("private-key", "PKCS #8", &["-----BEGIN PRIVATE KEY-----"], &[]).check(Check::Pem),
    Format::token(
        "encrypted-private-key",
        "PKCS #8",
        &["-----BEGIN ENCRYPTED PRIVATE KEY-----"],
        &[],
    )
    .check(Check::Pem),
    Format::token(
        "pgp-private-key",
        "OpenPGP",
        &["-----BEGIN PGP PRIVATE KEY BLOCK-----"],
        &[],
    )
    .check(Check::Pem),
    Format::token(
        "putty-private-key",
        "PuTTY",
        &["PuTTY-User-Key-File-2: ", "PuTTY-User-Key-File-3: "],
        &[r(Base64Url, 4, 40)],
    )
    .entropy(0),
    Format::token(
        "bitcoin-extended-private-key",
        "BIP 32",
        &["xprv"],
        &[n(Base58, 107)],
    )
    .check(Check::Base58Check),
    Format::token("nostr-private-key", "Nostr", &["nsec1"], &[n(Bech32Lower, 58)]).check(Check::Bech32),
    Format::scheme("bearer-token", "RFC 6750", &["bearer "], &[r(Any64, 20, 2048)]).check(Check::Mixed),
    Format::scheme(
        "basic-credentials",
        "RFC 7617",
        &["basic "],
        &[r(Base64, 8, 512), Part::Padding],
    )
    .check(Check::Basic)
    .entropy(0),
];
