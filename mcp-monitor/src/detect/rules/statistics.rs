//! The tests that statistical rules use, by their names, with the false-alarm rates they state.

/// Average run length: an [`EDetector`] raises one false alarm in at least so many observations.
pub(super) const ARL: f64 = 100_000.0;

/// Sequential change detection for yes-or-no observations: the Shiryaev-Roberts e-detector (Shin, Ramdas
/// and Rinaldo 2024). Each observation multiplies the evidence by its likelihood ratio between "yes at
/// least at rate `to`" and "yes at most at rate `from`"; an alarm at [`ARL`] keeps the average number of
/// observations between false alarms at [`ARL`] or more, however often one looks.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct EDetector {
    evidence: f64,
}

impl EDetector {
    /// Takes one observation; true if it is time for an alarm, after which it begins anew.
    /// `from` < `to`, both inside 0 to 1.
    pub(super) fn observe(&mut self, yes: bool, from: f64, to: f64) -> bool {
        let from = from.clamp(1e-6, 0.999);
        let to = to.clamp(from, 0.9999);
        let ratio = if yes { to / from } else { (1.0 - to) / (1.0 - from) };
        // More than enough is not kept, so that a change that ended is forgotten soon.
        self.evidence = ((self.evidence + 1.0) * ratio).min(ARL * 100.0);
        self.evidence >= ARL
    }

    /// What was observed lately speaks against a change.
    pub(super) fn is_calm(&self) -> bool {
        self.evidence < 2.0
    }

    /// Begins anew.
    pub(super) fn reset(&mut self) {
        self.evidence = 0.0;
    }
}

/// Upper end of the one-sided 99.9 % confidence interval of a rate (Wilson score).
pub(super) fn upper_rate(hits: u32, of: u32) -> f64 {
    const Z: f64 = 3.09;
    if of == 0 {
        return 1.0;
    }
    let (n, p) = (f64::from(of), f64::from(hits) / f64::from(of));
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((p + Z * Z / (2.0 * n) + spread) / (1.0 + Z * Z / n)).min(1.0)
}

/// False-alarm rate of one [`differ`].
pub(super) const KS_ALPHA: f64 = 1e-6;

/// Two samples come from different distributions: Kolmogorov-Smirnov with two samples, two-sided, at
/// [`KS_ALPHA`] (Smirnov's asymptotic bound, which errs to silence on samples of some dozens). Both are
/// sorted here.
pub(super) fn differ(a: &mut [f64], b: &mut [f64]) -> bool {
    if a.is_empty() || b.is_empty() {
        return false;
    }
    a.sort_unstable_by(f64::total_cmp);
    b.sort_unstable_by(f64::total_cmp);
    let (n, m) = (a.len() as f64, b.len() as f64);
    let (mut i, mut j) = (0usize, 0usize);
    let mut largest: f64 = 0.0;
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let at = if x.total_cmp(y).is_le() { *x } else { *y };
        while a.get(i).is_some_and(|v| v.total_cmp(&at).is_le()) {
            i = i.saturating_add(1);
        }
        while b.get(j).is_some_and(|v| v.total_cmp(&at).is_le()) {
            j = j.saturating_add(1);
        }
        largest = largest.max((i as f64 / n - j as f64 / m).abs());
    }
    let critical = (-(KS_ALPHA / 2.0).ln() / 2.0).sqrt() * ((n + m) / (n * m)).sqrt();
    largest > critical
}

/// The middle value of a sorted sample.
pub(super) fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::simulation::random, *};

    #[test]
    fn the_e_detector_keeps_its_run_length_and_finds_a_shift() {
        let mut next = random(7);
        let mut detector = EDetector::default();
        let mut alarms = 0;
        for _ in 0..400_000 {
            if detector.observe(next() < 0.3, 0.3, 0.8) {
                alarms += 1;
                detector.reset();
            }
        }
        // On average at most four.
        assert!(alarms <= 8, "{alarms}");
        detector.reset();
        let after = (1..).find(|_| detector.observe(next() < 0.8, 0.3, 0.8)).unwrap();
        assert!(after < 60, "{after}");
    }

    #[test]
    fn two_samples_differ_only_if_their_distributions_do() {
        let mut next = random(11);
        let mut false_alarms = 0;
        for _ in 0..2000 {
            let mut a: Vec<f64> = (0..100).map(|_| next()).collect();
            let mut b: Vec<f64> = (0..50).map(|_| next()).collect();
            false_alarms += u32::from(differ(&mut a, &mut b));
        }
        assert_eq!(false_alarms, 0);
        let mut a: Vec<f64> = (0..100).map(|_| next()).collect();
        let mut b: Vec<f64> = (0..50).map(|_| 0.6 + 0.4 * next()).collect();
        assert!(differ(&mut a, &mut b));
        assert!(!differ(&mut [], &mut b));
        assert!(!differ(&mut [1.0; 100], &mut [1.0; 50]));
    }

    #[test]
    fn upper_rates() {
        assert!(upper_rate(0, 0) >= 1.0);
        assert!((0.05..0.12).contains(&upper_rate(0, 100)));
        assert!((0.6..0.7).contains(&upper_rate(50, 100)));
        assert!(upper_rate(100, 100) > 0.99);
    }
}
