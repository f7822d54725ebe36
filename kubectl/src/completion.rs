//! Completion: the scripts of shells for the command by itself, and the answers that kubectl asks for behind `kubectl bifrost`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::engine::complete;
use clap_complete::{Shell as Kind, generate};

use crate::cli::{Cli, Shell};

/// The program that kubectl looks for in the path, and calls with the words behind `kubectl bifrost`.
const ASKED_AS: &str = "kubectl_complete-bifrost";
/// Told to kubectl in the last line, as cobra numbers it: the shell adds no files of its own,
const NO_FILES: u8 = 4;
/// and no space, as a path may go on behind a folder.
const NO_SPACE: u8 = 2;

/// Whether kubectl asks: the program was called by that name, which is a link to it.
pub(crate) fn is_asked(program: Option<&OsStr>) -> bool {
    program.and_then(|program| Path::new(program).file_name()) == Some(OsStr::new(ASKED_AS))
}

/// What may stand in the place of the last word: a line each, with a description behind a tab, and the line for the shell.
/// `folder`: where the names of files are looked up.
pub(crate) fn candidates(words: impl IntoIterator<Item = OsString>, folder: Option<&Path>) -> String {
    let line: Vec<_> = std::iter::once(OsString::from("kubectl-bifrost")).chain(words).collect();
    let last = line.len() - 1;
    let is_option = |text: &OsStr| text.as_encoded_bytes().starts_with(b"-");
    // As kubectl's own, options are offered to who begins one.
    let wants_option = is_option(&line[last]);
    let found = complete(&mut Cli::command(), line, last, folder).unwrap_or_default();
    let mut answer = String::new();
    let mut directive = NO_FILES;
    for candidate in found.iter().filter(|one| is_option(one.get_value()) == wants_option) {
        let value = candidate.get_value().to_string_lossy();
        if value.ends_with('/') {
            directive |= NO_SPACE;
        }
        answer.push_str(&value);
        if let Some(line) = candidate.get_help().and_then(|help| help.to_string().lines().next().map(str::to_owned)) {
            answer.push_str(&format!("\t{line}"));
        }
        answer.push('\n');
    }
    answer + &format!(":{directive}\n")
}

/// The script of a shell, for the command as it lies in the path.
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

    fn asked(line: &str) -> String {
        candidates(
            line.split(' ').map(OsString::from),
            Some(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata"))),
        )
    }

    #[test]
    fn kubectl_asks_by_a_name() {
        assert!(is_asked(Some(OsStr::new("/usr/local/bin/kubectl_complete-bifrost"))));
        assert!(!is_asked(Some(OsStr::new("kubectl-bifrost"))) && !is_asked(None));
    }

    #[test]
    fn the_last_word_is_completed() {
        assert_eq!(
            asked("pro"),
            "promote\tLet a migration or a rollout take its next step, or with --full the last one its spec allows\n:4\n"
        );
        assert_eq!(asked("status --out"), "--output\tPrint the same as JSON or YAML\n:4\n");
        assert_eq!(asked("-n llm status -o "), "json\nyaml\n:4\n");
        for line in ["switch g", "switch ai g", "switch ai -n llm g", "switch -n llm ai g"] {
            assert_eq!(asked(line), "green\n:4\n", "{line}");
        }
        assert!(asked("").lines().any(|line| line.starts_with("status\t")) && !asked("").contains("--namespace"));
        for nothing in ["status ", "no-such-command x", "set-percent ai 1", "status -- -"] {
            assert_eq!(asked(nothing), ":4\n", "{nothing}");
        }
        assert_eq!(candidates([], None), ":4\n");
    }

    #[test]
    fn files_are_completed_where_files_are_asked_for() {
        assert_eq!(asked("lint -f gatew"), "gateway.yaml\n:4\n");
        let folders =
            candidates(["lint", "-f", "test"].map(OsString::from), Some(Path::new(env!("CARGO_MANIFEST_DIR"))));
        assert_eq!(folders, "testdata/\ntests/\n:6\n");
    }
}
