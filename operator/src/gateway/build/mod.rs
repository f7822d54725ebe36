//! The objects of a gateway as they shall be. Pure; one file a Kubernetes kind.

mod candidate;
mod config_map;
mod deployment;
mod network_policy;
mod pod_disruption_budget;
mod preview_service;
mod role;
mod role_binding;
mod secret;
mod service;
mod service_account;

use std::collections::BTreeMap;

use bifrost_config::{AddressRule, SecretValue, Strategy};
use bifrost_crds::RolloutStrategy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use candidate::forward_url;
pub use deployment::{ADMIN_PORT_NAME, APP_PORT, PREVIEW_PORT};

use super::observe::Observed;
use super::part::Part;
use super::publish::{self, Publication, Request, TooLarge};
use super::secret::{SecretPlan, plan, unchanged};
use super::validate::{Decision, Wanted};
use crate::cluster::object::Mode;
use crate::cluster::{Object, Ownership};
use crate::names;
use crate::rollout::Served;

/// Everything that is to be written. Not `Debug`: it holds key values.
pub struct Plan {
    /// The Secret, and what changes in it.
    pub secret: SecretPlan,
    /// What the pods want to see on their admin port.
    pub token: SecretValue,
    /// The published ConfigMap, and what changes in it.
    pub publication: Publication,
    /// Objects in the order of writing; the Secret and the published ConfigMap come first.
    pub objects: Vec<(Part, Object)>,
    /// Whether the objects of a candidate go: there is none with an image of its own, and no pod forwards to one any more.
    pub drops_candidate: bool,
}

/// What the decision does not know. Not `Debug`: it holds a token.
pub struct Circumstances {
    /// Greatest epoch that status and pods know of.
    pub known_epoch: u64,
    /// Whether every running pod acts upon the ConfigMap as it was read.
    pub released: bool,
    /// What the pods shall want to see on their admin port.
    pub token: SecretValue,
    /// Which addresses the pods may connect to.
    pub addresses: AddressRule,
}

/// Builds what the decision asks for.
pub fn build(
    observed: &Observed,
    decision: &Decision,
    wanted: &Wanted,
    circumstances: &Circumstances,
) -> Result<Plan, TooLarge> {
    let publication = publication(observed, wanted, circumstances)?;
    // A key leaves the ConfigMap first, and the Secret when no pod holds an older ConfigMap.
    let is_published = |name: &str| observed.live.names_key(name);
    let secret = plan(&observed.secret, &wanted.values, &circumstances.token, is_published, circumstances.released);
    let mut objects = vec![
        (Part::Keys, Object::new(Mode::Data, &secret::build_keys(observed, &secret))),
        (Part::Published, Object::new(Mode::Data, &config_map::build_published(observed, &publication))),
    ];
    // While the spec is held back, only the Secret and the published ConfigMap are written over. Of the others those that are missing
    // come back, as traffic depends on them; what another hand changed in one stays until the spec is followed again.
    let follows = |part: Part| {
        let returns = part == Part::Deployment && wanted.record.returning;
        decision.whole || returns || (observed.ownership(part) == Ownership::Absent && was_wanted(observed, part))
    };
    let others = others(observed, wanted, circumstances.addresses);
    objects.extend(others.into_iter().filter(|(part, _)| follows(*part)));
    let forwards = observed.live.published.as_ref().and_then(|published| published.traffic.rollout.as_ref());
    let forwards = forwards.is_some_and(|rollout| rollout.forward.is_some());
    let has_pods = wanted.record.served().is_some_and(|(_, served)| served.pods.is_some());
    let drops_candidate = !has_pods && !forwards && observed.summary.own_released;
    Ok(Plan { secret, token: circumstances.token.clone(), publication, objects, drops_candidate })
}

/// Builds only the published ConfigMap, for a Secret that cannot be written.
pub fn build_retreat(observed: &Observed, wanted: &Wanted, circumstances: &Circumstances) -> Result<Plan, TooLarge> {
    let publication = publication(observed, wanted, circumstances)?;
    let token = observed.secret.admin_token.clone().unwrap_or_else(|| circumstances.token.clone());
    let map = config_map::build_published(observed, &publication);
    Ok(Plan {
        secret: unchanged(&observed.secret, &token),
        token,
        publication,
        objects: vec![(Part::Published, Object::new(Mode::Data, &map))],
        drops_candidate: false,
    })
}

fn publication(observed: &Observed, wanted: &Wanted, circumstances: &Circumstances) -> Result<Publication, TooLarge> {
    publish::publish(
        &observed.live,
        &Request {
            gateway_uid: observed.uid(),
            config: &wanted.config,
            migration: &wanted.migration,
            progress: &wanted.progress,
            image: &wanted.image,
            record: &wanted.record,
            candidate: wanted.candidate.as_ref(),
            forward: &forward_url(observed),
            known_epoch: circumstances.known_epoch,
        },
    )
}

/// Whether a part was wanted before the spec was held back. A network policy of which nothing is known is not made: one that was
/// never there would cut off who has access.
fn was_wanted(observed: &Observed, part: Part) -> bool {
    let remembered = observed.remembered.as_ref().and_then(|remembered| remembered.network_policy);
    part != Part::NetworkPolicy || remembered.unwrap_or(false)
}

fn others(observed: &Observed, wanted: &Wanted, addresses: AddressRule) -> Vec<(Part, Object)> {
    let apply = |part, object| (part, object);
    let mut objects = vec![
        apply(Part::ServiceAccount, Object::new(Mode::Apply, &service_account::build_service_account(observed))),
        apply(Part::Role, Object::new(Mode::Apply, &role::build_role(observed))),
        apply(Part::RoleBinding, Object::new(Mode::Apply, &role_binding::build_role_binding(observed))),
        apply(Part::Service, Object::new(Mode::Ports, &service::build_service(observed))),
        apply(Part::Env, Object::new(Mode::Data, &config_map::build_env(observed, &wanted.config))),
        apply(Part::EnvDirect, Object::new(Mode::Data, &config_map::build_env_direct(observed, &wanted.config))),
        apply(
            Part::PodDisruptionBudget,
            Object::new(Mode::Apply, &pod_disruption_budget::build_pod_disruption_budget(observed)),
        ),
    ];
    if has_preview(observed, wanted.migration.strategy) {
        let service = preview_service::build_preview_service(observed);
        objects.push(apply(Part::Preview, Object::new(Mode::Ports, &service)));
    }
    if observed.gateway.spec.network_policy.enabled {
        let policy = network_policy::build_network_policy(observed);
        objects.push(apply(Part::NetworkPolicy, Object::new(Mode::Apply, &policy)));
    }
    let deployment = deployment::build_deployment(observed, &wanted.image, addresses);
    objects.push(apply(Part::Deployment, Object::new(Mode::Apply, &deployment)));
    if let Some((revision, Served { pods: Some(pods), .. })) = wanted.record.served() {
        objects.extend(candidate::build_candidate(observed, revision, pods, addresses));
    }
    objects
}

/// Address of the Service inside the cluster.
pub fn service_url(observed: &Observed) -> String {
    let (name, namespace) = (observed.name(), observed.namespace());
    match observed.gateway.spec.service.port {
        80 => format!("http://{name}.{namespace}.svc"),
        port => format!("http://{name}.{namespace}.svc:{port}"),
    }
}

/// Whether there is something that only the preview serves: a migration's other colour, or a rollout's candidate.
fn has_preview(observed: &Observed, strategy: Strategy) -> bool {
    strategy == Strategy::BlueGreen || observed.gateway.spec.rollout.strategy == RolloutStrategy::BlueGreen
}

/// Address of the Service of the preview; only where something is blue-green.
pub fn preview_url(observed: &Observed, strategy: Strategy) -> Option<String> {
    let (name, namespace) = (Part::Preview.name(observed.name()), observed.namespace());
    has_preview(observed, strategy).then(|| format!("http://{name}.{namespace}.svc:{PREVIEW_PORT}"))
}

fn meta(observed: &Observed, part: Part) -> ObjectMeta {
    ObjectMeta {
        name: Some(part.name(observed.name())),
        namespace: Some(observed.namespace().to_owned()),
        labels: Some(names::labels(observed.name())),
        owner_references: Some(vec![observed.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// Ours over the user's.
fn merged(user: &BTreeMap<String, String>, ours: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = user.clone();
    all.extend(ours);
    all
}

fn non_empty(map: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then(|| map.clone())
}
