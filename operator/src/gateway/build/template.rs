//! Which form of the pod template a gateway gets. A newer operator may build pods otherwise, but it must not restart those that run:
//! the newer form comes with the next change of an image or of what the spec says about the pods.
//!
//! Whoever changes what is built of the same inputs raises [`NEWEST`] and keeps the older form for the versions before it. The record
//! lies on the Deployment, not on its pods, and goes with it: pods that are made anew get the newest form.

use std::collections::BTreeMap;

use bifrost_config::AddressRule;
use bifrost_config::published::revision;
use kube::ResourceExt;
use kube::api::DynamicObject;

use super::{Observed, Part};

/// The form that this operator gives to new pods.
const NEWEST: u32 = 1;
/// The form of a Deployment that says nothing.
const FIRST: u32 = 1;
const VERSION: &str = "bifrost.dev/template-version";
const INPUTS: &str = "bifrost.dev/template-inputs";

/// The form of one gateway's pods.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template {
    /// Number of the form.
    version: u32,
    /// Fingerprint of what the template is made of.
    inputs: String,
}

impl Template {
    /// The form that the pods have, unless they are to be replaced anyway.
    pub(super) fn of(observed: &Observed, image: &str, addresses: AddressRule) -> Self {
        let spec = &observed.gateway.spec;
        let made_of = (image, &spec.pod, &spec.drain, spec.service.type_, addresses == AddressRule::Any);
        // The spec came as JSON and always serialises again.
        let inputs = revision(&serde_json::to_string(&made_of).unwrap_or_default());
        choose(observed.own(Part::Deployment), inputs, NEWEST)
    }

    /// The record for the Deployment.
    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        [(VERSION, self.version.to_string()), (INPUTS, self.inputs.clone())]
            .map(|(key, text)| (key.to_owned(), text))
            .into()
    }
}

fn choose(deployment: Option<&DynamicObject>, inputs: String, newest: u32) -> Template {
    let kept = deployment.filter(|live| live.annotations().get(INPUTS).is_none_or(|recorded| *recorded == inputs));
    let recorded =
        |live: &DynamicObject| live.annotations().get(VERSION).and_then(|text| text.parse().ok()).unwrap_or(FIRST);
    let version = kept.map_or(newest, |live| recorded(live).clamp(FIRST, newest));
    Template { version, inputs }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::observed;

    fn deployment(annotations: &[(&str, &str)]) -> DynamicObject {
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        serde_json::from_value(serde_json::json!({"metadata": {"name": "ai", "annotations": annotations}})).unwrap()
    }

    #[test]
    fn a_newer_form_waits_until_the_pods_change_anyway() {
        let version = |live: Option<&DynamicObject>, inputs: &str| choose(live, inputs.into(), 3).version;
        let running = deployment(&[(VERSION, "2"), (INPUTS, "a")]);
        assert_eq!(version(Some(&running), "a"), 2);
        assert_eq!(version(Some(&running), "b"), 3);
        assert_eq!(version(None, "a"), 3);
        assert_eq!(version(Some(&deployment(&[])), "a"), FIRST, "made before it was recorded");
        assert_eq!(version(Some(&deployment(&[(VERSION, "9"), (INPUTS, "a")])), "a"), 3, "made by a later operator");
    }

    #[test]
    fn what_pods_are_made_of_is_told_apart() {
        let inputs = |image, change: fn(&mut Observed)| {
            let mut seen = observed();
            change(&mut seen);
            Template::of(&seen, image, AddressRule::NoLocal).inputs
        };
        let before = inputs("r/g:1", |_| {});
        assert_eq!(before, inputs("r/g:1", |seen| seen.gateway.spec.replicas = 9));
        assert_ne!(before, inputs("r/g:2", |_| {}));
        assert_ne!(before, inputs("r/g:1", |seen| seen.gateway.spec.drain.timeout = "9s".into()));
    }
}
