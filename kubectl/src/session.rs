//! The cluster as the user reaches it: kubeconfig, context, namespace, and the gateway that is meant.

use std::fmt::Debug;

use bifrost_crds::BifrostGateway;
use bifrost_operator::names::candidate_selector_text;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde_json::Value;

use crate::cli::ClusterArgs;
use crate::failure::Failure;
use crate::run::note;

/// Who writes, for `managedFields`.
const FIELD_MANAGER: &str = "kubectl-bifrost";

/// A connection with its namespace.
pub(crate) struct Session {
    /// The client.
    pub(crate) client: Client,
    /// Namespace that the commands look into.
    pub(crate) namespace: String,
}

impl Session {
    /// Reads the kubeconfig as kubectl does.
    pub(crate) async fn open(args: &ClusterArgs) -> Result<Self, Failure> {
        let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
        let config = match (&args.kubeconfig, &args.context) {
            (Some(path), _) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
            (None, Some(_)) => Config::from_kubeconfig(&options).await?,
            (None, None) => Config::infer().await?,
        };
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self { client: Client::try_from(config)?, namespace })
    }

    /// The API of a kind in the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The gateway of this name; without a name, the only one of the namespace.
    pub(crate) async fn gateway(&self, name: Option<&str>) -> Result<BifrostGateway, Failure> {
        let api = self.api::<BifrostGateway>();
        let gateway = match name {
            Some(name) => api.get_opt(name).await?.ok_or_else(|| {
                let namespace = &self.namespace;
                Failure::no(format!("no BifrostGateway {name} in namespace {namespace}: see `kubectl get bgw -A`"))
            })?,
            None => only_one(api.list(&ListParams::default()).await?.items, &self.namespace)?,
        };
        if let Some(warning) = deleted(&gateway) {
            note(&warning);
        }
        Ok(gateway)
    }

    /// A gateway as the JSON that is there: what a newer operator knows besides is not lost.
    pub(crate) async fn raw(&self, name: &str) -> Result<DynamicObject, Failure> {
        Ok(self.raw_api().get(name).await?)
    }

    /// Changes a gateway by a merge patch.
    pub(crate) async fn patch(&self, name: &str, patch: &Value) -> Result<BifrostGateway, Failure> {
        Ok(self.api::<BifrostGateway>().patch(name, &patch_params(), &Patch::Merge(patch)).await?)
    }

    /// The same with the answer as it is; with `dry_run` the API server only says what it would become.
    pub(crate) async fn patch_raw(&self, name: &str, patch: &Value, dry_run: bool) -> Result<DynamicObject, Failure> {
        let params = PatchParams { dry_run, ..patch_params() };
        Ok(self.raw_api().patch(name, &params, &Patch::Merge(patch)).await?)
    }

    fn raw_api(&self) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<BifrostGateway>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// The pods of a gateway, and those that a candidate has of its own.
    pub(crate) async fn pods(&self, gateway: &BifrostGateway) -> Result<(Vec<Pod>, Vec<Pod>), Failure> {
        Ok((self.list(&pod_labels(gateway)).await?, self.list(&candidate_selector_text(&gateway.name_any())).await?))
    }

    /// All objects of a kind with these labels.
    pub(crate) async fn list<K>(&self, labels: &str) -> Result<Vec<K>, Failure>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + serde::de::DeserializeOwned,
    {
        Ok(self.api::<K>().list(&ListParams::default().labels(labels)).await?.items)
    }
}

fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

fn only_one(mut all: Vec<BifrostGateway>, namespace: &str) -> Result<BifrostGateway, Failure> {
    match (all.pop(), all.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err(Failure::no(format!(
            "no BifrostGateway in namespace {namespace}: choose one with -n, or see `kubectl get bgw -A`"
        ))),
        (Some(last), _) => {
            let mut names: Vec<_> = all.iter().chain([&last]).map(ResourceExt::name_any).collect();
            names.sort();
            Err(Failure::Usage(format!("several gateways in namespace {namespace}, name one: {}", names.join(", "))))
        }
    }
}

/// The labels of a gateway's pods, as its operator selects them.
pub(crate) fn pod_labels(gateway: &BifrostGateway) -> String {
    let reported = gateway.status.as_ref().and_then(|status| status.selector.clone()).filter(|text| !text.is_empty());
    reported.unwrap_or_else(|| {
        format!("app.kubernetes.io/name=bifrost-gateway,app.kubernetes.io/instance={}", gateway.name_any())
    })
}

/// Says so where a gateway is on its way out: whatever else is told of it, nobody looks after it.
fn deleted(gateway: &BifrostGateway) -> Option<String> {
    gateway.metadata.deletion_timestamp.as_ref()?;
    let waits = match gateway.finalizers() {
        [] => String::new(),
        all => format!(", once its finalizers are gone: {}", all.join(", ")),
    };
    Some(format!(
        "warning: {} is being deleted{waits}. The operator does nothing more with it, and its status is of the time before",
        gateway.name_any()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::gateway;

    #[test]
    fn who_is_being_deleted_is_told_with_what_it_waits_for() {
        let mut gateway = gateway();
        assert_eq!(deleted(&gateway), None);
        gateway.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-03-02T10:05:00Z".parse().unwrap()));
        gateway.metadata.finalizers = Some(vec!["example.com/keep".into()]);
        let told = deleted(&gateway).unwrap();
        assert!(
            told.starts_with("warning: ai is being deleted, once its finalizers are gone: example.com/keep."),
            "{told}"
        );
    }

    #[test]
    fn without_a_name_there_must_be_exactly_one_gateway() {
        let named = |name: &str| {
            let mut gateway = gateway();
            gateway.metadata.name = Some(name.to_owned());
            gateway
        };
        assert!(only_one(vec![named("ai")], "llm").is_ok());
        let none = only_one(vec![], "llm").unwrap_err();
        assert!(none.to_string().contains("no BifrostGateway in namespace llm"), "{none}");
        let two = only_one(vec![named("b"), named("a")], "llm").unwrap_err();
        assert!(two.to_string().ends_with("name one: a, b"), "{two}");
    }
}
