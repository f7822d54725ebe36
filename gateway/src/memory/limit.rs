//! The memory limit of the process: the smallest of its control group and the groups above it.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Budget where there is no limit.
const WITHOUT_LIMIT: u64 = 256 * 1024 * 1024;

/// From here on a version 1 value means "none": it is the largest multiple of a page that fits into a signed number.
const V1_NONE: u64 = 1 << 62;

/// The size in bytes of the pod's budget: half the memory limit, 256 MiB without one.
pub fn default_total() -> u64 {
    memory_limit().map_or(WITHOUT_LIMIT, |limit| limit / 2)
}

/// The memory limit in bytes that control groups (version 1 or 2) set for this process.
pub fn memory_limit() -> Option<u64> {
    limit_below(Path::new("/"))
}

fn limit_below(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    groups.lines().filter_map(|line| limit_of_line(root, line)).min()
}

/// A line is `hierarchy:controllers:path`; version 2 has the line `0::path`.
fn limit_of_line(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    if hierarchy == "0" && controllers.is_empty() {
        return smallest(&root.join("sys/fs/cgroup"), path, "memory.max");
    }
    if controllers.split(',').any(|controller| controller == "memory") {
        return smallest(&root.join("sys/fs/cgroup/memory"), path, "memory.limit_in_bytes").filter(|v| *v < V1_NONE);
    }
    None
}

/// The smallest value of `file` from the mount point down to the group. A container often sees its own group as the mount point
/// while the path is the host's: folders that are not there are passed over.
fn smallest(mount: &Path, group: &str, file: &str) -> Option<u64> {
    let mut folder = PathBuf::from(mount);
    let mut least = read_number(&folder.join(file));
    for component in Path::new(group).components() {
        match component {
            Component::Normal(name) => folder.push(name),
            Component::ParentDir => break,
            _ => continue,
        }
        least = [least, read_number(&folder.join(file))].into_iter().flatten().min();
    }
    least
}

/// A number; `max` and a missing file are none.
fn read_number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn version_2_takes_the_smallest_on_the_way_to_the_process_group() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/kubepods/pod1/box\n"),
            ("sys/fs/cgroup/kubepods/memory.max", "9000\n"),
            ("sys/fs/cgroup/kubepods/pod1/memory.max", "4000\n"),
            ("sys/fs/cgroup/kubepods/pod1/box/memory.max", "max\n"),
        ]);
        assert_eq!(limit_below(root.path()), Some(4000));
    }

    #[test]
    fn version_2_reads_the_mount_point_when_the_path_is_the_hosts_or_outside() {
        for path in ["0::/\n", "0::/kubepods/pod1/box\n", "0::/../../box\n"] {
            let root = tree(&[("proc/self/cgroup", path), ("sys/fs/cgroup/memory.max", "5000\n")]);
            assert_eq!(limit_below(root.path()), Some(5000), "{path}");
        }
    }

    #[test]
    fn version_1_reads_the_memory_controller_and_knows_its_none() {
        let groups = "5:cpu,cpuacct:/a\n4:memory:/a\n0::/\n";
        let file = "sys/fs/cgroup/memory/a/memory.limit_in_bytes";
        let root = tree(&[("proc/self/cgroup", groups), (file, "7000\n")]);
        assert_eq!(limit_below(root.path()), Some(7000));
        let root = tree(&[("proc/self/cgroup", groups), (file, "9223372036854771712\n")]);
        assert_eq!(limit_below(root.path()), None);
    }

    #[test]
    fn without_control_groups_there_is_no_limit() {
        assert_eq!(limit_below(tree(&[]).path()), None);
        assert_eq!(
            limit_below(tree(&[("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "max")]).path()),
            None
        );
    }
}
