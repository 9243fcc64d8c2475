//! Packages of other suites, through a private configuration of apt.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::sh;

/// The kernel without drivers of real machines, which is the smallest.
const KERNEL: &str = "linux-image-cloud-amd64";

/// Debian's archive, as this machine reaches it.
pub(super) struct Archive {
    mirror: String,
    keyring: String,
    folder: PathBuf,
}

impl Archive {
    /// Read from this machine's own sources; `None` where it has none of Debian's.
    pub(super) fn of_this_machine(folder: &Path) -> Result<Option<Self>> {
        let format = "$(ORIGIN) $(COMPONENT) $(SUITE) $(REPO_URI)";
        let targets = sh::output(
            "apt-get",
            &["indextargets", "--format", format, "Identifier: Packages"],
        )
        .context("apt-get indextargets")?;
        // Debian's main archive, not that of its security updates, which has no other suites.
        let mirror = targets.lines().find_map(|line| {
            let mut words = line.split(' ');
            let (origin, component) = (words.next()?, words.next()?);
            let (suite, uri) = (words.next()?, words.next()?);
            (origin == "Debian" && component == "main" && !suite.ends_with("-security"))
                .then(|| uri.to_owned())
        });
        let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg".to_owned();
        Ok(mirror
            .filter(|_| Path::new(&keyring).exists())
            .map(|mirror| Self {
                mirror,
                keyring,
                folder: folder.to_owned(),
            }))
    }

    /// A statically linked busybox.
    pub(super) fn busybox(&self) -> Result<PathBuf> {
        let folder = self.folder.join("busybox");
        let program = folder.join("bin/busybox");
        if !program.exists() {
            fs::create_dir_all(&folder)?;
            download(&folder, &[], "busybox-static")?;
        }
        ensure!(program.exists(), "busybox-static has no bin/busybox");
        Ok(program)
    }

    /// The kernel of a suite.
    pub(super) fn kernel(&self, suite: &str) -> Result<PathBuf> {
        let folder = self.folder.join(suite);
        if let Some(kernel) = kernel_in(&folder) {
            return Ok(kernel);
        }
        let root = folder.join("apt");
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.join(part))?;
        }
        let sources = root.join("sources.list");
        let line = format!("deb [signed-by={}] {} {suite} main\n", self.keyring, self.mirror);
        fs::write(&sources, line)?;
        let options = [
            format!("Dir::State={}", root.join("state").display()),
            format!("Dir::Cache={}", root.join("cache").display()),
            format!("Dir::Etc::sourcelist={}", sources.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::State::status=/dev/null".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ];
        let options: Vec<&str> = options.iter().flat_map(|option| ["-o", option]).collect();
        sh::run(Command::new("apt-get").args(&options).args(["update", "-q"]))?;
        let about = sh::output("apt-cache", &[&options[..], &["show", KERNEL]].concat())
            .with_context(|| format!("{suite} has no {KERNEL}"))?;
        // The package without a version in its name depends on the one with it.
        let package = about
            .lines()
            .find_map(|line| line.strip_prefix("Depends: ")?.split([' ', ',']).next())
            .context("it depends on no kernel")?;
        download(&folder, &options, package)?;
        // Lists of packages are of no use any more.
        fs::remove_dir_all(&root)?;
        kernel_in(&folder).with_context(|| format!("{package} has no boot/vmlinuz"))
    }
}

fn kernel_in(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder.join("boot")).ok()?;
    entries.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
    })
}

/// Fetches a package and unpacks it.
fn download(folder: &Path, options: &[&str], package: &str) -> Result<()> {
    sh::run(
        Command::new("apt-get")
            .current_dir(folder)
            .args(options)
            .args(["download", "-q", package]),
    )?;
    let archive = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let Some(archive) = archive else {
        bail!("apt fetched no {package}");
    };
    sh::run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(folder))?;
    Ok(fs::remove_file(archive)?)
}
