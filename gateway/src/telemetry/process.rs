//! What the kernel knows of this process, under the names that every Prometheus client uses.

use std::fs;

/// Clock ticks a second in `/proc`, which Linux fixes for programs on every architecture.
const TICKS: f64 = 100.0;

/// One number of the process.
#[derive(Debug, PartialEq)]
pub(super) struct ProcessNumber {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) is_counter: bool,
    pub(super) value: f64,
}

/// Reads them all; what cannot be read is left out.
pub(super) fn read() -> Vec<ProcessNumber> {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let (stat, status, limits, system) =
        (text("/proc/self/stat"), text("/proc/self/status"), text("/proc/self/limits"), text("/proc/stat"));
    let gauge = |name, help, value: Option<f64>| Some(ProcessNumber { name, help, is_counter: false, value: value? });
    let numbers = [
        cpu_seconds(&stat).map(|value| ProcessNumber {
            name: "process_cpu_seconds_total",
            help: "Total user and system CPU time spent in seconds.",
            is_counter: true,
            value,
        }),
        gauge("process_resident_memory_bytes", "Resident memory size in bytes.", kilobytes(&status, "VmRSS:")),
        gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", kilobytes(&status, "VmSize:")),
        gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            start_time(&stat, &system),
        ),
        gauge("process_threads", "Number of OS threads in the process.", stat_field(&stat, 20)),
        gauge("process_open_fds", "Number of open file descriptors.", open_files()),
        gauge("process_max_fds", "Maximum number of open file descriptors.", max_files(&limits)),
    ];
    numbers.into_iter().flatten().collect()
}

/// Field `number` of `/proc/self/stat`, counted from 1 as its manual does. The second is the program's name, which may hold
/// blanks and brackets.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS)
}

fn start_time(stat: &str, system: &str) -> Option<f64> {
    let boot: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + stat_field(stat, 22)? / TICKS)
}

fn kilobytes(status: &str, member: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(member))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|value| value * 1024.0)
}

fn open_files() -> Option<f64> {
    // Listing them opens one more.
    fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1) as f64)
}

fn max_files(limits: &str) -> Option<f64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 9 0 1234 1 2";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(stat_field(stat, 20), Some(9.0));
        assert_eq!(start_time(stat, "cpu 1\nbtime 1000\n"), Some(1012.34));
    }

    #[test]
    fn this_process_can_be_read() {
        let numbers = read();
        assert_eq!(numbers.len(), 7, "{numbers:?}");
        assert!(numbers.iter().all(|number| number.value.is_finite()));
        let memory = numbers.iter().find(|number| number.name == "process_resident_memory_bytes");
        assert!(memory.is_some_and(|number| number.value > 1e5), "{memory:?}");
    }
}
