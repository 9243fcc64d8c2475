//! The IPv6 twin of a transcript: every IPv4 address in it becomes an IPv6 one of the same kind.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

/// The twin of one address: loopback stays loopback, private private, public public.
pub fn twin(ip: Ipv4Addr) -> Ipv6Addr {
    let low = u128::from(u32::from(ip));
    match ip.octets() {
        // On one host, 127.0.0.x are several servers; IPv6 has one loopback address.
        [127, ..] => Ipv6Addr::LOCALHOST,
        [169, 254, 169, 254] => "fd00:ec2::254".parse().unwrap_or(Ipv6Addr::LOCALHOST),
        [169, 254, ..] => Ipv6Addr::from((0xfe80_u128 << 112) | low),
        [0, 0, 0, 0] => Ipv6Addr::UNSPECIFIED,
        _ if ip.is_private() => Ipv6Addr::from((0xfd77_u128 << 112) | low),
        _ => Ipv6Addr::from((0x2001_0db8_u128 << 96) | low),
    }
}

/// Rewrites every address in the texts of `value`, keys included.
pub(super) fn to_ipv6(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(rewrite(text)),
        Value::Array(list) => list.iter().map(to_ipv6).collect(),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (rewrite(key), to_ipv6(value)))
                .collect::<Map<_, _>>(),
        ),
        other => other.clone(),
    }
}

/// Rewrites every address in `text`: bracketed where a URL or a port follows its form.
pub fn rewrite(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, tail) = rest.split_at(start);
        out.push_str(before);
        let end = tail
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(tail.len());
        let (word, after) = tail.split_at(end);
        let glued = out.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))
            || after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_'));
        let dot = word.ends_with('.');
        match word.trim_end_matches('.').parse::<Ipv4Addr>() {
            Ok(ip) if !glued => {
                let url = out.ends_with("//") || out.ends_with('@') || after.starts_with(':');
                let twin = twin(ip);
                out.push_str(&if url {
                    format!("[{twin}]")
                } else {
                    twin.to_string()
                });
                let (bits, more) = prefix(after);
                if let Some(bits) = bits.filter(|_| !url) {
                    let wide = match ip.octets() {
                        [127, ..] => 128,
                        _ => 96 + bits,
                    };
                    out.push_str(&format!("/{wide}"));
                    rest = more;
                    continue;
                }
                if dot {
                    out.push('.');
                }
            }
            _ => out.push_str(word),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// `/24` after an address, and what follows.
fn prefix(after: &str) -> (Option<u32>, &str) {
    let Some(digits) = after.strip_prefix('/') else {
        return (None, after);
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    match digits[..end].parse::<u32>() {
        Ok(bits) if bits <= 32 => (Some(bits), &digits[end..]),
        _ => (None, after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_kind_and_their_place() {
        for (text, expected) in [
            ("203.0.113.5", "2001:db8::cb00:7105"),
            ("203.0.113.0/24", "2001:db8::cb00:7100/120"),
            ("http://203.0.113.5/mcp", "http://[2001:db8::cb00:7105]/mcp"),
            (
                "http://203.0.113.5:8000/24",
                "http://[2001:db8::cb00:7105]:8000/24",
            ),
            ("203.0.113.5:80", "[2001:db8::cb00:7105]:80"),
            ("127.0.0.1", "::1"),
            ("127.0.0.0/8", "::1/128"),
            ("is at 169.254.169.254.", "is at fd00:ec2::254."),
            ("10.1.0.5", "fd77::a01:5"),
            (
                "version 4.2.0 of python-1.2.3.4",
                "version 4.2.0 of python-1.2.3.4",
            ),
            ("2026-07-28", "2026-07-28"),
        ] {
            assert_eq!(rewrite(text), expected, "{text}");
        }
    }
}
