//! With the feature `live`: builds the kernel programs and tells the crate where the object lies.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Names an object that was built elsewhere.
const OVERRIDE: &str = "MCP_MONITOR_EBPF";
const TARGET: &str = "bpfel-unknown-none";
const PACKAGE: &str = "mcp-monitor-ebpf";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    if env::var_os("CARGO_FEATURE_LIVE").is_none() {
        return;
    }
    match object() {
        Ok(object) => println!("cargo::rustc-env=MCP_MONITOR_EBPF_OBJECT={}", object.display()),
        Err(why) => {
            for line in why.lines().filter(|line| !line.trim().is_empty()) {
                println!("cargo::error={line}");
            }
            println!(
                "cargo::error=the kernel programs were not built: run `cargo xtask setup`, or build without them (`--no-default-features`: replay only)"
            );
        }
    }
}

fn object() -> Result<PathBuf, String> {
    if let Some(given) = env::var_os(OVERRIDE) {
        let path = PathBuf::from(&given)
            .canonicalize()
            .map_err(|why| format!("{OVERRIDE}={}: {why}", Path::new(&given).display()))?;
        println!("cargo::rerun-if-changed={}", path.display());
        return Ok(path);
    }
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("no CARGO_MANIFEST_DIR")?);
    let workspace = manifest.parent().ok_or("the crate has no workspace around it")?;
    for source in ["mcp-monitor-ebpf", "mcp-monitor-common"] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(source).join("src").display()
        );
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(source).join("Cargo.toml").display()
        );
    }
    // A target directory of its own: cargo holds a lock on the one this script runs under.
    let target_dir = workspace.join("target/ebpf");
    let mut cargo = cargo();
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--quiet",
            "--release",
            "-Z",
            "build-std=core",
            "--target",
            TARGET,
        ])
        .args(["--package", PACKAGE])
        .arg("--target-dir")
        .arg(&target_dir)
        // v3: the instruction set of the oldest kernel supported, with 32-bit jumps and atomics.
        .env("RUSTFLAGS", "-C debuginfo=2 -C link-arg=--btf -C target-cpu=v3")
        // What cargo set for the host build must not reach this one.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    if env::var_os("CARGO_FEATURE_KERNEL_LOG").is_some() {
        cargo.args(["--features", "log"]);
    }
    let output = cargo.output().map_err(|why| format!("cannot run cargo: {why}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = errors.lines().collect();
        return Err(lines
            .get(lines.len().saturating_sub(12)..)
            .unwrap_or(&lines)
            .join("\n"));
    }
    let object = target_dir.join(TARGET).join("release").join(PACKAGE);
    object
        .exists()
        .then_some(object)
        .ok_or_else(|| "cargo built no object".to_owned())
}

/// A compiler with the sources of `core`: the distribution's if it has them, else a nightly of rustup's.
fn cargo() -> Command {
    let distribution = Path::new("/usr/bin/rustc");
    let sysroot = Command::new(distribution)
        .args(["--print", "sysroot"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let has_sources =
        sysroot.is_some_and(|root| root.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists());
    if has_sources {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.env("RUSTC", distribution).env("RUSTC_BOOTSTRAP", "1");
        cargo
    } else {
        let mut cargo = Command::new("cargo");
        cargo
            .arg("+nightly")
            .env_remove("RUSTC")
            .env_remove("RUSTUP_TOOLCHAIN");
        cargo
    }
}
