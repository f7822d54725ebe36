//! The API server can be stopped and started under running pods: traffic goes on, and the cluster recovers.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;

use super::{cluster_services::deploy_server, curl};
use crate::{
    scenarios::{Context, Scenario},
    wait::wait_until,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "cluster-api-outage",
    "With the API server stopped, running pods serve on; started again, it takes work",
    |context| run(context).boxed(),
)
.embedded_only();

async fn run(context: &Context) -> Result<()> {
    deploy_server(context, 1).await?;
    let cluster = context.embedded()?;
    let url = format!("http://server.{}.svc.cluster.local/health", context.namespace);
    // What the node does not know of the Service by now, it learns only when the API server is back.
    let limit = Duration::from_secs(60);
    wait_until("an answer", limit, || async { Ok(curl::inside(context, &[&url]).await?.ok()? == "OK") }).await?;
    cluster.stop_api_server().await?;
    ensure!(cluster.check_health().await.is_err(), "the API server still answers");
    ensure!(curl::inside(context, &[&url]).await?.ok()? == "OK", "no answer while the API server is away");
    cluster.start_api_server().await?;
    context.kubectl(&["scale", "deployment/server", "--replicas=2"]).await?;
    context.wait_for_pods("app=server", 2, Duration::from_secs(60)).await.map(drop)
}
