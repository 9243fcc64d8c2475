//! Says when a stage of the packet loop is stuck.

use std::{
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use super::{board::Board, health, notify};
use crate::sandbox::{self, Task};

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// Looks until it is dropped.
#[derive(Debug)]
pub struct Watchdog {
    _end: mpsc::Sender<()>,
}

impl Watchdog {
    /// Starts looking, on a thread of its own: the packet loop's cannot say that it is stuck.
    ///
    /// # Errors
    ///
    /// No thread can be had.
    pub fn start(board: Arc<Board>) -> std::io::Result<Self> {
        let (end, ended) = mpsc::channel();
        sandbox::thread("watchdog", Task::Serve, move || look(&board, &ended))?;
        Ok(Self { _end: end })
    }
}

fn look(board: &Board, ended: &mpsc::Receiver<()>) {
    let interval = notify::interval();
    let mut told = Instant::now();
    let mut stuck = false;
    while ended.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
        match health::stuck(board) {
            Some((stage, time)) if !stuck => {
                stuck = true;
                board.stuck.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    stage,
                    seconds = time.as_secs(),
                    "the packet loop is stuck; what the kernel sends meanwhile waits in the ring and is lost once that is full"
                );
            }
            Some(_) => {}
            None => {
                if stuck {
                    tracing::warn!("the packet loop goes on");
                }
                stuck = false;
                if interval.is_some_and(|interval| told.elapsed() >= interval) {
                    told = Instant::now();
                    let _ = notify::notify("WATCHDOG=1");
                }
            }
        }
    }
}
