//! Objects by kind and name, as kubectl names them (`deployment/ai`), read with the client: a program for each look would make what
//! is measured coarse.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
};
use serde_json::Value;

use super::gateway::condition;
use crate::{scenarios::Context, wait};

/// How long the garbage collector may take, and pods to end.
const COLLECTED: Duration = Duration::from_secs(60);

/// What a gateway owns: kinds, and what each name has behind the gateway's own.
const OWNED: [(&str, &str); 11] = [
    ("deployment", ""),
    ("service", ""),
    ("configmap", "-bifrost"),
    ("configmap", "-bifrost-env"),
    ("configmap", "-bifrost-env-direct"),
    ("secret", "-bifrost-keys"),
    ("role", "-bifrost"),
    ("rolebinding", "-bifrost"),
    ("serviceaccount", "-bifrost"),
    ("poddisruptionbudget", "-bifrost"),
    ("networkpolicy", "-bifrost"),
];

/// Kinds that scenarios name: API group, version and spelling.
const KINDS: [(&str, &str, &str); 13] = [
    ("", "v1", "ConfigMap"),
    ("", "v1", "Pod"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ReplicaSet"),
    ("rbac.authorization.k8s.io", "v1", "Role"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("bifrost.dev", "v1alpha1", "BifrostGateway"),
    ("bifrost.dev", "v1alpha1", "ProviderKey"),
];

/// The objects that a gateway of this name owns.
pub(super) fn owned(gateway: &str) -> Vec<String> {
    OWNED.iter().map(|(kind, suffix)| format!("{kind}/{gateway}{suffix}")).collect()
}

/// Those of a gateway's objects that are there.
pub(super) async fn owned_now(context: &Context, gateway: &str) -> Result<Vec<Value>> {
    let names = owned(gateway);
    let all = try_join_all(names.iter().map(|name| find(context, name))).await?;
    Ok(all.into_iter().flatten().collect())
}

/// Everything with these labels that a gateway leads to, its pods included.
pub(super) async fn labelled(context: &Context, selector: &str) -> Result<Vec<String>> {
    let params = &ListParams::default().labels(selector);
    let of = async |kind: &str| {
        let list = api(context, kind)?.list_metadata(params).await?;
        anyhow::Ok(list.items.iter().map(|object| format!("{kind}/{}", object.name_any())).collect::<Vec<_>>())
    };
    let kinds = KINDS.iter().filter(|(group, ..)| *group != "bifrost.dev");
    Ok(try_join_all(kinds.map(|(_, _, kind)| of(kind))).await?.concat())
}

/// Waits until nothing with these labels is left.
pub(super) async fn collected(context: &Context, selector: &str) -> Result<()> {
    wait::wait_until("everything to be collected", COLLECTED, || async {
        let left = labelled(context, selector).await?;
        ensure!(left.is_empty(), "{}", left.join(" "));
        Ok(true)
    })
    .await
}

/// Objects of a kind in the scenario's namespace; upper and lower case are the same.
pub(super) fn api(context: &Context, kind: &str) -> Result<Api<DynamicObject>> {
    let known = KINDS.iter().find(|(_, _, name)| name.eq_ignore_ascii_case(kind));
    let (group, version, name) = known.with_context(|| format!("the kind {kind:?} is not among those of scenarios"))?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, name));
    Ok(Api::namespaced_with(context.client.clone(), &context.namespace, &resource))
}

/// An object of the scenario's namespace, if there is one.
pub(super) async fn find(context: &Context, object: &str) -> Result<Option<Value>> {
    let (kind, name) = split(object)?;
    let found = api(context, kind)?.get_opt(name).await.with_context(|| format!("cannot read {object}"))?;
    found.map(|found| serde_json::to_value(found).context("an object that is no JSON")).transpose()
}

/// An object of the scenario's namespace.
pub(super) async fn get(context: &Context, object: &str) -> Result<Value> {
    find(context, object).await?.with_context(|| format!("there is no {object}"))
}

/// Changes an object by a merge patch, and returns it.
pub(super) async fn merge(context: &Context, object: &str, patch: &Value) -> Result<Value> {
    let (kind, name) = split(object)?;
    let patched = api(context, kind)?.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    Ok(serde_json::to_value(patched.with_context(|| format!("cannot change {object}"))?)?)
}

/// Waits for a condition of an object to have a status, and returns it.
pub(super) async fn wait_condition(
    context: &Context,
    object: &str,
    name: &str,
    status: &str,
    limit: Duration,
) -> Result<Value> {
    wait::wait_for(&format!("{object} {name}={status}"), limit, || async {
        let seen = get(context, object).await?;
        let found = condition(&seen["status"], name).cloned();
        ensure!(found.as_ref().is_some_and(|found| found["status"] == status), "{found:?}");
        Ok(found)
    })
    .await
}

fn split(object: &str) -> Result<(&str, &str)> {
    object.split_once('/').with_context(|| format!("{object:?} is not kind/name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_owned_object_is_of_a_known_kind() {
        for object in owned("ai") {
            let (kind, name) = split(&object).unwrap();
            assert!(KINDS.iter().any(|(_, _, known)| known.eq_ignore_ascii_case(kind)), "{kind}");
            assert!(name.starts_with("ai"), "{name}");
        }
    }
}
