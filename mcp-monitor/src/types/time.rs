//! Capture time.

use std::{fmt, time::Duration};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Nanoseconds since the Unix epoch, as the capture or the kernel stamped them.
///
/// The only notion of time from `decode` to `alert`: nothing there reads a clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Whole seconds since the epoch.
    pub fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// `self + by`, stopping at the end of the range (the year 2554).
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// How long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// RFC 3339 to the second, e.g. `2026-11-22T07:12:03Z`: for people.
    pub fn to_seconds(self) -> String {
        let text = self.to_string();
        format!("{}Z", text.get(..19).unwrap_or(&text))
    }

    /// Reads an RFC 3339 time such as `2026-12-01T00:00:00Z`. `None` if it is not one or lies before 1970.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        u64::try_from(parsed.unix_timestamp_nanos()).ok().map(Self)
    }
}

/// RFC 3339 in UTC with nine fractional digits, e.g. `2026-11-22T07:12:03.123456789Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(t) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0)) else {
            return write!(f, "{}ns", self.0);
        };
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second(),
            t.nanosecond()
        )
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_nine_digits_and_reads_them_back() {
        let t = Timestamp(1_795_331_523_123_456_789);
        assert_eq!(t.to_string(), "2026-11-22T07:12:03.123456789Z");
        assert_eq!(Timestamp::parse_rfc3339(&t.to_string()), Some(t));
        assert_eq!(Timestamp::parse_rfc3339("1960-01-01T00:00:00Z"), None);
    }
}
