//! What is left: anything random-looking that is assigned to a name that says secret.

use super::super::format::{Check, Class::*, Format, r};

/// Longest generic secret.
const LONGEST: usize = 256;

pub(super) const FORMATS: &[Format] = &[
    Format::named(
        "generic-password",
        "any",
        &["password", "passwd", "passphrase", "_pwd"],
        &[],
    )
    .check(Check::Password)
    .entropy(250),
    Format::named(
        "generic-api-key",
        "any",
        &[
            "api_key",
            "apikey",
            "api-key",
            "access_key",
            "accesskey",
            "access-key",
        ],
        &[r(Any64, 16, LONGEST)],
    )
    .check(Check::Generic)
    .entropy(300),
    Format::named(
        "generic-secret",
        "any",
        &[
            "secret",
            "credential",
            "private_key",
            "signing_key",
            "encryption_key",
        ],
        &[r(Any64, 16, LONGEST)],
    )
    .check(Check::Generic)
    .entropy(300),
    Format::named("generic-token", "any", &["token"], &[r(Any64, 16, LONGEST)])
        .check(Check::Generic)
        .entropy(300),
];
