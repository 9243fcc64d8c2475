//! Which of the last alerts and flows are asked for.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    alert::Alert, config::quantity::parse_duration, pipeline::record::FlowRecord, types::Severity,
    types::Timestamp,
};

/// Most that one answer holds.
const MOST: usize = 10_000;
/// So many, where the question does not say.
const SOME: usize = 100;

/// The parameters of a request.
pub(super) type Parameters = BTreeMap<String, String>;

/// Which alerts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct AlertQuery {
    pub(super) severity: Option<Severity>,
    pub(super) rule: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) text: Option<String>,
    pub(super) since: Option<Timestamp>,
    pub(super) limit: usize,
}

/// Which flows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct FlowQuery {
    pub(super) endpoint: Option<usize>,
    pub(super) mcp: Option<bool>,
    pub(super) server: Option<String>,
    pub(super) limit: usize,
}

impl AlertQuery {
    pub(super) const NAMES: &'static [&'static str] =
        &["severity", "rule", "endpoint", "namespace", "q", "since", "limit"];

    /// Reads parameters; an empty one asks for nothing, as browsers send empty fields of a form.
    pub(super) fn read(parameters: &Parameters, now: Timestamp) -> Result<Self, String> {
        known(parameters, Self::NAMES)?;
        let text = |name: &str| parameters.get(name).filter(|v| !v.is_empty()).cloned();
        Ok(Self {
            severity: text("severity")
                .map(|s| Severity::parse(&s).ok_or("severity: expected info, low, medium, high or critical"))
                .transpose()?,
            rule: text("rule"),
            endpoint: text("endpoint"),
            namespace: text("namespace"),
            text: text("q").map(|q| q.to_lowercase()),
            since: text("since").map(|s| since(&s, now)).transpose()?,
            limit: limit(parameters)?,
        })
    }

    fn wants(&self, alert: &Alert) -> bool {
        let namespace = || alert.kubernetes.as_ref().and_then(|k| k.namespace.as_deref());
        self.severity.is_none_or(|least| alert.severity >= least)
            && self
                .rule
                .as_deref()
                .is_none_or(|rule| rule == alert.rule || rule == alert.name)
            && self
                .endpoint
                .as_deref()
                .is_none_or(|name| alert.endpoint.as_deref() == Some(name))
            && self
                .namespace
                .as_deref()
                .is_none_or(|name| namespace() == Some(name))
            && self.since.is_none_or(|since| alert.last_seen >= since)
            && self
                .text
                .as_deref()
                .is_none_or(|text| alert.summary.to_lowercase().contains(text) || alert.id.starts_with(text))
    }

    pub(super) fn of(&self, alerts: Vec<Arc<Alert>>) -> Vec<Arc<Alert>> {
        alerts
            .into_iter()
            .filter(|alert| self.wants(alert))
            .take(self.limit)
            .collect()
    }
}

impl FlowQuery {
    const NAMES: &'static [&'static str] = &["endpoint", "mcp", "server", "limit"];

    /// `place` finds an endpoint by its name.
    pub(super) fn read(
        parameters: &Parameters,
        place: impl Fn(&str) -> Option<usize>,
    ) -> Result<Self, String> {
        known(parameters, Self::NAMES)?;
        let text = |name: &str| parameters.get(name).filter(|v| !v.is_empty());
        Ok(Self {
            endpoint: text("endpoint")
                .map(|name| place(name).ok_or(format!("endpoint: {name:?} is not pinned")))
                .transpose()?,
            mcp: text("mcp")
                .map(|v| v.parse().map_err(|_| "mcp: expected true or false"))
                .transpose()?,
            server: text("server").cloned(),
            limit: limit(parameters)?,
        })
    }

    pub(super) fn of(&self, flows: Vec<Arc<FlowRecord>>) -> Vec<Arc<FlowRecord>> {
        let wants = |flow: &FlowRecord| {
            self.endpoint.is_none_or(|place| flow.endpoint == Some(place))
                && self.mcp.is_none_or(|mcp| flow.mcp == mcp)
                && self.server.as_deref().is_none_or(|server| {
                    flow.flow.server_name.as_deref() == Some(server)
                        || flow.flow.server.is_some_and(|peer| peer.ip.to_string() == server)
                })
        };
        flows
            .into_iter()
            .filter(|flow| wants(flow))
            .take(self.limit)
            .collect()
    }
}

fn known(parameters: &Parameters, names: &[&str]) -> Result<(), String> {
    match parameters.keys().find(|key| !names.contains(&key.as_str())) {
        Some(key) => Err(format!(
            "unknown parameter {key:?}; expected {}",
            names.join(", ")
        )),
        None => Ok(()),
    }
}

fn limit(parameters: &Parameters) -> Result<usize, String> {
    let Some(text) = parameters.get("limit").filter(|text| !text.is_empty()) else {
        return Ok(SOME);
    };
    let limit = text.parse().ok().filter(|n| (1..=MOST).contains(n));
    limit.ok_or(format!("limit: expected 1 to {MOST}"))
}

/// A time, or how long ago.
fn since(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(time) = Timestamp::parse_rfc3339(text) {
        return Ok(time);
    }
    let ago: Duration = parse_duration(text).ok_or("since: expected 15m, 24h or 2026-12-01T00:00:00Z")?;
    let nanos = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
    Ok(Timestamp(now.0.saturating_sub(nanos)))
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::alert::{Evidence, Taxonomy};

    /// An alert of DNS-01 on `market-data`.
    pub(in super::super) fn alert() -> Alert {
        Alert {
            schema: "mcp-monitor.alert/1",
            id: "3f0c9d1a2b4c5d6e".into(),
            time: Timestamp::from_secs(1_000),
            rule: "DNS-01",
            name: "dns-answer-drift",
            category: "dns",
            severity: Severity::High,
            summary: "market-data resolved to 198.51.100.66".into(),
            endpoint: Some("market-data".into()),
            expected: vec!["203.0.113.0/24".into()],
            observed: Some("198.51.100.66".into()),
            flow: None,
            process: None,
            kubernetes: None,
            mcp: None,
            evidence: Evidence::default(),
            taxonomy: Taxonomy {
                air_sec_026: &[],
                owasp_mcp: &[],
                atlas: &[],
            },
            count: 1,
            first_seen: Timestamp::from_secs(1_000),
            last_seen: Timestamp::from_secs(1_000),
            incident: None,
            storm: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<AlertQuery, String> {
        let parameters = url::form_urlencoded::parse(text.as_bytes())
            .into_owned()
            .collect();
        AlertQuery::read(&parameters, Timestamp::from_secs(2_000))
    }

    #[test]
    fn filters() {
        let alert = testing::alert();
        for (text, wanted) in [
            ("", true),
            ("severity=high&rule=&endpoint=market-data", true),
            ("severity=critical", false),
            ("rule=DNS-01", true),
            ("rule=dns-answer-drift", true),
            ("rule=DNS-02", false),
            ("q=198.51", true),
            ("q=3f0c", true),
            ("q=nothing", false),
            ("namespace=a", false),
            ("since=17m", true),
            ("since=16m", false),
            ("since=1970-01-01T00:10:00Z", true),
        ] {
            assert_eq!(query(text).unwrap().wants(&alert), wanted, "{text}");
        }
        for (text, error) in [
            ("severity=loud", "severity: expected info"),
            ("limit=0", "limit: expected 1 to"),
            ("since=never", "since: expected 15m"),
            ("sev=high", "unknown parameter \"sev\"; expected severity"),
        ] {
            assert!(query(text).unwrap_err().starts_with(error), "{text}");
        }
    }
}
