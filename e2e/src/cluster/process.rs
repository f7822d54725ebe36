//! Background processes: started in a session of their own so that they outlive the command that started them,
//! remembered with their start time so that a process that later got the same id is never taken for them.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{files, run};

/// How often the end of a process is looked for.
const POLL: Duration = Duration::from_millis(20);

/// A process, told apart from later ones with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pid: i32,
    /// Clock ticks between the machine's start and the process's.
    started: u64,
}

/// What a pid file holds. After a restart of the machine ids and times begin anew: then it says nothing.
#[derive(Serialize, Deserialize)]
struct PidFile {
    boot: String,
    process: Process,
}

/// What to start.
#[derive(Debug)]
pub(super) struct Daemon {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment besides the usual.
    pub env: Vec<(String, String)>,
    /// The network namespace to run in; none: where this process runs.
    pub namespace: Option<PathBuf>,
}

impl Daemon {
    /// A program with its arguments.
    pub(super) fn new(program: PathBuf, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { program, args: args.into_iter().map(Into::into).collect(), env: Vec::new(), namespace: None }
    }

    /// Runs it in this network namespace.
    pub(super) fn inside(mut self, namespace: PathBuf) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Starts it: output goes to `log`, the process into `pid_file`.
    pub(super) fn spawn(&self, log: &Path, pid_file: &Path) -> Result<Process> {
        for folder in [log, pid_file].into_iter().filter_map(Path::parent) {
            files::create_dir(folder)?;
        }
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let copy = output.try_clone().context("cannot share the log")?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(output).stderr(copy);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        let pid = i32::try_from(child.id()).context("a process id beyond the system's range")?;
        let started = start_ticks(pid).with_context(|| format!("{} ended at once", self.program.display()))?;
        let process = Process { pid, started };
        files::write(pid_file, serde_json::to_vec(&PidFile { boot: boot_id(), process })?)?;
        Ok(process)
    }

    /// `setsid` and `nsenter` replace themselves by the program, so that the child's id stays the program's.
    ///
    /// nsenter and not `ip netns exec`: the latter mounts /sys anew and hides the cgroups from kubelet.
    fn command(&self) -> Command {
        let mut command = Command::new("setsid");
        if let Some(namespace) = &self.namespace {
            command.arg("nsenter").arg(format!("--net={}", namespace.display())).arg("--");
        }
        command.arg(&self.program).args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.env("PATH", system_path()).current_dir("/");
        // A proxy of the user's is out of reach inside.
        for name in run::PROXIES {
            command.env_remove(name);
        }
        command
    }
}

impl Process {
    /// Reads a pid file; none when there is none or it is from before the machine's last start.
    pub(super) fn read(pid_file: &Path) -> Option<Self> {
        let file: PidFile = serde_json::from_slice(&std::fs::read(pid_file).ok()?).ok()?;
        (file.boot == boot_id()).then_some(file.process)
    }

    /// Its id.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it runs. A process that ended and was not collected by its parent does not.
    pub(super) fn is_alive(&self) -> bool {
        // Collects it when it is our own child; for any other process this is an error that says nothing.
        let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
        start_ticks(self.pid) == Some(self.started)
    }

    /// Asks it to end; whether it does is for [`wait_for_end`].
    pub(super) fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// Waits until all processes ended; those that did not in time are named.
pub(super) async fn wait_for_end(processes: &[Process], limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let left: Vec<_> = processes.iter().filter(|process| process.is_alive()).map(Process::pid).collect();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("processes {left:?} still run after {} s", limit.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Ends a process: SIGTERM first, SIGKILL after `grace`.
pub(super) async fn end(process: Process, grace: Duration) -> Result<()> {
    process.signal(Signal::SIGTERM);
    if wait_for_end(&[process], grace).await.is_err() {
        process.signal(Signal::SIGKILL);
        wait_for_end(&[process], Duration::from_secs(10)).await?;
    }
    Ok(())
}

/// The start time of a running process in clock ticks; none for one that ended, collected or not.
pub(super) fn start_ticks(pid: i32) -> Option<u64> {
    parse_start_ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields of `/proc/PID/stat`: the state is the third, the number of threads the 20th, the start time the 22nd. The second is the
/// program's name in parentheses and may hold anything, so counting starts after the last parenthesis.
///
/// A killed process shows as a zombie as soon as its first thread has ended; until the others have too, its ports are in use.
fn parse_start_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let threads: u32 = fields.get(17)?.parse().ok()?;
    match *fields.first()? {
        "X" => return None,
        "Z" if threads <= 1 => return None,
        _ => {}
    }
    fields.get(19)?.parse().ok()
}

/// Which start of the machine this is.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// The PATH of components: containerd looks for its shim there, the shim for runc, kube-proxy for iptables.
fn system_path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    format!("{own}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

/// Whether the program is there that starts daemons in a session of their own.
pub(super) fn check_tools() -> Result<()> {
    for tool in ["setsid", "nsenter"] {
        run::find_program(tool).with_context(|| format!("the program `{tool}` is missing"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_program_name() {
        let tail = "S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000 10";
        assert_eq!(parse_start_ticks(&format!("42 (a b) c) {tail}")), Some(4711));
        let zombie = tail.replacen('S', "Z", 1);
        assert_eq!(parse_start_ticks(&format!("42 (dead) {zombie}")), None);
        let ending = zombie.replacen("20 0 1 0", "20 0 9 0", 1);
        assert_eq!(parse_start_ticks(&format!("42 (ending) {ending}")), Some(4711));
    }

    #[tokio::test]
    async fn a_daemon_runs_until_it_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("sleep.pid");
        let daemon = Daemon::new("/bin/sleep".into(), ["60"]);
        let process = daemon.spawn(&folder.path().join("log"), &pid_file).unwrap();
        assert!(process.is_alive());
        assert_eq!(Process::read(&pid_file), Some(process));
        end(process, Duration::from_secs(5)).await.unwrap();
        assert!(!process.is_alive());
    }

    #[test]
    fn a_process_with_the_same_id_but_another_start_is_not_taken_for_it() {
        let own = i32::try_from(std::process::id()).unwrap();
        let started = start_ticks(own).unwrap();
        assert!(Process { pid: own, started }.is_alive());
        assert!(!Process { pid: own, started: started + 1 }.is_alive());
    }
}
