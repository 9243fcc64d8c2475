//! Builds the container image without an engine: the binary, the libraries that it names, and the root
//! certificates, from scratch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::paths;

use crate::{build, setup, sh};

/// Image options
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the image goes, as an OCI archive
    #[arg(long, default_value = "target/image/mcp-monitor.tar")]
    pub out: PathBuf,
    /// Name and tag in it
    #[arg(long, default_value = concat!("mcp-monitor:", env!("CARGO_PKG_VERSION")))]
    pub tag: String,
    /// Profile of the binary; `release` is what is shipped
    #[arg(long, default_value = "release")]
    pub profile: String,
}

/// Where the image's files are put together.
fn folder() -> PathBuf {
    paths::target().join("image/root")
}

/// Runs `image`.
pub fn run(args: &Args) -> Result<()> {
    let binary = build::binary(&args.profile)?;
    if sh::which("buildah").is_none() {
        setup::apt(&["buildah".to_owned()], "buildah, to build the image with")?;
    }
    let root = folder();
    fill(&binary, &root)?;
    let out = paths::root().join(&args.out);
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent)?;
    }
    let _ = fs::remove_file(&out);
    pack(&root, &out, &args.tag)?;
    eprintln!("built {} ({})", args.out.display(), args.tag);
    Ok(())
}

/// The image that the tests start: of the binary that they run.
pub fn of_tests() -> Result<()> {
    run(&Args {
        out: "target/image/mcp-monitor.tar".into(),
        tag: "mcp-monitor:test".to_owned(),
        profile: "e2e".to_owned(),
    })
}

/// The file system of the image.
fn fill(binary: &Path, root: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(root);
    fs::create_dir_all(root)?;
    fs::copy(binary, root.join("mcp-monitor"))?;
    let _ = sh::run(
        Command::new("strip")
            .arg("--strip-debug")
            .arg(root.join("mcp-monitor")),
    );
    let binary = binary.to_str().context("the binary's path is no text")?;
    let libraries = sh::output("ldd", &[binary]).context("ldd of the binary")?;
    // `libc.so.6 => /lib/… (0x…)`, or the loader's path alone; the vdso has no path.
    let paths = libraries
        .split_ascii_whitespace()
        .filter(|word| word.starts_with('/'));
    for library in paths {
        copy_to(Path::new(library), root)?;
    }
    let certificates = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if certificates.exists() {
        copy_to(certificates, root)?;
    }
    // Mount points: the root is read-only.
    for mount in [
        "proc",
        "sys/fs/cgroup",
        "etc/mcp-monitor/pins",
        "etc/mcp-monitor/config",
        "var/lib/mcp-monitor",
    ] {
        fs::create_dir_all(root.join(mount))?;
    }
    Ok(())
}

fn copy_to(file: &Path, root: &Path) -> Result<()> {
    let target = root.join(file.strip_prefix("/")?);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(file, &target).with_context(|| format!("copy {}", file.display()))?;
    Ok(())
}

/// `vfs` and `chroot` need neither overlay mounts nor a runtime.
fn pack(root: &Path, out: &Path, tag: &str) -> Result<()> {
    let buildah = || {
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "vfs", "--root"]);
        command.arg(paths::target().join("image/storage"));
        command.arg("--runroot").arg(paths::target().join("image/run"));
        command
    };
    let made = buildah()
        .args(["from", "scratch"])
        .output()
        .context("run buildah")?;
    ensure!(
        made.status.success(),
        "buildah from scratch: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let container = String::from_utf8(made.stdout)?.trim().to_owned();
    sh::run(buildah().args(["copy", "--quiet", &container]).arg(root).arg("/"))?;
    sh::run(buildah().args([
        "config",
        "--user=0",
        "--entrypoint=[\"/mcp-monitor\"]",
        "--cmd=run",
        &container,
    ]))?;
    sh::run(
        buildah()
            .args(["commit", "--quiet", "--rm", &container])
            .arg(format!("oci-archive:{}:{tag}", out.display())),
    )
}
