//! `validate`: every problem and warning of a configuration file, for people and for pipelines.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use bifrost_config::file::load;

/// What stands for the value of a variable that is not set here, but may be where the gateway runs.
const PLACEHOLDER: &str = "not-set-here";

/// Checks the file and prints what was found.
pub(super) fn run(path: &Path) -> ExitCode {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{}: cannot be read: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let Findings { problems, warnings, summary } = check(&text, &|name| std::env::var(name).ok());
    for warning in warnings {
        println!("{}: warning: {warning}", path.display());
    }
    for problem in &problems {
        eprintln!("{}: {problem}", path.display());
    }
    match summary {
        Some(summary) => {
            println!("{}: valid: {summary}", path.display());
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("{}: {} problem(s)", path.display(), problems.len());
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, Default)]
struct Findings {
    problems: Vec<String>,
    warnings: Vec<String>,
    /// Of a valid file.
    summary: Option<String>,
}

fn check(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Findings {
    let missing = RefCell::new(BTreeSet::new());
    let loaded = load(text, &|name| {
        env(name).or_else(|| {
            missing.borrow_mut().insert(name.to_owned());
            Some(PLACEHOLDER.to_owned())
        })
    });
    let unset = missing.take().into_iter().map(|name| format!("environment variable {name} is not set here"));
    match loaded {
        Ok(loaded) => Findings {
            problems: Vec::new(),
            summary: Some(format!(
                "{} provider(s), {} key(s), {} at {} %",
                loaded.config.providers.len(),
                loaded.config.keys.len(),
                loaded.migration.strategy.as_str(),
                loaded.migration.percent
            )),
            warnings: loaded.warnings.into_iter().chain(unset).collect(),
        },
        Err(problems) => Findings {
            problems: problems.iter().map(ToString::to_string).collect(),
            warnings: unset.collect(),
            summary: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_not_set_is_a_warning_only() {
        let text = r#"{"providers":{"openai":{"keys":[{"value":"env.NOWHERE"}]}}}"#;
        let found = check(text, &|_| None);
        assert_eq!(found.warnings, ["environment variable NOWHERE is not set here"]);
        assert_eq!(found.summary.as_deref(), Some("1 provider(s), 1 key(s), DropIn at 100 %"));
        assert!(check(text, &|_| Some("sk-1".into())).warnings.is_empty());
    }

    #[test]
    fn all_problems_are_found_at_once() {
        let found = check(r#"{"providers":{"acme":{}},"clent":{}}"#, &|_| None);
        assert_eq!((found.problems.len(), found.summary), (2, None), "{:?}", found.problems);
    }

    #[test]
    fn the_files_exit_codes_tell_pipelines() {
        let dir = tempfile::tempdir().unwrap();
        let write = |text: &str| {
            let path = dir.path().join("config.json");
            std::fs::write(&path, text).unwrap();
            format!("{:?}", run(&path))
        };
        assert_eq!(write(r#"{"providers":{}}"#), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(write("{"), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(format!("{:?}", run(&dir.path().join("nowhere"))), format!("{:?}", ExitCode::FAILURE));
    }
}
