//! Other prices in the chart's values reach what counts money, in an operator that runs on: a check of the cost of a request, and the
//! limit of a shadow.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, RecordQuery};
use futures::FutureExt;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    gateway::{self, POOL_OPENAI},
    load,
    migration::{self, JUDGED},
    objects, operator,
};
use crate::{
    deploy::{Operator, Vendors, Watch},
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "price-change",
    "A price override by Helm reaches CostPerRequest and a shadow's daily limit without a restart of the operator",
    |context| run(context).boxed(),
)
.embedded_only();

const REPLICAS: u64 = 2;
/// How long a change may take from the ConfigMap to the pods, as the chart says.
const FOLLOWED: Duration = Duration::from_secs(120);
/// How long it takes once the kubelet has looked: the operator looks every five seconds.
const SOON: Duration = Duration::from_secs(8);
/// A token costs nearly a unit of the currency.
const OVERRIDE: [&str; 2] =
    ["prices.models.OpenAI.gpt-4o-mini.input=777777.00", "prices.models.OpenAI.gpt-4o-mini.output=777777.00"];

async fn run(context: &Context) -> Result<()> {
    let outcome = changed(context).await;
    let restored = Operator::install(&context.target, &context.stage.images, Watch::Cluster).await;
    outcome.and(restored.map(drop))
}

async fn changed(context: &Context) -> Result<()> {
    let (_port, control) = Vendors::control(&context.target).await?;
    let checks = json!([{"name": "cost", "type": "CostPerRequest", "max": "0.01"}]);
    let migration = json!({
        "canary": {"steps": [{"percent": 50, "hold": "1h"}, {"percent": 100}]},
        "analysis": {"minRequests": 40, "checks": checks},
        "shadow": {"percent": 100, "dailyLimit": "999999"},
    });
    gateway::create(context, 2, migration).await?;
    load::during(context, &["--concurrency", "4"], story(context, &control)).await.map(drop)
}

async fn story(context: &Context, control: &Control) -> Result<()> {
    migration::reach(context, 50, REPLICAS, JUDGED).await?;
    let passed = migration::verdict(context, "Pass").await?;
    println!("  before: {}", migration::check(&passed, "cost").context("no check")?);
    let pod = running(context).await?;
    let began = Instant::now();
    Operator::install_with(&context.target, &context.stage.images, Watch::Cluster, &OVERRIDE).await?;
    let mut published = false;
    while !published {
        ensure!(began.elapsed() < FOLLOWED, "the new price was not published in {:?}", began.elapsed());
        hasten(context).await?;
        published = wait::wait_until("the new price to be published", SOON, || is_published(context)).await.is_ok();
    }
    println!("  pods have the new price {:.1} s after helm upgrade began", began.elapsed().as_secs_f64());
    let back = migration::reach(context, 0, REPLICAS, JUDGED).await?;
    let rollback = &back["status"]["migration"]["rollback"];
    let message = rollback["message"].as_str().unwrap_or_default();
    ensure!(rollback["reason"] == "AnalysisFailed" && message.starts_with("cost "), "{rollback}");
    println!("  {message}");
    limited(context, control).await?;
    ensure!(running(context).await? == pod, "the operator was restarted");
    Ok(())
}

async fn is_published(context: &Context) -> Result<bool> {
    let map = objects::get(context, "configmap/ai-bifrost").await?;
    let traffic: Value = serde_json::from_str(map["data"]["traffic.json"].as_str().context("no traffic.json")?)?;
    Ok(traffic["shadow"].to_string().contains("777777"))
}

/// On the baseline alone everything is copied, but for the money.
async fn limited(context: &Context, control: &Control) -> Result<()> {
    wait::wait_until("the status to tell of the limit", JUDGED, || async {
        let shadow = migration::seen(context).await?["status"]["shadow"].clone();
        ensure!(shadow["message"].as_str().is_some_and(|message| message.contains(" limit")), "{shadow}");
        Ok(true)
    })
    .await?;
    let (before, count) = (control.last_seq().await?, ["--requests", "100"]);
    load::send(context, &count).await?.all_served()?;
    let query = RecordQuery { since: before, key: Some(POOL_OPENAI.to_owned()), ..RecordQuery::default() };
    let copies = control.records(&query).await?.len();
    println!("  {copies} copies of 100 requests at the new price");
    ensure!(copies == 0, "{copies} copies beyond the limit");
    Ok(())
}

/// UID and restarts of the operator's only pod.
async fn running(context: &Context) -> Result<(Option<String>, i32)> {
    let pod = operator::pods(context).await?.into_iter().next().context("no operator pod")?;
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    Ok((pod.uid(), statuses.map(|one| one.restart_count).sum()))
}

/// The kubelet brings a changed ConfigMap to a pod when it looks at the pod: within a minute or two by itself, at once when something of
/// the pod changes, if it knows of the ConfigMap's change by then.
async fn hasten(context: &Context) -> Result<()> {
    let api: Api<Pod> = operator::pod_api(context);
    for pod in operator::pods(context).await? {
        let now = Timestamp::now().to_string();
        let touched = json!({"metadata": {"annotations": {"e2e.bifrost.dev/touched": now}}});
        api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(touched)).await?;
    }
    Ok(())
}
