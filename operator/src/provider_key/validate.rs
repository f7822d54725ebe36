//! What became of a key. Pure.

use bifrost_config::{AddressRule, Problem, Reason, check_key, validate as check};
use kube::ResourceExt;

use super::observe::Observed;
use crate::gateway::draft;

/// One answer with its reason in one word and in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether it is so.
    pub so: bool,
    /// CamelCase.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Answer {
    fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { so: true, reason, message: message.into() }
    }

    fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { so: false, reason, message: message.into() }
    }
}

/// What is reported of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether its Secret gives a value.
    pub resolved: Answer,
    /// Whether a gateway uses it.
    pub ready: Answer,
}

/// Decides.
pub fn validate(observed: &Observed, addresses: AddressRule) -> Verdict {
    let secret = &observed.key.spec.secret_ref.name;
    let resolved = match &observed.value {
        Ok(_) => Answer::yes("Resolved", format!("Secret {secret} holds a value")),
        Err(why) => Answer::no(why.reason(), why.to_string()),
    };
    Verdict { ready: ready(observed, &resolved, addresses), resolved }
}

fn ready(observed: &Observed, resolved: &Answer, addresses: AddressRule) -> Answer {
    if !observed.key.spec.enabled {
        return Answer::no("Disabled", "spec.enabled is false: no gateway uses the key");
    }
    let using: Vec<_> =
        observed.gateways.iter().filter(|gateway| gateway.names_key).map(|g| g.gateway.name_any()).collect();
    if !using.is_empty() {
        let after = if resolved.so { "" } else { ", with the last value that was read" };
        return Answer::yes("InUse", format!("used by {}{after}", using.join(", ")));
    }
    if observed.gateways.is_empty() {
        return Answer::no("NoGateway", "no BifrostGateway of this namespace selects the key");
    }
    if let Some(problem) = problem(observed, addresses) {
        let reason = if problem.reason == Reason::NotFound { "ProviderNotFound" } else { "Invalid" };
        return Answer::no(reason, problem.to_string());
    }
    if !resolved.so {
        return Answer::no(resolved.reason, resolved.message.clone());
    }
    Answer::no("Pending", "no gateway has taken the key up yet")
}

/// Why none of the gateways can use the key: the gravest thing that can be mended in the key itself comes first.
fn problem(observed: &Observed, addresses: AddressRule) -> Option<Problem> {
    let key = draft::key(&observed.key);
    let mut problems = Vec::new();
    for selecting in &observed.gateways {
        // A gateway whose configuration is not valid says so itself.
        let Ok((config, _)) = check(&draft::draft(&selecting.gateway, None), addresses) else { continue };
        match check_key(&key, &config.providers) {
            Ok(_) => return None,
            Err(problem) => problems.push(problem),
        }
    }
    let own = problems.iter().position(|problem| problem.reason != Reason::NotFound).unwrap_or(0);
    (!problems.is_empty()).then(|| problems.swap_remove(own))
}

#[cfg(test)]
mod tests {
    use super::super::observe::Selecting;
    use super::*;
    use crate::gateway::tests::{gateway, observed_key};
    use crate::secrets::NoValue;

    fn observed(value: Result<&str, NoValue>, names_key: bool) -> Observed {
        let key = observed_key("main", "openai", value);
        Observed {
            key: key.key,
            value: key.value.unwrap(),
            gateways: vec![Selecting { gateway: gateway(), names_key }],
        }
    }

    fn verdict(observed: &Observed) -> (bool, &'static str, bool, &'static str) {
        let Verdict { resolved, ready } = validate(observed, AddressRule::NoLocal);
        (resolved.so, resolved.reason, ready.so, ready.reason)
    }

    fn missing() -> Result<&'static str, NoValue> {
        Err(NoValue::Secret("openai".into()))
    }

    #[test]
    fn a_key_is_ready_when_a_gateway_uses_it_even_with_its_last_value() {
        assert_eq!(verdict(&observed(Ok("sk"), true)), (true, "Resolved", true, "InUse"));
        assert_eq!(verdict(&observed(missing(), true)), (false, "SecretMissing", true, "InUse"));
        assert_eq!(verdict(&observed(Ok("sk"), false)), (true, "Resolved", false, "Pending"));
    }

    #[test]
    fn why_a_key_is_not_used_is_said() {
        let mut seen = observed(Ok("sk"), true);
        seen.key.spec.enabled = false;
        assert_eq!(verdict(&seen).3, "Disabled");
        let mut seen = observed(Ok("sk"), false);
        seen.gateways.clear();
        assert_eq!(verdict(&seen).3, "NoGateway");
        let mut seen = observed(Ok("sk"), false);
        seen.key.spec.provider = "other".into();
        assert_eq!(verdict(&seen).3, "ProviderNotFound");
        let mut seen = observed(Ok("sk"), false);
        seen.key.spec.hosts = vec!["elsewhere.example".into()];
        assert_eq!(verdict(&seen).3, "Invalid");
        assert_eq!(verdict(&observed(missing(), false)).3, "SecretMissing");
    }
}
