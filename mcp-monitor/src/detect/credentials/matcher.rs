//! One format at one anchor.

use std::ops::Range;

use super::{
    assignment,
    format::{Check, Class, Format, Part, Place},
    placeholder, validate,
};

/// Runs longer than this must not begin inside a run of their own class: so that a text of
/// anchors side by side is not walked from each of them.
const LONG_RUN: usize = 512;

/// Longest PEM block, bytes.
const LONGEST_PEM: usize = 16 * 1024;

/// Longest user information of a URL, bytes.
const LONGEST_USER_INFO: usize = 256;

/// Where the secret lies if `format`, of which an anchor stands at `anchor`, is there.
pub(super) fn secret_at(format: &Format, text: &[u8], anchor: &Range<usize>) -> Option<Range<usize>> {
    let secret = match format.place {
        Place::Name => return named(format, text, anchor),
        Place::Inside(class, min, max) => {
            let start = run_before(text, anchor.start, class, min, max)?;
            start..shape_end(format.shape, text, anchor.end)?
        }
        Place::Start => {
            starts_here(format, text, anchor.start).then_some(())?;
            let end = match format.check {
                Check::Pem => pem_end(text, anchor.end)?,
                _ => shape_end(format.shape, text, anchor.end)?,
            };
            anchor.start..end
        }
        Place::Before | Place::Scheme => {
            starts_here(format, text, anchor.start).then_some(())?;
            if format.check == Check::UserInfo {
                return user_info_password(text, anchor.end);
            }
            anchor.end..shape_end(format.shape, text, anchor.end)?
        }
    };
    let body = match format.place {
        Place::Start => anchor.end..secret.end,
        _ => secret.clone(),
    };
    accept(format, text.get(secret.clone())?, text.get(body)?).then_some(secret)
}

/// `secret` is the whole, `body` the part that varies.
pub(super) fn accept(format: &Format, secret: &[u8], body: &[u8]) -> bool {
    let minimum = format
        .entropy
        .unwrap_or_else(|| placeholder::default_minimum(body.len(), format.alphabet()));
    let checked = match format.check {
        Check::None | Check::UserInfo | Check::Password | Check::Generic => true,
        Check::Crc32Base62 => validate::crc32_base62_ok(body),
        Check::Bech32 => validate::bech32_ok(secret),
        Check::Base58Check => validate::base58check_ok(secret),
        Check::Jwt => validate::jwt_ok(secret),
        Check::Basic => validate::basic_ok(secret),
        Check::JsonPrefix => validate::json_prefix_ok(secret),
        Check::Mixed => validate::mixed(body),
        Check::Pem => return !is_sample_pem(body),
    };
    // A JWT repeats itself where its claims do; its structure was checked instead.
    let regular = format.check != Check::Jwt && placeholder::is_regular(body, minimum);
    checked && !regular && !placeholder::is_placeholder(secret)
}

fn named(format: &Format, text: &[u8], anchor: &Range<usize>) -> Option<Range<usize>> {
    let assigned = assignment::after_name(text, anchor)?;
    let generic = matches!(format.check, Check::Password | Check::Generic);
    if generic && assigned.name_denies() || !generic && !assigned.name_says_secret() {
        return None;
    }
    let start = assigned.value;
    let end = match format.check {
        Check::Password => assigned.password_end(text)?,
        _ => shape_end(format.shape, text, start)?,
    };
    let value = text.get(start..end)?;
    // The value goes on: what fits is only a piece of it.
    let goes_on = matches!(text.get(end), Some(b'.' | b'-' | b'_' | b'+' | b'/'))
        && text
            .get(end.saturating_add(1))
            .is_some_and(u8::is_ascii_alphanumeric);
    if goes_on {
        return None;
    }
    // `secret = read_secret(…)`.
    if generic && text.get(end) == Some(&b'(') {
        return None;
    }
    let plausible = match format.check {
        Check::Password => assignment::is_password(value),
        Check::Generic => assignment::is_random(value),
        _ => true,
    };
    (plausible && accept(format, value, value)).then_some(start..end)
}

/// Nothing that could belong to the secret stands before it.
fn starts_here(format: &Format, text: &[u8], at: usize) -> bool {
    let anchor_is_word = text.get(at).is_some_and(|b| Class::Word.contains(*b));
    let Some(before) = at.checked_sub(1).and_then(|i| text.get(i)) else {
        return true;
    };
    if !anchor_is_word || ends_escape(text, at) {
        return true;
    }
    let in_long_run = match (format.place, format.shape.first()) {
        (Place::Start, Some(Part::Run { class, max, .. })) => *max > LONG_RUN && class.contains(*before),
        _ => false,
    };
    !Class::Word.contains(*before) && !in_long_run
}

/// The bytes before `at` end an escape: `\n` of JSON, `%20` of a URL.
fn ends_escape(text: &[u8], at: usize) -> bool {
    let back = |n: usize| at.checked_sub(n).and_then(|i| text.get(i)).copied();
    let json = back(2) == Some(b'\\') && matches!(back(1), Some(b'n' | b't' | b'r' | b'f' | b'b'));
    let percent = back(3) == Some(b'%')
        && back(2).is_some_and(|b| b.is_ascii_hexdigit())
        && back(1).is_some_and(|b| b.is_ascii_hexdigit());
    json || percent
}

/// Start of the run of `class` that ends at `end`, if its length is right.
fn run_before(text: &[u8], end: usize, class: Class, min: usize, max: usize) -> Option<usize> {
    let before = text.get(end.saturating_sub(max.saturating_add(1))..end)?;
    let len = before.iter().rev().take_while(|b| class.contains(**b)).count();
    let start = end.checked_sub(len)?;
    // `\nAAAA`: the letter of the escape is no part of the run.
    let escaped = start.checked_sub(1).and_then(|i| text.get(i)) == Some(&b'\\');
    let (start, len) = match escaped {
        true => (start.saturating_add(1), len.saturating_sub(1)),
        false => (start, len),
    };
    (min..=max).contains(&len).then_some(start)
}

/// End of the shape that begins at `start`, if it is there and nothing of its kind follows.
pub(super) fn shape_end(shape: &[Part], text: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    for (i, part) in shape.iter().enumerate() {
        let rest = text.get(at..)?;
        let len = match part {
            Part::Text(literal) => rest.starts_with(literal.as_bytes()).then_some(literal.len())?,
            Part::OneOf(literals) => literals.iter().find(|l| rest.starts_with(l.as_bytes()))?.len(),
            Part::Padding => rest.iter().take(2).take_while(|b| **b == b'=').count(),
            Part::Run { class, min, max } => {
                let window = rest.get(..rest.len().min(max.saturating_add(1)))?;
                let mut len = window.iter().take_while(|b| class.contains(**b)).count();
                let fixed = min == max;
                if len > *max {
                    // More of the same: too long, unless a shape of fixed pieces goes on here.
                    let last = i.saturating_add(1) == shape.len();
                    (fixed && !last).then_some(())?;
                    len = *max;
                }
                // A full stop or a slash at the end belongs to the sentence.
                let trailing = rest.get(..len)?.iter().rev();
                let dots = trailing
                    .take_while(|b| **b == b'.' && class.contains(b'.'))
                    .count();
                len = len.saturating_sub(dots);
                (len >= *min).then_some(len)?
            }
        };
        at = at.saturating_add(len);
    }
    let next = text.get(at);
    (!next.is_some_and(u8::is_ascii_alphanumeric)).then_some(at)
}

/// End of the block whose first line ends at `start`.
fn pem_end(text: &[u8], start: usize) -> Option<usize> {
    const DASHES: &[u8] = b"-----";
    let rest = text.get(start..)?;
    let rest = rest.get(..rest.len().min(LONGEST_PEM))?;
    let end_line = memchr::memmem::find(rest, DASHES)?;
    let body = rest.get(..end_line)?;
    let allowed = |b: &u8| {
        b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'+' | b'/' | b'=' | b'\\' | b'.' | b':' | b',' | b'-' | b'(' | b')'
            )
            || b.is_ascii_whitespace()
    };
    if !body.iter().all(allowed) {
        return None;
    }
    let after = rest.get(end_line.saturating_add(DASHES.len())..)?;
    after.starts_with(b"END ").then_some(())?;
    let close = memchr::memmem::find(after.get(..after.len().min(64))?, DASHES)?;
    Some(
        start
            .saturating_add(end_line)
            .saturating_add(DASHES.len())
            .saturating_add(close)
            .saturating_add(DASHES.len()),
    )
}

/// Too short, or with the dots that documentation puts.
fn is_sample_pem(body: &[u8]) -> bool {
    body.len() < 96 || memchr::memmem::find(body, b"...").is_some() || placeholder::entropy(body) < 3.0
}

/// The password in `user:password@host` (RFC 3986 section 3.2.1).
fn user_info_password(text: &[u8], start: usize) -> Option<Range<usize>> {
    let rest = text.get(start..)?;
    let rest = rest.get(..rest.len().min(LONGEST_USER_INFO))?;
    let ends = |b: &u8| {
        matches!(
            b,
            b'/' | b'?'
                | b'#'
                | b'"'
                | b'\''
                | b'`'
                | b'<'
                | b'>'
                | b'\\'
                | b'('
                | b')'
                | b'{'
                | b'}'
                | b'['
                | b']'
                | b','
        ) || b.is_ascii_whitespace()
            || b.is_ascii_control()
    };
    let authority = rest.get(..rest.iter().position(ends).unwrap_or(rest.len()))?;
    let at = memchr::memrchr(b'@', authority)?;
    let user_info = authority.get(..at)?;
    let colon = memchr::memchr(b':', user_info)?;
    let password = user_info.get(colon.saturating_add(1)..)?;
    if password.len() < 4 || assignment::is_stock_password(password) || placeholder::is_placeholder(password)
    {
        return None;
    }
    let from = start.saturating_add(colon).saturating_add(1);
    Some(from..start.saturating_add(at))
}
