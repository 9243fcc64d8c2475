//! The formats, one table per field.
//!
//! To add one: put a row in the table of its field. Its example, its test, its line in the
//! documentation and its place in the prefilter follow from the row.

mod ai;
mod cloud;
mod code;
mod comms;
mod data;
mod finance;
mod generic;
mod infra;
mod keys;
mod named;
mod saas;

use super::format::Format;

/// Every table, the more specific first: of two formats with the same anchor the first wins.
pub(super) const TABLES: &[&[Format]] = &[
    ai::FORMATS,
    cloud::FORMATS,
    code::FORMATS,
    comms::FORMATS,
    data::FORMATS,
    finance::FORMATS,
    infra::FORMATS,
    saas::FORMATS,
    keys::FORMATS,
    named::FORMATS,
    generic::FORMATS,
];

/// Every format.
pub fn all() -> impl Iterator<Item = &'static Format> {
    TABLES.iter().flat_map(|table| table.iter())
}
