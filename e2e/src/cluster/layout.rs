//! The names and files of one cluster. Everything it writes lies below one folder, so that removing it is simple.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::paths;

/// Longest name of a cluster: it is part of socket paths, which Linux limits to 107 bytes.
const MAX_NAME: usize = 20;

/// The places of one cluster.
#[derive(Debug, Clone)]
pub struct Layout {
    name: String,
}

impl Layout {
    /// Checks the name: a lower-case label, as it names files, a network namespace and a cgroup.
    pub fn new(name: &str) -> Result<Self> {
        let valid = name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.len() <= MAX_NAME
            && name.chars().all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-');
        ensure!(valid, "{name:?} is no cluster name: at most {MAX_NAME} of a-z, 0-9 and -, a letter first");
        Ok(Self { name: name.to_owned() })
    }

    /// The cluster's name as the user knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name that marks what lies outside the state folder: namespace, cgroup, CNI network, kubeconfig context.
    pub fn tag(&self) -> String {
        format!("bifrost-{}", self.name)
    }

    /// The state folder.
    pub fn root(&self) -> PathBuf {
        Path::new(paths::STATE_ROOT).join(&self.name)
    }

    /// Held while the cluster is started, changed or removed. Outside of the state folder, which comes and goes.
    pub fn lock(&self) -> PathBuf {
        Path::new(paths::STATE_ROOT).join(format!(".{}.lock", self.name))
    }

    /// Written last by a start: what runs here.
    pub fn record(&self) -> PathBuf {
        self.root().join("cluster.json")
    }

    /// A file or folder of the state folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root().join(relative)
    }

    /// A certificate (`.crt`) or key (`.key`).
    pub fn pki(&self, file: &str) -> PathBuf {
        self.root().join("pki").join(file)
    }

    /// The log of a component.
    pub fn log(&self, component: &str) -> PathBuf {
        self.root().join("logs").join(format!("{component}.log"))
    }

    /// The process of a component.
    pub fn pid_file(&self, component: &str) -> PathBuf {
        self.root().join("run").join(format!("{component}.pid"))
    }

    /// The kubeconfig that connects through the forwarder: for every program outside the cluster's network.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root().join("kubeconfig")
    }

    /// The kubeconfig of a user inside the cluster's network.
    pub fn kubeconfig_of(&self, user: &str) -> PathBuf {
        self.root().join("pki").join(format!("{user}.kubeconfig"))
    }

    /// The kubeconfig of an administrator inside the cluster's network.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.kubeconfig_of(super::pki::ADMIN)
    }

    /// containerd's state folder.
    pub fn containerd_state(&self) -> PathBuf {
        self.root().join("containerd/state")
    }

    /// containerd's socket.
    pub fn containerd_socket(&self) -> PathBuf {
        self.root().join("containerd/containerd.sock")
    }

    /// Which addresses the forwarder listens on.
    pub fn forwarder_record(&self) -> PathBuf {
        self.root().join("run/forwarder.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_state_folder_are_refused() {
        for name in ["", "../x", "a/b", "A", "1a", "a b", "a-name-that-is-much-too-long"] {
            assert!(Layout::new(name).is_err(), "{name}");
        }
        assert!(Layout::new("test-2").is_ok());
    }

    #[test]
    fn the_longest_name_leaves_sockets_their_length() {
        let layout = Layout::new(&"a".repeat(MAX_NAME)).unwrap();
        assert!(layout.containerd_socket().as_os_str().len() < 100);
    }
}
