//! A headless Chromium, to see a page as a person does.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::process::output;
use crate::undo::TempDir;

/// Asks nobody but the page.
const QUIET: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

fn chromium(profile: &TempDir) -> Command {
    let mut command = Command::new("chromium");
    command.args(QUIET);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command
}

/// A PNG of the page.
pub fn screenshot(page: &str, file: &Path, dark: bool) -> Result<()> {
    let profile = TempDir::new()?;
    let mut command = chromium(&profile);
    command.arg("--window-size=1200,1000");
    if dark {
        command.arg("--blink-settings=preferredColorScheme=0");
    }
    command.arg(format!("--screenshot={}", file.display())).arg(page);
    output(&mut command)?;
    ensure!(std::fs::metadata(file)?.len() > 5000, "an empty screenshot");
    Ok(())
}

/// The document as Chromium has it after loading.
pub fn dom(page: &str) -> Result<String> {
    let profile = TempDir::new()?;
    output(chromium(&profile).arg("--dump-dom").arg(page))
}
