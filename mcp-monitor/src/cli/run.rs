//! `mcp-monitor run`.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{Failure, args::RunArgs, output, policy, policy::Policy, reload, service::Service, sinks, state};
use crate::{
    alert::{AlerterOptions, Mode},
    attribution::{
        Pods,
        kubernetes::{Identity, IdentityOptions},
        pod_cgroup, sees_host_processes,
    },
    config::program::{Ask, Program},
    pipeline::{
        correlator::Wanted,
        keep::Learning,
        live::{self, Keep, RunError, RunOptions},
        progress::Progress,
        record::Record,
        replay::Outcome,
    },
    source::live::{LiveOptions, cgroup2_root},
};

pub(super) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let policy = policy::load(&args.policy)?;
    let mut service = Service::begin(args, &policy)?;
    let keeper = state::Keeper::open(args.state.as_deref(), &policy.program)?;
    service.connect(keeper.as_ref().map(|keeper| keeper.health.clone()));
    let keeper = keeper.map(|keeper| Rc::new(RefCell::new(keeper)));
    let mut options = options(&policy);
    if let Some(cgroup) = &args.cgroup {
        options.source.cgroup = Some(cgroup.clone());
    }
    if let Some(uid) = options.source.cgroup.as_deref().and_then(pod_named) {
        let root = cgroup2_root().map_err(Failure::work)?;
        let found = pod_cgroup(&root, uid);
        options.source.cgroup = Some(found.ok_or_else(|| {
            Failure::Work(format!(
                "no cgroup of pod {uid} below {}; mount the host's cgroup folder there",
                root.display()
            ))
        })?);
    }
    options.wanted = args.output.wanted();
    options.wanted.alerts |= keeper.is_some() || service.shows();
    options.wanted.flows |= service.shows();
    options.progress = service.board.progress.clone();
    let sinks = sinks::start(&policy.program)?.map(Rc::new);
    if let Some(sinks) = &sinks {
        sinks::want(sinks, &mut options.wanted);
        let (told, node) = (sinks.clone(), node(&policy.program));
        options.refused = Some(Box::new(move |why| {
            sinks::notice(&told, node.as_deref(), "pins-refused", why);
        }));
    }
    options.learning = keeper
        .as_ref()
        .map(|keeper| keeper.borrow_mut().learning(&policy.program))
        .transpose()?;
    options.keep = keeper
        .clone()
        .map(|keeper| -> Keep { Box::new(move |changes| keeper.borrow_mut().try_keep(Some(changes), &[])) });
    if !sees_host_processes() {
        tracing::warn!(
            "/proc shows another pid namespace than the host's: executables stay unknown; in a pod, set hostPID"
        );
    }
    options.identity = identity(&policy.program, &options.source.pods)?;
    let mut out = output::Detached::start(&args.output)?;
    let lost = out.lost();
    let pushed = sinks.clone();
    let sinks_status = sinks.as_ref().map(|sinks| sinks.status());
    let board = service.board.clone();
    options.publish = Some(Box::new(move |mut status| {
        status.summary.dropped.insert("records_unwritten", lost());
        status.summary.sinks = sinks_status.as_ref().map(|sinks| sinks.snapshot());
        board.publish(status);
        if let Some(sinks) = &pushed {
            sinks::offer_metrics(sinks, &board);
        }
    }));
    let board = service.board.clone();
    let watched = watch(options, policy.file.clone(), None, &mut service, |records| {
        if let Some(sinks) = &sinks {
            sinks::offer(sinks, &records);
        }
        if let Some(keeper) = &keeper {
            keeper.borrow_mut().try_keep(None, &records);
        }
        board.take(&records);
        out.write(records)
    });
    let mut outcome = watched?;
    out.finish(policy.program.service.grace)?;
    outcome.summary.dropped.insert("records_unwritten", out.lost()());
    if let Some(keeper) = &keeper {
        let lost = keeper.borrow_mut().finish();
        outcome.summary.dropped.insert("state_rows_lost", lost);
    }
    // The loop that the other one was given to is over.
    if let Some(sinks) = sinks.and_then(Rc::into_inner) {
        let status = sinks.status();
        sinks.finish(sinks::GRACE);
        outcome.summary.sinks = Some(status.snapshot());
    }
    output::write_summary(args.output.summary.as_deref(), &outcome.summary)?;
    Ok(ExitCode::SUCCESS)
}

/// Watches for a while, for what the traffic teaches.
pub(super) fn learn(policy: &Policy, span: Duration) -> Result<Outcome, Failure> {
    let mut options = options(policy);
    options.learning = Some(Learning {
        options: policy.program.baseline.learning(),
        ..Learning::default()
    });
    let mut service = Service::quiet();
    watch(options, None, Some(span), &mut service, |_| Ok(()))
}

fn options(policy: &Policy) -> RunOptions {
    let program = &policy.program;
    RunOptions {
        fingerprint_key: program.fingerprint_key.map(|key| key.0),
        learning: None,
        keep: None,
        progress: Arc::new(Progress::default()),
        publish: None,
        refused: None,
        pins: policy.pins.clone(),
        origins: policy.origins.clone(),
        identity: None,
        wanted: Wanted::default(),
        source: LiveOptions {
            cgroup: program.source.cgroup.clone(),
            ring_bytes: program.source.ring_bytes,
            enforce: program.source.enforce,
            pin_dir: program.source.pin_dir.clone(),
            plaintext: !program.plaintext.is_off(),
            pods: Pods::new(program.kubernetes.grace),
            ..LiveOptions::default()
        },
        plaintext: program.plaintext.clone(),
        shard: program.limits.shard(1),
        tracker: program.limits.tracker(),
        alerts: AlerterOptions {
            mode: Mode::Immediate,
            node: node(program).map(Into::into),
            ..program.alerts.alerter()
        },
    }
}

/// `pod:UID` stands for the cgroup of a pod.
fn pod_named(cgroup: &Path) -> Option<&str> {
    cgroup.to_str()?.strip_prefix("pod:")
}

/// Name of this node: as configured, else as a pod is told it.
fn node(program: &Program) -> Option<String> {
    let told = || std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    program.kubernetes.node.clone().or_else(told)
}

/// Follows the Kubernetes API, if there is one to follow and that is wanted.
fn identity(program: &Program, pods: &Pods) -> Result<Option<Identity>, Failure> {
    let asked = &program.kubernetes;
    let always = asked.identity == Ask::Always;
    let there = always || asked.kubeconfig.is_some() || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if asked.identity == Ask::Never || !there {
        return Ok(None);
    }
    let Some(node) = node(program) else {
        let error = "names of pods: which node this is is not known; set NODE_NAME (fieldRef spec.nodeName), or node under kubernetes in --config";
        if always {
            return Err(Failure::Work(error.to_owned()));
        }
        tracing::warn!("{error}");
        return Ok(None);
    };
    let mut options = IdentityOptions::new(node);
    options.kubeconfig.clone_from(&asked.kubeconfig);
    match Identity::start(options, pods.clone()) {
        Ok(identity) => Ok(Some(identity)),
        Err(error) if always => Err(Failure::work(error)),
        Err(error) => {
            tracing::warn!("alerts name pods by their uid only: {error}");
            Ok(None)
        }
    }
}

/// Watches until a signal, or until `span` is over; pins are read again when `pins_file` changes.
fn watch(
    options: RunOptions,
    pins_file: Option<PathBuf>,
    span: Option<Duration>,
    service: &mut Service,
    emit: impl FnMut(Vec<Record>) -> Result<(), Failure>,
) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::work)?;
    let board = service.board.clone();
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::work)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::work)?;
        let shutdown = async move {
            let over = async {
                match span {
                    Some(span) => tokio::time::sleep(span).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = over => {}
            }
            board.stop();
        };
        let (sender, reloads) = mpsc::channel(1);
        tokio::spawn(reload::watch(pins_file, sender));
        let endpoints = options.pins.endpoints.len();
        let ready = |source: &crate::source::live::LiveSource| {
            service.attached();
            tracing::info!(endpoints, features = ?source.features(), "watching");
        };
        live::run(options, shutdown, reloads, ready, emit)
            .await
            .map_err(|error| match error {
                RunError::Source(error) => Failure::work(error),
                RunError::Output(failure) => failure,
            })
    })
}
