//! Revisions that were stable are kept as ConfigMaps, the last five, and one of them comes back by `kubectl bifrost undo`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams},
};
use serde_json::{Value, json};

use super::{gateway::OBJECT, objects, operator, rollout, shell::Shell};
use crate::{
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "rollout-history",
    "The last five stable revisions are kept, a deleted one is not remade; kubectl bifrost history and undo",
    |context| run(context).boxed(),
);

/// The label that names a kept revision.
const LABEL: &str = "bifrost.dev/revision";
const KEPT: usize = 5;
/// One more revision than are kept, and one more again.
const SIZES: [&str; 6] = ["90Mi", "80Mi", "70Mi", "60Mi", "50Mi", "40Mi"];

async fn run(context: &Context) -> Result<()> {
    let mut revisions = vec![rollout::create(context, Value::Null, json!({"strategy": "Rolling"})).await?];
    never_ran(context, &revisions[0]).await?;
    let mut shell = Shell::open(context).await?;
    for size in SIZES {
        change(&mut shell, size).await?;
        revisions.push(another(context, &revisions).await?);
    }
    kept(context, &revisions).await?;
    // The newest but one goes, for good.
    let gone = revisions.remove(revisions.len() - 2);
    deleted(context, &gone).await?;
    undone(context, &mut shell, &revisions).await
}

/// An image that does not exist is never complete and never kept, and goes with the field that names it.
async fn never_ran(context: &Context, first: &str) -> Result<()> {
    let image = |tag: Value| json!({"spec": {"image": tag}});
    objects::merge(context, OBJECT, &image(json!({"tag": "nonsuch"}))).await?;
    let told = wait::wait_for("what the new pod waits for", rollout::LIMIT, || async {
        let rollout = rollout::seen(context).await?["status"]["rollout"].clone();
        let is_told = rollout["phase"] == "Progressing" && text(&rollout["message"]).contains("ImagePull");
        ensure!(is_told, "{rollout}");
        Ok(Some(text(&rollout["message"]).to_owned()))
    })
    .await?;
    println!("  {told}");
    let kept = names(&history(context).await?);
    ensure!(kept == objects_of(&[first.to_owned()]), "{kept:?} are kept");
    objects::merge(context, OBJECT, &image(Value::Null)).await?;
    rollout::settled(context, first).await.map(drop)
}

/// Changes the configuration, as a user does.
async fn change(shell: &mut Shell, size: &str) -> Result<()> {
    let patch = rollout::body_limit(size);
    shell.run(&format!("kubectl patch bgw ai --type=merge -p '{patch}'")).await.map(drop)
}

/// Waits until there is a stable revision beside these.
async fn another(context: &Context, before: &[String]) -> Result<String> {
    let revision = wait::wait_for("another stable revision", rollout::LIMIT, || async {
        let stable = rollout::revision(&rollout::seen(context).await?, "stableRevision")?;
        Ok(Some(stable).filter(|stable| !before.contains(stable)))
    })
    .await?;
    rollout::settled(context, &revision).await?;
    Ok(revision)
}

async fn history(context: &Context) -> Result<Vec<DynamicObject>> {
    let params = ListParams::default().labels(&format!("{LABEL},app.kubernetes.io/instance=ai"));
    Ok(objects::api(context, "ConfigMap")?.list(&params).await?.items)
}

fn names(history: &[DynamicObject]) -> Vec<String> {
    let mut names: Vec<_> = history.iter().map(ResourceExt::name_any).collect();
    names.sort_unstable();
    names
}

fn objects_of(revisions: &[String]) -> Vec<String> {
    let mut names: Vec<_> = revisions.iter().map(|revision| format!("ai-bifrost-{revision}")).collect();
    names.sort_unstable();
    names
}

/// The last five are there, immutable, each with the configuration that it was.
async fn kept(context: &Context, revisions: &[String]) -> Result<()> {
    let wanted = objects_of(&revisions[revisions.len() - KEPT..]);
    let history = wait::wait_for("the last five revisions", rollout::LIMIT, || async {
        let history = history(context).await?;
        let names = names(&history);
        ensure!(names == wanted, "{names:?} instead of {wanted:?}");
        Ok(Some(history))
    })
    .await?;
    for object in &history {
        let (name, object) = (object.name_any(), serde_json::to_value(object)?);
        ensure!(object["immutable"] == true, "{name} can be changed");
        let labels = &object["metadata"]["labels"];
        let members = object["data"].as_object().with_context(|| format!("{name} is empty"))?;
        let told = members.get("revision.json").and_then(Value::as_str).context("no revision.json")?;
        ensure!(members.len() == 1, "{name} has {members:?}");
        let told: Value = serde_json::from_str(told)?;
        let revision = &told["revision"];
        ensure!(labels[LABEL] == *revision && format!("ai-bifrost-{}", text(revision)) == name, "{name}: {told}");
        ensure!(told["image"].is_string() && told["at"].is_string(), "{name}: {told}");
        let place = revisions.iter().position(|one| *revision == *one).context("an unknown revision")?;
        ensure!(told["config"]["client"]["maxRequestBody"] == SIZES[place - 1], "{name}: {}", told["config"]);
    }
    println!("  {} revisions became stable, the last {KEPT} are kept", revisions.len());
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A user who deletes one means it, also to the next operator.
async fn deleted(context: &Context, revision: &str) -> Result<()> {
    let name = format!("ai-bifrost-{revision}");
    objects::api(context, "ConfigMap")?.delete(&name, &DeleteParams::default()).await?;
    operator::replace(context).await?;
    let until = tokio::time::Instant::now() + Duration::from_secs(3);
    while tokio::time::Instant::now() < until {
        let names = names(&history(context).await?);
        ensure!(!names.contains(&name) && names.len() == KEPT - 1, "{name} was remade: {names:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("  a deleted one stays away, over another operator too");
    Ok(())
}

/// The one before, a named one, and in the middle of a rollout the stable one.
async fn undone(context: &Context, shell: &mut Shell, revisions: &[String]) -> Result<()> {
    let [.., named, before, now] = revisions else { anyhow::bail!("too few revisions: {revisions:?}") };
    let history = shell.run("kubectl bifrost history ai").await?;
    println!("{history}");
    for revision in [named, before, now] {
        ensure!(history.contains(revision.as_str()), "no {revision} in:\n{history}");
    }
    println!("{}", shell.run("kubectl bifrost undo ai").await?);
    rollout::settled(context, before).await?;
    shell.run(&format!("kubectl bifrost undo ai --to {named}")).await?;
    rollout::settled(context, named).await?;
    println!("  undone: {now} → {before} → {named}");

    let canary = rollout::canary(json!([{"percent": 10, "pause": true}, {"percent": 100}]));
    objects::merge(context, OBJECT, &json!({"spec": {"rollout": canary}})).await?;
    change(shell, "30Mi").await?;
    let candidate = rollout::revision(&rollout::reach(context, 10).await?, "candidateRevision")?;
    let history = shell.run("kubectl bifrost history ai").await?;
    ensure!(history.contains(&candidate), "no {candidate} in:\n{history}");
    shell.run("kubectl bifrost undo ai").await?;
    rollout::settled(context, named).await?;
    println!("  undone in the middle of a rollout: {candidate} is gone, {named} serves");

    // What another program keeps is not changed behind its back.
    objects::merge(context, OBJECT, &rollout::body_limit("30Mi")).await?;
    rollout::reach(context, 10).await?;
    let told = shell.refused("kubectl bifrost undo ai").await?;
    ensure!(told.contains("--force"), "{told}");
    shell.run("kubectl bifrost undo ai --force").await?;
    rollout::settled(context, named).await.map(drop)
}
