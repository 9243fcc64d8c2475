//! `mcp-monitor run`.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, args::RunArgs, output, policy};
use crate::{
    alert::{AlerterOptions, Mode},
    pipeline::live::{self, RunError, RunOptions},
    source::live::LiveOptions,
};

pub(super) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let policy = policy::load(&args.policy)?;
    let options = RunOptions {
        fingerprint_key: policy.program.fingerprint_key.map(|key| key.0),
        origins: policy.origins,
        pins: policy.pins,
        wanted: args.output.wanted(),
        source: LiveOptions {
            cgroup: args.cgroup.clone().or(policy.program.source.cgroup.clone()),
            ring_bytes: policy.program.source.ring_bytes,
            ..LiveOptions::default()
        },
        shard: policy.program.limits.shard(1),
        tracker: policy.program.limits.tracker(),
        alerts: AlerterOptions {
            mode: Mode::Immediate,
            ..policy.program.alerts.alerter()
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::work)?;
    let mut out = output::Output::new(args.output.format);
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::work)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::work)?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let endpoints = options.pins.endpoints.len();
        let ready = |source: &crate::source::live::LiveSource| {
            tracing::info!(endpoints, features = ?source.features(), "watching");
        };
        let emit = |records: Vec<_>| {
            out.write(&records)?;
            // An alert must not wait for a full buffer.
            out.flush()
        };
        live::run(options, shutdown, ready, emit)
            .await
            .map_err(|error| match error {
                RunError::Source(error) => Failure::work(error),
                RunError::Output(failure) => failure,
            })
    })?;
    out.flush()?;
    output::write_summary(args.output.summary.as_deref(), &outcome.summary)?;
    Ok(ExitCode::SUCCESS)
}
