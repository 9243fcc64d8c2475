//! `mcp-monitor replay`.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{FAIL_ON, Failure, args::ReplayArgs, output, policy};
use crate::{
    alert::{AlerterOptions, Mode},
    config::ConfigError,
    pipeline::{
        replay::{ReplayOptions, replay},
        shards::SHARDS,
    },
    proto::tls::decrypt::KeyLog,
    source::{CaptureReader, Merged},
};

/// Threads by default, where there are as many cores. Reading the file is then what limits.
const MAX_DEFAULT_THREADS: usize = 8;

pub(super) fn run(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let policy = policy::load(&args.policy)?;
    let mut readers = Vec::new();
    for (index, file) in args.files.iter().enumerate() {
        let index = u16::try_from(index).map_err(|_| Failure::Usage("at most 65536 files at once".into()))?;
        readers.push(CaptureReader::open(file, index).map_err(Failure::work)?);
    }
    let threads = match args.threads.or(policy.program.threads) {
        Some(n) => usize::from(n),
        None => thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MAX_DEFAULT_THREADS),
    };
    let options = ReplayOptions {
        keys: Arc::new(load_keys(&args.keylog)?),
        fingerprint_key: policy.program.fingerprint_key.map(|key| key.0),
        pins: policy.pins,
        wanted: args.output.wanted(),
        threads,
        decode: policy.program.limits.decode(),
        shard: policy.program.limits.shard(SHARDS),
        tracker: policy.program.limits.tracker(),
        alerts: AlerterOptions {
            mode: Mode::Settled,
            captures: args.files.iter().map(|f| capture_name(f)).collect(),
            ..policy.program.alerts.alerter()
        },
    };
    let bar = progress_bar(&args.files);
    let mut out = output::Output::new(args.output.format);
    let outcome = replay(
        Merged::new(readers),
        options,
        |records| out.write(&records),
        |bytes| bar.set_position(bytes),
    );
    bar.finish_and_clear();
    let outcome = outcome?;
    out.flush()?;
    output::write_summary(args.output.summary.as_deref(), &outcome.summary)?;
    if let Some(error) = outcome.error {
        return Err(Failure::work(error));
    }
    let reached = args.fail_on.is_some_and(|limit| outcome.worst >= Some(limit));
    Ok(if reached {
        ExitCode::from(FAIL_ON)
    } else {
        ExitCode::SUCCESS
    })
}

/// Reads key logs. A file that has none of their lines is refused; single lines that cannot be read
/// (the last one may still be in the writing) are told.
fn load_keys(files: &[PathBuf]) -> Result<KeyLog, Failure> {
    let keys = KeyLog::default();
    for path in files {
        let file = path.display().to_string();
        let wrong = |line, found: String| ConfigError {
            file: file.clone(),
            line,
            column: u64::from(line > 0),
            found,
            expected: "lines of a TLS key log: LABEL CLIENT_RANDOM SECRET, the last two in hexadecimal"
                .to_owned(),
        };
        let text = std::fs::read(path).map_err(|error| wrong(0, format!("cannot be read: {error}")))?;
        let added = keys.add(&text);
        if added.secrets == 0 && added.malformed > 0 {
            return Err(wrong(added.first_malformed, "not a line of a TLS key log".to_owned()).into());
        }
        if added.malformed > 0 {
            tracing::warn!(
                "{file}:{}: not a line of a TLS key log, left out ({} such lines)",
                added.first_malformed,
                added.malformed
            );
        }
        if added.refused > 0 {
            tracing::warn!("{file}: {} secrets left out: the key log is full", added.refused);
        }
        if added.secrets == 0 {
            tracing::warn!("{file}: no secrets of TLS connections in it");
        }
    }
    Ok(keys)
}

/// File name alone: where a capture lies on the responder's disk is nobody's business.
fn capture_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(|| "-".to_owned(), |n| n.to_string_lossy().into_owned())
}

/// On a terminal only.
fn progress_bar(files: &[std::path::PathBuf]) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let total: u64 = files
        .iter()
        .filter_map(|f| std::fs::metadata(f).ok())
        .map(|m| m.len())
        .sum();
    let bar = ProgressBar::new(total);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}")
    {
        bar.set_style(style);
    }
    bar
}
