//! What a gateway shall be, decided from what was read. Pure.
//!
//! A spec that is not valid changes nothing, and so does `paused`, but what takes away goes on in both: a lower percent, keys that
//! are gone, rotated values. And what is missing is made again.

use bifrost_config::{AddressRule, Config, Draft, KeyValues, Migration, Problem, Strategy, validate as check};
use bifrost_crds::ImageSpec;
use kube::api::DynamicObject;

use super::images::{self, ImagePolicy};
use super::keys::{self, KeyDecision};
use super::observe::{CaBundle, Observed};
use super::part::Part;
use super::{draft, publish};
use crate::cluster::Ownership;
use crate::events::Reason;
use crate::names;

/// Rules of this operator, not of a resource.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Which images may run.
    pub images: ImagePolicy,
    /// Which addresses a provider may have.
    pub addresses: AddressRule,
}

/// Why a spec is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The event, also the condition's reason.
    pub reason: Reason,
    /// What is wrong, with the path of the member.
    pub message: String,
}

/// What the pods shall act upon.
#[derive(Clone)]
pub struct Wanted {
    /// The configuration.
    pub config: Config,
    /// The split.
    pub migration: Migration,
    /// Values of the keys that the configuration names.
    pub values: KeyValues,
    /// Image of the pods.
    pub image: String,
}

/// What was decided. Not `Debug`: it holds key values.
#[derive(Clone)]
pub struct Decision {
    /// Why the spec is not accepted, if it is not.
    pub rejection: Option<Rejection>,
    /// Whether `spec.paused` holds.
    pub paused: bool,
    /// Objects of an earlier gateway of the same name that must be collected first.
    pub waits_for: Vec<String>,
    /// What to publish; none where there is nothing, or nowhere to put it.
    pub wanted: Option<Wanted>,
    /// Whether the other objects are to follow as well; if not, only those that are missing are made.
    pub whole: bool,
    /// References that lead nowhere.
    pub unresolved: Vec<String>,
    /// Provider keys that the selector chooses.
    pub selected: usize,
}

/// Decides.
pub fn validate(observed: &Observed, policy: &Policy) -> Decision {
    let mut unresolved = Vec::new();
    let ca_bundle = ca_bundle(observed, &mut unresolved);
    let image = policy.images.choose(observed.gateway.spec.image.as_ref(), running_image(observed).as_deref());
    let draft = draft::draft(&observed.gateway, ca_bundle);

    let waits_for = parts(observed, Ownership::Earlier);
    let full = match image {
        Ok(image) => full(observed, &draft, policy, image),
        Err(problem) => Err(rejected(&[problem])),
    };
    let conflict = conflict(observed);
    let paused = observed.gateway.spec.paused;
    let held = conflict.is_some() || paused || full.is_err();
    let (wanted, rejection) = match full {
        Ok(full) if !held => (Some(full), None),
        Ok(_) => (hold(observed, &draft, policy), conflict),
        Err(rejection) => (hold(observed, &draft, policy), conflict.or(Some(rejection))),
    };
    let (wanted, faults) = wanted.map_or((None, Vec::new()), |(wanted, faults)| (Some(wanted), faults));
    unresolved.extend(faults);
    let writable = [Part::Keys, Part::Published]
        .iter()
        .all(|part| matches!(observed.ownership(*part), Ownership::Ours | Ownership::Absent));
    Decision {
        rejection,
        paused,
        wanted: wanted.filter(|_| writable && waits_for.is_empty()),
        whole: !held && waits_for.is_empty(),
        waits_for,
        unresolved,
        selected: observed.keys.len(),
    }
}

type WantedAndFaults = (Wanted, Vec<String>);

fn full(observed: &Observed, draft: &Draft, policy: &Policy, image: String) -> Result<WantedAndFaults, Rejection> {
    let (config, migration) = check(draft, policy.addresses).map_err(|problems| rejected(&problems))?;
    let KeyDecision { keys, values, faults } = keys::decide(&observed.keys, &config.providers, &observed.secret.values);
    let config = Config { keys, ..config };
    publish::stable_text(&config)
        .map_err(|error| Rejection { reason: Reason::ConfigTooLarge, message: format!("spec.config: {error}") })?;
    Ok((Wanted { config, migration, values, image }, faults))
}

/// What is published, less what is to be taken away.
fn hold(observed: &Observed, draft: &Draft, policy: &Policy) -> Option<WantedAndFaults> {
    let published = observed.live.published.as_ref()?;
    let KeyDecision { keys, values, faults } = keys::hold(&published.config, &observed.keys, &observed.secret.values);
    let mut migration = observed.live.migration()?;
    let alone = Draft { migration: draft.migration.clone(), ..Draft::default() };
    if let Ok((_, asked)) = check(&alone, policy.addresses)
        && asked.percent < migration.percent
    {
        migration.strategy = Strategy::Canary;
        migration.percent = asked.percent;
    }
    let config = Config { keys, ..published.config.clone() };
    let image = running_image(observed).unwrap_or_else(|| policy.images.default_image().to_owned());
    Some((Wanted { config, migration, values, image }, faults))
}

fn ca_bundle(observed: &Observed, unresolved: &mut Vec<String>) -> Option<String> {
    match &observed.ca_bundle {
        CaBundle::NotAsked => None,
        CaBundle::Found(pem) => Some(pem.clone()),
        CaBundle::Missing(why) => {
            let carried = observed.live.published.as_ref().and_then(|published| published.config.ca_bundle.clone());
            let then = if carried.is_some() {
                "the last certificates stay in use"
            } else {
                "only the built-in roots are trusted"
            };
            unresolved.push(format!("spec.config.caBundleRef: {why}; {then}"));
            carried
        }
    }
}

/// The image that was last given to the Deployment, or that it has if nobody remembers.
fn running_image(observed: &Observed) -> Option<String> {
    let remembered = Some(observed.live.state.image.clone()).filter(|image| !image.is_empty());
    remembered.or_else(|| observed.own(Part::Deployment).and_then(container_image))
}

fn container_image(deployment: &DynamicObject) -> Option<String> {
    let containers = deployment.data.pointer("/spec/template/spec/containers")?.as_array()?;
    let ours =
        containers.iter().find(|container| container.get("name").is_some_and(|name| name == names::CONTAINER))?;
    ours.get("image")?.as_str().map(str::to_owned)
}

fn parts(observed: &Observed, ownership: Ownership) -> Vec<String> {
    let of = Part::ALL.into_iter().filter(|part| observed.ownership(*part) == ownership);
    of.map(|part| part.describe(observed.name())).collect()
}

fn conflict(observed: &Observed) -> Option<Rejection> {
    let foreign = parts(observed, Ownership::Foreign);
    (!foreign.is_empty()).then(|| Rejection {
        reason: Reason::NameConflict,
        message: format!(
            "{} already there and not this gateway's: delete or rename, or give the gateway another name",
            match foreign.as_slice() {
                [one] => format!("{one} is"),
                all => format!("{} are", all.join(", ")),
            }
        ),
    })
}

fn rejected(problems: &[Problem]) -> Rejection {
    let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Rejection { reason: Reason::ConfigRejected, message: all.join("; ") }
}

impl ImagePolicy {
    /// The image to run. Parts that the spec leaves open are taken from what runs, else from the default.
    fn choose(&self, spec: Option<&ImageSpec>, running: Option<&str>) -> Result<String, Problem> {
        let base = running.unwrap_or(self.default_image());
        let (base_repository, base_tag) = images::split(base);
        let Some(spec) = spec else { return Ok(base.to_owned()) };
        let repository = spec.repository.as_deref().unwrap_or(base_repository);
        if spec.repository.is_some() && !self.allows(repository) {
            return Err(Problem::invalid(
                "spec.image.repository",
                format!("{repository} is not among the repositories that the operator allows: {}", self.describe()),
            ));
        }
        let tag = spec.tag.as_ref().map_or_else(|| base_tag.to_owned(), |tag| format!(":{tag}"));
        Ok(format!("{repository}{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::{observed, observed_key, policy, publish_all};

    fn message(decision: &Decision) -> &str {
        decision.rejection.as_ref().map_or("", |rejection| rejection.message.as_str())
    }

    #[test]
    fn a_valid_gateway_is_wanted_as_a_whole() {
        let decision = validate(&observed(), &policy());
        assert!(decision.rejection.is_none() && decision.whole);
        let wanted = decision.wanted.unwrap();
        assert_eq!(wanted.image, "ghcr.io/example/bifrost-gateway:0.1.0");
        assert_eq!(wanted.migration.percent, 10);
        assert_eq!(wanted.migration.salt, "llm/ai");
        assert_eq!(wanted.config.keys.len(), 1);
    }

    #[test]
    fn a_bad_spec_names_the_field_and_leaves_what_is_published() {
        let mut seen = publish_all(observed());
        seen.gateway.spec.config.providers[0].base_url = Some("http://127.0.0.1".into());
        seen.gateway.spec.migration.canary_percent = Some(50);
        let decision = validate(&seen, &policy());
        assert!(message(&decision).starts_with("spec.config.providers[0].baseURL: "), "{}", message(&decision));
        assert!(!decision.whole);
        let wanted = decision.wanted.unwrap();
        assert_eq!(wanted.config, seen.live.published.as_ref().unwrap().config);
        assert_eq!(wanted.migration.percent, 10);
    }

    #[test]
    fn a_bad_spec_before_anything_was_published_publishes_nothing() {
        let mut seen = observed();
        seen.gateway.spec.config.providers[0].base_url = Some("nonsense".into());
        assert!(validate(&seen, &policy()).wanted.is_none());
    }

    #[test]
    fn what_takes_away_goes_on_while_paused_or_rejected() {
        for pause in [true, false] {
            let mut seen = publish_all(observed());
            if pause {
                seen.gateway.spec.paused = true;
            } else {
                seen.gateway.spec.config.providers[0].base_url = Some("nonsense".into());
            }
            seen.gateway.spec.migration.canary_percent = Some(3);
            seen.keys.clear();
            let decision = validate(&seen, &policy());
            assert!(!decision.whole);
            let wanted = decision.wanted.unwrap();
            assert_eq!(wanted.migration.percent, 3);
            assert!(wanted.config.keys.is_empty());
        }
    }

    #[test]
    fn a_paused_gateway_takes_no_new_key_and_no_new_image() {
        let mut seen = publish_all(observed());
        seen.gateway.spec.paused = true;
        seen.gateway.spec.image = Some(ImageSpec { repository: None, tag: Some("0.2.0".into()) });
        seen.keys.push(observed_key("second", "openai", Ok("sk-2")));
        let decision = validate(&seen, &policy());
        assert!(decision.rejection.is_none() && decision.paused);
        let wanted = decision.wanted.unwrap();
        assert_eq!(wanted.config.keys.len(), 1);
        assert_eq!(wanted.image, "ghcr.io/example/bifrost-gateway:0.1.0");
    }

    #[test]
    fn a_foreign_object_is_named_and_stops_everything_but_what_is_ours_already() {
        let foreign: DynamicObject =
            serde_json::from_value(serde_json::json!({"metadata": {"name": "ai", "uid": "x"}})).unwrap();
        let mut fresh = observed();
        fresh.objects.insert(Part::Service, foreign.clone());
        let decision = validate(&fresh, &policy());
        assert_eq!(decision.rejection.as_ref().unwrap().reason, Reason::NameConflict);
        assert!(message(&decision).starts_with("Service ai is already there"), "{}", message(&decision));
        assert!(decision.wanted.is_none() && !decision.whole);

        let mut running = publish_all(observed());
        running.objects.insert(Part::PodDisruptionBudget, foreign.clone());
        running.gateway.spec.migration.canary_percent = Some(0);
        assert_eq!(validate(&running, &policy()).wanted.unwrap().migration.percent, 0);

        running.objects.insert(Part::Keys, foreign);
        assert!(validate(&running, &policy()).wanted.is_none());
    }

    #[test]
    fn objects_of_an_earlier_gateway_are_waited_for() {
        let mut seen = observed();
        let earlier = serde_json::json!({"metadata": {"name": "ai", "ownerReferences": [{
            "apiVersion": "bifrost.dev/v1alpha1", "kind": "BifrostGateway", "name": "ai", "uid": "before", "controller": true}]}});
        seen.objects.insert(Part::Deployment, serde_json::from_value(earlier).unwrap());
        let decision = validate(&seen, &policy());
        assert_eq!(decision.waits_for, ["Deployment ai"]);
        assert!(decision.rejection.is_none() && decision.wanted.is_none() && !decision.whole);
    }

    #[test]
    fn an_image_must_come_from_an_allowed_repository_and_runs_on_when_the_spec_names_none() {
        let mut seen = observed();
        seen.gateway.spec.image = Some(ImageSpec { repository: Some("evil.example/x".into()), tag: None });
        assert!(message(&validate(&seen, &policy())).starts_with("spec.image.repository: evil.example/x"));
        let mut running = publish_all(observed());
        running.live.state.image = "ghcr.io/example/bifrost-gateway:0.0.9".into();
        assert_eq!(validate(&running, &policy()).wanted.unwrap().image, "ghcr.io/example/bifrost-gateway:0.0.9");
        running.gateway.spec.image = Some(ImageSpec { repository: None, tag: Some("0.2.0".into()) });
        assert_eq!(validate(&running, &policy()).wanted.unwrap().image, "ghcr.io/example/bifrost-gateway:0.2.0");
    }

    #[test]
    fn a_missing_ca_bundle_keeps_the_last_one() {
        let mut seen = observed();
        seen.ca_bundle = CaBundle::Found("-----BEGIN CERTIFICATE-----\n".into());
        let mut seen = publish_all(seen);
        seen.ca_bundle = CaBundle::Missing("ConfigMap corp-ca does not exist".into());
        let decision = validate(&seen, &policy());
        assert!(decision.wanted.unwrap().config.ca_bundle.is_some());
        assert_eq!(
            decision.unresolved,
            ["spec.config.caBundleRef: ConfigMap corp-ca does not exist; the last certificates stay in use"]
        );
    }

    #[test]
    fn a_configuration_that_does_not_fit_is_refused() {
        let mut seen = observed();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}", "x".repeat(500 << 10));
        seen.ca_bundle = CaBundle::Found(pem);
        assert_eq!(validate(&seen, &policy()).rejection.unwrap().reason, Reason::ConfigTooLarge);
    }
}
