//! Long options with one dash, as Go programs spell them and as the guide's commands have them: `-config`, `-port=8080`.

use std::collections::HashSet;
use std::ffi::OsString;

use clap::Command;

/// Gives the second dash to known long options. What follows `--` stays as it is, and so does everything unknown.
pub(super) fn rewrite(args: impl IntoIterator<Item = OsString>, command: &Command) -> Vec<OsString> {
    let known = long_options(command);
    let mut ended = false;
    args.into_iter()
        .map(|arg| {
            ended |= arg == "--";
            match arg.to_str().and_then(|text| text.strip_prefix('-')) {
                Some(option) if !ended && is_known(option, &known) => OsString::from(format!("--{option}")),
                _ => arg,
            }
        })
        .collect()
}

fn is_known(option: &str, known: &HashSet<String>) -> bool {
    let name = option.split_once('=').map_or(option, |(name, _)| name);
    name.len() > 1 && known.contains(name)
}

fn long_options(command: &Command) -> HashSet<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned));
    let inner = command.get_subcommands().flat_map(long_options);
    own.chain(inner).chain(["help".to_owned(), "version".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::args::Cli;
    use super::*;

    fn rewritten(line: &str) -> String {
        let args = rewrite(line.split(' ').map(OsString::from), &Cli::command());
        args.join(std::ffi::OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn known_options_get_their_second_dash() {
        assert_eq!(
            rewritten("x -config a.json -port=80 -log-level debug"),
            "x --config a.json --port=80 --log-level debug"
        );
        assert_eq!(rewritten("x validate -config a"), "x validate --config a");
        assert_eq!(rewritten("x -help"), "x --help");
    }

    #[test]
    fn everything_else_stays() {
        for line in ["x --config a", "x -h", "x -V", "x -unknown", "x -1", "x -", "x -- -config"] {
            assert_eq!(rewritten(line), line);
        }
    }
}
