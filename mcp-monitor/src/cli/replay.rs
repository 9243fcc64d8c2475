//! `mcp-monitor replay`.

use std::process::ExitCode;

use super::{FAIL_ON, Failure, args::ReplayArgs, engine, output, policy, state};

pub(super) fn run(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let policy = policy::load(&args.policy)?;
    let mut keeper = state::Keeper::open(args.state.as_deref(), &policy.program)?;
    let mut wanted = args.output.wanted();
    wanted.alerts |= keeper.is_some();
    #[cfg(feature = "live")]
    let sinks = args
        .deliver
        .then(|| super::sinks::start(&policy.program))
        .transpose()?
        .flatten();
    #[cfg(feature = "live")]
    if let Some(sinks) = &sinks {
        super::sinks::want(sinks, &mut wanted);
    }
    let job = engine::Job {
        policy: &policy,
        files: &args.files,
        share: args.shard,
        follow: args.follow,
        keys: &args.keys,
        wanted,
        threads: args.threads,
        learning: keeper.as_mut().map(|k| k.learning(&policy.program)).transpose()?,
    };
    let mut out = output::Output::new(&args.output);
    #[cfg_attr(not(feature = "live"), allow(unused_mut))]
    let mut outcome = engine::run(job, |records| {
        if let Some(keeper) = &mut keeper {
            keeper.alerts(&records)?;
        }
        #[cfg(feature = "live")]
        if let Some(sinks) = &sinks {
            super::sinks::offer(sinks, &records);
        }
        out.write(&records)?;
        if args.follow { out.flush() } else { Ok(()) }
    })?;
    out.flush()?;
    if let Some(keeper) = &mut keeper {
        keeper.keep(outcome.changes)?;
    }
    #[cfg(feature = "live")]
    if let Some(sinks) = sinks {
        let status = sinks.status();
        sinks.finish(super::sinks::GRACE);
        outcome.summary.sinks = Some(status.snapshot());
    }
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
