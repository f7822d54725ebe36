//! The kubectl plugin against a real cluster: it looks, asks, changes and checks with the user's rights alone.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{gateway, migration, shell::Shell};
use crate::scenarios::{Context, Scenario};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "kubectl-plugin",
    "kubectl bifrost: status, keys, pause, set-percent, switch, set-phase, promote, abort, retry, test, preflight, report",
    |context| run(context).boxed(),
)
.limit(Duration::from_secs(600));

const LIMIT: Duration = Duration::from_secs(40);

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, 2, json!({"strategy": "Canary", "canaryPercent": 10})).await?;
    let mut shell = Shell::open(context).await?;
    look(&mut shell).await?;
    change(context, &mut shell).await?;
    ask(context, &mut shell).await?;
    check(&mut shell).await
}

fn has(text: &str, wanted: &[&str]) -> Result<()> {
    for word in wanted {
        ensure!(text.contains(word), "no {word:?} in:\n{text}");
    }
    Ok(())
}

async fn look(shell: &mut Shell) -> Result<()> {
    let status = shell.run("kubectl bifrost status").await?;
    has(&status, &["ai  Ready", "Canary", "wanted  10 %", "confirmed by 2 of 2", "2 of 2 ready"])?;
    println!("{status}");
    let told: Value = serde_json::from_str(&shell.run("kubectl bifrost status ai -o json").await?)?;
    ensure!(told.to_string().contains("Canary"), "{told}");
    let keys = shell.run("kubectl bifrost keys ai").await?;
    has(&keys, &["openai", "anthropic", "True"])?;
    ensure!(gateway::KEYS.iter().all(|key| !keys.contains(key)), "a key value in {keys}");
    has(&shell.refused("kubectl bifrost status nobody").await?, &["nobody"])?;
    has(&shell.run("kubectl bifrost analysis ai").await?, &["no analysis"])?;
    Ok(())
}

async fn change(context: &Context, shell: &mut Shell) -> Result<()> {
    has(&shell.run("kubectl bifrost set-percent ai 25").await?, &["10 % → 25 %", "in force after"])?;
    has(&shell.refused("kubectl bifrost set-percent ai 101").await?, &["101"])?;
    has(&shell.refused("kubectl bifrost switch ai green").await?, &["BlueGreen"])?;
    shell.run("kubectl bifrost pause ai").await?;
    shell.run("kubectl bifrost set-percent ai 50 --no-wait").await?;
    migration::stays(context, 25, Duration::from_secs(2)).await?;
    shell.run("kubectl bifrost set-percent ai 20 --no-wait").await?;
    migration::reach(context, 20, 2, LIMIT).await?;
    shell.run("kubectl bifrost resume ai").await?;
    println!("  paused: 25 → 50 waits, 25 → 20 does not");
    Ok(())
}

async fn ask(context: &Context, shell: &mut Shell) -> Result<()> {
    has(&shell.refused("kubectl bifrost promote ai").await?, &["nothing to promote"])?;
    let steps = json!([{"percent": 20, "pause": true}, {"percent": 60, "pause": true}, {"percent": 100}]);
    let patch = json!({"spec": {"migration": {"canaryPercent": null, "canary": {"steps": steps}}}});
    shell.run(&format!("kubectl patch bgw ai --type=merge -p '{patch}'")).await?;
    migration::reach(context, 20, 2, LIMIT).await?;
    has(&shell.run("kubectl bifrost promote ai").await?, &["promote handled", "2/3"])?;
    has(&shell.run("kubectl bifrost abort ai").await?, &["abort handled"])?;
    has(&shell.run("kubectl bifrost status ai").await?, &["RolledBack", "to try again"])?;
    has(&shell.run("kubectl bifrost retry ai").await?, &["retry handled"])?;
    migration::reach(context, 60, 2, LIMIT).await?;
    has(&shell.run("kubectl bifrost promote ai --full").await?, &["3/3"])?;
    migration::reach(context, 100, 2, LIMIT).await?;
    let colours = json!({"strategy": "BlueGreen", "canary": null, "blueGreen": {"active": "Blue"}});
    shell.run(&format!("kubectl patch bgw ai --type=merge -p '{}'", json!({"spec": {"migration": colours}}))).await?;
    has(&shell.run("kubectl bifrost switch ai green").await?, &["Green"])?;
    migration::reach(context, 100, 2, LIMIT).await.map(drop)
}

async fn check(shell: &mut Shell) -> Result<()> {
    let tested = shell.run("kubectl bifrost test ai").await?;
    has(&tested, &["chat completion", "streaming", "models list", "bad request", "every check passed"])?;
    println!("{tested}");
    let preflight = shell.run("kubectl bifrost preflight ai --phase during").await?;
    has(&preflight, &["ok "])?;
    println!("{preflight}");
    let report = shell.run("kubectl bifrost report ai -o report.yaml && cat report.yaml").await?;
    ensure!(gateway::KEYS.iter().all(|key| !report.contains(key)), "a key value in the report");
    println!("  the report has {} lines and no key value", report.lines().count());
    has(&shell.run("kubectl bifrost completion bash").await?, &["kubectl-bifrost"])
}
