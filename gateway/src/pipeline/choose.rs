//! Which provider, which arm, and why. Pure: the same inputs give the same answer in every pod.

use bifrost_wire::Peek;

use super::caller::{Caller, is_virtual};
use super::preview;
use super::reason::Reason;
use super::split::{Decision, Eligible, split};
use crate::front::error::{Fault, GatewayError};
use crate::front::route::{Kind, Route};
use crate::snapshot::{OwnProvider, Snapshot};
use crate::telemetry::Arm;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice<'m> {
    /// The arm.
    pub arm: Arm,
    /// Why.
    pub reason: Reason,
    /// Hash of what holds an eligible request's user on an arm; without such a thing a random number.
    pub hash: u64,
    /// Index of the provider in the snapshot.
    pub upstream: usize,
    /// The model as the provider knows it.
    pub model: Option<&'m str>,
    /// Whether the body names it otherwise, so that it must be renamed there.
    pub renamed: bool,
}

/// A request for which nothing can be chosen.
#[derive(Debug)]
pub struct Refusal {
    /// What the caller is told.
    pub error: GatewayError,
    /// The reason, where it is one of the split's.
    pub reason: Option<Reason>,
}

impl From<GatewayError> for Refusal {
    fn from(error: GatewayError) -> Self {
        Self { error, reason: None }
    }
}

/// Decides. `only` is the one arm that the request's port serves, if it does not serve both; `chance` is a random number for requests
/// that nothing holds on an arm.
pub fn choose<'m>(
    route: &Route<'_>,
    caller: Caller<'_>,
    peek: Option<&'m Peek<'_>>,
    only: Option<Arm>,
    snapshot: &Snapshot,
    chance: u64,
) -> Result<Choice<'m>, Refusal> {
    let choice = decide(route, caller, peek, only, snapshot, chance)?;
    preview::check(only, &choice, route).map_err(|error| Refusal { error, reason: Some(choice.reason) })?;
    Ok(choice)
}

fn decide<'m>(
    route: &Route<'_>,
    caller: Caller<'_>,
    peek: Option<&'m Peek<'_>>,
    only: Option<Arm>,
    snapshot: &Snapshot,
    chance: u64,
) -> Result<Choice<'m>, Refusal> {
    let own = snapshot.own_provider(route.front);
    let model = peek.and_then(Peek::model);
    if let Some((upstream, rest)) = model.and_then(|model| snapshot.split_model(model)) {
        let reason = match own {
            OwnProvider::One(own) if own == upstream => Reason::ProviderPrefix,
            OwnProvider::Ambiguous => Reason::AmbiguousProvider,
            OwnProvider::One(_) | OwnProvider::Missing => Reason::OtherProvider,
        };
        same_format(route, snapshot, upstream)?;
        return Ok(Choice { arm: Arm::Bifrost, reason, hash: chance, upstream, model: Some(rest), renamed: true });
    }
    let upstream = match own {
        OwnProvider::One(upstream) => upstream,
        OwnProvider::Ambiguous => {
            return Err(Refusal { error: ambiguous(route, snapshot), reason: Some(Reason::AmbiguousProvider) });
        }
        OwnProvider::Missing => return Err(missing(route, snapshot).into()),
    };
    let choice = |arm, reason| Choice { arm, reason, hash: chance, upstream, model, renamed: false };
    if route.kind == Kind::Account {
        return match caller.credential {
            Some(credential) if !is_virtual(credential) => Ok(choice(Arm::Baseline, Reason::Account)),
            _ => Err(GatewayError::new(
                Fault::CredentialRequired,
                format!(
                    "{} belongs to an account at {}: send your own credential; the gateway's keys are not used for it",
                    route.rest, snapshot.upstreams[upstream].name
                ),
            )
            .into()),
        };
    }
    let reason = match caller.credential {
        None => Some(Reason::NoCredential),
        Some(credential) if is_virtual(credential) => Some(Reason::VirtualKey),
        Some(_) if peek.is_some_and(Peek::has_fallbacks) => Some(Reason::Fallbacks),
        Some(_) => None,
    };
    if let Some(reason) = reason {
        return Ok(choice(Arm::Bifrost, reason));
    }
    let Decision { arm, reason, hash } = split(Eligible { route, caller, peek, upstream }, only, snapshot, chance)?;
    Ok(Choice { hash, ..choice(arm, reason) })
}

fn same_format(route: &Route<'_>, snapshot: &Snapshot, upstream: usize) -> Result<(), GatewayError> {
    let provider = &snapshot.upstreams[upstream];
    if provider.vendor.front == route.front {
        return Ok(());
    }
    Err(GatewayError::new(
        Fault::FormatNotServed,
        format!(
            "/{} speaks the {} format and provider {:?} the {} format; translation between them is not served yet: call it through /{}",
            route.front.name(),
            route.front.provider_type().as_str(),
            &*provider.name,
            provider.vendor.provider_type.as_str(),
            provider.vendor.front.name(),
        ),
    ))
}

fn ambiguous(route: &Route<'_>, snapshot: &Snapshot) -> GatewayError {
    let front = route.front.name();
    let names: Vec<_> = snapshot.upstreams.iter().filter(|u| u.vendor.front == route.front).map(|u| &*u.name).collect();
    let first = names.first().copied().unwrap_or_default();
    let way_out = match route.kind {
        Kind::Json(_) => format!("name one in the model, such as \"{first}/MODEL\", or call one of them {front:?}"),
        Kind::Models | Kind::Raw | Kind::Account => format!("this path goes to the one that is called {front:?}"),
    };
    GatewayError::new(
        Fault::AmbiguousProvider,
        format!(
            "several providers speak the {} format ({}), and none is called {front:?}: {way_out}",
            route.front.provider_type().as_str(),
            names.join(", "),
        ),
    )
}

fn missing(route: &Route<'_>, snapshot: &Snapshot) -> GatewayError {
    let kind = route.front.provider_type().as_str();
    let names: Vec<_> = snapshot.upstreams.iter().map(|u| &*u.name).collect();
    GatewayError::new(
        Fault::ProviderNotConfigured,
        format!(
            "no provider of type {kind} is configured for /{}; configured: {}",
            route.front.name(),
            names.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::route::route;
    use crate::http::Head;
    use crate::snapshot::tests::snapshot;
    use bifrost_wire::peek;
    use http::Method;
    use std::sync::Arc;

    fn canary(percent: u8) -> Arc<Snapshot> {
        let provider = |base: &str| {
            format!(r#"{{"keys":[{{"value":"sk-1"}}],"network_config":{{"base_url":"http://127.0.0.1:1"}}{base}}}"#)
        };
        let custom = provider(r#","custom_provider_config":{"base_provider_type":"openai"}"#);
        snapshot(&format!(
            r#"{{"providers":{{"openai":{},"eu":{custom},"anthropic":{}}},"migration":{{"canaryPercent":{percent}}}}}"#,
            provider(""),
            provider("")
        ))
    }

    fn sent_with(credential: Option<&str>) -> Head {
        let mut head = Head::default();
        if let Some(credential) = credential {
            head.set(http::header::AUTHORIZATION, format!("Bearer {credential}").parse().unwrap());
        }
        head
    }

    fn decide(
        percent: u8,
        path: &str,
        credential: Option<&str>,
        body: &str,
        chance: u64,
    ) -> Result<(Arm, Reason, usize), Fault> {
        let snapshot = canary(percent);
        let peek = peek(body.as_bytes()).unwrap();
        let head = sent_with(credential);
        let caller = Caller::of(&head, None, snapshot.traffic());
        choose(&route(&Method::POST, path).unwrap(), caller, Some(&peek), None, &snapshot, chance)
            .map(|c| (c.arm, c.reason, c.upstream))
            .map_err(|refusal| refusal.error.fault)
    }

    const CHAT: &str = "/openai/v1/chat/completions";

    #[test]
    fn a_user_stays_on_one_arm_whatever_the_chance() {
        let body = r#"{"model":"gpt-4o","user":"user-7"}"#;
        let first = decide(37, CHAT, Some("sk-x"), body, 0).unwrap();
        assert!((1..200).all(|chance| decide(37, CHAT, Some("sk-x"), body, chance * 53).unwrap() == first));
    }

    #[test]
    fn without_a_user_the_chance_decides() {
        let body = r#"{"model":"gpt-4o"}"#;
        assert_eq!(decide(10, CHAT, Some("sk-x"), body, 999).unwrap().0, Arm::Bifrost);
        assert_eq!(decide(10, CHAT, Some("sk-x"), body, 1000).unwrap().0, Arm::Baseline);
    }

    #[test]
    fn what_the_vendor_would_not_understand_is_not_eligible() {
        let reason = |credential, body: &str| decide(0, CHAT, credential, body, 0).unwrap();
        assert_eq!(reason(None, r#"{"model":"m"}"#), (Arm::Bifrost, Reason::NoCredential, 2));
        assert_eq!(reason(Some("SK-BF-1"), r#"{"model":"m"}"#), (Arm::Bifrost, Reason::VirtualKey, 2));
        assert_eq!(reason(Some("k"), r#"{"model":"eu/m"}"#), (Arm::Bifrost, Reason::OtherProvider, 1));
        assert_eq!(reason(Some("k"), r#"{"model":"openai/m"}"#), (Arm::Bifrost, Reason::ProviderPrefix, 2));
        assert_eq!(reason(Some("k"), r#"{"model":"m","fallbacks":["eu/m"]}"#), (Arm::Bifrost, Reason::Fallbacks, 2));
        // A slash alone makes no prefix: vendors have such models.
        assert_eq!(reason(Some("k"), r#"{"model":"meta/llama"}"#), (Arm::Baseline, Reason::Canary, 2));
    }

    #[test]
    fn of_several_providers_none_is_baseline() {
        let provider = r#"{"keys":[{"value":"sk-1"}],"network_config":{"base_url":"http://127.0.0.1:1"},
            "custom_provider_config":{"base_provider_type":"openai"}}"#;
        let snapshot = snapshot(&format!(
            r#"{{"providers":{{"eu":{provider},"us":{provider}}},"migration":{{"canaryPercent":0}}}}"#
        ));
        let head = sent_with(Some("k"));
        let caller = Caller::of(&head, None, snapshot.traffic());
        let decide = |body: &str| {
            let peek = peek(body.as_bytes()).unwrap();
            let route = route(&Method::POST, CHAT).unwrap();
            choose(&route, caller, Some(&peek), None, &snapshot, 0).map(|choice| (choice.arm, choice.reason))
        };
        assert_eq!(decide(r#"{"model":"eu/m"}"#).unwrap(), (Arm::Bifrost, Reason::AmbiguousProvider));
        let refused = decide(r#"{"model":"m"}"#).unwrap_err();
        assert_eq!((refused.error.fault, refused.reason), (Fault::AmbiguousProvider, Some(Reason::AmbiguousProvider)));
        assert!(refused.error.message.contains("\"eu/MODEL\""), "{}", refused.error.message);
    }

    #[test]
    fn another_format_is_named_and_not_served() {
        assert_eq!(decide(0, CHAT, Some("k"), r#"{"model":"anthropic/claude"}"#, 0), Err(Fault::FormatNotServed));
    }

    #[test]
    fn stored_responses_stay_with_the_caller_below_full_migration() {
        let path = "/openai/v1/responses";
        assert_eq!(
            decide(99, path, Some("k"), r#"{"model":"m"}"#, 0).unwrap(),
            (Arm::Baseline, Reason::VendorState, 2)
        );
        assert_eq!(decide(99, path, Some("k"), r#"{"model":"m","store":false}"#, 0).unwrap().0, Arm::Bifrost);
        for state in [
            r#""previous_response_id":"resp_1""#,
            r#""include":["reasoning.encrypted_content"]"#,
            r#""conversation":"conv_1""#,
            r#""input":[{"type":"input_file","file_id":"file-1"}]"#,
            r#""input":[{"type":"reasoning","encrypted_content":"gAAA"}]"#,
        ] {
            let body = format!(r#"{{"model":"m","store":false,{state}}}"#);
            assert_eq!(decide(99, path, Some("k"), &body, 0).unwrap().1, Reason::VendorState, "{state}");
        }
        assert_eq!(decide(100, path, Some("k"), r#"{"model":"m"}"#, 0).unwrap().0, Arm::Bifrost);
    }

    #[test]
    fn account_paths_ask_for_the_callers_credential() {
        let path = "/openai/v1/batches";
        assert_eq!(decide(100, path, Some("k"), "{}", 0).unwrap(), (Arm::Baseline, Reason::Account, 2));
        assert_eq!(decide(100, path, None, "{}", 0), Err(Fault::CredentialRequired));
        assert_eq!(decide(100, path, Some("sk-bf-1"), "{}", 0), Err(Fault::CredentialRequired));
    }
}
