//! `completion`: the script with which a shell completes the command line.

use clap::CommandFactory as _;
use clap_complete::{Shell as Kind, generate};

use crate::cli::{Cli, Shell};

/// The script of a shell, for the command as it lies in the path: what stands behind `kubectl bifrost` is kubectl's to complete, and it
/// does not ask a plugin's script.
pub(crate) fn script(shell: Shell) -> String {
    let kind = match shell {
        Shell::Bash => Kind::Bash,
        Shell::Zsh => Kind::Zsh,
        Shell::Fish => Kind::Fish,
    };
    let mut script = Vec::new();
    // With a name of two words the scripts would have invalid names of functions.
    let mut command = Cli::command().bin_name("kubectl-bifrost");
    generate(kind, &mut command, "kubectl-bifrost", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shells_script_knows_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            assert!(script.contains("set-percent") && script.contains("promote"), "{shell:?}");
        }
    }
}
