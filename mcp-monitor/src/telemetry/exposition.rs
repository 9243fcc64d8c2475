//! Numbers as text: Prometheus 0.0.4 and OpenMetrics 1.0.
//!
//! Written here because the kept library writes OpenMetrics only, and wants the numbers in cells of its own.

use std::{borrow::Cow, fmt::Write as _};

/// How a number moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only up, from zero at the start.
    Counter,
    /// Up and down.
    Gauge,
}

/// Numbers of one name.
#[derive(Clone, PartialEq, Debug)]
pub struct Family {
    /// Without `_total`, which counters get.
    pub name: Cow<'static, str>,
    /// How they move.
    pub kind: Kind,
    /// One sentence.
    pub help: Cow<'static, str>,
    /// Label values and number; the labels of a family are always the same.
    pub samples: Vec<Sample>,
}

/// One number and its labels.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: f64,
}

impl Family {
    /// A family without numbers.
    pub fn new(name: impl Into<Cow<'static, str>>, kind: Kind, help: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            kind,
            help: help.into(),
            samples: Vec::new(),
        }
    }

    /// With one more number.
    #[must_use]
    pub fn with(mut self, labels: Vec<(&'static str, String)>, value: f64) -> Self {
        self.samples.push(Sample { labels, value });
        self
    }

    /// The name that samples have.
    pub fn full_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge => self.name.clone().into_owned(),
        }
    }
}

/// Which text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// What a client that sends this `Accept` gets.
    pub(super) fn of(accept: &str) -> Self {
        match accept.contains("application/openmetrics-text") {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(super) fn write(families: &[Family], format: Format) -> String {
    let mut text = String::with_capacity(16 << 10);
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let full = family.full_name();
        let name = match format {
            Format::Prometheus => full.as_str(),
            Format::OpenMetrics => &family.name,
        };
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let _ = writeln!(text, "# HELP {name} {}", escaped(&family.help));
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for sample in &family.samples {
            text.push_str(&full);
            for (index, (label, value)) in sample.labels.iter().enumerate() {
                let open = if index == 0 { '{' } else { ',' };
                let _ = write!(text, "{open}{label}=\"{}\"", escaped(value));
            }
            let close = if sample.labels.is_empty() { "" } else { "}" };
            let _ = writeln!(text, "{close} {}", sample.value);
        }
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// Backslash, quote and line feed. Other control characters have no escape in the format and no use here.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_texts() {
        let families = [
            Family::new("a", Kind::Counter, "It \"counts\".")
                .with(vec![("x", "b\"\n\\".into()), ("y", "z".into())], 3.0)
                .with(
                    vec![("x", "c".into()), ("y", String::new())],
                    9_007_199_254_740_992.0,
                ),
            Family::new("empty", Kind::Gauge, "Nothing."),
            Family::new("g", Kind::Gauge, "It moves.").with(Vec::new(), 0.5),
        ];
        assert_eq!(
            write(&families, Format::Prometheus),
            "# HELP a_total It \\\"counts\\\".\n# TYPE a_total counter\na_total{x=\"b\\\"\\n\\\\\",y=\"z\"} 3\na_total{x=\"c\",y=\"\"} 9007199254740992\n# HELP g It moves.\n# TYPE g gauge\ng 0.5\n"
        );
        let open = write(&families, Format::OpenMetrics);
        assert!(open.starts_with("# HELP a It \\\"counts\\\".\n# TYPE a counter\na_total{"));
        assert!(open.ends_with("g 0.5\n# EOF\n"));
        assert_eq!(
            Format::of("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"),
            Format::OpenMetrics
        );
        assert_eq!(Format::of("*/*"), Format::Prometheus);
    }
}
