//! How many runtimes serve requests: as many as the container may use CPUs. More would be throttled in the middle of requests,
//! fewer would leave CPU time unused.

use std::fs;
use std::path::Path;

/// Bounds of the default.
const COUNT: std::ops::RangeInclusive<f64> = 1.0..=8.0;
/// The container's CPU request in thousandths, which the pod gets through the downward API.
const REQUEST_VARIABLE: &str = "BIFROST_CPU_REQUEST_MILLI";

/// The CPU quota rounded up; without one the CPU request; without that the machine's CPUs. Between 1 and 8.
pub(super) fn default_count() -> usize {
    let quota = cpu_quota(Path::new("/sys/fs/cgroup"));
    let request = std::env::var(REQUEST_VARIABLE).ok().and_then(|text| request(&text));
    let machine = || std::thread::available_parallelism().map_or(1.0, |cpus| cpus.get() as f64);
    count(quota.or(request).unwrap_or_else(machine))
}

fn count(cpus: f64) -> usize {
    cpus.ceil().clamp(*COUNT.start(), *COUNT.end()) as usize
}

fn request(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|milli| *milli > 0.0).map(|milli| milli / 1000.0)
}

/// CPUs that the control group may use, of either version; `None`: no limit.
fn cpu_quota(root: &Path) -> Option<f64> {
    let read = |name: &str| fs::read_to_string(root.join(name)).ok();
    let (quota, period) = match read("cpu.max") {
        Some(line) => {
            let (quota, period) = line.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
        None => (read("cpu/cpu.cfs_quota_us")?, read("cpu/cpu.cfs_period_us")?),
    };
    // "max" and -1 stand for no limit.
    let quota = quota.trim().parse::<f64>().ok().filter(|quota| *quota > 0.0)?;
    let period = period.trim().parse::<f64>().ok().filter(|period| *period > 0.0)?;
    Some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(files: &[(&str, &str)]) -> Option<f64> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("cpu")).unwrap();
        for (name, text) in files {
            fs::write(root.path().join(name), text).unwrap();
        }
        cpu_quota(root.path())
    }

    #[test]
    fn quotas_of_both_versions_are_read() {
        assert_eq!(quota(&[("cpu.max", "150000 100000\n")]), Some(1.5));
        assert_eq!(quota(&[("cpu.max", "max 100000\n")]), None);
        assert_eq!(quota(&[("cpu/cpu.cfs_quota_us", "400000\n"), ("cpu/cpu.cfs_period_us", "100000\n")]), Some(4.0));
        assert_eq!(quota(&[("cpu/cpu.cfs_quota_us", "-1\n"), ("cpu/cpu.cfs_period_us", "100000\n")]), None);
        assert_eq!(quota(&[]), None);
    }

    #[test]
    fn shares_of_a_cpu_are_rounded_up_within_bounds() {
        assert_eq!([0.1, 1.0, 1.5, 8.0, 64.0].map(count), [1, 1, 2, 8, 8]);
        assert_eq!(request("1500"), Some(1.5));
        assert_eq!((request("0"), request("none")), (None, None));
    }
}
