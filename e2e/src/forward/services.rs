//! The address of a Service, as it is now. Followed by a watch: a connection needs no look-up of its own, and the last
//! known address serves on while the API server is away.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use tokio::sync::watch;

use crate::kubernetes;

/// How long to wait before the next try to make a client.
const CLIENT_PAUSE: Duration = Duration::from_secs(1);

/// Follows one Service.
pub(super) struct ServiceAddress {
    known: watch::Receiver<Option<IpAddr>>,
    name: String,
}

impl ServiceAddress {
    /// Starts to follow the Service, which need not exist yet.
    pub(super) fn follow(kubeconfig: PathBuf, namespace: String, name: String) -> Self {
        let (sender, known) = watch::channel(None);
        let full_name = format!("{namespace}/{name}");
        tokio::spawn(async move {
            let client = loop {
                match kubernetes::client(&kubeconfig, None).await {
                    Ok(client) => break client,
                    Err(error) => crate::progress::line(&format!("no Kubernetes client: {error:#}")),
                }
                tokio::time::sleep(CLIENT_PAUSE).await;
            };
            let services: Api<Service> = Api::namespaced(client, &namespace);
            let mut states = std::pin::pin!(watcher::watch_object(services, &name).default_backoff());
            while let Some(state) = states.next().await {
                // An error says nothing about the Service.
                if let Ok(service) = state {
                    sender.send_replace(service.as_ref().and_then(cluster_ip));
                }
            }
        });
        Self { known, name: full_name }
    }

    /// Its address; waits for a Service that is not there yet.
    pub(super) async fn get(&self) -> Result<IpAddr> {
        let mut known = self.known.clone();
        let address = known.wait_for(Option::is_some).await;
        address.ok().and_then(|address| *address).with_context(|| format!("the Service {} has no address", self.name))
    }
}

/// Headless Services and those that stand for outside names have no address of their own.
fn cluster_ip(service: &Service) -> Option<IpAddr> {
    service.spec.as_ref()?.cluster_ip.as_ref()?.parse().ok()
}
