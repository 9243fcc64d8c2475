//! What of a name somebody had to register.

/// The registered part of a name: its last two labels, or three below a country's second level such as
/// `co.uk`. A guess without the public suffix list, which is a megabyte and out of date the day after.
pub(super) fn registered(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    let (Some(top), Some(second)) = (dots.next(), dots.next()) else {
        return name;
    };
    let country = name.len().saturating_sub(top) == 3;
    let short = top.saturating_sub(second) <= 4;
    let start = if country && short {
        dots.next()
    } else {
        Some(second)
    };
    start
        .and_then(|at| name.get(at.saturating_add(1)..))
        .unwrap_or(name)
}

/// What stands before the registered part, without its dot.
pub(super) fn below<'a>(name: &'a str, registered: &str) -> &'a str {
    name.strip_suffix(registered)
        .map_or("", |rest| rest.strip_suffix('.').unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_parts() {
        for (name, want) in [
            ("a.b.example.com", "example.com"),
            ("example.com", "example.com"),
            ("localhost", "localhost"),
            ("x.shop.co.uk", "shop.co.uk"),
            ("x.longer.uk", "longer.uk"),
        ] {
            assert_eq!(registered(name), want);
        }
        assert_eq!(below("a.b.example.com", "example.com"), "a.b");
        assert_eq!(below("example.com", "example.com"), "");
    }
}
