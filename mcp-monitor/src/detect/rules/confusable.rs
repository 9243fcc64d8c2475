//! Names that a reader takes for one another.

/// Letters that look like ASCII ones (Unicode UTS #39), as far as host names may hold them and typefaces
/// do not tell them apart.
const LOOK_ALIKE: &[(char, &str)] = &[
    ('a', "аạąàáâãäåāăα"),
    ('b', "ЬƄḃ"),
    ('c', "сçćĉċčϲ"),
    ('d', "ԁďđɗ"),
    ('e', "еёẹęèéêëēĕėě"),
    ('g', "ɡġğĝģց"),
    ('h', "һհĥħ"),
    ('i', "іïìíîĩīĭįıɩ"),
    ('j', "јĵʝ"),
    ('k', "кķĸκ"),
    ('l', "ӏłĺļľḷ"),
    ('m', "мṃɱ"),
    ('n', "пńņňñṇո"),
    ('o', "оοօọòóôõöøōŏő"),
    ('p', "рρṗ"),
    ('q', "ԛգ"),
    ('r', "гŕŗřɾ"),
    ('s', "ѕśŝşšṣ"),
    ('t', "тţťŧṭ"),
    ('u', "սυùúûüũūŭůűųụ"),
    ('v', "ѵνṿ"),
    ('w', "ԝŵẁẃẅѡ"),
    ('x', "хҳ×"),
    ('y', "уўýÿŷγ"),
    ('z', "źżžẓʐ"),
];

/// What a name looks like: international labels decoded, look-alikes and digits made letters, and pairs
/// that read as one letter joined.
pub(super) fn skeleton(name: &str) -> String {
    let (unicode, _) = idna::domain_to_unicode(name);
    let letters: String = unicode.chars().map(letter).collect();
    letters.replace("rn", "m").replace("vv", "w").replace("cl", "d")
}

fn letter(c: char) -> char {
    match c {
        '0' => 'o',
        // In many typefaces the three are one stroke.
        '1' | 'i' => 'l',
        _ if c.is_ascii() => c,
        _ => {
            let found = LOOK_ALIKE.iter().find(|(_, like)| like.contains(c));
            found.map_or(c, |(ascii, _)| letter(*ascii))
        }
    }
}

/// One slip apart: a character too much, too few, another one, or two swapped (Damerau-Levenshtein distance
/// of 1). Two numbers at one place are siblings, not a slip.
pub(super) fn one_slip(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (
        a.get(same..).unwrap_or_default(),
        b.get(same..).unwrap_or_default(),
    );
    match (a, b) {
        ([], []) => false,
        ([x, xs @ ..], [y, ys @ ..]) if xs == ys => !(x.is_ascii_digit() && y.is_ascii_digit()),
        ([x1, x2, xs @ ..], [y1, y2, ys @ ..]) if x1 == y2 && x2 == y1 && xs == ys => true,
        ([_, xs @ ..], ys) | (ys, [_, xs @ ..]) if xs == ys => true,
        (xs, [_, ys @ ..]) => xs == ys,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skeletons() {
        let same = |a: &str, b: &str| skeleton(a) == skeleton(b);
        assert!(same("marketdata.example", "rnarketdata.example"));
        assert!(same("paypal.example", "paypa1.example"));
        // The first letter is Cyrillic.
        assert!(same("apple.example", "xn--pple-43d.example"));
        assert!(!same("apple.example", "maple.example"));
    }

    #[test]
    fn slips() {
        for (a, b) in [
            ("market", "markt"),
            ("market", "markeet"),
            ("market", "marekt"),
            ("market", "narket"),
            ("market", "markets"),
        ] {
            assert!(one_slip(a, b) && one_slip(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("market", "market"),
            ("mcp1", "mcp2"),
            ("market", "mrakte"),
            ("a", "abc"),
            ("", "ab"),
        ] {
            assert!(!one_slip(a, b) && !one_slip(b, a), "{a} {b}");
        }
    }
}
