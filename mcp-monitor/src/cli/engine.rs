//! The engine over capture files, for every command that takes them.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    Failure,
    args::KeyArgs,
    captures::{self, Share},
    policy::Policy,
};
use crate::{
    alert::{AlerterOptions, Mode},
    config::ConfigError,
    pipeline::{
        correlator::Wanted,
        keep::Learning,
        record::Record,
        replay::{Outcome, ReplayOptions, replay},
        shards::SHARDS,
    },
    proto::tls::decrypt::KeyLog,
    source::{CaptureReader, Merged},
};

/// Threads by default, where there are as many cores. Reading the file is then what limits.
const MAX_DEFAULT_THREADS: usize = 8;

/// What one run over captures is asked for.
pub(super) struct Job<'a> {
    pub(super) policy: &'a Policy,
    /// Files and folders as they were named.
    pub(super) files: &'a [PathBuf],
    pub(super) share: Option<Share>,
    /// The one capture is still being written.
    pub(super) follow: bool,
    pub(super) keys: &'a KeyArgs,
    pub(super) wanted: Wanted,
    pub(super) threads: Option<u16>,
    pub(super) learning: Option<Learning>,
}

/// Runs the captures through the engine.
pub(super) fn run(
    job: Job<'_>,
    emit: impl FnMut(Vec<Record>) -> Result<(), Failure>,
) -> Result<Outcome, Failure> {
    let program = &job.policy.program;
    let files = captures::select(job.files, job.share)?;
    let mut readers = Vec::new();
    if job.follow {
        only_a_pipe(&files)?;
    }
    for (index, file) in files.iter().enumerate() {
        let index = u16::try_from(index).map_err(|_| Failure::Usage("at most 65536 files at once".into()))?;
        let reader = match job.follow {
            true => CaptureReader::follow(file, index),
            false => CaptureReader::open(file, index),
        };
        readers.push(reader.map_err(Failure::work)?);
    }
    let threads = match job.threads.or(program.threads) {
        // Reading ahead would wait, and what was read with it.
        _ if job.follow => 1,
        Some(n) => usize::from(n),
        None => thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MAX_DEFAULT_THREADS),
    };
    let options = ReplayOptions {
        keys: Arc::new(load_keys(job.keys)?),
        fingerprint_key: program.fingerprint_key.map(|key| key.0),
        learning: job.learning,
        origins: job.policy.origins.clone(),
        pins: job.policy.pins.clone(),
        wanted: job.wanted,
        threads,
        decode: program.limits.decode(),
        shard: program.limits.shard(SHARDS),
        tracker: program.limits.tracker(),
        alerts: AlerterOptions {
            mode: if job.follow {
                Mode::Immediate
            } else {
                Mode::Settled
            },
            captures: files.iter().map(|f| capture_name(f)).collect(),
            ..program.alerts.alerter()
        },
    };
    let bar = if job.follow {
        ProgressBar::hidden()
    } else {
        progress_bar(&files)
    };
    let outcome = replay(Merged::new(readers), options, emit, |bytes| {
        bar.set_position(bytes)
    });
    bar.finish_and_clear();
    outcome
}

/// What can be followed: one input that somebody else writes to. A regular file has an end.
fn only_a_pipe(files: &[PathBuf]) -> Result<(), Failure> {
    let wrong = |found: String| {
        Failure::Usage(format!(
            "--follow: found {found}, expected `-` or one pipe; to follow a file that grows: tail -c +1 -f FILE | mcp-monitor replay --follow -"
        ))
    };
    match files {
        [only] if only.as_os_str() == "-" => Ok(()),
        [only] if std::fs::metadata(only).is_ok_and(|m| m.is_file()) => {
            Err(wrong(format!("the regular file {}", only.display())))
        }
        [_] => Ok(()),
        more => Err(wrong(format!("{} captures", more.len()))),
    }
}

/// As [`run`], for what the captures teach: no records, and a capture that cannot be read is a failure.
pub(super) fn learn(policy: &Policy, files: &[PathBuf], keys: &KeyArgs) -> Result<Outcome, Failure> {
    let job = Job {
        policy,
        files,
        share: None,
        follow: false,
        keys,
        wanted: Wanted::default(),
        threads: None,
        learning: Some(Learning {
            options: policy.program.baseline.learning(),
            ..Learning::default()
        }),
    };
    let mut outcome = run(job, |_| Ok(()))?;
    match outcome.error.take() {
        Some(error) => Err(Failure::work(error)),
        None => Ok(outcome),
    }
}

/// Reads private keys and key logs. A file that has none of their lines is refused; single lines that cannot be read
/// (the last one may still be in the writing) are told.
fn load_keys(args: &KeyArgs) -> Result<KeyLog, Failure> {
    let mut keys = KeyLog::default();
    for path in &args.rsa_key {
        let wrong = |found: String| ConfigError {
            file: path.display().to_string(),
            line: 0,
            column: 0,
            found,
            expected: "an RSA private key in PEM form".to_owned(),
        };
        let text = std::fs::read_to_string(path)
            .map(zeroize::Zeroizing::new)
            .map_err(|error| wrong(format!("cannot be read: {error}")))?;
        keys.add_rsa_key(&text)
            .map_err(|error| wrong(error.to_string()))?;
    }
    for path in &args.keylog {
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
pub(super) fn capture_name(path: &Path) -> String {
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
