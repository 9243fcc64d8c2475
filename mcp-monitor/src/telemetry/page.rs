//! The page at `/`: read-only, one document without scripts or anything from elsewhere.
//!
//! Every text that is not written here goes through [`Text`]: names, summaries and processes come from
//! whoever is watched.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, LazyLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::{
    board::{Board, now},
    health,
    query::{AlertQuery, Parameters},
    recent::{Seen, Trust},
};
use crate::{
    alert::Alert,
    config::quantity::show_duration,
    pipeline::status::{EndpointStatus, Status},
    types::{Severity, Timestamp},
};

const STYLE: &str = include_str!("page.css");
/// Alerts shown unless the question says how many.
const ALERTS: usize = 50;
/// How long an alert colours its endpoint.
const RECENT: Duration = Duration::from_secs(86_400);

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
});

/// What the browser may load and do: this style, and the form.
pub(super) fn policy() -> &'static str {
    &POLICY
}

/// Text as HTML. What cannot be seen or turns the direction of writing is shown as its code.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() || is_invisible(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

fn pill(class: &str, text: &str) -> String {
    format!("<span class=\"pill {class}\">{}</span>", Text(text))
}

fn severity_class(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "bad",
        Severity::Medium => "warn",
        Severity::Low | Severity::Info => "info",
    }
}

/// The page.
///
/// # Errors
///
/// A parameter that cannot be read.
pub(super) fn render(board: &Board, parameters: &Parameters) -> Result<String, String> {
    let mut parameters = parameters.clone();
    let refresh = parameters
        .remove("refresh")
        .and_then(|s| s.parse::<u32>().ok())
        .filter(|s| (2..=3600).contains(s));
    let mut query = AlertQuery::read(&parameters, now())?;
    if !parameters.contains_key("limit") {
        query.limit = ALERTS;
    }
    let status = board.status();
    let readiness = health::readiness(board);
    let mut out = String::with_capacity(64 << 10);
    let _ = write!(
        out,
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\">"
    );
    if let Some(seconds) = refresh {
        let _ = write!(out, "<meta http-equiv=refresh content={seconds}>");
    }
    let _ = write!(
        out,
        "<title>{} mcp-monitor</title><link rel=icon href=\"data:,\"><style>{STYLE}</style></head><body>",
        if readiness.ready { "●" } else { "▲" }
    );
    head(
        &mut out,
        board,
        status.as_deref(),
        readiness.ready,
        refresh.is_some(),
    );
    out.push_str("<main>");
    conditions(&mut out, &readiness);
    if let Some(status) = &status {
        cards(&mut out, board, status);
        endpoints(&mut out, board, status);
    }
    alerts(&mut out, board, &parameters, &query);
    if let Some(status) = &status {
        blind_spots(&mut out, board, status);
    }
    out.push_str("</main><footer>Alerts since this monitor began, at most the last http.keep_alerts of them. <a href=\"/alerts\">alerts</a> · <a href=\"/flows\">flows</a> · <a href=\"/metrics\">metrics</a> · <a href=\"/readyz\">readiness</a></footer></body></html>");
    Ok(out)
}

fn head(out: &mut String, board: &Board, status: Option<&Status>, ready: bool, refreshing: bool) {
    let state = if ready {
        pill("good", "watching")
    } else {
        pill("bad", "not ready")
    };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let node = std::env::var("NODE_NAME").unwrap_or_else(|_| host.trim().to_owned());
    let since = now().since(board.started);
    let _ = write!(
        out,
        "<header><h1>mcp-monitor</h1>{state}<span><b>{}</b></span><span class=dim>{} · up {}",
        Text(&node),
        env!("CARGO_PKG_VERSION"),
        span(since),
    );
    if let Some(status) = status {
        let _ = write!(out, " · as of {}", status.at.to_seconds());
    }
    let (link, text) = match refreshing {
        true => ("/", "stop refreshing"),
        false => ("/?refresh=10", "refresh every 10 s"),
    };
    let _ = write!(
        out,
        "</span><span class=right><a href=\"{link}\">{text}</a></span></header>"
    );
}

/// Whole seconds, and of long times the first two units.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let round = match seconds {
        0..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    show_duration(Duration::from_secs(
        seconds.saturating_sub(seconds.checked_rem(round).unwrap_or(0)),
    ))
}

fn conditions(out: &mut String, readiness: &health::Readiness) {
    let failing: Vec<_> = readiness.conditions.iter().filter(|c| !c.ok).collect();
    if failing.is_empty() {
        return;
    }
    out.push_str("<h2>Needs attention</h2><div class=scroll><ul class=plain>");
    for condition in failing {
        let class = if condition.required { "bad" } else { "warn" };
        let _ = write!(
            out,
            "<li>{} {}</li>",
            pill(class, condition.name),
            Text(&condition.detail)
        );
    }
    out.push_str("</ul></div>");
}

fn cards(out: &mut String, board: &Board, status: &Status) {
    let urgent: u64 = board
        .recent
        .counts()
        .iter()
        .filter(|((_, _, severity), _)| *severity >= Severity::High)
        .fold(0, |sum, (_, count)| sum.saturating_add(*count));
    out.push_str("<div class=cards>");
    for (name, value) in [
        ("high or critical alerts", urgent),
        ("pinned endpoints", status.pinned),
        ("open connections", status.open_connections),
        ("of these MCP", status.open_mcp),
        ("MCP requests", status.summary.mcp.requests),
        ("facts learned", status.facts),
    ] {
        let _ = write!(
            out,
            "<div class=card><b>{}</b><span class=dim>{name}</span></div>",
            grouped(value)
        );
    }
    out.push_str("</div>");
}

/// `1 234 567`, with narrow spaces.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len().saturating_sub(index).checked_rem(3) == Some(0) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// How far an endpoint can be trusted now, in words and colour.
fn trust(
    endpoint: &EndpointStatus,
    trust: Option<&Trust>,
    seen: Seen,
    now: Timestamp,
) -> (&'static str, &'static str) {
    let recent = |at: Timestamp| now.since(at) < RECENT;
    match trust.and_then(|t| t.worst) {
        Some((severity, at)) if severity >= Severity::High && recent(at) => ("bad", "in question"),
        Some((Severity::Medium, at)) if recent(at) => ("warn", "look at it"),
        _ if endpoint.mcp == 0 && seen.encrypted > 0 => ("warn", "seen, but encrypted"),
        _ if endpoint.open == 0 && seen.flows == 0 => ("info", "not seen yet"),
        _ => ("good", "as pinned"),
    }
}

fn endpoints(out: &mut String, board: &Board, status: &Status) {
    out.push_str("<h2>Endpoints</h2><div class=scroll>");
    if status.endpoints.is_empty() {
        out.push_str("<ul class=plain><li>Nothing is pinned: only rules that need no pin can fire. <code>mcp-monitor pin learn</code> writes pins from what was seen.</li></ul></div>");
        return;
    }
    let (known, seen) = (board.recent.trust(), board.recent.seen());
    let mut rows: Vec<_> = status
        .endpoints
        .iter()
        .enumerate()
        .map(|(place, endpoint)| {
            let seen = seen.get(&Some(place)).copied().unwrap_or_default();
            let known = known.get(&*endpoint.name);
            let (class, word) = trust(endpoint, known, seen, status.at);
            let order = ["bad", "warn", "info", "good"].iter().position(|c| *c == class);
            (order, endpoint, seen, known, class, word)
        })
        .collect();
    // What is wrong comes first; the rest in the order of the pins.
    rows.sort_by_key(|row| row.0);
    out.push_str("<table><thead><tr><th>endpoint<th>trust<th class=n>open<th class=n>ended<th class=n>alerts<th>last alert</tr></thead><tbody>");
    for (_, endpoint, seen, known, class, word) in rows {
        let count = known.map_or(0, |t| {
            t.alerts.iter().fold(0_u64, |sum, n| sum.saturating_add(*n))
        });
        let last = known
            .and_then(|t| t.last)
            .map(|at| at.to_seconds())
            .unwrap_or_default();
        let _ = write!(
            out,
            "<tr><td><b>{}</b><br><code class=dim>{}</code><td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=t>{last}</tr>",
            Text(&endpoint.name),
            Text(&endpoint.url),
            pill(class, word),
            grouped(endpoint.open),
            grouped(seen.flows),
            grouped(count),
        );
    }
    out.push_str("</tbody></table>");
    let hidden = status
        .pinned
        .saturating_sub(u64::try_from(status.endpoints.len()).unwrap_or(u64::MAX));
    if hidden > 0 {
        let _ = write!(
            out,
            "<ul class=plain><li class=dim>{hidden} more are pinned and watched, and not shown.</li></ul>"
        );
    }
    out.push_str("</div>");
}

fn alerts(out: &mut String, board: &Board, parameters: &Parameters, query: &AlertQuery) {
    let value = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
    out.push_str("<h2 id=alerts>Alerts, newest first</h2><form method=get action=\"/\"><select name=severity aria-label=\"at least\">");
    for severity in ["", "info", "low", "medium", "high", "critical"] {
        let selected = if severity == value("severity") {
            " selected"
        } else {
            ""
        };
        let shown = if severity.is_empty() {
            "any severity".to_owned()
        } else {
            format!("{severity} or worse")
        };
        let _ = write!(out, "<option value=\"{severity}\"{selected}>{shown}</option>");
    }
    out.push_str("</select>");
    for (name, hint) in [
        ("endpoint", "endpoint"),
        ("rule", "rule, as DNS-01"),
        ("namespace", "namespace"),
        ("since", "since, as 15m"),
        ("q", "words in the summary"),
    ] {
        let _ = write!(
            out,
            "<input name={name} value=\"{}\" placeholder=\"{hint}\" aria-label=\"{hint}\" size=17>",
            Text(value(name))
        );
    }
    out.push_str("<button>filter</button> <a href=\"/\">all</a></form><div class=scroll>");
    let found = query.of(board.recent.alerts());
    if found.is_empty() {
        out.push_str("<ul class=plain><li class=dim>No alerts match.</li></ul></div>");
        return;
    }
    out.push_str(
        "<table><thead><tr><th>last seen<th>severity<th>rule<th>what happened<th>who</tr></thead><tbody>",
    );
    for alert in &found {
        row(out, alert);
    }
    out.push_str("</tbody></table></div>");
}

fn row(out: &mut String, alert: &Arc<Alert>) {
    let mut who = String::new();
    if let Some(pod) = &alert.kubernetes
        && let Some(name) = &pod.pod
    {
        let _ = write!(
            who,
            "{}/{}",
            Text(pod.namespace.as_deref().unwrap_or("-")),
            Text(name)
        );
    }
    if let Some(process) = &alert.process {
        let between = if who.is_empty() { "" } else { "<br>" };
        let _ = write!(who, "{between}{} ({})", Text(&process.comm), process.pid);
    }
    let times = if alert.count > 1 {
        format!(" <span class=dim>×{}</span>", alert.count)
    } else {
        String::new()
    };
    let endpoint = alert
        .endpoint
        .as_deref()
        .map(|name| format!("<b>{}</b> ", Text(name)))
        .unwrap_or_default();
    let _ = write!(
        out,
        "<tr><td class=t>{}<td>{}<td class=t>{}<br><span class=dim>{}</span><td class=s>{endpoint}{}{times}<br><code class=dim>{}</code><td>{who}</tr>",
        alert.last_seen.to_seconds(),
        pill(severity_class(alert.severity), alert.severity.as_str()),
        alert.rule,
        alert.name,
        Text(&alert.summary),
        Text(&alert.id),
    );
}

fn blind_spots(out: &mut String, board: &Board, status: &Status) {
    let mut spots = Vec::new();
    let mut spot = |count: u64, text: &str| {
        if count > 0 {
            spots.push((count, text.to_owned()));
        }
    };
    let seen = board.recent.seen();
    let sum = |of: fn(&Seen) -> u64, pinned: bool| {
        let matching = seen.iter().filter(|(place, _)| place.is_some() == pinned);
        matching.fold(0_u64, |sum, (_, seen)| sum.saturating_add(of(seen)))
    };
    spot(
        sum(|s| s.encrypted, true),
        "connections to pinned endpoints ended whose plaintext was not seen: names, certificates and addresses were checked, messages were not",
    );
    spot(
        sum(|s| s.encrypted, false),
        "other TCP connections ended whose plaintext was not seen or not wanted",
    );
    spot(
        sum(|s| s.lossy, true).saturating_add(sum(|s| s.lossy, false)),
        "connections ended with bytes missing",
    );
    let summary = &status.summary;
    spot(summary.tcp.lost_bytes, "bytes of streams were never seen (gaps)");
    spot(
        summary.rules.disabled,
        "rules failed and are off; OP-06 says which",
    );
    if let Some(kernel) = &summary.kernel {
        spot(
            kernel.ring_full,
            "records lost because the ring was full: raise source.ring_bytes or the CPU limit",
        );
        spot(
            kernel.shed,
            "records with payload given up while the ring was nearly full: raise source.ring_bytes or the CPU limit",
        );
        spot(
            kernel
                .lost()
                .saturating_sub(kernel.ring_full)
                .saturating_sub(kernel.shed),
            "packets lost in the kernel for other reasons: see kernel_* in the metrics",
        );
        spot(
            kernel.over_budget,
            "packets of flows that were not decided in time",
        );
    }
    for (what, count) in &summary.dropped {
        spot(
            *count,
            &format!(
                "{}: a limit was reached, see docs/LIMITS.md",
                what.replace('_', " ")
            ),
        );
    }
    for program in &status.unreadable {
        let plural = if program.processes == 1 { "" } else { "es" };
        spots.push((
            program.processes,
            format!(
                "process{plural} of {} whose TLS cannot be read: {}",
                program.path, program.reason
            ),
        ));
    }
    if !status.features.bpf_loop {
        spots.push((0, "this kernel judges no DNS answers and ClientHellos itself; it happens here, some milliseconds later".into()));
    }
    out.push_str("<h2>Blind spots</h2><div class=scroll><ul class=plain>");
    if spots.is_empty() {
        out.push_str("<li class=dim>None known: nothing was lost and nothing was hidden.</li>");
    }
    for (count, text) in spots {
        let count = if count > 0 {
            format!("<b>{}</b> ", grouped(count))
        } else {
            String::new()
        };
        let _ = write!(out, "<li>{count}{}</li>", Text(&text));
    }
    out.push_str("</ul></div>");
}

#[cfg(test)]
mod tests {
    use super::{super::query::testing, *};
    use crate::pipeline::{progress::Progress, record::Record};

    #[test]
    fn hostile_text_stays_text() {
        let board = Board::new(None, Arc::new(Progress::default()), RECENT, false);
        let mut alert = testing::alert();
        alert.summary = "<script>alert(1)</script>\u{202e}\u{0}".into();
        alert.endpoint = Some("\"><img src=x onerror=alert(1)>".into());
        board.take(&[Record::Alert(Box::new(alert))]);
        let filter: Parameters = [("q".to_owned(), "\"><script>".to_owned())].into();
        let filtered = render(&board, &filter).unwrap();
        assert!(
            filtered.contains("value=\"&quot;&gt;&lt;script&gt;\"") && filtered.contains("No alerts match")
        );
        let page = render(&board, &Parameters::new()).unwrap();
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;\\u{202e}\\u{0}"));
        for page in [page, filtered] {
            assert!(!page.contains("<script") && !page.contains("<img"));
        }
        assert!(render(&board, &[("severity".to_owned(), "x".to_owned())].into()).is_err());
    }

    #[test]
    fn the_policy_allows_the_style_and_nothing_else() {
        assert!(policy().starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(!policy().contains("script") && !policy().contains("unsafe"));
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(999), "999");
    }
}
