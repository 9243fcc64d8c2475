//! Payment card and bank account numbers in text, by their check digits.

use std::ops::Range;

/// A number in a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// A payment card number (ISO/IEC 7812): issuer prefix, length and Luhn sum are right.
    Card {
        /// Where it lies.
        range: Range<usize>,
        /// Written in the groups that are printed on cards.
        grouped: bool,
    },
    /// An International Bank Account Number (ISO 13616): length of its country and check digits are right.
    Iban,
}

/// Card numbers that test systems publish.
const TEST_CARDS: &[&str] = &[
    "4242424242424242",
    "4000056655665556",
    "5555555555554444",
    "2223003122003222",
    "5200828282828210",
    "5105105105105100",
    "378282246310005",
    "371449635398431",
    "6011111111111117",
    "6011000990139424",
    "6011981111111113",
    "3056930009020004",
    "36227206271667",
    "6555900000604105",
    "3566002020360505",
    "6200000000000005",
    "6200000000000047",
    "6205500000000000004",
    "4111111111111111",
    "4012888888881881",
    "4000000000000002",
    "4000000000009995",
    "4000000000000069",
    "4000000000000127",
    "4000000000000119",
    "4000002500003155",
    "4000002760003184",
    "4000008260003178",
    "4000000000003220",
    "4000000000003063",
    "4000000000000077",
    "4000000000000341",
    "4000000000009987",
    "4000000000009979",
    "4222222222222",
    "378734493671000",
    "30569309025904",
    "38520000023237",
    "3530111333300000",
    "5019717010103742",
    "6331101999990016",
    "4988438843884305",
    "4166676667666746",
    "4646464646464644",
    "4000620000000007",
    "5555341244441115",
    "2222400070000005",
    "5577000055770004",
    "5136333333333335",
    "5585558555855583",
    "2222410740360010",
    "370000000000002",
    "6011601160116611",
    "3569990010095841",
    "36006666333344",
    "4917610000000000",
    "4000180000000002",
    "4444333322221111",
    "5454545454545454",
    "4462030000000000",
    "4005550000000019",
    "4005519200000004",
    "4009348888881881",
    "4012000033330026",
    "4012000077777777",
    "4217651111111119",
    "4500600000000061",
    "4032035515580946",
    "5406004444444443",
    "6363689999999997",
];

/// Account numbers that documentation publishes (SWIFT's registry, encyclopedias, test systems).
const EXAMPLE_IBANS: &[&str] = &[
    "GB82WEST12345698765432",
    "GB29NWBK60161331926819",
    "GB33BUKB20201555555555",
    "GB94BARC10201530093459",
    "DE89370400440532013000",
    "DE75512108001245126199",
    "DE02120300000000202051",
    "NL20INGB0001234567",
    "FR1420041010050500013M02606",
    "FR7630006000011234567890189",
    "NL91ABNA0417164300",
    "NL39RABO0300065264",
    "ES9121000418450200051332",
    "ES7921000813610123456789",
    "IT60X0542811101000000123456",
    "BE68539007547034",
    "BE71096123456769",
    "AT611904300234573201",
    "AT483200000012345864",
    "CH9300762011623852957",
    "CH5604835012345678009",
    "PT50000201231234567890154",
    "IE29AIBK93115212345678",
    "IE64IRCE92050112345678",
    "LU280019400644750000",
    "LU120010001234567891",
    "DK5000400440116243",
    "DK9520000123456789",
    "SE4550000000058398257466",
    "SE7280000810340009783242",
    "NO9386011117947",
    "NO8330001234567",
    "FI2112345600000785",
    "FI1410093000123458",
    "PL61109010140000071219812874",
    "PL10105000997603123456789123",
    "CZ6508000000192000145399",
    "CZ5508000000001234567899",
    "SK3112000000198742637541",
    "HU42117730161111101800000000",
    "GR1601101250000000012300695",
    "RO49AAAA1B31007593840000",
    "BG80BNBG96611020345678",
    "HR1210010051863000160",
    "SI56263300012039086",
    "EE382200221020145685",
    "LV80BANK0000435195001",
    "LT121000011101001000",
    "MT84MALT011000012345MTLCAST001S",
    "CY17002001280000001200527600",
    "TR330006100519786457841326",
    "SA0380000000608010167519",
    "AE070331234567890123456",
    "IL620108000000099999999",
    "LI21088100002324013AA",
    "MC5811222000010123456789030",
    "SM86U0322509800000000270100",
    "IS140159260076545510730339",
];

/// Length of an IBAN by country.
const IBAN_LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NL", 18),
    (b"NO", 15),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SC", 31),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"XK", 20),
];

/// Fewest digits of a card number.
const MIN_DIGITS: usize = 13;
/// Most digits of a card number.
const MAX_DIGITS: usize = 19;
/// Most characters of an IBAN.
const MAX_IBAN: usize = 34;

/// Every card and account number in `text` that is no published example. Takes one pass.
pub fn numbers(text: &[u8], mut each: impl FnMut(Found)) {
    let mut at = 0usize;
    while let Some(rest) = text.get(at..) {
        let Some(plain) = rest.iter().position(u8::is_ascii_digit) else {
            return;
        };
        at = at.saturating_add(plain);
        if let Some(end) = iban(text, at) {
            each(Found::Iban);
            at = end;
            continue;
        }
        let (end, found) = card(text, at);
        if let Some(grouped) = found {
            each(Found::Card {
                range: at..end,
                grouped,
            });
        }
        at = end.max(at.saturating_add(1));
    }
}

fn boundary(byte: Option<&u8>) -> bool {
    byte.is_none_or(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'_' | b'-' | b'.' | b'/' | b'%' | b'+'))
}

/// An IBAN whose first check digit is at `at`: its end.
fn iban(text: &[u8], at: usize) -> Option<usize> {
    let start = at.checked_sub(2)?;
    let country: &[u8; 2] = text.get(start..at)?.try_into().ok()?;
    let (_, length) = *IBAN_LENGTHS.iter().find(|(c, _)| *c == country)?;
    if !boundary(start.checked_sub(1).and_then(|i| text.get(i))) {
        return None;
    }
    let mut plain: Vec<u8> = Vec::with_capacity(MAX_IBAN);
    let mut end = start;
    while plain.len() < length {
        let b = *text.get(end)?;
        match b {
            b'A'..=b'Z' | b'0'..=b'9' => plain.push(b),
            b' ' if plain.len().is_multiple_of(4) => {}
            _ => return None,
        }
        end = end.saturating_add(1);
    }
    if text.get(end).is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    let (head, tail) = plain.split_at_checked(4)?;
    let rest = tail.iter().chain(head).fold(0u32, |rest, b| {
        let value = char::from(*b).to_digit(36).unwrap_or(0);
        let shifted = rest.wrapping_mul(if value > 9 { 100 } else { 10 });
        shifted.wrapping_add(value) % 97
    });
    let example = EXAMPLE_IBANS.iter().any(|e| e.as_bytes() == plain);
    (rest == 1 && !example).then_some(end)
}

/// Digits from `at`: where they end, and if they are a card number, whether in groups.
fn card(text: &[u8], at: usize) -> (usize, Option<bool>) {
    // Most digits are too few for a card: that is seen before anything is allocated.
    if let Some(end) = few_digits(text, at) {
        return (end, None);
    }
    let mut digits: Vec<u8> = Vec::with_capacity(MAX_DIGITS);
    let mut groups: Vec<usize> = vec![0];
    let mut separator = None;
    let mut end = at;
    while let Some(b) = text.get(end) {
        match b {
            b'0'..=b'9' => {
                digits.push(*b);
                if let Some(group) = groups.last_mut() {
                    *group = group.saturating_add(1);
                }
                if digits.len() > MAX_DIGITS {
                    let more = text.get(end..).unwrap_or_default();
                    let skip = more.iter().take_while(|b| b.is_ascii_digit()).count();
                    let whole = end.saturating_add(skip);
                    return (next(at, whole, &groups), None);
                }
            }
            b' ' | b'-'
                if separator.is_none_or(|s| s == *b)
                    && text.get(end.saturating_add(1)).is_some_and(u8::is_ascii_digit) =>
            {
                separator = Some(*b);
                groups.push(0);
            }
            _ => break,
        }
        end = end.saturating_add(1);
    }
    let grouped = groups.len() > 1;
    let printed = matches!(
        groups.as_slice(),
        [_] | [4, 4, 4, 4] | [4, 6, 5] | [4, 6, 4] | [4, 4, 4, 4, 3]
    );
    let alone = boundary(at.checked_sub(1).and_then(|i| text.get(i)))
        && (boundary(text.get(end))
            || (text.get(end) == Some(&b'.') && !digit_at(text, end.saturating_add(1))));
    let example = TEST_CARDS.iter().any(|e| e.as_bytes() == digits);
    if printed && alone && !example && is_issued(&digits) && luhn(&digits) {
        return (end, Some(grouped));
    }
    (next(at, end, &groups), None)
}

/// Where one group of digits at `at` ends, if it stands alone and is shorter than any card number.
fn few_digits(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let len = rest
        .iter()
        .take(MIN_DIGITS)
        .take_while(|b| b.is_ascii_digit())
        .count();
    let goes_on = matches!(rest.get(len), Some(b' ' | b'-')) && digit_at(rest, len.saturating_add(1));
    (len < MIN_DIGITS && !goes_on).then(|| at.saturating_add(len))
}

/// Where to look on after digits that are no card number: a first group that is something else must not
/// hide what follows it.
fn next(at: usize, end: usize, groups: &[usize]) -> usize {
    match groups {
        [first, _, ..] => at.saturating_add(*first),
        _ => end,
    }
}

fn digit_at(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(u8::is_ascii_digit)
}

/// An issuer has numbers of this prefix and length, and it is not one digit over and over.
fn is_issued(digits: &[u8]) -> bool {
    let prefix = |n: usize| {
        digits.iter().take(n).fold(0u32, |v, b| {
            v.saturating_mul(10)
                .saturating_add(u32::from(b.wrapping_sub(b'0')))
        })
    };
    let mut distinct = digits.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let issued = match digits.len() {
        13 => prefix(1) == 4,
        14 => matches!(prefix(2), 36 | 38 | 39) || (300..=305).contains(&prefix(3)),
        15 => matches!(prefix(2), 34 | 37),
        16 => {
            prefix(1) == 4
                || (51..=55).contains(&prefix(2))
                || (2221..=2720).contains(&prefix(4))
                || prefix(4) == 6011
                || (644..=659).contains(&prefix(3))
                || (3528..=3589).contains(&prefix(4))
                || prefix(2) == 62
        }
        17 | 18 => prefix(2) == 62,
        19 => prefix(1) == 4 || prefix(2) == 62,
        _ => false,
    };
    issued && distinct.len() > 3
}

/// ISO/IEC 7812-1 annex B.
fn luhn(digits: &[u8]) -> bool {
    let sum = digits.iter().rev().enumerate().fold(0u32, |sum, (i, b)| {
        let value = u32::from(b.wrapping_sub(b'0'));
        let doubled = if i % 2 == 1 {
            value.saturating_mul(2)
        } else {
            value
        };
        sum.saturating_add(if doubled > 9 {
            doubled.saturating_sub(9)
        } else {
            doubled
        })
    });
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Vec<Found> {
        let mut found = Vec::new();
        numbers(text.as_bytes(), |f| found.push(f));
        found
    }

    #[test]
    fn check_digits_decide() {
        assert_eq!(
            all("x 4539-5787-6362-1486."),
            [Found::Card {
                range: 2..21,
                grouped: true
            }]
        );
        assert_eq!(all("2023 4539 5787 6362 1486").len(), 1, "a year before it");
        assert_eq!(
            all("DE44500105175407324931, FR7630001007941234567890185"),
            [Found::Iban, Found::Iban]
        );
        for text in [
            "4539578763621487",
            "45395787636214861",
            "4539.578763621486",
            "4242 4242 4242 4242",
            "XX44500105175407324931",
            "DE44500105175407324932",
            "aDE44500105175407324931",
        ] {
            assert!(all(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn published_examples_are_numbers_but_silent() {
        for iban in EXAMPLE_IBANS {
            assert!(all(iban).is_empty(), "{iban}");
        }
        assert!(TEST_CARDS.iter().all(|c| all(c).is_empty()));
    }

    proptest! {
        #[test]
        fn any_text_is_looked_at(text in "[0-9A-Z -]{0,80}") {
            all(&text);
        }

        #[test]
        fn one_wrong_digit_is_seen(at in 0usize..16, digit in b'0'..=b'9') {
            let mut digits = *b"4539578763621486";
            prop_assume!(digits[at] != digit);
            digits[at] = digit;
            prop_assert!(!luhn(&digits));
        }
    }
}
