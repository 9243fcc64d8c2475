//! Whether session ids can be guessed from those before.
//!
//! Three tests, on different ids in the order in which one server gave them out. The probabilities are
//! those of a false alarm for ids drawn uniformly and independently.

/// Why ids are weak.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Weakness {
    /// They look like addresses of objects in memory.
    Pointer,
    /// Each is close to the one before.
    Sequential,
    /// They differ in little.
    LowEntropy {
        /// Room of the part that differs, bits, rounded up.
        bits: u32,
    },
}

/// False alarms per server of the spacing test, over all looks.
const ALPHA: f64 = 1e-6;
/// Ids that differ in less room than this are weak, bits.
const MIN_BITS: f64 = 20.0;
/// Ids from which on the tests apply.
const MIN_POINTERS: usize = 3;
const MIN_SPACING: usize = 3;
const MIN_VARYING: usize = 4;
/// Ids so short are weak whatever they hold.
const MAX_SHORT: usize = 3;
/// Ids further apart than this cannot be tried one by one.
const NEAR: u128 = 1 << 32;

/// What is weak about these ids, if something is.
pub(super) fn weakness(ids: &[&str]) -> Option<Weakness> {
    let newest = ids.last()?;
    if newest.len() <= MAX_SHORT {
        let bits = bits(newest.len(), alphabet(newest.bytes()));
        return Some(Weakness::LowEntropy { bits });
    }
    if is_marked_pointer(newest) || (ids.len() >= MIN_POINTERS && ids.iter().all(|id| is_address(id))) {
        return Some(Weakness::Pointer);
    }
    if follows(ids) {
        return Some(Weakness::Sequential);
    }
    varying(ids).map(|bits| Weakness::LowEntropy { bits })
}

/// `0x` and 6 to 16 hex digits, as `%p` prints.
fn is_marked_pointer(id: &str) -> bool {
    id.strip_prefix("0x")
        .or(id.strip_prefix("0X"))
        .is_some_and(|hex| (6..=16).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A user-space address of 64-bit Linux, aligned to 8, in hex or decimal. A random id of 12 hex digits
/// is one with p < 0.0015, one of 15 decimal digits with p < 0.007: three in a row below 10^-6.
fn is_address(id: &str) -> bool {
    let value = match id.len() {
        12 => u64::from_str_radix(id, 16).ok(),
        16 => id
            .strip_prefix("0000")
            .and_then(|hex| u64::from_str_radix(hex, 16).ok()),
        14 | 15 => id.parse().ok(),
        _ => None,
    };
    value.is_some_and(|v| {
        let mapped = (0x5500_0000_0000..0x5700_0000_0000).contains(&v)
            || (0x7f00_0000_0000..0x8000_0000_0000).contains(&v);
        mapped && v.is_multiple_of(8)
    })
}

/// Spacing test on numbers. For uniform ids of a range S, whatever came before, an id lies within D of it
/// with p ≤ (2D+1)/S; so n ids whose largest successive distance is D have p ≤ ((2D+1)/S)^(n-1). The n-th
/// look spends α/(n(n-1)), which sums to α.
fn follows(ids: &[&str]) -> bool {
    if ids.len() < MIN_SPACING {
        return false;
    }
    let decimal = ids.iter().all(|id| id.bytes().all(|b| b.is_ascii_digit()));
    let radix: u32 = if decimal { 10 } else { 16 };
    let longest = ids.iter().map(|id| id.len()).max().unwrap_or(0);
    // Longer ones have room for a random end after a counter.
    if longest > if decimal { 20 } else { 16 } {
        return false;
    }
    let values: Option<Vec<u128>> = ids
        .iter()
        .map(|id| u128::from_str_radix(id, radix).ok())
        .collect();
    let Some(values) = values else { return false };
    let distance = values
        .windows(2)
        .filter_map(|pair| match pair {
            [a, b] => Some(a.abs_diff(*b)),
            _ => None,
        })
        .max()
        .unwrap_or(u128::MAX);
    if distance >= NEAR {
        return false;
    }
    let range = f64::from(radix).powi(i32::try_from(longest).unwrap_or(i32::MAX));
    let one = ((distance as f64) * 2.0 + 1.0) / range;
    let looks = ids.len() as f64;
    one < 1.0 && one.powf(looks - 1.0) < ALPHA / (looks * (looks - 1.0))
}

/// Room of the part between what all ids begin and end with, where it is too small. Ids of at least 28
/// random bits all agree in so many of them only with p < 10^-6: seven hex digits in three at the ends
/// with 4 · 16^-9, and that few digits look decimal with p < 10^-8.
fn varying(ids: &[&str]) -> Option<u32> {
    let (first, rest) = ids.split_first()?;
    if ids.len() < MIN_VARYING {
        return None;
    }
    let common = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    let common_end = |a: &str, b: &str| {
        a.bytes()
            .rev()
            .zip(b.bytes().rev())
            .take_while(|(x, y)| x == y)
            .count()
    };
    let start = rest.iter().map(|id| common(first, id)).min().unwrap_or(0);
    let end = rest.iter().map(|id| common_end(first, id)).min().unwrap_or(0);
    let middles = || {
        ids.iter().map(|id| {
            let to = id.len().saturating_sub(end).max(start);
            id.as_bytes().get(start..to).unwrap_or_default()
        })
    };
    let longest = middles().map(<[u8]>::len).max().unwrap_or(0);
    // Each character has one bit of room at least.
    if longest as f64 >= MIN_BITS {
        return None;
    }
    let room = alphabet(middles().flatten().copied());
    let size = longest as f64 * f64::from(room).log2();
    (size < MIN_BITS).then(|| bits(longest, room))
}

fn bits(length: usize, alphabet: u32) -> u32 {
    let bits = (length as f64 * f64::from(alphabet).log2()).ceil();
    // At most a few hundred.
    bits as u32
}

/// Characters that a text could have, by the kinds of those that it has: hex digits, or all letters.
fn alphabet(text: impl Iterator<Item = u8>) -> u32 {
    let (mut digit, mut beyond_f, mut lower, mut upper, mut other) = (false, false, false, false, false);
    for b in text {
        digit |= b.is_ascii_digit();
        lower |= b.is_ascii_lowercase();
        upper |= b.is_ascii_uppercase();
        beyond_f |= b.is_ascii_alphabetic() && !b.is_ascii_hexdigit();
        other |= !b.is_ascii_alphanumeric();
    }
    let case = if beyond_f { 26 } else { 6 };
    let kinds = [
        (digit || ((lower || upper) && !beyond_f), 10),
        (lower, case),
        (upper, case),
        (other, 2),
    ];
    kinds
        .iter()
        .filter(|(has, _)| *has)
        .fold(0u32, |n, (_, size)| n.saturating_add(*size))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weak_ids() {
        for (ids, why) in [
            (&["0x7f3a5c001b40"][..], Weakness::Pointer),
            (
                &["7f3a5c001b40", "7f3a5c001b80", "7f3a5c0020c8"],
                Weakness::Pointer,
            ),
            (
                &["140733193388032", "140733193388352", "140733193390000"],
                Weakness::Pointer,
            ),
            (&["100041", "100042", "100043"], Weakness::Sequential),
            (
                &["1795331523001", "1795331529872", "1795331550413"],
                Weakness::Sequential,
            ),
            (&["7"], Weakness::LowEntropy { bits: 4 }),
            (
                &["session-0001", "session-0002", "session-0003", "session-0004"],
                Weakness::LowEntropy { bits: 4 },
            ),
        ] {
            assert_eq!(weakness(ids), Some(why), "{ids:?}");
        }
    }

    #[test]
    fn strong_and_short_random_ids() {
        for ids in [
            &[
                "fca4d448-d034-4bfa-989b-32a0d1a30e8a",
                "fd648d96-ca07-4fb8-8fb2-b15fa23d5488",
                "1d093b6e-bf2b-4b85-84c4-29d1faaca1e5",
                "0b1f2c3d-aaaa-4bbb-8ccc-1234567890ab",
            ][..],
            &["k3J9x2", "Zp81mm", "a0Vw7L", "9sXc4B", "uE6tHq"],
            &["83726154", "10938475", "56473829", "99120384"],
            &[
                "018f3a5c-7001-7b40-8000-aa31c9d2e4f5",
                "018f3a5c-7002-7c11-9000-bb42daf3c5a6",
                "018f3a5c-7003-7d22-a000-cc53ebf4d6b7",
                "018f3a5c-7004-7e33-b000-dd64fcf5e7c8",
            ],
            &[
                "eu-west-1/k3J9x2Qa",
                "eu-west-1/Zp81mmTe",
                "eu-west-1/a0Vw7LrY",
                "eu-west-1/9sXc4BnD",
            ],
            &["1001", "1002"],
        ] {
            assert_eq!(weakness(ids), None, "{ids:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn random_ids_raise_nothing(ids in proptest::collection::vec("[0-9a-f]{7,32}", 1..20)) {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            prop_assert_eq!(weakness(&ids), None);
        }

        #[test]
        fn any_ids_are_looked_at(ids in proptest::collection::vec("\\PC{0,20}", 0..6)) {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            weakness(&ids);
        }
    }
}
