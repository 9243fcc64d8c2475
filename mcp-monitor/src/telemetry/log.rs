//! The program's own log: to standard error, never a secret in it.

use std::{
    io::IsTerminal,
    sync::{Mutex, OnceLock, PoisonError},
};

use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::config::{program::Log, service::LogFormat};

type Lines = Box<dyn Layer<Registry> + Send + Sync>;
type Filtered = tracing_subscriber::layer::Layered<reload::Layer<Lines, Registry>, Registry>;

struct Handles {
    lines: reload::Handle<Lines, Registry>,
    filter: reload::Handle<EnvFilter, Filtered>,
    /// The filter in force, as it was written.
    text: Mutex<String>,
}

static HANDLES: OnceLock<Handles> = OnceLock::new();

/// Starts logging at `default` level unless `RUST_LOG` says otherwise. Later calls do nothing.
pub fn init(default: &str) {
    let text = from_environment().unwrap_or_else(|| default.to_owned());
    let (lines, lines_handle) = reload::Layer::new(lines(LogFormat::Text));
    let (filter, filter_handle) = reload::Layer::new(parse(&text).unwrap_or_default());
    let started = tracing_subscriber::registry().with(lines).with(filter).try_init();
    if started.is_ok() {
        let _ = HANDLES.set(Handles {
            lines: lines_handle,
            filter: filter_handle,
            text: Mutex::new(text),
        });
    }
}

/// What the configuration says of the log; `RUST_LOG` has precedence over its level.
pub fn configure(log: &Log) {
    if let Some(handles) = HANDLES.get() {
        let _ = handles.lines.reload(lines(log.format));
    }
    if let Some(level) = log.level.as_deref().filter(|_| from_environment().is_none()) {
        let _ = set_filter(level);
    }
}

/// The filter in force, in the form of `RUST_LOG`.
pub fn filter() -> String {
    HANDLES.get().map_or_else(String::new, |handles| {
        handles
            .text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    })
}

/// Puts a filter in force.
///
/// # Errors
///
/// What is wrong with it; the one before stays.
pub fn set_filter(text: &str) -> Result<(), String> {
    let filter = parse(text)?;
    let handles = HANDLES.get().ok_or("there is no log to change")?;
    handles.filter.reload(filter).map_err(|error| error.to_string())?;
    text.clone_into(&mut handles.text.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

/// The client of Kafka logs each of its steps and tries; what comes of them is the sink's to say, once. A filter that
/// names it shows them.
fn parse(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(format!("rskafka=off,{text}")).map_err(|error| error.to_string())
}

fn from_environment() -> Option<String> {
    let text = std::env::var(EnvFilter::DEFAULT_ENV).ok()?;
    parse(&text).is_ok().then_some(text)
}

fn lines(format: LogFormat) -> Lines {
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Json => layer.json().flatten_event(true).with_ansi(false).boxed(),
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            layer.with_ansi(colour).boxed()
        }
    }
}
