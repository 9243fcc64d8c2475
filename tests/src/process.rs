//! Child processes that end with their guard. Only children started here are ever signalled.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::undo::{self, Undo};

/// Lines that a child has written so far, and a way to wait for one.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Everything written so far.
    pub fn all(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// Everything written so far, as one text.
    pub fn text(&self) -> String {
        self.all().join("\n")
    }

    /// Waits until a line satisfies the test; `None` after the time limit or when the
    /// child's output ended without one.
    pub fn wait_for(&self, limit: Duration, test: impl Fn(&str) -> bool) -> Option<String> {
        self.wait_for_nth(limit, 1, test)
    }

    /// As [`Self::wait_for`], for the n-th such line, from 1.
    pub fn wait_for_nth(&self, limit: Duration, n: usize, test: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.iter().filter(|line| test(line)).nth(n - 1) {
                return Some(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            state = self
                .0
                .1
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// How many lines so far satisfy the test.
    pub fn count(&self, test: impl Fn(&str) -> bool) -> usize {
        self.lock().lines.iter().filter(|line| test(line)).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, pipe: impl Read + Send + 'static, each: fn(&str)) -> JoinHandle<()> {
        let lines = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                each(&line);
                lines.lock().lines.push(line);
                lines.0.1.notify_all();
            }
            lines.lock().ended = true;
            lines.0.1.notify_all();
        })
    }
}

/// A running child with its output collected line by line.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Arc<Mutex<Child>>,
    readers: Vec<JoinHandle<()>>,
    /// Lines of standard output.
    pub stdout: Lines,
    /// Lines of standard error.
    pub stderr: Lines,
    _undo: Undo,
}

impl Process {
    /// Starts a child.
    pub fn spawn(name: &str, command: Command) -> Result<Self> {
        Self::spawn_with(name, command, |_| {})
    }

    /// Starts a child; `each` sees every line of its standard output as it comes.
    pub fn spawn_with(name: &str, mut command: Command, each: fn(&str)) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("start {name}: {command:?}"))?;
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|pipe| stdout.follow(pipe, each)));
        readers.extend(child.stderr.take().map(|pipe| stderr.follow(pipe, |_| {})));
        let child = Arc::new(Mutex::new(child));
        let undone = child.clone();
        let undo = undo::register(move || {
            end(&mut undone.lock().unwrap_or_else(PoisonError::into_inner));
        });
        Ok(Self {
            name: name.to_owned(),
            child,
            readers,
            stdout,
            stderr,
            _undo: undo,
        })
    }

    /// The child's process id. Commands are started so that they replace their launcher
    /// (`exec`), and this is the id of the program itself.
    pub fn pid(&self) -> u32 {
        self.lock().id()
    }

    /// Sends a signal to the child.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.lock();
        // A child that was waited for has given its id back: never signal that.
        if child.try_wait()?.is_none() {
            kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        }
        Ok(())
    }

    /// Waits for the child to end by itself and for its output to be read.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.lock().try_wait()? {
                break status;
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} still runs after {limit:?}; standard error:\n{}",
                    self.name,
                    self.stderr.text()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        Ok(status)
    }

    /// Asks the child to end (SIGTERM) and waits for it.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(limit)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a child: politely first, so that it can end children of its own.
fn end(child: &mut Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    for _ in 0..100 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Runs a command to its end and returns its standard output; fails with its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {command:?}"))?;
    if !done.status.success() {
        bail!(
            "{command:?}: {}: {}",
            done.status,
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
