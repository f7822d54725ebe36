//! `report`: one YAML document with what a second person needs to understand a fault, and no credential.
//!
//! Of Secrets only the names of their members are written. Every text goes through [`crate::redact`], as logs may quote anything.
//! What cannot be read stands there with the reason why.

mod clean;

use std::fmt::Debug;
use std::fs;

use bifrost_crds::ProviderKey;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, LogParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use self::clean::{clean, members_only, redacted};
use crate::cli::ReportArgs;
use crate::failure::Failure;
use crate::history;
use crate::redact::redact;
use crate::run::{note, say};
use crate::session::Session;

/// Lines of each pod's log.
const LOG_LINES: i64 = 200;
/// Container of the gateway in its pods.
const CONTAINER: &str = "gateway";

/// Reads everything and writes it.
pub(crate) async fn run(session: &Session, args: &ReportArgs) -> Result<(), Failure> {
    let gateway = session.gateway(args.gateway.name.as_deref()).await?;
    let name = gateway.name_any();
    let keys = session.list::<ProviderKey>("").await.map(|keys| crate::keys::selected(&gateway, keys));
    let pods = session.pods(&gateway).await.map(|(own, candidates)| [own, candidates].concat());
    let mut report = Map::new();
    report.insert("madeAt".into(), json!(Timestamp::now()));
    report.insert("plugin".into(), json!(env!("CARGO_PKG_VERSION")));
    report.insert("gateway".into(), redacted(clean(&gateway)));
    report.insert("providerKeys".into(), all(keys));
    report.insert("objects".into(), objects(session, &name).await);
    report.insert("history".into(), all(session.list::<ConfigMap>(&history::labels(&name)).await));
    report.insert("events".into(), events(session, &name).await);
    report.insert("operators".into(), operators(session).await);
    let logs = match &pods {
        Ok(pods) => logs(session, pods).await,
        Err(failure) => fault(failure),
    };
    report.insert("pods".into(), all(pods));
    report.insert("logs".into(), logs);
    let text = serde_yaml_ng::to_string(&report).map_err(|error| Failure::no(format!("no report: {error}")))?;
    match &args.output {
        None => say(&text),
        Some(path) => {
            let written = fs::write(path, text);
            written.map_err(|error| Failure::Io { what: path.display().to_string(), error })?;
            note(&format!("{}: read it before you pass it on; it holds names, addresses and messages", path.display()));
            Ok(())
        }
    }
}

fn fault(failure: &impl ToString) -> Value {
    json!({"cannotBeRead": redact(&failure.to_string())})
}

fn all<K: Serialize>(read: Result<Vec<K>, Failure>) -> Value {
    match read {
        Ok(objects) => objects.iter().map(|object| redacted(clean(object))).collect(),
        Err(failure) => fault(&failure),
    }
}

/// The objects that the operator makes for a gateway.
async fn objects(session: &Session, name: &str) -> Value {
    let published = format!("{name}-bifrost");
    let candidate = format!("{name}-bifrost-candidate");
    let mut found = vec![
        one::<Deployment>(session, name).await,
        one::<Service>(session, name).await,
        one::<Service>(session, &format!("{name}-bifrost-preview")).await,
        one::<ConfigMap>(session, &published).await,
        one::<ConfigMap>(session, &format!("{name}-bifrost-env")).await,
        one::<ConfigMap>(session, &format!("{name}-bifrost-env-direct")).await,
        one::<ServiceAccount>(session, &published).await,
        one::<Role>(session, &published).await,
        one::<RoleBinding>(session, &published).await,
        one::<PodDisruptionBudget>(session, &published).await,
        one::<NetworkPolicy>(session, &published).await,
        one::<Deployment>(session, &candidate).await,
        one::<Service>(session, &candidate).await,
        one::<NetworkPolicy>(session, &candidate).await,
    ];
    let secret = session.api::<Secret>().get_opt(&format!("{name}-bifrost-keys")).await;
    found.push(match secret {
        Ok(Some(secret)) => redacted(members_only(clean(&secret))),
        Ok(None) => json!({"kind": "Secret", "absent": format!("{name}-bifrost-keys")}),
        Err(error) => fault(&Failure::from(error)),
    });
    Value::Array(found)
}

async fn one<K>(session: &Session, name: &str) -> Value
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let kind = K::kind(&());
    match session.api::<K>().get_opt(name).await {
        Ok(Some(object)) => redacted(clean(&object)),
        Ok(None) => json!({"kind": kind, "absent": name}),
        Err(error) => json!({"kind": kind, "name": name, "fault": fault(&Failure::from(error))}),
    }
}

/// The events of the gateway and of what is named after it.
async fn events(session: &Session, name: &str) -> Value {
    let mut events = match session.list::<Event>("").await {
        Ok(events) => events,
        Err(failure) => return fault(&failure),
    };
    events.retain(|event| {
        let about = event.involved_object.name.as_deref().unwrap_or_default();
        about == name
            || about.starts_with(&format!("{name}-"))
            || event.involved_object.kind.as_deref() == Some("ProviderKey")
    });
    events.sort_by_key(|event| event.metadata.creation_timestamp.clone().map(|time| time.0));
    events.iter().map(|event| redacted(clean(event))).collect()
}

async fn operators(session: &Session) -> Value {
    let labels = ListParams::default().labels("app.kubernetes.io/name=bifrost-operator");
    match Api::<Deployment>::all(session.client.clone()).list(&labels).await {
        Ok(list) => list.items.iter().map(|operator| redacted(clean(operator))).collect(),
        Err(error) => fault(&Failure::from(error)),
    }
}

/// The last lines of each pod, and those before its last restart.
async fn logs(session: &Session, pods: &[Pod]) -> Value {
    let mut logs = Map::new();
    for pod in pods {
        let name = pod.name_any();
        let containers =
            pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
        let has_restarted = containers.iter().any(|container| container.restart_count > 0);
        logs.insert(name.clone(), log(session, &name, false).await);
        if has_restarted {
            logs.insert(format!("{name} (before its last restart)"), log(session, &name, true).await);
        }
    }
    Value::Object(logs)
}

async fn log(session: &Session, pod: &str, previous: bool) -> Value {
    let params = LogParams {
        container: Some(CONTAINER.to_owned()),
        tail_lines: Some(LOG_LINES),
        previous,
        ..LogParams::default()
    };
    match session.api::<Pod>().logs(pod, &params).await {
        Ok(text) => Value::String(redact(&text)),
        Err(error) => fault(&Failure::from(error)),
    }
}
