//! What is lost, wiped, restored or scaled does not advance a migration, and arms no rollback anew.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{
    gateway::{self, NAME, OBJECT},
    migration, objects, operator,
};
use crate::{
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "migration-loss",
    "Status wiped, ConfigMap deleted, scaled, restored under its name or another: no step is taken, no rollback forgotten",
    |context| run(context).boxed(),
);

const STEP: Duration = Duration::from_secs(60);
const CALM: Duration = Duration::from_secs(3);

async fn run(context: &Context) -> Result<()> {
    let mut manifest = gateway::manifest(2, steps(60), Vec::new());
    // As a backup would bring it back.
    manifest["metadata"]["annotations"] = json!({migration::REQUEST: "promote-full/from-a-backup"});
    gateway::create_from(context, manifest).await?;
    migration::reach(context, 5, 2, STEP).await?;
    migration::stays(context, 5, CALM).await?;
    println!("  a request that came with the object is not run");

    migration::ask(context, "promote/1").await?;
    migration::reach(context, 60, 2, STEP).await?;
    restored(context, "half-way", "promote/1").await?;
    lose(context, 60).await?;
    println!("  at 60 %: wiped, deleted, restarted, scaled: it stays");

    migration::ask(context, "abort/2").await?;
    migration::reach(context, 0, 2, STEP).await?;
    restored(context, "rolled-back", "abort/2").await?;
    lose(context, 0).await?;
    println!("  after a rollback: wiped, deleted, restarted, scaled: it stays");

    // With the record and the operator's memory lost, what the status tells keeps the rollback.
    operator::without(context, delete_published(context)).await?;
    // Until then the status is what the operator before said.
    let is_back = || async { Ok(objects::find(context, "configmap/ai-bifrost").await?.is_some()) };
    wait::wait_until("the ConfigMap to be back", STEP, is_back).await?;
    gateway::wait_condition(context, OBJECT, "Programmed", "True").await?;
    migration::stays(context, 0, CALM).await?;
    let seen = migration::seen(context).await?;
    ensure!(seen["status"]["migration"]["phase"] == "RolledBack", "{}", seen["status"]["migration"]);

    // Somebody asked for it: another configuration does not end it. Another migration is a new try, from the first step.
    let patch = json!({"spec": {"config": {"client": {"maxRequestBody": "2Mi"}}}});
    objects::merge(context, OBJECT, &patch).await?;
    migration::stays(context, 0, CALM).await?;
    objects::merge(context, OBJECT, &json!({"spec": {"migration": steps(70)}})).await?;
    migration::reach(context, 5, 2, STEP).await.map(drop)
}

/// Three steps, the second of which may be another.
fn steps(second: u64) -> Value {
    json!({"canary": {"steps": [{"percent": 5, "pause": true}, {"percent": second, "pause": true}, {"percent": 100}]}})
}

/// Loses one thing after the other, and looks that the percent stays.
async fn lose(context: &Context, percent: u64) -> Result<()> {
    let api = objects::api(context, "BifrostGateway")?;
    let wiped: Value = json!({"status": null});
    api.patch_status(NAME, &PatchParams::default(), &Patch::Merge(wiped)).await?;
    migration::reach(context, percent, 2, STEP).await?;
    delete_published(context).await?;
    migration::stays(context, percent, CALM).await?;
    migration::reach(context, percent, 2, STEP).await?;
    operator::replace(context).await?;
    for replicas in [1, 2] {
        objects::merge(context, OBJECT, &json!({"spec": {"replicas": replicas}})).await?;
        migration::reach(context, percent, replicas, STEP).await?;
    }
    migration::stays(context, percent, CALM).await
}

/// Makes the gateway again under another name, as a backup brings it back: with its annotations and without its status. It begins at
/// the first step, and what was asked of the old one is not run.
async fn restored(context: &Context, name: &str, request: &str) -> Result<()> {
    let old = migration::seen(context).await?;
    let annotations = &old["metadata"]["annotations"];
    ensure!(annotations[migration::REQUEST] == request, "{annotations}");
    let copy = json!({
        "apiVersion": old["apiVersion"], "kind": old["kind"], "spec": old["spec"],
        "metadata": {"name": name, "annotations": annotations},
    });
    let api = objects::api(context, "BifrostGateway")?;
    api.create(&PostParams::default(), &serde_json::from_value(copy)?).await?;
    let at_first_step = async || {
        let seen = objects::get(context, &format!("bifrostgateway/{name}")).await?;
        let (traffic, migration) = (&seen["status"]["traffic"], &seen["status"]["migration"]);
        let paused = migration["step"] == "1/3" && migration["phase"] == "Paused" && migration["rollback"].is_null();
        ensure!(paused && traffic["wantedPercent"] == 5 && traffic["confirmedReplicas"] == 2, "{}", seen["status"]);
        anyhow::Ok(true)
    };
    wait::wait_until("the first step of what was restored", STEP, &at_first_step).await?;
    migration::stays_of(context, name, 5, CALM).await?;
    // A replica may have to confirm anew; a step that was left does not come back.
    wait::wait_until("the first step, still", STEP, &at_first_step).await?;
    api.delete(name, &DeleteParams::default()).await?;
    println!("  restored as {name}: at 5 %, {request} is not run again");
    Ok(())
}

async fn delete_published(context: &Context) -> Result<()> {
    objects::api(context, "ConfigMap")?.delete("ai-bifrost", &DeleteParams::default()).await?;
    wait::wait_until("the ConfigMap to be another", STEP, || async {
        Ok(objects::find(context, "configmap/ai-bifrost")
            .await?
            .is_none_or(|map| map["metadata"]["deletionTimestamp"].is_null()))
    })
    .await
}
