//! `kubectl bifrost preflight`: what is really wrong is found, and the command that it prints puts it right.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    gateway::{self, NAME, OBJECT, POOL_OPENAI},
    objects,
    shell::Shell,
};
use crate::{
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "kubectl-preflight",
    "kubectl bifrost preflight: what is wrong before, during and after a migration is put right by the commands it prints",
    |context| run(context).boxed(),
);

/// How long it may take until a repair is in force.
const REPAIRED: Duration = Duration::from_secs(60);
/// The application that still goes past the gateway.
const APP: &str = "legacy";

async fn run(context: &Context) -> Result<()> {
    let mut shell = Shell::open(context).await?;
    let found = until(&shell, "before", &["operator"], &["ok"]).await?;
    ensure!(level(&found, "gateway") == "fail", "{found:?}");
    gateway::create_from(context, manifest()).await?;
    spoil(context).await?;
    // What is missing is to be in a file of this name.
    shell.write("FILE", POOL_OPENAI)?;
    // The first two only say where to look: they are well once the two behind them are.
    let of_keys = ["keys", "providers", "secrets", "hosts"];
    let others = ["replicas", "disruption", "network", "stickiness", "drain"];
    mend(&mut shell, "before", &[&of_keys[..], &others[..]].concat()).await?;
    has_begun(&mut shell).await?;
    went_back(&mut shell).await?;
    shell.run("kubectl bifrost pause ai").await?;
    mend(&mut shell, "during", &["position"]).await?;
    mend(&mut shell, "after", &["enabled", "direct"]).await?;
    finish(context, &mut shell).await
}

/// What has begun is not taken back for a checklist: it names the part that fits, which is taken where none is named.
async fn has_begun(shell: &mut Shell) -> Result<()> {
    let found = until(shell, "before", &["start"], &["warn"]).await?;
    let fix = found.iter().find(|one| one.name == "start").and_then(|one| one.fix.clone()).context("no command")?;
    ensure!(fix.ends_with("--phase during"), "{fix}");
    let told = shell.try_run("kubectl bifrost preflight").await?;
    ensure!(told.contains("phase during, as 10 % of the users take the bifrost arm"), "{told}");
    Ok(())
}

/// After a rollback it tells to look, and sends nothing again.
async fn went_back(shell: &mut Shell) -> Result<()> {
    shell.run("kubectl bifrost abort ai").await?;
    let found = until(shell, "during", &["position"], &["fail"]).await?;
    let fix = found.iter().find(|one| one.name == "position").and_then(|one| one.fix.clone()).context("no command")?;
    ensure!(fix.starts_with("kubectl bifrost status ai"), "{fix}");
    shell.says(&fix, &["RolledBack", "kubectl bifrost retry ai"]).await?;
    shell.run("kubectl bifrost retry ai").await?;
    until(shell, "during", &["position"], &["ok"]).await.map(drop)
}

/// A gateway that has much to be said of.
fn manifest() -> Value {
    let migration = json!({"canaryPercent": 10, "stickiness": {"key": "None"}, "analysis": {}});
    let mut manifest = gateway::manifest(1, migration, Vec::new());
    manifest["spec"]["networkPolicy"] = json!({"enabled": false});
    manifest
}

/// An application with the address of the vendors.
fn application() -> Value {
    let labels = json!({"app": APP});
    let env = |name: &str| json!({"configMapRef": {"name": format!("{NAME}-bifrost-{name}")}});
    let containers = json!([
        {"name": "proxy", "image": "none", "envFrom": [env("other")]},
        {"name": "app", "image": "none", "envFrom": [env("other"), env("env-direct")]},
    ]);
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": APP}, "spec": {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
    }})
}

/// A Secret goes, a key may not be sent to its provider, one is left switched off, and an application goes past the gateway.
async fn spoil(context: &Context) -> Result<()> {
    context.kubectl(&["delete", "secret", "openai-key"]).await?;
    objects::merge(context, "providerkey/anthropic", &json!({"spec": {"hosts": ["elsewhere.example"]}})).await?;
    let [secret, mut key] = gateway::key("old", "openai", POOL_OPENAI).try_into().ok().context("two objects")?;
    key["spec"]["enabled"] = json!(false);
    gateway::apply_all(context, vec![secret, key, application()]).await.map(drop)
}

/// One line of the checklist.
#[derive(Debug)]
struct Found {
    level: String,
    name: String,
    fix: Option<String>,
}

async fn look(shell: &Shell, phase: &str) -> Result<Vec<Found>> {
    let text = shell.try_run(&format!("kubectl bifrost preflight --phase {phase}")).await?;
    let mut found: Vec<Found> = Vec::new();
    for line in text.lines() {
        if let Some((_, fix)) = line.split_once("→ ").filter(|(before, _)| before.trim().is_empty()) {
            found.last_mut().with_context(|| format!("a command of no check in:\n{text}"))?.fix = Some(fix.to_owned());
            continue;
        }
        let mut words = line.split_whitespace();
        if let (Some(level @ ("ok" | "warn" | "fail")), Some(name)) = (words.next(), words.next()) {
            found.push(Found { level: level.to_owned(), name: name.to_owned(), fix: None });
        }
    }
    ensure!(!found.is_empty(), "no checklist: {text}");
    Ok(found)
}

fn level<'a>(found: &'a [Found], name: &str) -> &'a str {
    found.iter().find(|one| one.name == name).map_or("", |one| &one.level)
}

/// Waits until each of these checks is at one of these levels.
async fn until(shell: &Shell, phase: &str, names: &[&str], levels: &[&str]) -> Result<Vec<Found>> {
    wait::wait_for(&format!("{names:?} to be {levels:?}"), REPAIRED, || async {
        let found = look(shell, phase).await?;
        ensure!(names.iter().all(|name| levels.contains(&level(&found, name))), "{found:?}");
        Ok(Some(found))
    })
    .await
}

/// Runs what each of these checks tells to do, and waits until all of them are well.
async fn mend(shell: &mut Shell, phase: &str, wrong: &[&str]) -> Result<()> {
    let found = until(shell, phase, wrong, &["warn", "fail"]).await?;
    for one in found.iter().filter(|one| wrong.contains(&one.name.as_str())) {
        let fix = one.fix.as_deref().with_context(|| format!("{} has no command", one.name))?;
        shell.run(fix).await?;
        println!("  {phase}: {} {}: {fix}", one.level, one.name);
    }
    until(shell, phase, wrong, &["ok"]).await.map(drop)
}

/// From the share that there is to all, and then without a strategy that could still move.
async fn finish(context: &Context, shell: &mut Shell) -> Result<()> {
    let until = tokio::time::Instant::now() + REPAIRED;
    let mut steps = Vec::new();
    loop {
        let found = look(shell, "after").await?;
        let complete = found.iter().find(|one| one.name == "complete").context("nothing is said of the end")?;
        if complete.level == "ok" {
            break;
        }
        ensure!(tokio::time::Instant::now() < until, "after {steps:?}: {found:?}");
        let fix = complete.fix.clone().context("no command")?;
        shell.run(&fix).await?;
        steps.push(fix);
    }
    println!("  after: complete:\n    {}", steps.join("\n    "));
    let spec = objects::get(context, OBJECT).await?["spec"]["migration"].clone();
    ensure!(spec["strategy"] == "DropIn" && spec["analysis"].is_null(), "{spec}");
    // The last command returns once it is written: the operator has yet to look at it.
    shell.comes_to_say("kubectl bifrost preflight --phase after", &[", 0 fail"]).await?;
    shell.run("kubectl bifrost preflight --phase after").await.map(drop)
}
