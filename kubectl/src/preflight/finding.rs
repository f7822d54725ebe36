//! One result of the checklist.

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Ok,
    Warn,
    Fail,
}

/// A result: one sentence, and a command that puts it right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) name: &'static str,
    pub(super) sentence: String,
    pub(super) fix: Option<String>,
}

impl Finding {
    /// As it should be.
    pub(super) fn ok(name: &'static str, sentence: impl Into<String>) -> Self {
        Self { level: Level::Ok, name, sentence: sentence.into(), fix: None }
    }

    /// Worth a look, or not to be checked.
    pub(super) fn warn(name: &'static str, sentence: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warn, name, sentence: sentence.into(), fix: Some(fix.into()) }
    }

    /// Not as it should be.
    pub(super) fn fail(name: &'static str, sentence: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Fail, name, sentence: sentence.into(), fix: Some(fix.into()) }
    }

    /// What the user may not read, or what did not answer.
    pub(super) fn unknown(name: &'static str, why: &str, fix: impl Into<String>) -> Self {
        Self::warn(name, format!("cannot be checked: {why}"), fix)
    }
}

/// All results, a line each, with the command below where there is one.
pub(super) fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let word = match finding.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        text.push_str(&format!("{word:4}  {:width$}  {}\n", finding.name, finding.sentence));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("{:4}  {:width$}    → {fix}\n", "", ""));
        }
    }
    text
}
