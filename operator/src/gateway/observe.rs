//! Reads everything a decision needs, fresh: the cached copies only say which gateway to look at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bifrost_analysis::Report;
use bifrost_config::published::PublishedKeys;
use bifrost_config::{Config, Prices, SecretValue};
use bifrost_crds::{BifrostGateway, CaBundleRef, ProviderKey};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::{NamespaceResourceScope, SelectorExt};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::history;
use super::memory::Remembered;
use super::part::Part;
use super::publish::Live;
use super::selector::selector;
use crate::cluster::{Ownership, brief, ownership};
use crate::confirm::Summary;
use crate::migration::request::ANNOTATION;
use crate::names;
use crate::rollout;
use crate::rollout::revision::Revision;
use crate::secrets::{self, NoValue};

/// Reads that run at the same time for one gateway.
const PARALLEL: usize = 16;

/// A selected provider key.
#[derive(Clone)]
pub struct ObservedKey {
    /// The resource.
    pub key: ProviderKey,
    /// What its Secret gives. A disabled key's Secret is not read.
    pub value: Option<Result<SecretValue, NoValue>>,
}

/// What `caBundleRef` leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaBundle {
    /// The spec names none.
    NotAsked,
    /// The text of the member, not checked yet.
    Found(String),
    /// Why there are none.
    Missing(String),
}

/// Everything that was read. Not `Debug`: it holds key values.
#[derive(Clone)]
pub struct Observed {
    /// The resource.
    pub gateway: BifrostGateway,
    /// The owner of everything that is made for it.
    pub owner: OwnerReference,
    /// The objects under the names that it needs, whosever they are.
    pub objects: BTreeMap<Part, DynamicObject>,
    /// Its published ConfigMap.
    pub live: Live,
    /// The stable revision as the history keeps it; only where the published ConfigMap tells nothing.
    pub kept: Option<(Revision, Config)>,
    /// Its Secret.
    pub secret: PublishedKeys,
    /// Its selected provider keys, by name. All of the namespace where the selector cannot be read.
    pub keys: Vec<ObservedKey>,
    /// Selected provider keys that cannot be read, and why, by name.
    pub unreadable_keys: BTreeMap<String, String>,
    /// The CA bundle.
    pub ca_bundle: CaBundle,
    /// Its pods, by name.
    pub pods: Vec<Pod>,
    /// Pods of a candidate's own, by name.
    pub candidates: Vec<Pod>,
    /// What this process published last.
    pub remembered: Option<Remembered>,
    /// How far the pods are with the table that was read.
    pub summary: Summary,
    /// What the analysis says of the table that was read.
    pub report: Option<Arc<Report>>,
    /// What it says of the candidate's share in that table.
    pub rollout_report: Option<Arc<Report>>,
    /// What models cost.
    pub prices: Arc<Prices>,
    /// When it was read.
    pub now: Timestamp,
}

impl Observed {
    /// Namespace of the gateway.
    pub fn namespace(&self) -> &str {
        self.gateway.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Name of the gateway.
    pub fn name(&self) -> &str {
        self.gateway.metadata.name.as_deref().unwrap_or_default()
    }

    /// UID of the gateway.
    pub fn uid(&self) -> &str {
        &self.owner.uid
    }

    /// What somebody asks of the migration.
    pub fn request(&self) -> Option<&str> {
        self.gateway.metadata.annotations.as_ref()?.get(ANNOTATION).map(String::as_str)
    }

    /// What somebody asks of the rollout.
    pub fn rollout_request(&self) -> Option<&str> {
        self.gateway.metadata.annotations.as_ref()?.get(rollout::ANNOTATION).map(String::as_str)
    }

    /// Whose the object of a part is.
    pub fn ownership(&self, part: Part) -> Ownership {
        ownership(self.objects.get(&part).map(|object| &object.metadata), &self.owner)
    }

    /// The object of a part, if it is the gateway's own.
    pub fn own(&self, part: Part) -> Option<&DynamicObject> {
        self.objects.get(&part).filter(|_| self.ownership(part) == Ownership::Ours)
    }
}

/// Reads. `None`: the gateway is gone, or on its way.
pub async fn observe(client: &Client, namespace: &str, name: &str) -> Result<Option<Observed>, kube::Error> {
    let gateways: Api<BifrostGateway> = Api::namespaced(client.clone(), namespace);
    let Some(gateway) = gateways.get_opt(name).await? else { return Ok(None) };
    if gateway.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let Some(mut owner) = gateway.controller_owner_ref(&()) else { return Ok(None) };
    owner.block_owner_deletion = Some(true);
    let selectors = (names::selector_text(name), names::candidate_selector_text(name));
    let (objects, (keys, unreadable_keys), ca_bundle, pods, candidates) = futures::try_join!(
        objects(client, namespace, name),
        keys(client, &gateway, namespace),
        ca_bundle(client, gateway.spec.config.ca_bundle_ref.as_ref(), namespace),
        pods(client, namespace, &selectors.0),
        pods(client, namespace, &selectors.1),
    )?;
    let mut observed = Observed {
        gateway,
        owner,
        objects,
        live: Live::default(),
        kept: None,
        secret: PublishedKeys::default(),
        keys,
        unreadable_keys,
        ca_bundle,
        pods,
        candidates,
        remembered: None,
        summary: Summary::default(),
        report: None,
        rollout_report: None,
        prices: Arc::default(),
        now: Timestamp::now(),
    };
    observed.live = observed.own(Part::Published).map(|object| live(object, observed.uid())).unwrap_or_default();
    if observed.live.published.is_none() {
        observed.kept = history::stable(client, &observed).await?;
    }
    observed.secret = observed.own(Part::Keys).map(published_keys).unwrap_or_default();
    Ok(Some(observed))
}

async fn objects(client: &Client, namespace: &str, name: &str) -> Result<BTreeMap<Part, DynamicObject>, kube::Error> {
    let reads = stream::iter(Part::ALL).map(|part| async move {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &part.resource());
        api.get_opt(&part.name(name)).await.map(|object| (part, object))
    });
    let read: Vec<_> = reads.buffer_unordered(PARALLEL).try_collect().await?;
    Ok(read.into_iter().filter_map(|(part, object)| Some((part, object?))).collect())
}

type Keys = (Vec<ObservedKey>, BTreeMap<String, String>);

/// The selected keys and the values that their Secrets give. A Secret that cannot be read is a fault of its keys, not of the gateway.
async fn keys(client: &Client, gateway: &BifrostGateway, namespace: &str) -> Result<Keys, kube::Error> {
    let (mut keys, mut unreadable) = list_readable::<ProviderKey>(client, namespace).await?;
    let is_ours = |meta: &ObjectMeta| meta.deletion_timestamp.is_none() && selects(gateway, meta);
    keys.retain(|key| is_ours(&key.metadata));
    unreadable.retain(|key| is_ours(&key.object.metadata) && !is_switched_off(&key.object));
    let unreadable = unreadable.into_iter().map(|key| (key.object.name_any(), key.why)).collect();
    keys.sort_by_key(ResourceExt::name_any);

    let named: BTreeSet<_> =
        keys.iter().filter(|key| key.spec.enabled).map(|key| key.spec.secret_ref.name.clone()).collect();
    let read: BTreeMap<_, _> = stream::iter(named)
        .map(|name| async move {
            let secret = read_secret(client, namespace, &name).await;
            (name, secret)
        })
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let value = |key: &ProviderKey| {
        let secret = read.get(&key.spec.secret_ref.name)?;
        key.spec.enabled.then(|| secrets::value(&key.spec.secret_ref, secret))
    };
    Ok((keys.into_iter().map(|key| ObservedKey { value: value(&key), key }).collect(), unreadable))
}

/// Reads a Secret on demand; only its metadata is watched.
pub async fn read_secret(client: &Client, namespace: &str, name: &str) -> Result<Option<Secret>, String> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    api.get_opt(name).await.map_err(|error| brief(&error))
}

/// Whether a gateway's selector chooses a key. One that cannot be read excludes none: what is published is held then, and only keys
/// that are gone or disabled leave it.
pub fn selects(gateway: &BifrostGateway, key: &ObjectMeta) -> bool {
    let none = BTreeMap::new();
    selector(gateway).map_or(true, |selector| selector.matches(key.labels.as_ref().unwrap_or(&none)))
}

/// Whether a key of which the rest cannot be read says that no gateway may use it. Taking a key out must not wait for an operator
/// that knows what a later version wrote beside it.
fn is_switched_off(key: &DynamicObject) -> bool {
    key.data.pointer("/spec/enabled").and_then(Value::as_bool) == Some(false)
}

/// An object that this version of the operator cannot read.
pub struct Unreadable {
    /// As it is.
    pub object: DynamicObject,
    /// Why it cannot be read.
    pub why: String,
}

/// The objects of a kind that can be read, and the others as they are: one of a newer version for instance must not stop the others.
pub async fn list_readable<K>(client: &Client, namespace: &str) -> Result<(Vec<K>, Vec<Unreadable>), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
{
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()));
    let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
    for object in api.list(&ListParams::default()).await?.items {
        match read(&object) {
            Ok(object) => readable.push(object),
            Err(why) => {
                tracing::warn!(kind = %K::kind(&()), namespace, name = object.name_any(), why, "an object cannot be read");
                unreadable.push(Unreadable { object, why });
            }
        }
    }
    Ok((readable, unreadable))
}

fn read<K: DeserializeOwned>(object: &DynamicObject) -> Result<K, String> {
    let typed = serde_json::to_value(object).and_then(serde_json::from_value);
    typed.map_err(|error| error.to_string())
}

async fn ca_bundle(client: &Client, reference: Option<&CaBundleRef>, namespace: &str) -> Result<CaBundle, kube::Error> {
    let Some(reference) = reference else { return Ok(CaBundle::NotAsked) };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    Ok(ca_bundle_in(reference, api.get_opt(&reference.name).await?))
}

/// What a reference leads to in the ConfigMap that it names.
pub(super) fn ca_bundle_in(CaBundleRef { name, key }: &CaBundleRef, map: Option<ConfigMap>) -> CaBundle {
    match map {
        None => CaBundle::Missing(format!("ConfigMap {name} does not exist")),
        Some(map) => match map.data.unwrap_or_default().remove(key) {
            None => CaBundle::Missing(format!("ConfigMap {name} has no member {key}")),
            Some(pem) => CaBundle::Found(pem),
        },
    }
}

async fn pods(client: &Client, namespace: &str, labels: &str) -> Result<Vec<Pod>, kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut pods = api.list(&ListParams::default().labels(labels)).await?.items;
    pods.sort_by_key(ResourceExt::name_any);
    Ok(pods)
}

fn live(object: &DynamicObject, gateway_uid: &str) -> Live {
    let data = object.data.get("data").cloned().unwrap_or_default();
    Live::parse(serde_json::from_value(data).unwrap_or_default(), gateway_uid)
}

fn published_keys(object: &DynamicObject) -> PublishedKeys {
    let data = object.data.get("data").cloned().unwrap_or_default();
    let data: BTreeMap<String, ByteString> = serde_json::from_value(data).unwrap_or_default();
    PublishedKeys::parse(data.iter().map(|(member, bytes)| (member.as_str(), bytes.0.as_slice())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::observed_key;

    #[test]
    fn a_key_that_cannot_be_read_can_still_be_switched_off() {
        let key = observed_key("main", "openai", Ok("sk")).key;
        let mut object: DynamicObject = serde_json::from_value(serde_json::to_value(&key).unwrap()).unwrap();
        assert_eq!(read::<ProviderKey>(&object).unwrap(), key);
        object.data["spec"]["secretRef"] = serde_json::json!("of a later version");
        let why = read::<ProviderKey>(&object).unwrap_err();
        assert!(why.contains("of a later version"), "{why}");
        assert!(!is_switched_off(&object));
        object.data["spec"]["enabled"] = serde_json::json!(false);
        assert!(is_switched_off(&object));
    }
}
