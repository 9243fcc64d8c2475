//! Invented values of every format: valid by form, issued by nobody.
//!
//! Made at run time, so that no scanner takes this source for a leak.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use super::{
    Hit,
    format::{Check, Class, Format, Part, Place},
    formats, scan, validate,
};

/// Seeds tried until a value is random enough for its own checks.
const SEEDS: u64 = 64;

/// A text in which an invented credential of this kind stands, with the name or scheme it needs
/// around it; `None` if there is no such kind. The same for the same kind.
pub fn example(kind: &str) -> Option<String> {
    let format = formats::all().find(|f| f.kind == kind)?;
    (0..SEEDS)
        .map(|seed| make(format, &mut Random::new(kind, seed)))
        .find(|text| {
            let mut hits: Vec<Hit> = Vec::new();
            scan(text.as_bytes(), &mut hits);
            matches!(hits.as_slice(), [hit] if hit.kind == kind)
        })
}

fn make(format: &Format, random: &mut Random) -> String {
    let anchor = format.anchors.first().copied().unwrap_or_default();
    let mut shaped = String::new();
    for part in format.shape {
        match part {
            Part::Run { class, min, max } => {
                let len = min.saturating_add(*max) / 2;
                shaped.push_str(&random.text(*class, len.min(min.saturating_add(64))));
            }
            Part::Text(text) => shaped.push_str(text),
            Part::OneOf(texts) => shaped.push_str(texts.first().copied().unwrap_or_default()),
            Part::Padding => {}
        }
    }
    match format.check {
        Check::Crc32Base62 => {
            shaped.truncate(shaped.len().saturating_sub(6));
            let sum = validate::crc32_base62(shaped.as_bytes());
            shaped.push_str(&String::from_utf8_lossy(&sum));
        }
        Check::Bech32 => shaped = bech32(anchor, &shaped),
        Check::Base58Check => return base58(random),
        Check::Jwt => return jwt(random),
        Check::JsonPrefix => {
            let json = format!(
                r#"{{"k":"{}","n":"agent","id":1}}"#,
                random.text(Class::Alnum, 32)
            );
            return STANDARD.encode(json);
        }
        Check::Basic => shaped = STANDARD.encode(format!("agent:{}", random.text(Class::Alnum, 16))),
        Check::Pem => return pem(anchor, random),
        Check::UserInfo => {
            let scheme = if anchor.len() > 3 { "" } else { "nats" };
            return format!(
                "{scheme}{anchor}agent:{}@db.internal:5432/",
                random.text(Class::Alnum, 16)
            );
        }
        Check::Password => {
            shaped = format!(
                "{}!{}",
                random.text(Class::Alnum, 9),
                random.text(Class::Digit, 4)
            )
        }
        Check::None | Check::Mixed | Check::Generic => {}
    }
    match format.place {
        Place::Start | Place::Before | Place::Scheme => format!("{anchor}{shaped}"),
        Place::Inside(class, min, max) => {
            let before = random.text(class, min.saturating_add(max) / 2);
            format!("{before}{anchor}{shaped}")
        }
        Place::Name => {
            let says = ["key", "token", "secret", "pass", "pwd", "cred"]
                .iter()
                .any(|w| anchor.contains(w));
            let tail = if says { "" } else { "_api_key" };
            format!("{anchor}{tail} = \"{shaped}\"")
        }
    }
}

fn bech32(anchor: &str, data: &str) -> String {
    let upper = anchor.bytes().any(|b| b.is_ascii_uppercase());
    let (prefix, data) = (anchor.to_ascii_lowercase(), data.to_ascii_lowercase());
    let data = data.get(..52).unwrap_or_default();
    let sum = validate::bech32_checksum(prefix.trim_end_matches('1').as_bytes(), data.as_bytes());
    let text = format!("{data}{}", String::from_utf8_lossy(&sum));
    if upper { text.to_ascii_uppercase() } else { text }
}

/// A BIP 32 key of version `xprv`: depth, parent, index, chain code, zero and key.
fn base58(random: &mut Random) -> String {
    let mut payload = vec![0x04, 0x88, 0xad, 0xe4];
    payload.extend(random.text(Class::Alnum, 41).bytes());
    payload.push(0);
    payload.extend(random.text(Class::Alnum, 32).bytes());
    let sum = validate::base58_sum(&payload);
    payload.extend(sum);
    String::from_utf8_lossy(&validate::base58_encode(&payload)).into_owned()
}

fn jwt(random: &mut Random) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT","kid":"a1"}"#);
    let claims = format!(
        r#"{{"iss":"https://login.market.test","aud":"https://mcp.market.test","sub":"{}","exp":1893456000}}"#,
        random.text(Class::Alnum, 20)
    );
    let signature = random.text(Class::Alnum, 86);
    format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims))
}

fn pem(anchor: &str, random: &mut Random) -> String {
    let lines: Vec<String> = (0..6).map(|_| random.text(Class::Alnum, 64)).collect();
    format!(
        "{anchor}\n{}\n{}",
        lines.join("\n"),
        anchor.replace("BEGIN", "END")
    )
}

/// A small generator (SplitMix64): the same values on every run.
struct Random(u64);

impl Random {
    fn new(kind: &str, seed: u64) -> Self {
        let start = kind.bytes().fold(seed.wrapping_add(0x51_7c_c1_b7), |s, b| {
            s.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(b))
        });
        Self(start)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Letters and digits of the class.
    fn text(&mut self, class: Class, len: usize) -> String {
        let letters: Vec<u8> = (0..=u8::MAX)
            .filter(|b| b.is_ascii_alphanumeric() && class.contains(*b))
            .collect();
        let count = u64::try_from(letters.len().max(1)).unwrap_or(1);
        let pick = |n: u64| usize::try_from(n.checked_rem(count).unwrap_or(0)).unwrap_or(0);
        (0..len)
            .map(|_| letters.get(pick(self.next())).map_or('a', |b| char::from(*b)))
            .collect()
    }
}
