//! `sinks:` of the program configuration: what every sink can be told, and which kinds there are.

mod fields;
mod files;
mod reference;
mod tls;

use std::{path::Path, time::Duration};

pub(crate) use fields::Fields;
pub(crate) use files::Files;
pub use reference::reference;
pub(crate) use tls::Tls;

pub(crate) use crate::config::secret::Secret;

use super::{
    alertmanager,
    delivery::{Filter, Kind, Made, Plan, Sender},
    file, kafka, kubernetes, otlp, syslog, webhook,
};
use crate::{
    config::{
        ConfigError,
        pins::is_rule_id,
        sinks::SinkSection,
        yaml::{Node, Reader},
    },
    types::Severity,
};

/// Every kind of sink. A new one is a folder beside its neighbours and a line here.
const KINDS: &[&SinkKind] = &[
    &file::KIND,
    &webhook::KIND,
    &alertmanager::KIND,
    &syslog::KIND,
    &otlp::KIND,
    &kafka::KIND,
    &kubernetes::KIND,
];

/// Sinks of one process.
const MAX_SINKS: usize = 32;
/// How often metrics go out.
const INTERVAL: Duration = Duration::from_secs(30);
/// Records of one batch that a configuration may ask for.
const MAX_BATCH: u64 = 10_000;

/// A kind of sink.
pub(crate) struct SinkKind {
    /// As `type` names it.
    pub(crate) name: &'static str,
    /// For docs/SINKS.md.
    pub(crate) about: &'static str,
    /// Its own keys.
    pub(crate) keys: &'static [&'static [Key]],
    /// Records of a batch, where the configuration does not say.
    pub(crate) batch: u64,
    /// Whether it needs a spool, where the configuration does not say.
    pub(crate) spool: bool,
    /// Which records it can take.
    pub(crate) records: &'static [Kind],
    /// Reads its own keys.
    pub(crate) read: fn(&Fields<'_>) -> Result<Box<dyn Target>, ConfigError>,
}

/// One key with its documentation.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) form: &'static str,
    pub(crate) default: &'static str,
    pub(crate) about: &'static str,
}

/// A sink's own settings.
pub(crate) trait Target: Send {
    /// Makes the sending half. Called in the sink's own thread, before anything is sent.
    fn sender(self: Box<Self>) -> Result<Box<dyn Sender>, String>;
}

/// One sink as configured.
pub(crate) struct Setting {
    pub(crate) plan: Plan,
    pub(crate) target: Box<dyn Target>,
    /// Files that hold its secrets and certificates, as they were read.
    pub(crate) files: Files,
}

/// The sending half of the sink at this place of the list, from its files as they are now.
///
/// # Errors
///
/// What is wrong with it by now, such as a key that does not fit its certificate.
pub(crate) fn make(section: &SinkSection, at: usize) -> Result<Made, String> {
    let r = Reader { file: &section.file };
    let list = section.node.as_ref().map(|list| r.list(list, "sinks"));
    let node = list
        .transpose()
        .map_err(|e| e.to_string())?
        .and_then(|list| list.get(at));
    let node = node.ok_or_else(|| "the sink is not configured".to_owned())?;
    let setting = read_one(r, &section.folder, node, section).map_err(|e| e.to_string())?;
    Ok(Made {
        sender: setting.target.sender()?,
        files: setting.files,
    })
}

const COMMON: &[Key] = &[
    Key {
        name: "type",
        form: "text",
        default: "required",
        about: "Which kind of sink.",
    },
    Key {
        name: "name",
        form: "letters, digits, `-`, `_`",
        default: "the type",
        about: "Names it in logs, counters and the spool. Two sinks of one type need names.",
    },
    Key {
        name: "records",
        form: "list of `alerts`, `messages`, `flows`, `observations`, `metrics`, `notices`",
        default: "[alerts], and notices where the kind takes them",
        about: "What it takes, where the kind can take more than alerts.",
    },
    Key {
        name: "severity",
        form: "`info` to `critical`",
        default: "info",
        about: "Alerts at least this severe.",
    },
    Key {
        name: "rules",
        form: "list",
        default: "all",
        about: "Alerts of these rules: ids (`DNS-01`) or families (`DNS`).",
    },
    Key {
        name: "batch",
        form: "1 to 10000",
        default: "by type",
        about: "Records sent together at most. Nothing waits for a batch to fill: records that come while one is under way go with the next.",
    },
    Key {
        name: "timeout",
        form: "time",
        default: "30s",
        about: "Longest attempt; then it counts as failed.",
    },
    Key {
        name: "spool",
        form: "true or false",
        default: "by type",
        about: "Whether records wait on disk (see `spool`) or in memory only.",
    },
];

/// Reads the sinks of a configuration.
///
/// # Errors
///
/// The first mistake, with its place.
pub(crate) fn read(section: &SinkSection) -> Result<Vec<Setting>, ConfigError> {
    let r = Reader { file: &section.file };
    let Some(list) = &section.node else {
        return Ok(Vec::new());
    };
    let mut settings: Vec<Setting> = Vec::new();
    for node in r.list(list, "sinks")? {
        if settings.len() >= MAX_SINKS {
            return Err(r.at(node, "one sink more", format!("at most {MAX_SINKS}")));
        }
        let setting = read_one(r, &section.folder, node, section)?;
        if let Some(twin) = settings.iter().find(|other| other.plan.name == setting.plan.name) {
            return Err(r.at(
                node,
                format!("a second sink named {:?}", twin.plan.name),
                "a name of its own (key name)",
            ));
        }
        settings.push(setting);
    }
    Ok(settings)
}

fn read_one(
    r: Reader<'_>,
    folder: &Path,
    node: &Node,
    section: &SinkSection,
) -> Result<Setting, ConfigError> {
    let names = || KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
    let named = r
        .any_map(node, "a sink")?
        .iter()
        .find(|(key, _)| key.name == "type");
    let Some((_, type_node)) = named else {
        return Err(r.at(node, "a sink without type", format!("type: one of {}", names())));
    };
    let type_name = r.text(type_node, "type")?;
    let Some(kind) = KINDS.iter().find(|kind| kind.name == type_name) else {
        return Err(r.at(
            type_node,
            format!("{type_name:?} for type"),
            format!("one of {}", names()),
        ));
    };
    let what = format!("sink type {}", kind.name);
    let own = kind.keys.iter().copied().flatten();
    let allowed: Vec<&str> = COMMON.iter().chain(own).map(|key| key.name).collect();
    let files = Files::default();
    let fields = Fields::new(r, folder, node, &what, &allowed, &files)?;
    let name = fields.text("name")?.unwrap_or_else(|| kind.name.to_owned());
    if name.len() > 64
        || !name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return Err(fields.wrong(
            "name",
            format!("{name:?} for name"),
            "at most 64 letters, digits, - and _",
        ));
    }
    let filter = filter(&fields, kind)?;
    let spool = fields.flag("spool", kind.spool && !filter.records.contains(&Kind::Metrics))?;
    let plan = Plan {
        kind: kind.name,
        filter,
        spool: spool.then(|| (section.spool.dir.join(&name), section.spool.max_bytes)),
        batch: usize::try_from(fields.number("batch", 1..=MAX_BATCH, kind.batch)?).unwrap_or(1),
        timeout: fields.time("timeout")?.unwrap_or(Duration::from_secs(30)),
        name,
    };
    let target = (kind.read)(&fields)?;
    Ok(Setting { plan, target, files })
}

fn filter(fields: &Fields<'_>, kind: &SinkKind) -> Result<Filter, ConfigError> {
    let mut filter = Filter::default();
    if fields.get("records").is_some() {
        let can: Vec<&str> = kind.records.iter().map(|kind| kind.as_str()).collect();
        filter.records.clear();
        for word in fields.list("records")? {
            let record = kind.records.iter().find(|kind| kind.as_str() == word);
            let Some(record) = record else {
                return Err(fields.wrong(
                    "records",
                    format!("{word:?} in records"),
                    format!("some of {}", can.join(", ")),
                ));
            };
            filter.records.push(*record);
        }
    } else if kind.records.contains(&Kind::Notice) {
        filter.records.push(Kind::Notice);
    }
    if filter.records.contains(&Kind::Metrics) {
        if filter.records.len() > 1 {
            let expected =
                "metrics alone: give them a sink of their own, so that they push no record out of the spool";
            return Err(fields.wrong("records", "metrics and other records", expected));
        }
        filter.interval = fields.time("interval")?.unwrap_or(INTERVAL);
    } else if fields.get("interval").is_some() {
        return Err(fields.wrong("interval", "interval without metrics", "records: [metrics]"));
    }
    let severities = Severity::ALL.map(|severity| (severity.as_str(), severity));
    filter.severity = fields.choice("severity", &severities, Severity::Info)?;
    for rule in fields.list("rules")? {
        if !is_rule_id(rule) && !is_rule_id(&format!("{rule}-01")) {
            return Err(fields.wrong(
                "rules",
                format!("{rule:?} in rules"),
                "rule ids such as DNS-01, or families such as DNS",
            ));
        }
        filter.rules.push(rule.to_owned());
    }
    Ok(filter)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// The sinks of a configuration text, or the message of its first mistake.
    pub(crate) fn settings(text: &str, folder: &Path) -> Result<Vec<Setting>, String> {
        let program =
            crate::config::program::Program::read(text, "config.yaml", folder).map_err(|e| e.to_string())?;
        read(&program.sinks).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::settings, *};

    fn error(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "s3cr3t-value\n").unwrap();
        settings(text, dir.path()).err().unwrap_or_default()
    }

    #[test]
    fn common_keys() {
        let text = "spool: {dir: /s, max_bytes: 2MiB}\nsinks:\n  - {type: file, path: a.jsonl, records: [alerts, flows], spool: true}\n  - {type: alertmanager, name: oncall, url: 'http://a:9093', severity: high, rules: [DNS, CR-01], batch: 7, timeout: 5s}\n";
        let settings = settings(text, Path::new("/etc/m")).unwrap();
        let (file, oncall) = (&settings[0].plan, &settings[1].plan);
        assert_eq!((file.name.as_str(), oncall.name.as_str()), ("file", "oncall"));
        assert_eq!(file.filter.records, [Kind::Alert, Kind::Flow]);
        assert_eq!(file.spool, Some(("/s/file".into(), 2 << 20)));
        assert_eq!(oncall.filter.severity, Severity::High);
        assert_eq!(oncall.filter.rules, ["DNS", "CR-01"]);
        assert_eq!((oncall.batch, oncall.timeout), (7, Duration::from_secs(5)));
    }

    #[test]
    fn mistakes_name_their_place() {
        for (text, message) in [
            (
                "sinks: [{path: x}]\n",
                "config.yaml:1:9: a sink without type; expected type: one of file",
            ),
            (
                "sinks: [{type: files}]\n",
                "config.yaml:1:16: \"files\" for type; expected one of file",
            ),
            (
                "sinks: [{type: file, pat: x}]\n",
                "config.yaml:1:22: unknown key \"pat\" in sink type file",
            ),
            (
                "sinks: [{type: file}]\n",
                "config.yaml:1:9: no path for sink type file",
            ),
            (
                "sinks: [{type: file, path: x, name: a/b}]\n",
                "config.yaml:1:37: \"a/b\" for name",
            ),
            (
                "sinks: [{type: file, path: x, rules: [XX]}]\n",
                "config.yaml:1:38: \"XX\" in rules",
            ),
            (
                "sinks: [{type: file, path: x, severity: bad}]\n",
                "config.yaml:1:41: \"bad\" for severity",
            ),
            (
                "sinks: [{type: file, path: a}, {type: file, path: b}]\n",
                "config.yaml:1:32: a second sink named \"file\"",
            ),
            (
                "sinks: [{type: alertmanager, url: 'ftp://a'}]\n",
                "config.yaml:1:35: bad URL for url",
            ),
            (
                "sinks: [{type: alertmanager, url: 'http://a', records: [flows]}]\n",
                "config.yaml:1:56: \"flows\" in records; expected some of alerts",
            ),
            (
                "sinks: [{type: webhook, url: 'http://a', bearer: s3cr3t-value}]\n",
                "config.yaml:1:50: text for bearer; expected {file: PATH}",
            ),
            (
                "sinks: [{type: webhook, url: 'http://a', bearer: {env: NOT_SET_ANYWHERE}}]\n",
                "config.yaml:1:56: bearer: the environment has no text in NOT_SET_ANYWHERE",
            ),
            (
                "sinks: [{type: webhook, url: {file: secret}}]\n",
                "config.yaml:1:30: bad URL for url",
            ),
            (
                "sinks: [{type: webhook, url: 'https://a', tls: {ca: secret}}]\n",
                "config.yaml:1:48: no certificate in ca",
            ),
            (
                "sinks: [{type: otlp, url: 'http://a', records: [alerts, metrics]}]\n",
                "config.yaml:1:48: metrics and other records; expected metrics alone",
            ),
            (
                "sinks: [{type: otlp, url: 'http://a', interval: 5s}]\n",
                "config.yaml:1:49: interval without metrics",
            ),
            (
                "sinks: [{type: otlp, url: 'http://a', resource: {service.name: x}}]\n",
                "config.yaml:1:49: service.name in resource; expected service_name",
            ),
            (
                "sinks: [{type: kafka, topic: a b, brokers: ['k:9092']}]\n",
                "config.yaml:1:30: \"a b\" for topic",
            ),
            (
                "sinks: [{type: kafka, topic: a, brokers: [k]}]\n",
                "config.yaml:1:42: \"k\" in brokers; expected HOST:PORT",
            ),
            (
                "sinks: [{type: kafka, topic: a, brokers: ['k:1'], sasl: {user: u, password: s3cr3t}}]\n",
                "config.yaml:1:77: text for password; expected {file: PATH}",
            ),
            (
                "spool: {max_bytes: 1}\n",
                "config.yaml:1:20: bad size for max_bytes",
            ),
        ] {
            let error = error(text);
            assert!(error.starts_with(message), "{text}: {error}");
            assert!(!error.contains("s3cr3t"), "{error}");
        }
    }
}
