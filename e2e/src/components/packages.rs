//! The programs that come from the system's packages: the container runtime and the tools of the network.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{progress::Step, run};

/// A program that must be there, and the Debian package that brings it.
struct Required {
    /// A program's name, or an absolute path.
    file: &'static str,
    package: &'static str,
}

const REQUIRED: [Required; 14] = [
    Required { file: "containerd", package: "containerd" },
    Required { file: "ctr", package: "containerd" },
    Required { file: "containerd-shim-runc-v2", package: "containerd" },
    Required { file: "runc", package: "runc" },
    Required { file: "bridge", package: "containernetworking-plugins" },
    Required { file: "portmap", package: "containernetworking-plugins" },
    Required { file: "iptables", package: "iptables" },
    Required { file: "conntrack", package: "conntrack" },
    Required { file: "curl", package: "curl" },
    Required { file: "envsubst", package: "gettext-base" },
    Required { file: "ip", package: "iproute2" },
    Required { file: "nsenter", package: "util-linux" },
    Required { file: "setsid", package: "util-linux" },
    Required { file: "mount", package: "mount" },
];

/// Where CNI plugins lie: Debian's folder, and the one that everybody else uses.
const CNI_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// The folder with the CNI plugins.
pub fn cni_folder() -> Option<&'static Path> {
    CNI_FOLDERS.iter().map(Path::new).find(|folder| folder.join("bridge").is_file() && folder.join("portmap").is_file())
}

/// Installs what is missing, where the machine has apt and the user may.
pub async fn install(log: &Path) -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    let Some(apt) = run::find_program("apt-get") else {
        bail!("these Debian packages, or what they are on this system, must be installed first: {names}");
    };
    if !nix::unistd::geteuid().is_root() {
        bail!("these packages must be installed first (as root: apt-get install {names})");
    }
    let step = Step::start(format!("Installing packages: {names}"));
    step.follow(log);
    run::logged(apt_get(&apt).arg("update"), log).await.context("cannot read the package lists")?;
    let mut install = apt_get(&apt);
    install.args(["install", "-y", "--no-install-recommends"]).args(&missing);
    run::logged(&mut install, log).await.context("cannot install packages")?;
    step.done();
    let still = self::missing();
    if !still.is_empty() {
        bail!("packages were installed, but these are still missing: {}", still.join(" "));
    }
    Ok(())
}

/// The packages of what is missing, each once.
fn missing() -> Vec<&'static str> {
    let mut packages: Vec<_> =
        REQUIRED.iter().filter(|required| !is_there(required.file)).map(|required| required.package).collect();
    packages.dedup();
    packages
}

fn is_there(file: &str) -> bool {
    if matches!(file, "bridge" | "portmap") { cni_folder().is_some() } else { run::find_program(file).is_some() }
}

fn apt_get(program: &PathBuf) -> tokio::process::Command {
    let mut command = run::command(program);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
