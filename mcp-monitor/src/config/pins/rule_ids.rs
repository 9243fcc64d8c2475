//! The ids that pins may name under `rules` and `suppress`.

/// Families of rules and how many each has; ids run from 01 without holes.
const FAMILIES: &[(&str, u8)] = &[
    ("DST", 10),
    ("DNS", 11),
    ("TLS", 8),
    ("RED", 11),
    ("DG", 13),
    ("CR", 13),
    ("TD", 11),
    ("CP", 7),
    ("SS", 6),
    ("PV", 8),
    ("DP", 6),
    ("OP", 6),
];

/// `id` is that of a rule, implemented or not.
pub fn is_rule_id(id: &str) -> bool {
    let Some((family, number)) = id.split_once('-') else {
        return false;
    };
    number.len() == 2
        && number.bytes().all(|b| b.is_ascii_digit())
        && number.parse::<u8>().is_ok_and(|n| {
            FAMILIES
                .iter()
                .any(|(name, count)| *name == family && (1..=*count).contains(&n))
        })
}

/// Rules with `allow` among their settings.
const WITH_ALLOW: &[&str] = &[
    "RED-07", "RED-09", "RED-11", "CR-11", "TD-08", "CP-04", "CP-05", "CP-06", "CP-07", "SS-05", "PV-05",
    "PV-06", "DP-02", "DP-03", "DP-04", "DP-05", "DP-06", "OP-03", "OP-04", "OP-05",
];

/// `rules.ID.allow` has a meaning for this rule; its page says which.
pub fn takes_allow(id: &str) -> bool {
    WITH_ALLOW.contains(&id)
}

/// Every id, in the order of the catalogue.
pub fn all_rule_ids() -> impl Iterator<Item = String> {
    FAMILIES
        .iter()
        .flat_map(|(family, count)| (1..=*count).map(move |n| format!("{family}-{n:02}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_all_and_no_more() {
        assert_eq!(all_rule_ids().count(), 110);
        assert!(all_rule_ids().all(|id| is_rule_id(&id)));
        for bad in [
            "DST-00", "DST-11", "DST-1", "DST-001", "dst-01", "DST", "XX-01", "OP-+1",
        ] {
            assert!(!is_rule_id(bad), "{bad}");
        }
    }
}
