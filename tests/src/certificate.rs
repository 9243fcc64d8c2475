//! A certificate for the scene's servers, made anew for each test.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::output;
use crate::scene::{APPROVED, NAME, ROGUE};

/// A self-signed certificate and its key. Who trusts the file trusts the server.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// PEM.
    pub cert: PathBuf,
    /// PEM, readable by its owner.
    pub key: PathBuf,
}

impl Certificate {
    /// Makes one in a folder, for the scene's name and its servers' addresses.
    pub fn new(folder: &Path) -> Result<Self> {
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let names = format!("subjectAltName=DNS:{NAME},IP:{},IP:{}", APPROVED.v4, ROGUE.v4);
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ]);
        command.args([
            "-nodes",
            "-days",
            "30",
            "-subj",
            &format!("/CN={NAME}"),
            "-addext",
            &names,
        ]);
        command.args(["-addext", "basicConstraints=critical,CA:TRUE"]);
        command.arg("-keyout").arg(&key).arg("-out").arg(&cert);
        output(&mut command).context("make a certificate (package openssl)")?;
        Ok(Self { cert, key })
    }
}
