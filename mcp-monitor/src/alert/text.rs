//! An alert on one line, for people.

use std::fmt;

use super::Alert;
use crate::{detect::text::shown, types::Severity};

/// `07:12:03.123 HIGH DNS-01 dns-answer-drift [market-data] … (udp 10.1.0.5:41022 → 10.96.0.10:53) python3[4242] ×3
/// since 07:12:03 incident 3f0c9d1a2b4c5d6e#2 #17`.
///
/// Text from the wire is escaped: an alert cannot write to the terminal.
impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.time.to_string();
        let day = time.get(..10).unwrap_or_default();
        let clock = time.get(11..23).unwrap_or_default();
        let severity = match self.severity {
            Severity::Info => "INFO",
            Severity::Low => "LOW",
            Severity::Medium => "MEDIUM",
            Severity::High => "HIGH",
            Severity::Critical => "CRITICAL",
        };
        write!(f, "{day} {clock} {severity:<8} {} {}", self.rule, self.name)?;
        if let Some(endpoint) = &self.endpoint {
            write!(f, " [{}]", shown(endpoint))?;
        }
        write!(f, ": {}", clean(&self.summary))?;
        if let Some(flow) = &self.flow {
            write!(f, " ({flow})")?;
        }
        if let Some(process) = &self.process {
            write!(f, " {}[{}]", shown(&process.comm), process.pid)?;
        }
        if let Some(k8s) = &self.kubernetes
            && let Some(pod) = &k8s.pod
        {
            write!(f, " {}/{pod}", k8s.namespace.as_deref().unwrap_or("-"))?;
        }
        if let Some(id) = self.process.as_ref().and_then(|p| p.container_id.as_ref()) {
            write!(f, " container {}", shown(id.get(..12).unwrap_or(id)))?;
        }
        if self.count > 1 {
            let since = self.first_seen.to_string();
            let since = since.get(11..19).unwrap_or_default();
            write!(f, " ×{} since {since}", self.count)?;
        }
        if let Some(storm) = &self.storm {
            write!(f, " {}/min", storm.per_minute)?;
        }
        if let Some(incident) = &self.incident {
            write!(f, " incident {}#{}", incident.id, incident.order)?;
        }
        if let [first, ..] = self.evidence.packets.as_slice() {
            write!(f, " #{first}")?;
        }
        Ok(())
    }
}

/// As [`shown`], uncut: a summary has its own bounds.
fn clean(text: &str) -> String {
    text.split_inclusive(' ').map(shown).collect()
}
