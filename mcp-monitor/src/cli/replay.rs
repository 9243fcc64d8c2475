//! `mcp-monitor replay`.

use std::{io::IsTerminal, path::Path, process::ExitCode, thread};

use indicatif::{ProgressBar, ProgressStyle};

use super::{FAIL_ON, Failure, args::ReplayArgs, output, policy};
use crate::{
    alert::{AlerterOptions, Mode},
    pipeline::{
        replay::{ReplayOptions, replay},
        shards::SHARDS,
    },
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
