//! Runs other programs to their end, with errors that say which command failed and what it printed last.

use std::{
    fs::File,
    path::Path,
    process::{Output, Stdio},
};

use anyhow::{Context, Result, bail};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::files;

/// How many of a failed command's last lines its error shows.
const ERROR_LINES: usize = 20;

/// Variables that lead clients to a proxy.
pub const PROXIES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

/// Starts a command description. The child ends when its future is dropped (Ctrl-C, a timeout).
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Takes the user's proxy from a command that runs where it is out of reach.
pub fn without_proxies(command: &mut Command) {
    for name in PROXIES {
        command.env_remove(name);
    }
}

/// Runs a command and returns its stdout; anything but success is an error with the end of its stderr.
pub async fn stdout_of(command: &mut Command) -> Result<String> {
    let output = output_of(command).await?;
    if !output.status.success() {
        bail!("{} failed: {}\n{}", describe(command), output.status, last_of(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command and returns its status with everything it printed.
pub async fn output_of(command: &mut Command) -> Result<Output> {
    command.output().await.with_context(|| format!("cannot run {}", describe(command)))
}

/// Runs a command with `input` on its stdin and returns its stdout.
pub async fn stdout_with_input(command: &mut Command, input: &[u8]) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {}", describe(command)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that does not read its input says why on stderr: its own error is the better one.
        let _ = stdin.write_all(input).await;
    }
    let output = child.wait_with_output().await.with_context(|| format!("cannot run {}", describe(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}\n{}", describe(command), output.status, last_of(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command that writes to `log`; its error shows the log's end.
pub async fn logged(command: &mut Command, log: &Path) -> Result<()> {
    if let Some(folder) = log.parent() {
        files::create_dir(folder)?;
    }
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let copy = file.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
    command.stdout(file).stderr(copy);
    let status = command.status().await.with_context(|| format!("cannot run {}", describe(command)))?;
    if !status.success() {
        bail!(
            "{} failed: {status}; the end of {}:\n{}",
            describe(command),
            log.display(),
            files::last_lines(log, ERROR_LINES)
        );
    }
    Ok(())
}

/// The path of a program on the PATH or in the folders of system administration, which some users do not have there.
pub fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(extra).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Program and arguments, for messages.
pub fn describe(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn last_of(output: &Output) -> String {
    let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(ERROR_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_command_says_what_it_was_and_what_it_printed() {
        let error = stdout_of(command("sh").args(["-c", "echo broken >&2; exit 3"])).await.unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("broken") && error.contains('3'), "{error}");
    }

    #[tokio::test]
    async fn input_reaches_the_command() {
        assert_eq!(stdout_with_input(&mut command("cat"), b"hello").await.unwrap(), "hello");
    }
}
