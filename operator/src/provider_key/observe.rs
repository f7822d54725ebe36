//! Reads a key, what its Secret gives, and the gateways that select it.

use bifrost_config::SecretValue;
use bifrost_config::published::Published;
use bifrost_crds::{BifrostGateway, ProviderKey};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, ResourceExt};

use crate::gateway::observe::{list_readable, read_secret, selects};
use crate::names;
use crate::secrets::{self, NoValue};

/// A gateway that selects the key.
pub struct Selecting {
    /// The gateway.
    pub gateway: BifrostGateway,
    /// Whether its published configuration names the key.
    pub names_key: bool,
}

/// What was read. Not `Debug`: it holds a key value.
pub struct Observed {
    /// The resource.
    pub key: ProviderKey,
    /// What its Secret gives.
    pub value: Result<SecretValue, NoValue>,
    /// Gateways that select it, by name.
    pub gateways: Vec<Selecting>,
}

/// Reads. `None`: the key is gone, or on its way.
pub async fn observe(client: &Client, namespace: &str, name: &str) -> Result<Option<Observed>, kube::Error> {
    let keys: Api<ProviderKey> = Api::namespaced(client.clone(), namespace);
    let Some(key) = keys.get_opt(name).await?.filter(|key| key.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let secret = read_secret(client, namespace, &key.spec.secret_ref.name).await;
    let value = secrets::value(&key.spec.secret_ref, &secret);
    let (readable, _) = list_readable::<BifrostGateway>(client, namespace).await?;
    let mut gateways = Vec::new();
    for gateway in readable.into_iter().filter(|gateway| selects(gateway, &key.metadata)) {
        let names_key = names_key(client, namespace, &gateway, name).await?;
        gateways.push(Selecting { gateway, names_key });
    }
    gateways.sort_by_key(|selecting| selecting.gateway.name_any());
    Ok(Some(Observed { key, value, gateways }))
}

async fn names_key(client: &Client, namespace: &str, gateway: &BifrostGateway, key: &str) -> Result<bool, kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = api.get_opt(&names::published(&gateway.name_any())).await?;
    let published = map.and_then(|map| map.data).and_then(|data| Published::parse(&data).ok());
    Ok(published.is_some_and(|published| {
        Some(&published.traffic.gateway_uid) == gateway.uid().as_ref()
            && published.config.keys.iter().any(|named| named.name == key)
    }))
}
