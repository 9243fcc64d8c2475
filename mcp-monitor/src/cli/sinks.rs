//! Sinks of a run: what the engine finds goes to them.

use std::time::{Duration, Instant};

use super::{
    Failure,
    check::{Item, State},
};
use crate::{
    config::program::Program,
    pipeline::{correlator::Wanted, record::Record},
    sink::{
        delivery::{Entry, Kind, MakeSender, Sender, Sinks, wall},
        settings::{self, Setting},
    },
    telemetry::{board::Board, push},
};

/// How long sinks may go on at the end.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Starts the configured sinks; `None` if there are none.
pub(super) fn start(program: &Program) -> Result<Option<Sinks>, Failure> {
    let settings = settings::read(&program.sinks)?;
    if settings.is_empty() {
        return Ok(None);
    }
    let lines = settings.into_iter().enumerate().map(|(at, setting)| {
        let section = program.sinks.clone();
        let make: MakeSender = Box::new(move || settings::make(&section, at));
        (setting.plan, make)
    });
    Sinks::start(lines.collect()).map(Some).map_err(Failure::work)
}

/// Adds the records that the sinks take.
pub(super) fn want(sinks: &Sinks, wanted: &mut Wanted) {
    wanted.alerts |= sinks.wants(Kind::Alert);
    wanted.messages |= sinks.wants(Kind::Message);
    wanted.flows |= sinks.wants(Kind::Flow);
    wanted.observations |= sinks.wants(Kind::Observation);
}

/// Gives records to the sinks that take them.
pub(super) fn offer(sinks: &Sinks, records: &[Record]) {
    for record in records {
        let (kind, alert) = match record {
            Record::Alert(alert) => (Kind::Alert, Some((alert.rule, alert.severity))),
            Record::Message(_) => (Kind::Message, None),
            Record::Flow(_) => (Kind::Flow, None),
            Record::Observation(_) => (Kind::Observation, None),
        };
        sinks.offer(kind, alert, || {
            Entry::new(
                kind,
                &serde_json::to_vec(record).unwrap_or_default(),
                &record.text(),
            )
        });
    }
}

/// Gives the numbers of `/metrics` to the sinks for which it is time.
pub(super) fn offer_metrics(sinks: &Sinks, board: &Board) {
    sinks.offer_metrics(Instant::now(), || {
        Entry::new(Kind::Metrics, push::record(board).to_string().as_bytes(), "")
    });
}

/// Gives what the monitor has to say of itself to the sinks that take it.
pub(super) fn notice(sinks: &Sinks, node: Option<&str>, name: &str, why: &str) {
    sinks.offer(Kind::Notice, None, || {
        let now = wall();
        // As a pod is told.
        let own = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let record = serde_json::json!({
            "schema": "mcp-monitor.notice/1", "id": format!("{name}-{}", now.0), "time": now, "name": name,
            "severity": "high", "summary": why,
            "kubernetes": {
                "node": node, "namespace": own("POD_NAMESPACE"), "pod": own("POD_NAME"), "pod_uid": own("POD_UID"),
            },
        });
        Entry::new(
            Kind::Notice,
            record.to_string().as_bytes(),
            &format!("{now} {name}: {why}"),
        )
    });
}

/// Asks each sink whether its receiver can be reached; with `send`, gives it a test alert too.
pub(super) fn check(program: &Program, send: bool) -> Result<Vec<Item>, Failure> {
    let settings = settings::read(&program.sinks)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::work)?;
    Ok(settings
        .into_iter()
        .map(|setting| check_one(&runtime, setting, send))
        .collect())
}

fn check_one(runtime: &tokio::runtime::Runtime, setting: Setting, send: bool) -> Item {
    let Setting { plan, target, .. } = setting;
    let what = format!("sink {} ({})", plan.name, plan.kind);
    let bad = |error: String| {
        Item::new(what.clone(), State::Degraded, error)
            .costs("records wait in its spool, or in memory, until that is set right")
    };
    let made = runtime.block_on(async { target.sender() });
    let mut sender = match made {
        Ok(sender) => sender,
        Err(error) => return bad(error),
    };
    let found = runtime.block_on(async {
        let tried = tokio::time::timeout(plan.timeout, try_one(&mut *sender, send)).await;
        tried.unwrap_or_else(|_| Err(format!("no answer within {} s", plan.timeout.as_secs())))
    });
    match found {
        Ok(found) => Item::new(what, State::Works, found),
        Err(error) => bad(error),
    }
}

async fn try_one(sender: &mut dyn Sender, send: bool) -> Result<String, String> {
    let found = sender.probe().await.map_err(|trouble| trouble.to_string())?;
    if !send {
        return Ok(found);
    }
    let batch = [test_alert()];
    let sent = sender.send(&batch).await;
    match sent.trouble {
        None => Ok(format!("{found}; the test alert was taken")),
        Some(trouble) => Err(format!("{found}, but the test alert was not taken: {trouble}")),
    }
}

/// An alert that says that it is none.
fn test_alert() -> Entry {
    let now = wall();
    let summary = "test alert, sent by `mcp-monitor check --send-test`: nothing happened";
    let record = serde_json::json!({
        "schema": "mcp-monitor.alert/1", "id": format!("test-{}", now.0), "time": now,
        "rule": "TEST-00", "name": "test-alert", "category": "test", "severity": "info", "summary": summary,
        "endpoint": null, "expected": [], "observed": null, "flow": null, "process": null, "kubernetes": null,
        "mcp": null, "evidence": {"packets": [], "capture": null},
        "taxonomy": {"air_sec_026": [], "owasp_mcp": [], "atlas": []},
        "count": 1, "first_seen": now, "last_seen": now, "incident": null, "storm": null,
    });
    let line = format!("{now} INFO     TEST-00 test-alert: {summary}");
    Entry::new(Kind::Alert, record.to_string().as_bytes(), &line)
}
