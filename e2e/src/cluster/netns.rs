//! A cluster's network namespace: nothing leaves it, nothing outside is changed, and removing it ends the network.

use std::{
    collections::HashSet,
    fs::File,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::{cluster::network, files, run};

/// Where `ip netns` keeps its namespaces.
const RUN: &str = "/run/netns";

/// Where `ip netns exec` looks for files that replace those of /etc.
const ETC: &str = "/etc/netns";

/// A network namespace by name; it may or may not exist.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The namespace of this name.
    pub fn new(name: String) -> Self {
        Self { name }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new(RUN).join(&self.name)
    }

    /// Creates it with the node's address, a default route and the cluster's DNS for `ip netns exec`.
    pub async fn create(&self) -> Result<()> {
        self.ip(&["netns", "add", &self.name]).await?;
        let inside = ["-n", &self.name];
        let address = format!("{}/24", network::NODE_ADDRESS);
        for words in [
            &["link", "set", "lo", "up"] as &[&str],
            &["link", "add", "node0", "type", "veth", "peer", "name", "node1"],
            &["address", "add", &address, "dev", "node0"],
            &["link", "set", "node1", "up"],
            &["link", "set", "node0", "up"],
            // Without a default route the kernel refuses Service addresses before kube-proxy's rules see them.
            &["route", "add", "default", "dev", "node0"],
        ] {
            self.ip(&[&inside, words].concat()).await?;
        }
        self.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?
            .context("cannot switch on forwarding between pods")?;
        files::write(&self.etc().join("resolv.conf"), network::resolv_conf())
    }

    /// Removes it and what belongs to it outside; nothing happens when it does not exist.
    pub async fn delete(&self) -> Result<()> {
        if self.path().exists() {
            self.ip(&["netns", "delete", &self.name]).await?;
        }
        self.remove_outside();
        Ok(())
    }

    /// As [`Namespace::delete`], for where nobody can wait: when something is dropped. What fails is left.
    pub fn delete_now(&self) {
        if let Some(ip) = run::find_program("ip") {
            let mut command = std::process::Command::new(ip);
            let _ = command.args(["netns", "delete", &self.name]).stderr(std::process::Stdio::null()).status();
        }
        self.remove_outside();
    }

    fn remove_outside(&self) {
        let _ = std::fs::remove_dir_all(self.etc());
        // Only when empty, that is when no one else uses them.
        let _ = std::fs::remove_dir(ETC);
        if std::fs::read_dir(RUN).is_ok_and(|mut entries| entries.next().is_none()) {
            let _ = nix::mount::umount2(RUN, nix::mount::MntFlags::MNT_DETACH);
            let _ = std::fs::remove_dir(RUN);
        }
    }

    /// Moves the calling thread into the namespace, for good.
    pub fn enter(&self) -> Result<()> {
        let path = self.path();
        let file = File::open(&path).with_context(|| format!("there is no network namespace {}", path.display()))?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", path.display()))
    }

    /// Runs `work` on a thread of its own inside the namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| work()));
            thread.join().map_err(|_| anyhow!("the work inside the network namespace panicked"))?
        })
    }

    fn etc(&self) -> PathBuf {
        Path::new(ETC).join(&self.name)
    }

    async fn ip(&self, words: &[&str]) -> Result<()> {
        let ip = run::find_program("ip").context("the program `ip` is missing")?;
        run::stdout_of(run::command(ip).args(words)).await.map(drop)
    }
}

/// The processes whose network namespace is one of the files in `namespaces` (bind mounts of namespaces).
///
/// This finds what no parent or pid file leads to: containers whose shim died, clients that were started inside.
pub fn processes_in(namespaces: &[PathBuf]) -> HashSet<i32> {
    let wanted: HashSet<(u64, u64)> =
        namespaces.iter().filter_map(|path| path.metadata().ok()).map(|file| (file.dev(), file.ino())).collect();
    let Ok(processes) = std::fs::read_dir("/proc") else { return HashSet::new() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let namespace = std::fs::metadata(format!("/proc/{pid}/ns/net"));
            namespace.is_ok_and(|file| wanted.contains(&(file.dev(), file.ino())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_network_namespace() {
        let found = processes_in(&[PathBuf::from("/proc/self/ns/net")]);
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(found.contains(&own));
        assert!(processes_in(&[PathBuf::from("/nowhere")]).is_empty());
    }
}
