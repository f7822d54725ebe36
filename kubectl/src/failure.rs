//! Why a command did not do what it was asked for, and the exit code that says so.

use std::process::ExitCode;

use bifrost_crds::GROUP;
use kube::config::{InferConfigError, KubeconfigError};

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The answer is no: refused, not there, or a check that failed. The sentence holds the way out.
    #[error("{0}")]
    No(String),
    /// The command line asks for what does not go together.
    #[error("{0}")]
    Usage(String),
    /// It was asked for, but what was to follow did not within the time.
    #[error("{0}")]
    TimedOut(String),
    /// It was written, but something holds back what was to follow. The sentence says what, and what lets it go on.
    #[error("{0}")]
    Held(String),
    /// What was to be said was said already.
    #[error("")]
    Said,
    /// No kubeconfig that can be used.
    #[error("no cluster to talk to: {0}; see `kubectl config view`, --kubeconfig and --context")]
    Kubeconfig(#[from] KubeconfigError),
    /// Neither a kubeconfig nor a pod's own account.
    #[error("no cluster to talk to: {0}; see `kubectl config view`, --kubeconfig and --context")]
    Infer(#[from] InferConfigError),
    /// The API server, or the way to it.
    #[error("{}", api(.0))]
    Api(#[from] kube::Error),
    /// A file or the terminal.
    #[error("{what}: {error}")]
    Io {
        /// What was read or written.
        what: String,
        /// The system's words.
        error: std::io::Error,
    },
}

impl Failure {
    /// A sentence for the user.
    pub(crate) fn no(sentence: impl Into<String>) -> Self {
        Self::No(sentence.into())
    }

    /// 1: no. 2: the command line. 3: written, but what was to follow did not.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 2,
            Self::TimedOut(_) | Self::Held(_) => 3,
            _ => 1,
        })
    }
}

/// The API server's refusals in words that lead on.
fn api(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            let role = role_for(&status.message)
                .map_or_else(String::new, |role| format!(": the role {role} of the namespace has that one"));
            format!(
                "not allowed: {}; the command has the rights of your kubeconfig's user, no more{role}",
                status.message
            )
        }
        kube::Error::Api(status) if status.code == 404 && status.message.contains("could not find the requested") => {
            "the cluster does not know BifrostGateway: install the chart helm/bifrost first".to_owned()
        }
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::SerdeError(error) => {
            format!(
                "the answer holds what this plugin does not know ({error}): install the plugin of the operator's release"
            )
        }
        kube::Error::Service(error) => format!("the cluster does not answer: {}", causes(error.as_ref())),
        other => other.to_string(),
    }
}

/// The cluster's role that has the right which a refusal names, where it is known: what the chart adds, and port-forwards.
fn role_for(refusal: &str) -> Option<&'static str> {
    let is_look = ["get", "list", "watch"].iter().any(|verb| refusal.contains(&format!("cannot {verb} resource")));
    if refusal.contains(&format!("API group \"{GROUP}\"")) {
        return Some(if is_look { "view" } else { "edit" });
    }
    refusal.contains("resource \"pods/portforward\"").then_some("edit")
}

/// An error with its causes: the first one alone often says only that something failed.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_role_where_it_is_known() {
        let refusal = |verb: &str, resource: &str, group: &str| {
            format!(
                r#"User "viewer" cannot {verb} resource "{resource}" in API group "{group}" in the namespace "llm""#
            )
        };
        assert_eq!(role_for(&refusal("patch", "bifrostgateways", GROUP)), Some("edit"));
        assert_eq!(role_for(&refusal("list", "providerkeys", GROUP)), Some("view"));
        assert_eq!(role_for(&refusal("get", "pods/portforward", "")), Some("edit"));
        assert_eq!(role_for(&refusal("get", "secrets", "")), None);
    }
}
