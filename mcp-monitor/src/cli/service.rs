//! What runs beside the packet loop: the HTTP server, the watchdog, word to systemd.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{Failure, args::RunArgs, confine, policy::Policy};
use crate::{
    config::program::Http,
    pipeline::progress::Progress,
    sandbox::Sandbox,
    telemetry::{
        self,
        board::{Board, Gauges, Probe},
        confinement,
        notify::notify,
        server::{Server, ServerError, Serving},
        state_health::StateHealth,
        watchdog::Watchdog,
    },
};

/// See the module.
pub(super) struct Service {
    pub(super) board: Arc<Board>,
    serving: Option<Serving>,
    _watchdog: Option<Watchdog>,
    sandbox: Option<Sandbox>,
    /// Read again when they change.
    pins: Option<PathBuf>,
}

impl Service {
    /// Begins everything; what cannot begin ends the program before it attaches.
    pub(super) fn begin(args: &RunArgs, policy: &Policy) -> Result<Self, Failure> {
        let program = &policy.program;
        telemetry::log::configure(&program.log);
        // Before the first thread.
        let sandbox = confine::begin(args, policy);
        let mut http = program.http.clone();
        if let Some(listen) = args.http {
            http.get_or_insert_with(Http::default).listen = listen;
        }
        let board = Arc::new(Board::new(
            http.as_ref(),
            Arc::new(Progress::default()),
            program.service.stuck_after,
            policy.file.is_some(),
        ));
        let serving = match &http {
            Some(http) => {
                let server = Server::bind(http).map_err(|error| match error {
                    ServerError::Exposed(_) | ServerError::Tls { .. } => Failure::Usage(error.to_string()),
                    ServerError::Listen { .. } | ServerError::Thread(_) => Failure::work(error),
                })?;
                let serving = server.serve(board.clone()).map_err(Failure::work)?;
                tracing::info!(addresses = ?serving.addresses, "http");
                Some(serving)
            }
            None => None,
        };
        let watchdog = Watchdog::start(board.clone()).map_err(Failure::work)?;
        Ok(Self {
            board,
            serving,
            _watchdog: Some(watchdog),
            sandbox,
            pins: policy.file.clone(),
        })
    }

    /// For a run that shows nothing.
    pub(super) fn quiet() -> Self {
        let hour = Duration::from_secs(3600);
        Self {
            board: Arc::new(Board::new(None, Arc::default(), hour, false)),
            serving: None,
            _watchdog: None,
            sandbox: None,
            pins: None,
        }
    }

    /// Shows how other parts fare.
    pub(super) fn connect(&self, state: Option<Arc<StateHealth>>) {
        let mut probes: Vec<Probe> = Vec::new();
        let mut gauges: Vec<Gauges> = Vec::new();
        if let Some(state) = state {
            let health = state.clone();
            probes.push(Box::new(move || vec![health.condition()]));
            gauges.push(Box::new(move || state.families()));
        }
        let confined = self.sandbox.as_ref().map(Sandbox::state);
        let told = confined.clone();
        probes.push(Box::new(move || {
            let confinement = told.as_ref().and_then(|state| state.get());
            confinement.map(confinement::condition).into_iter().collect()
        }));
        gauges.push(Box::new(move || {
            confinement::families(confined.as_ref().and_then(|state| state.get()))
        }));
        self.board.connect(probes, gauges);
    }

    /// Somebody can look at alerts and flows.
    pub(super) fn shows(&self) -> bool {
        self.serving.is_some()
    }

    /// The programs are attached: what only that took is given up.
    pub(super) fn attached(&mut self) {
        if let Some(sandbox) = &self.sandbox {
            confine::finish(sandbox, self.pins.as_deref());
        }
        if let Err(error) = notify("READY=1") {
            tracing::warn!(%error, "the service manager cannot be told that it is ready");
        }
    }
}
