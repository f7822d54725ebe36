//! Revisions that can be gone back to: one immutable ConfigMap for each that became stable, the newest few. `kubectl bifrost undo` reads
//! them, for whoever may change the spec; the operator only where the published ConfigMap is lost, as then nothing else tells what the
//! stable revision was. One that somebody deletes is not made again until the revision is stable once more.

use bifrost_config::{AddressRule, Config, Draft, validate};
use bifrost_crds::GatewayConfig;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};

use super::context::Context;
use super::draft;
use super::observe::Observed;
use crate::cluster::object::Mode;
use crate::cluster::writer::WriteError;
use crate::cluster::{Object, Ownership, ownership};
use crate::names;
use crate::rollout::record::Record;
use crate::rollout::revision::Revision;

/// The one member.
const MEMBER: &str = "revision.json";

/// What is read of it again.
#[derive(Deserialize)]
struct Found {
    image: String,
    config: GatewayConfig,
}

/// What is kept of a revision.
#[derive(Serialize)]
struct Kept<'a> {
    revision: &'a str,
    image: &'a str,
    at: String,
    config: &'a GatewayConfig,
}

/// The stable revision that the status tells of, with its configuration. Its name stands for both, so that no other is taken for it.
pub(super) async fn stable(client: &Client, observed: &Observed) -> Result<Option<(Revision, Config)>, kube::Error> {
    let status = observed.gateway.status.as_ref().and_then(|status| status.rollout.as_ref());
    let Some(id) = status.and_then(|rollout| rollout.stable_revision.as_ref()) else { return Ok(None) };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), observed.namespace());
    let map = api.get_opt(&names::history(observed.name(), id)).await?;
    Ok(map.and_then(|map| read(observed, id, &map)))
}

fn read(observed: &Observed, id: &str, map: &ConfigMap) -> Option<(Revision, Config)> {
    let is_ours = ownership(Some(&map.metadata), &observed.owner) == Ownership::Ours;
    let text = map.data.as_ref().filter(|_| is_ours)?.get(MEMBER)?;
    let Found { image, config } = serde_json::from_str(text).ok()?;
    let mut gateway = observed.gateway.clone();
    gateway.spec.config = config;
    let revision = Revision::new(&draft::config_revision(&gateway), &image);
    let draft = Draft { migration: Default::default(), ..draft::draft(&gateway, None) };
    // It was checked before it was published.
    let (config, _) = validate(&draft, AddressRule::Any).ok()?;
    (revision.id == id).then_some((revision, config))
}

/// What is kept: the stable revision; until all pods run its image, its configuration with the one that they ran.
fn what_ran(record: &Record) -> Revision {
    let image = record.ran.as_ref().unwrap_or(&record.stable.image);
    Revision::new(&record.stable.config, image)
}

/// Whether something is to be kept, and can be: the stable configuration is the one that the spec has.
fn is_new(observed: &Observed, record: &Record) -> bool {
    let is_known = record.stable.config == draft::config_revision(&observed.gateway);
    is_known && record.history.last() != Some(&what_ran(record).id)
}

/// Keeps the stable revision, and notes it. A failure is no reason to hold anything up: it is tried again with the next look.
pub(super) async fn keep(context: &Context, observed: &Observed, record: &mut Record) {
    if !is_new(observed, record) {
        return;
    }
    match make(context, observed, record).await {
        Ok(()) => {
            let id = what_ran(record).id;
            record.keep(&id);
        }
        Err(error) => tracing::warn!(%error, gateway = observed.name(), "the stable revision could not be kept"),
    }
}

async fn make(context: &Context, observed: &Observed, record: &Record) -> Result<(), WriteError> {
    let map = build(observed, &what_ran(record));
    let object = Object::new(Mode::Data, &map);
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), observed.namespace());
    let there = api.get_metadata_opt(&object.name).await.map_err(|source| failed(&object.name, source))?;
    if let Some(there) = there {
        if !is_outdated(&there, observed, record) {
            return Ok(());
        }
        let resource = kube::api::ApiResource::erase::<ConfigMap>(&());
        context.writer.delete(observed.namespace(), &resource, &object.name, there.metadata.uid).await?;
    }
    context.writer.write(observed.namespace(), &object, None).await.map(drop)
}

/// Whether what is kept of the stable revision is of an earlier time, before others were stable: since when it is, it does not say. One
/// that is not noted yet was written a moment ago, by an operator that ended before it could note it.
fn is_outdated(map: &PartialObjectMeta<ConfigMap>, observed: &Observed, record: &Record) -> bool {
    let is_ours = ownership(Some(&map.metadata), &observed.owner) == Ownership::Ours;
    is_ours && record.history.contains(&what_ran(record).id)
}

fn build(observed: &Observed, revision: &Revision) -> ConfigMap {
    let kept = Kept {
        revision: &revision.id,
        image: &revision.image,
        at: observed.now.to_string(),
        config: &observed.gateway.spec.config,
    };
    let mut labels = names::labels(observed.name());
    labels.insert(names::LABEL_REVISION.to_owned(), revision.id.clone());
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(names::history(observed.name(), &revision.id)),
            namespace: Some(observed.namespace().to_owned()),
            labels: Some(labels),
            owner_references: Some(vec![observed.owner.clone()]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        // It has string keys only and always serialises.
        data: Some([(MEMBER.to_owned(), serde_json::to_string(&kept).unwrap_or_default())].into()),
        ..ConfigMap::default()
    }
}

/// Deletes revisions of long ago, where one was added.
pub(super) async fn prune(context: &Context, observed: &Observed, record: &Record) -> Result<(), WriteError> {
    let before = observed.live.state.rollout.as_ref().map_or(&[][..], |before| &before.history);
    if before.iter().all(|id| record.history.contains(id)) {
        return Ok(());
    }
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), observed.namespace());
    let labels = format!("{},{}", names::selector_text(observed.name()), names::LABEL_REVISION);
    let list = api.list_metadata(&ListParams::default().labels(&labels)).await.map_err(|source| failed("", source))?;
    for map in list.items.iter().filter(|map| is_forgotten(map, observed, record)) {
        let resource = kube::api::ApiResource::erase::<ConfigMap>(&());
        context.writer.delete(observed.namespace(), &resource, &map.name_any(), map.uid()).await?;
    }
    Ok(())
}

fn is_forgotten(map: &PartialObjectMeta<ConfigMap>, observed: &Observed, record: &Record) -> bool {
    let ours = ownership(Some(&map.metadata), &observed.owner) == Ownership::Ours;
    let id = map.labels().get(names::LABEL_REVISION);
    ours && id.is_some_and(|id| !record.history.contains(id))
}

fn failed(name: &str, source: kube::Error) -> WriteError {
    WriteError::Api { kind: "ConfigMap".to_owned(), name: name.to_owned(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::{observed, publish_all};

    #[test]
    fn a_revision_that_is_stable_again_is_kept_anew() {
        let seen = publish_all(observed());
        let mut record = seen.live.state.rollout.clone().unwrap();
        let there = |owner| PartialObjectMeta::<ConfigMap> {
            metadata: ObjectMeta { owner_references: owner, ..ObjectMeta::default() },
            ..PartialObjectMeta::default()
        };
        let ours = there(Some(vec![seen.owner.clone()]));
        assert!(!is_outdated(&ours, &seen, &record));
        record.keep(&record.stable.id.clone());
        record.keep("another");
        assert!(is_new(&seen, &record) && is_outdated(&ours, &seen, &record));
        assert!(!is_outdated(&there(None), &seen, &record), "somebody else's");
    }

    #[test]
    fn until_all_pods_run_an_image_its_configuration_is_kept_with_the_one_before() {
        let seen = publish_all(observed());
        let mut record = seen.live.state.rollout.clone().unwrap();
        let first = record.stable.clone();
        record.keep(&first.id);
        record.stable = Revision::new(&first.config, "g:nonsuch");
        record.ran = Some(first.image.clone());
        assert!(what_ran(&record) == first && !is_new(&seen, &record), "that is kept already");
        record.ran = None;
        assert!(what_ran(&record) == record.stable && is_new(&seen, &record));
    }

    #[test]
    fn a_revision_is_kept_once_with_what_the_spec_said() {
        let seen = publish_all(observed());
        let mut record = seen.live.state.rollout.clone().unwrap();
        assert!(is_new(&seen, &record));
        let map = build(&seen, &record.stable);
        assert_eq!((map.immutable, map.metadata.name), (Some(true), Some(format!("ai-bifrost-{}", record.stable.id))));
        let kept: serde_json::Value = serde_json::from_str(&map.data.unwrap()[MEMBER]).unwrap();
        assert_eq!(kept["config"]["providers"][0]["name"], "openai");
        assert_eq!(kept["image"], "ghcr.io/example/bifrost-gateway:0.1.0");
        let id = record.stable.id.clone();
        record.keep(&id);
        assert!(!is_new(&seen, &record));
        // With the published ConfigMap lost it tells what the stable revision was, also after the spec has changed.
        let map = build(&seen, &record.stable);
        let mut changed = seen.clone();
        changed.gateway.spec.config.providers.clear();
        let (revision, config) = read(&changed, &id, &map).unwrap();
        assert_eq!((revision, config.providers.len()), (record.stable.clone(), 2));
        assert!(read(&changed, "another", &map).is_none());
        record.stable = Revision::new("another", "r/g:1");
        assert!(!is_new(&seen, &record), "nobody knows what the spec said");
    }
}
