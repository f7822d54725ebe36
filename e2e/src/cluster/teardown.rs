//! Removes every trace of a cluster, whatever state it is in: running, half started, or killed half-way.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    cluster::{
        layout::Layout,
        netns,
        process::{self, Process},
    },
    files,
    wait::wait_until,
};

const CGROUPS: &str = "/sys/fs/cgroup";
/// Where libcni caches what it set up, whoever it works for.
const CNI_RESULTS: &str = "/var/lib/cni/results";
/// Where kubelet links the logs of containers, wherever they are.
const CONTAINER_LOGS: &str = "/var/log/containers";
/// kubelet's folder on ordinary nodes.
const KUBELET: &str = "/var/lib/kubelet";
/// How long things may take that end by themselves.
const LIMIT: Duration = Duration::from_secs(20);

/// Ends the cluster's processes and removes its mounts, namespaces, cgroups and files. Repeating it does no harm.
pub(super) async fn tear_down(layout: &Layout) -> Result<()> {
    let namespace = netns::Namespace::new(layout.tag());
    end_components(layout).await?;
    end_processes_inside(layout, &namespace).await?;
    let tasks = Task::all_of(layout);
    unmount_below(&layout.root())?;
    namespace.delete().await?;
    remove_cgroups(&tasks).await?;
    remove_outside(layout, &tasks);
    match std::fs::remove_dir_all(layout.root()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", layout.root().display()))
        }
        _ => Ok(()),
    }
}

/// Everything goes, so nothing needs to end in order: SIGKILL is enough.
async fn end_components(layout: &Layout) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(layout.path("run")) else { return Ok(()) };
    let processes: Vec<Process> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "pid"))
        .filter_map(|path| Process::read(&path))
        .collect();
    for process in &processes {
        process.signal(Signal::SIGKILL);
    }
    process::wait_for_end(&processes, LIMIT).await
}

/// Ends what runs in the cluster's network and in that of its pods: shims, containers, clients, and components that were
/// started but not yet written down.
async fn end_processes_inside(layout: &Layout, namespace: &netns::Namespace) -> Result<()> {
    let mut namespaces = vec![namespace.path()];
    namespaces.extend(entries_of(&layout.containerd_state().join("io.containerd.grpc.v1.cri/netns")));
    namespaces.extend(entries_of(&layout.containerd_state().join("netns")));
    wait_until("the end of the processes inside the cluster", LIMIT, || async {
        let alive: Vec<i32> =
            netns::processes_in(&namespaces).into_iter().filter(|pid| process::start_ticks(*pid).is_some()).collect();
        for pid in &alive {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        Ok(alive.is_empty())
    })
    .await
}

/// A container or a pod's sandbox that containerd ran: its state folder tells what it has outside.
struct Task {
    id: String,
    /// The socket of its shim, in a folder that all clusters share.
    socket: Option<PathBuf>,
}

impl Task {
    fn all_of(layout: &Layout) -> Vec<Self> {
        let folders = entries_of(&layout.containerd_state().join("io.containerd.runtime.v2.task/k8s.io"));
        folders.iter().filter_map(|folder| Self::read(folder)).collect()
    }

    fn read(folder: &Path) -> Option<Self> {
        let address = std::fs::read_to_string(folder.join("address")).unwrap_or_default();
        Some(Self {
            id: folder.file_name()?.to_str()?.to_owned(),
            socket: address.trim().strip_prefix("unix://").map(PathBuf::from),
        })
    }
}

/// Unmounts all below `folder`, the deepest first.
fn unmount_below(folder: &Path) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    for mount in mounts_below(&mounts, folder) {
        umount2(&mount, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {}", mount.display()))?;
    }
    Ok(())
}

/// Mount points of `mountinfo` (its fifth field) below a folder, later mounts and deeper ones first.
fn mounts_below(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    let mut mounts: Vec<PathBuf> =
        points.map(|point| PathBuf::from(unescape(point))).filter(|point| point.starts_with(folder)).collect();
    mounts.reverse();
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.components().count()));
    mounts
}

/// mountinfo writes spaces and a few others as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// Removes the cgroups of containers. A cgroup is busy until the kernel is done with its last process.
async fn remove_cgroups(tasks: &[Task]) -> Result<()> {
    // One folder for each hierarchy with cgroup v1, the root itself with v2.
    let mut hierarchies = entries_of(Path::new(CGROUPS));
    hierarchies.push(PathBuf::from(CGROUPS));
    let parents: Vec<PathBuf> = hierarchies.iter().map(|hierarchy| hierarchy.join("k8s.io")).collect();
    wait_until("the removal of the containers' cgroups", LIMIT, || async {
        for cgroup in parents.iter().flat_map(|parent| tasks.iter().map(|task| parent.join(&task.id))) {
            remove_cgroup(&cgroup)?;
        }
        Ok(true)
    })
    .await?;
    for parent in parents {
        // Only when no other cluster has containers.
        let _ = std::fs::remove_dir(parent);
    }
    Ok(())
}

fn remove_cgroup(folder: &Path) -> Result<()> {
    for below in entries_of(folder).iter().filter(|entry| entry.is_dir()) {
        remove_cgroup(below)?;
    }
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove the cgroup {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Removes what lies in places that the cluster shares with others; folders only when they are empty then.
fn remove_outside(layout: &Layout, tasks: &[Task]) {
    for result in entries_of(Path::new(CNI_RESULTS)) {
        let name = result.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let of_task = |task: &Task| name == format!("cni-loopback-{}-lo", task.id);
        if name.starts_with(&format!("{}-", layout.tag())) || tasks.iter().any(of_task) {
            let _ = std::fs::remove_file(result);
        }
    }
    for link in entries_of(Path::new(CONTAINER_LOGS)) {
        if std::fs::read_link(&link).is_ok_and(|target| target.starts_with(layout.root())) {
            let _ = std::fs::remove_file(link);
        }
    }
    for socket in tasks.iter().filter_map(|task| task.socket.as_ref()) {
        let _ = std::fs::remove_file(socket);
    }
    remove_kubelet_socket();
    for folder in [CNI_RESULTS, "/var/lib/cni", CONTAINER_LOGS, "/run/containerd/s", "/run/containerd"] {
        let _ = std::fs::remove_dir(folder);
    }
}

/// kubelet opens the socket for device plugins in one place, wherever its own folder is. A machine that has a kubelet of
/// its own has more there.
fn remove_kubelet_socket() {
    let folder = Path::new(KUBELET);
    if entries_of(folder).iter().any(|entry| !entry.ends_with("device-plugins")) {
        return;
    }
    let _ = std::fs::remove_file(folder.join("device-plugins/kubelet.sock"));
    let _ = std::fs::remove_dir(folder.join("device-plugins"));
    let _ = std::fs::remove_dir(folder);
}

fn entries_of(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Whether anything of a cluster is there.
pub(super) fn has_traces(layout: &Layout) -> bool {
    layout.root().exists() || netns::Namespace::new(layout.tag()).path().exists()
}

/// Removes the folder of all clusters when this was the last.
pub(super) fn remove_state_root(lock: files::Lock) {
    lock.remove();
    let _ = std::fs::remove_dir(crate::paths::STATE_ROOT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_folder_are_listed_deepest_first_and_neighbours_are_left_alone() {
        let mountinfo = "\
21 1 0:1 / /var/lib/bifrost-local/test rw - tmpfs tmpfs rw
22 1 0:1 / /var/lib/bifrost-local/test/a/b rw - tmpfs tmpfs rw
23 1 0:1 / /var/lib/bifrost-local/test-2/a rw - tmpfs tmpfs rw
24 1 0:1 / /var/lib/bifrost-local/test/a/b\\040c/d rw - tmpfs tmpfs rw
";
        let mounts = mounts_below(mountinfo, Path::new("/var/lib/bifrost-local/test"));
        let expected = ["test/a/b c/d", "test/a/b", "test"].map(|end| Path::new("/var/lib/bifrost-local").join(end));
        assert_eq!(mounts, expected);
    }
}
