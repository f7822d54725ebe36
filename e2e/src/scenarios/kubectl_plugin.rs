//! The kubectl plugin against a real cluster: it looks, asks, changes and checks with the user's rights alone.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{gateway, migration, shell::Shell};
use crate::scenarios::{Context, Scenario};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "kubectl-plugin",
    "kubectl bifrost: status, keys, pause, set-percent, switch, set-phase, promote, abort, retry, restart, test, report",
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

async fn look(shell: &mut Shell) -> Result<()> {
    let words = ["ai  Ready", "Canary", "wanted  10 %", "confirmed by 2 of 2", "2 of 2 ready"];
    println!("{}", shell.says("kubectl bifrost status", &words).await?);
    let json: Value = serde_json::from_str(&shell.run("kubectl bifrost status ai -o json").await?)?;
    let yaml: Value = serde_yaml_ng::from_str(&shell.run("kubectl bifrost status ai -o yaml").await?)?;
    for told in [json, yaml] {
        let told = (&told["strategy"], &told["traffic"]["wantedPercent"], &told["pods"][1]["state"]);
        ensure!(told == (&json!("Canary"), &json!(10), &json!("ready")), "{told:?}");
    }
    // A key has a status of its own, which nothing waited for.
    let keys = shell.comes_to_say("kubectl bifrost keys ai", &["openai", "anthropic", "True"]).await?;
    ensure!(gateway::KEYS.iter().all(|key| !keys.contains(key)), "a key value in {keys}");
    shell.refuses("kubectl bifrost status nobody", &["nobody"]).await?;
    shell.says("kubectl bifrost analysis ai", &["no analysis"]).await.map(drop)
}

/// A watch prints again at a change of the gateway, and ends well when it is told to end.
async fn watch(shell: &mut Shell) -> Result<()> {
    let mut watch = shell.start("kubectl bifrost status ai -w", "watch")?;
    shell.comes_to_say("cat watch", &["wanted  20 %"]).await?;
    shell.run("kubectl bifrost set-percent ai 30 --no-wait").await?;
    shell.comes_to_say("cat watch", &["wanted  30 %"]).await?;
    let process = watch.id().context("the watch ended by itself")?;
    kill(Pid::from_raw(process.try_into()?), Signal::SIGINT)?;
    let ended = tokio::time::timeout(LIMIT, watch.wait()).await.context("the watch did not end")??;
    ensure!(ended.success(), "the watch ended with {ended}");
    let times = shell.run("cat watch").await?.matches("BifrostGateway ").count();
    println!("  a watch printed {times} times over one change, and ended with its process");
    Ok(())
}

async fn change(context: &Context, shell: &mut Shell) -> Result<()> {
    shell.says("kubectl bifrost set-percent ai 25", &["10 % → 25 %", "in force after"]).await?;
    shell.refuses("kubectl bifrost set-percent ai 101", &["101"]).await?;
    shell.refuses("kubectl bifrost switch ai green", &["BlueGreen"]).await?;
    shell.run("kubectl bifrost pause ai").await?;
    let held = ["written, but not in force", "25 % of the users", "kubectl bifrost resume ai"];
    shell.refuses("kubectl bifrost set-percent bgw/ai --timeout 30s 50%", &held).await?;
    migration::stays(context, 25, Duration::from_secs(2)).await?;
    shell.says("kubectl bifrost set-percent ai 20", &["50 % → 20 %", "in force after"]).await?;
    migration::reach(context, 20, 2, LIMIT).await?;
    shell.run("kubectl bifrost resume ai").await?;
    println!("  paused: 25 → 50 waits, 25 → 20 does not");
    watch(shell).await
}

async fn ask(context: &Context, shell: &mut Shell) -> Result<()> {
    shell.refuses("kubectl bifrost promote ai", &["nothing to promote"]).await?;
    let steps = json!([{"percent": 20, "pause": true}, {"percent": 60, "pause": true}, {"percent": 100}]);
    let analysis = json!({"checks": [{"name": "errors", "type": "ErrorRate", "max": "10%"}]});
    migrate(shell, json!({"canaryPercent": null, "canary": {"steps": steps}, "analysis": analysis})).await?;
    migration::reach(context, 20, 2, LIMIT).await?;
    let words = ["verdict: Inconclusive", "CHECK", "errors", "GrossFailure"];
    // With the operator's next look at what the pods counted.
    shell.comes_to_say("kubectl bifrost analysis ai", &words).await?;
    shell.says("kubectl bifrost promote ai", &["promote handled", "2/3"]).await?;
    shell.says("kubectl bifrost abort ai", &["abort handled"]).await?;
    shell.says("kubectl bifrost status ai", &["RolledBack", "to try again"]).await?;
    shell.says("kubectl bifrost retry ai", &["retry handled"]).await?;
    migration::reach(context, 60, 2, LIMIT).await?;
    shell.says("kubectl bifrost restart ai", &["restart handled"]).await?;
    migration::reach(context, 20, 2, LIMIT).await?;
    shell.says("kubectl bifrost promote ai --full", &["3/3"]).await?;
    migration::reach(context, 100, 2, LIMIT).await?;
    let colours = json!({"strategy": "BlueGreen", "canary": null, "analysis": null, "blueGreen": {"active": "Blue"}});
    migrate(shell, colours).await?;
    shell.says("kubectl bifrost switch ai green", &["Green"]).await?;
    migration::reach(context, 100, 2, LIMIT).await?;
    phases(shell).await
}

async fn phases(shell: &mut Shell) -> Result<()> {
    let rules = |percent: u32| json!([{"match": {"userPercent": percent}}]);
    let phases = json!([{"name": "some", "rules": rules(10)}, {"name": "many", "rules": rules(60)}]);
    migrate(shell, json!({"strategy": "Gradual", "blueGreen": null, "gradual": {"phases": phases}})).await?;
    shell.refuses("kubectl bifrost set-phase ai all", &["no phase is named all", "some, many, and none"]).await?;
    shell.says("kubectl bifrost set-phase ai many", &["none → many", "in force after"]).await?;
    shell.says("kubectl bifrost status ai", &["Gradual, many", "by rules"]).await?;
    shell.says("kubectl bifrost set-phase ai none", &["many → none", "in force after"]).await?;
    shell.says("kubectl bifrost set-phase none", &["is none already"]).await.map(drop)
}

/// Changes the migration, as a user does.
async fn migrate(shell: &mut Shell, migration: Value) -> Result<()> {
    let patch = json!({"spec": {"migration": migration}});
    shell.run(&format!("kubectl patch bgw ai --type=merge -p '{patch}'")).await.map(drop)
}

async fn check(shell: &mut Shell) -> Result<()> {
    let checks = ["chat completion", "streaming", "models list", "bad request", "every check passed"];
    println!("{}", shell.says("kubectl bifrost test ai", &checks).await?);
    println!("{}", shell.says("kubectl bifrost preflight ai --phase during", &["ok "]).await?);
    let report = shell.run("kubectl bifrost report ai -o report.yaml && cat report.yaml").await?;
    ensure!(gateway::KEYS.iter().all(|key| !report.contains(key)), "a key value in the report");
    println!("  the report has {} lines and no key value", report.lines().count());
    shell.says("kubectl bifrost completion bash", &["kubectl-bifrost"]).await.map(drop)
}
