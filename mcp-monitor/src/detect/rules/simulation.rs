//! The false-alarm rates that statistical rules state, held against simulated honest servers.
//!
//! Each test learns as the rule does, so that the error of what was learned counts too, on sample sizes that the
//! pages name. A bound is the stated rate times the observations, and four standard deviations of a Poisson
//! count of that mean. Seeded: the same everywhere.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test may panic, and plain sums are easier to read"
)]

use std::time::Duration;

use super::{
    super::session_ids::weakness,
    dns_11_dns_tunnel::test::{FALSE_ALARM, HONEST, Sprt},
    dp_05_verdict_shift::{Scores, Verdicts},
    op_02_availability_shift::{FAILING, LEARN, Rate, SLOW},
    statistics::{ARL, KS_ALPHA},
};
use crate::types::Timestamp;

/// Uniform numbers from 0 to 1 (SplitMix64).
pub(super) fn random(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// More false alarms than so many do not happen by chance.
fn bound(expected: f64) -> f64 {
    expected + 4.0 * expected.sqrt() + 1.0
}

#[test]
fn dp_05_verdicts() {
    let mut next = random(1);
    let words = ["approve", "reject", "review", "escalate"];
    let (mut alarms, mut observed) = (0_u32, 0_u32);
    // Half the verdicts the same, up to nineteen of twenty.
    for common in [0.5, 0.7, 0.9, 0.95] {
        for _ in 0..60 {
            let mut tool = Verdicts::default();
            for _ in 0..3000 {
                let word = if next() < common {
                    words[0]
                } else {
                    words[1 + (next() * 3.0) as usize]
                };
                observed += 1;
                alarms += u32::from(tool.take(word).is_some());
            }
        }
    }
    // Each of the four words has a detector.
    let allowed = bound(f64::from(observed) * 4.0 / ARL);
    assert!(
        f64::from(alarms) <= allowed,
        "{alarms} in {observed}, {allowed} allowed"
    );
}

#[test]
fn dp_05_scores() {
    let mut next = random(2);
    let (mut alarms, mut comparisons) = (0_u32, 0_u32);
    let shapes: [fn(f64) -> f64; 4] = [
        |x| x,
        |x| x.powi(8),
        |x| -(1.0 - x).ln() * 250.0,
        |x| (x * 5.0).floor(),
    ];
    for shape in shapes {
        for _ in 0..100 {
            let mut tool = Scores::default();
            for n in 0..100 + 50 * 50 {
                let alarm = tool.take(shape(next())).is_some();
                alarms += u32::from(alarm);
                comparisons += u32::from(n >= 100 && n % 50 == 49);
            }
        }
    }
    let allowed = bound(f64::from(comparisons) * KS_ALPHA);
    assert!(
        comparisons >= 19_600 && f64::from(alarms) <= allowed,
        "{alarms} in {comparisons}"
    );
}

#[test]
fn op_02_failures_and_slow_answers() {
    let mut next = random(3);
    for (to, rates) in [(FAILING, [0.0, 0.02, 0.1, 0.3]), (SLOW, [0.01, 0.05, 0.1, 0.2])] {
        let (mut alarms, mut observed) = (0_u32, 0_u32);
        for rate in rates {
            for _ in 0..60 {
                let mut server = Rate::default();
                let mut now = Timestamp::from_secs(1_795_331_523);
                for _ in 0..3000 {
                    now = now.saturating_add(Duration::from_secs(1));
                    observed += 1;
                    alarms += u32::from(server.take(next() < rate, LEARN, to, now));
                }
            }
        }
        let allowed = bound(f64::from(observed) / ARL);
        assert!(
            f64::from(alarms) <= allowed,
            "{alarms} in {observed}, {allowed} allowed"
        );
    }
}

#[test]
fn dns_11_honest_zones() {
    let mut next = random(4);
    let (mut alarms, mut names) = (0_u32, 0_u32);
    for share in [0.0, HONEST / 2.0, HONEST] {
        for _ in 0..10_000 {
            let mut zone = Sprt::default();
            for _ in 0..100 {
                names += 1;
                alarms += u32::from(zone.observe(next() < share));
            }
        }
    }
    // Every name may begin a test.
    let allowed = bound(f64::from(names) * FALSE_ALARM);
    assert!(
        f64::from(alarms) <= allowed,
        "{alarms} in {names}, {allowed} allowed"
    );
}

#[test]
fn ss_01_random_ids() {
    let mut next = random(5);
    let alphabets: [(&[u8], usize); 4] = [
        (b"0123456789abcdef", 7),
        (b"0123456789abcdef", 16),
        (b"0123456789", 9),
        (
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            6,
        ),
    ];
    let mut alarms = 0_u32;
    for (alphabet, length) in alphabets {
        for _ in 0..5000 {
            let ids: Vec<String> = (0..16)
                .map(|_| {
                    let letter = |_| char::from(alphabet[(next() * alphabet.len() as f64) as usize]);
                    (0..length).map(letter).collect()
                })
                .collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            // As many looks as ids, as the rule has them; one alarm per server.
            alarms += u32::from((1..=ids.len()).any(|n| weakness(&ids[..n]).is_some()));
        }
    }
    // Three tests, each below one in a million servers.
    assert!(f64::from(alarms) <= bound(20_000.0 * 3e-6), "{alarms}");
}
