//! What stands for itself in a transcript's texts: `${…}`.
//!
//! - `${jwt {header} {claims}}`: a JSON Web Token with a signature of no worth.
//! - `${token}`: a well-formed, invented GitHub token. `${token N}`: another one.
//! - `${repeat N TEXT}`: TEXT, N times.
//! - `${base64 TEXT}`, `${hex TEXT}`, `${percent TEXT}`: encoded.
//! - `${u XXXX}`: the character of this code point.

use anyhow::{Context, Result, bail};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Map, Value};

/// Fills in all texts of `value`.
pub(super) fn fill(value: &Value) -> Result<Value> {
    Ok(match value {
        Value::String(text) => Value::String(fill_text(text)?),
        Value::Array(list) => Value::Array(list.iter().map(fill).collect::<Result<_>>()?),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| Ok((fill_text(key)?, fill(value)?)))
                .collect::<Result<Map<_, _>>>()?,
        ),
        other => other.clone(),
    })
}

fn fill_text(text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let inner = &rest[start + 2..];
        let end = closing(inner).with_context(|| format!("${{ without its }} in {text:?}"))?;
        out.push_str(&made(&fill_text(&inner[..end])?)?);
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the brace that opened before `text` closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn made(call: &str) -> Result<String> {
    let (name, rest) = call.split_once(' ').unwrap_or((call, ""));
    Ok(match name {
        "jwt" => {
            let inner = rest.strip_prefix('{').context("jwt {header} {claims}")?;
            let end = closing(inner).context("jwt {header} {claims}")? + 2;
            let (header, claims) = rest.split_at(end);
            for part in [header, claims] {
                serde_json::from_str::<Value>(part).with_context(|| format!("jwt: {part}"))?;
            }
            let part = |text: &str| URL_SAFE_NO_PAD.encode(text.trim());
            format!("{}.{}.c2lnbmF0dXJl", part(header), part(claims))
        }
        "token" => token(rest.parse().unwrap_or(1)),
        "repeat" => {
            let (times, what) = rest.split_once(' ').context("repeat N TEXT")?;
            what.repeat(times.parse()?)
        }
        "base64" => STANDARD.encode(rest),
        "hex" => rest.bytes().map(|b| format!("{b:02x}")).collect(),
        "percent" => rest.bytes().map(|b| format!("%{b:02X}")).collect(),
        "u" => char::from_u32(u32::from_str_radix(rest, 16)?)
            .context("a code point")?
            .to_string(),
        other => bail!("there is no ${{{other}}}"),
    })
}

/// 30 characters and the checksum that GitHub's tokens end in.
fn token(seed: u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut random = crate::generate::random::Random::new(seed);
    let body: String = (0..30)
        .map(|_| char::from(DIGITS[random.range(0, 62) as usize]))
        .collect();
    let mut sum = u64::from(crc32fast::hash(body.as_bytes()));
    let mut check = [b'0'; 6];
    for place in check.iter_mut().rev() {
        *place = DIGITS[(sum % 62) as usize];
        sum /= 62;
    }
    format!("ghp_{body}{}", String::from_utf8_lossy(&check))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_itself_is_filled_in() {
        assert_eq!(fill_text("a${repeat 3 xy}b").unwrap(), "axyxyxyb");
        assert_eq!(fill_text("${base64 ${repeat 2 a}}").unwrap(), "YWE=");
        assert_eq!(fill_text("${u e0041}").unwrap(), "\u{e0041}");
        let jwt = fill_text(r#"Bearer ${jwt {"alg":"none"} {"aud":["x"],"n":{"m":1}}}"#).unwrap();
        assert_eq!(jwt.split('.').count(), 3);
        assert_eq!(fill_text("${token}").unwrap().len(), 40);
        assert!(fill_text("${nothing}").is_err() && fill_text("${u 41").is_err());
    }
}
