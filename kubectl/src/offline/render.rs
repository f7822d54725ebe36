//! What the operator would publish for a gateway at its goal, and which objects it would make. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bifrost_config::published::{CONFIG_VERSION, PublishedKeys, STABLE, Stable, TRAFFIC, TrafficTable};
use bifrost_config::{AddressRule, Gate, Migration, Plan, Position, SecretValue, Strategy};
use bifrost_crds::BifrostGateway;
use bifrost_operator::analysis::hosts::HostRule;
use bifrost_operator::confirm::Summary;
use bifrost_operator::gateway::build::{Circumstances, build};
use bifrost_operator::gateway::images::ImagePolicy;
use bifrost_operator::gateway::observe::{CaBundle, Observed, ObservedKey};
use bifrost_operator::gateway::publish::Live;
use bifrost_operator::gateway::validate::{Policy, validate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::documents::{Documents, Placed, key_of};
use super::lint::{ca_bundle, keys};
use crate::human;

/// Stands for every value; it is printed nowhere.
pub(super) const STAND_IN: &str = "stand-in-for-a-value";
/// UID of a gateway that the API server has not seen.
const UID: &str = "00000000-0000-0000-0000-000000000000";
/// Image of the operator's release, which nobody here knows.
const IMAGE: &str = "gateway-image-of-the-release:unknown";
/// Stands for the name of a revision whose image is that of the operator's release.
const UNKNOWN_REVISION: &str = "made of spec.config and the image, which is the operator's unless spec.image names it";

/// Renders a gateway whose files have no problems.
pub(super) fn render(
    placed: &Placed<BifrostGateway>,
    documents: &Documents,
    addresses: AddressRule,
) -> Result<String, String> {
    let observed = observed(&placed.resource, documents);
    // Any image is taken, and any host of a metric: which ones are allowed is the operator's to know.
    let images = ImagePolicy::new(
        IMAGE,
        observed.gateway.spec.image.iter().filter_map(|image| image.repository.clone()).collect(),
    );
    let decision = validate(&observed, &Policy { images, addresses, hosts: HostRule::unknown(addresses) });
    let fault = |what: &str| format!("{}: {what}", placed.place);
    if let Some(rejection) = decision.rejection {
        return Err(fault(&rejection.message));
    }
    let (Some(wanted), Some(plan)) = (&decision.wanted, &decision.plan) else {
        return Err(fault("nothing would be published: is spec.paused set?"));
    };
    let circumstances = Circumstances { known_epoch: 0, released: true, token: SecretValue::new(STAND_IN), addresses };
    let built = build(&observed, &decision, wanted, &circumstances).map_err(|error| fault(&error.to_string()))?;
    let image = observed.gateway.spec.image.as_ref();
    let revision = match image.is_some_and(|image| image.repository.is_some() && image.tag.is_some()) {
        true => wanted.record.stable.id.as_str(),
        false => UNKNOWN_REVISION,
    };
    // The epoch of a new gateway; one that runs goes on from its own.
    let goal = Migration { tool_calls: wanted.migration.tool_calls, ..plan.goal() };
    let table = TrafficTable::new(&goal, UID, 1, revision);
    let (namespace, name) = key_of(&observed.gateway);
    let shown = if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") };
    let rollout = &observed.gateway.spec.rollout;
    let mut text = format!("# BifrostGateway {shown}: {}\n", way(plan));
    text.extend(super::rollout::way(rollout).map(|way| format!("# a new revision: {way}\n")));
    text.push_str(&format!("\n# {TRAFFIC} at the goal\n{}\n", pretty(&table)));
    let config = Stable { config_version: CONFIG_VERSION, config: wanted.config.clone() };
    text.push_str(&format!("\n# {STABLE}\n{}\n\n# objects\n", pretty(&config)));
    for (part, _) in &built.objects {
        text.push_str(&part.describe(&name));
        text.push('\n');
    }
    let passing = super::rollout::objects(&name, rollout);
    if !passing.is_empty() {
        text.push_str(&format!("\n# only while a candidate exists\n{}\n", passing.join("\n")));
    }
    Ok(text)
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// A new gateway of which nothing exists yet, and whose keys all have values.
fn observed(gateway: &BifrostGateway, documents: &Documents) -> Observed {
    let mut gateway = gateway.clone();
    gateway.metadata.uid = Some(UID.to_owned());
    let value = |enabled: bool| enabled.then(|| Ok(SecretValue::new(STAND_IN)));
    let keys = keys(&gateway, documents);
    let keys = keys.into_iter().map(|key| ObservedKey { key: key.clone(), value: value(key.spec.enabled) }).collect();
    let ca_bundle = match (&gateway.spec.config.ca_bundle_ref, ca_bundle(&gateway, documents)) {
        (_, Some(text)) => CaBundle::Found(text),
        _ => CaBundle::NotAsked,
    };
    Observed {
        owner: OwnerReference {
            api_version: bifrost_crds::API_VERSION.to_owned(),
            kind: "BifrostGateway".to_owned(),
            name: gateway.name_any(),
            uid: UID.to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        },
        gateway,
        objects: BTreeMap::new(),
        live: Live::default(),
        kept: None,
        secret: PublishedKeys::default(),
        keys,
        unreadable_keys: BTreeMap::new(),
        ca_bundle,
        pods: Vec::new(),
        candidates: Vec::new(),
        remembered: None,
        summary: Summary::default(),
        report: None,
        rollout_report: None,
        prices: Arc::default(),
        now: Timestamp::UNIX_EPOCH,
    }
}

/// What a stage waits for, behind its name.
pub(super) fn shown_gate(gate: &Gate) -> String {
    match (gate.hold.is_zero(), gate.pause) {
        (true, false) => String::new(),
        (false, false) => format!(" (held {})", human::duration(gate.hold)),
        (true, true) => " (until promoted)".to_owned(),
        (false, true) => format!(" (held {}, until promoted)", human::duration(gate.hold)),
    }
}

/// The way to the goal in one line.
fn way(plan: &Plan) -> String {
    let position = |position: &Position| match position {
        Position::Percent(percent) => format!("{percent} %"),
        Position::Phase(name) => format!("phase {name}"),
        Position::Green => "green".to_owned(),
    };
    let reached = &plan.stages[..plan.ceiling.min(plan.stages.len())];
    let mut stages: Vec<_> = match plan.walks {
        true => {
            reached.iter().map(|stage| format!("{}{}", position(&stage.position), shown_gate(&stage.gate))).collect()
        }
        false => reached.last().map(|stage| position(&stage.position)).into_iter().collect(),
    };
    if stages.is_empty() || !plan.floor.is_open() {
        let floor = if plan.strategy == Strategy::BlueGreen { "blue" } else { "straight to the vendors" };
        stages.insert(0, format!("{floor}{}", shown_gate(&plan.floor)));
    }
    format!("{}, {}", plan.strategy.as_str(), stages.join(" → "))
}
