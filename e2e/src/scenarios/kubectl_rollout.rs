//! The kubectl plugin moves a candidate, and goes back to an earlier revision unless somebody else keeps the spec.

use anyhow::{Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    gateway,
    rollout::{self, REPLICAS},
    shell::Shell,
};
use crate::scenarios::{Context, Scenario};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "kubectl-rollout",
    "kubectl bifrost promote, abort, retry, restart and analysis --rollout; history; undo, not behind Argo CD's or Helm's back",
    |context| run(context).boxed(),
);

async fn run(context: &Context) -> Result<()> {
    let first = rollout::create(context, Value::Null, strategy()).await?;
    let mut shell = Shell::open(context).await?;
    let second = moved(context, &mut shell, &first).await?;
    undone(context, &mut shell, &first, &second).await?;
    kept(context, &mut shell, &first).await
}

fn strategy() -> Value {
    let mut strategy = rollout::canary(json!([{"percent": 10, "pause": true}, {"percent": 50, "pause": true}]));
    strategy["analysis"] = json!({"checks": [{"name": "errors", "type": "ErrorRate", "max": "5%"}]});
    strategy
}

/// Every command moves the candidate, and only as it can move; returns the revision that is stable then.
async fn moved(context: &Context, shell: &mut Shell, first: &str) -> Result<String> {
    shell.says("kubectl bifrost analysis ai --rollout", &["no candidate is under way"]).await?;
    shell.refuses("kubectl bifrost promote ai --rollout", &["ai has no candidate"]).await?;
    // By kubectl, as a user does: what another program wrote, undo takes for its own.
    let patch = rollout::body_limit("90Mi");
    shell.run(&format!("kubectl patch bgw ai --type=merge -p '{patch}'")).await?;
    let second = rollout::revision(&rollout::reach(context, 10).await?, "candidateRevision")?;
    shell
        .comes_to_say("kubectl bifrost analysis ai --rollout", &["verdict: Inconclusive", "VERDICT", "errors"])
        .await?;
    shell.says("kubectl bifrost promote ai --rollout", &["promote --rollout handled", "2/"]).await?;
    rollout::reach(context, 50).await?;
    shell.says("kubectl bifrost abort ai --rollout", &["abort --rollout handled", "RolledBack"]).await?;
    shell.says("kubectl bifrost status ai", &["kubectl bifrost retry ai --rollout", "kubectl bifrost undo ai"]).await?;
    shell.refuses("kubectl bifrost promote ai --rollout", &["was refused", "retry or restart"]).await?;
    shell.says("kubectl bifrost retry ai --rollout", &["retry --rollout handled"]).await?;
    rollout::reach(context, 10).await?;
    shell.says("kubectl bifrost promote ai --rollout", &["2/"]).await?;
    rollout::reach(context, 50).await?;
    shell.says("kubectl bifrost restart ai --rollout", &["restart --rollout handled"]).await?;
    rollout::reach(context, 10).await?;
    shell.comes_to_say("kubectl bifrost history ai", &[first, "stable", &second, "candidate, Paused"]).await?;
    shell.says("kubectl bifrost undo ai --dry-run", &["would be set back", first, "90Mi"]).await?;
    rollout::reach(context, 10).await?;
    shell.says("kubectl bifrost promote ai --rollout --full", &["promote-full --rollout handled"]).await?;
    rollout::settled(context, &second).await?;
    println!("  promoted, aborted, retried, begun again, promoted to the end: {first} → {second}");
    Ok(second)
}

/// A named revision comes back as a candidate, and the stable one at once.
async fn undone(context: &Context, shell: &mut Shell, first: &str, second: &str) -> Result<()> {
    shell.refuses("kubectl bifrost undo ai --to deadbeef00", &["no revision deadbeef00", "history"]).await?;
    let undo = format!("kubectl bifrost undo ai --to {first}");
    shell.says(&format!("{undo} --dry-run"), &["would be set back", "90Mi → "]).await?;
    rollout::settled(context, second).await?;
    shell.says(&undo, &["it is a candidate now", "in force after"]).await?;
    rollout::reach(context, 10).await?;
    shell.says("kubectl bifrost undo ai", &["set back to revision", second]).await?;
    rollout::settled(context, second).await?;
    shell.says(&format!("{undo} --no-wait"), &["it is a candidate now"]).await?;
    rollout::reach(context, 10).await?;
    shell.says("kubectl bifrost promote ai --rollout --full", &["handled"]).await?;
    rollout::settled(context, first).await?;
    println!("  undone: {second} → {first}, by way of the canary; and in the middle of it back to {second} at once");
    refused(context, shell, first).await
}

/// What is refused never became a candidate, and goes back to the stable revision as well.
async fn refused(context: &Context, shell: &mut Shell, stable: &str) -> Result<()> {
    let patch = json!({"spec": {"image": {"repository": "elsewhere.example/gateway", "tag": "1"}}});
    shell.run(&format!("kubectl patch bgw ai --type=merge -p '{patch}'")).await?;
    shell.comes_to_say("kubectl bifrost status ai", &["Accepted=False"]).await?;
    shell.says("kubectl bifrost undo ai --dry-run", &["would be set back", stable, "elsewhere.example"]).await?;
    shell.says("kubectl bifrost undo ai", &["set back to revision", stable, "in force after"]).await?;
    rollout::settled(context, stable).await?;
    println!("  an image that is refused gives way to that of the stable revision {stable}");
    Ok(())
}

/// What Git or a chart keeps is only changed by force. Argo CD is played by its name, Helm is itself.
async fn kept(context: &Context, shell: &mut Shell, first: &str) -> Result<()> {
    let rolling = json!({"spec": {"rollout": {"strategy": "Rolling", "canary": null, "analysis": null}}});
    shell.run(&format!("kubectl patch bgw ai --type=merge -p '{rolling}'")).await?;
    let mut manifest = gateway::manifest(REPLICAS as u32, Value::Null, Vec::new());
    manifest["spec"]["rollout"] = json!({"strategy": "Rolling"});
    manifest["spec"]["drain"] = json!({});
    manifest["spec"]["config"]["client"] = json!({"maxRequestBody": "80Mi"});
    let text = manifest.to_string();
    shell.write("gateway.json", &text)?;
    shell
        .run("kubectl apply --server-side --force-conflicts --field-manager=argocd-controller -f gateway.json")
        .await?;
    let third = another(context, first).await?;
    let refusal = ["argocd-controller", "--force", "kubectl bifrost abort ai --rollout"];
    shell.refuses("kubectl bifrost undo ai", &refusal).await?;
    shell.says("kubectl bifrost undo ai --dry-run", &["warning: ", "argocd-controller", "would be set back"]).await?;
    rollout::settled(context, &third).await?;
    // The newest before it is the first revision, which was the stable one twice.
    shell.says("kubectl bifrost undo ai --force", &["warning: ", first]).await?;
    rollout::settled(context, first).await?;

    // Another name than Argo CD's keeps the fields from here on: a chart's.
    shell.run("mkdir -p chart/templates && cp gateway.json chart/templates/gateway.yaml").await?;
    shell.write("chart/Chart.yaml", "apiVersion: v2\nname: ai\nversion: 0.1.0\n")?;
    shell.run("helm upgrade --install ai chart --take-ownership").await?;
    let fourth = another(context, first).await?;
    ensure!(fourth == third, "the same spec is {third}, and {fourth} by Helm");
    let told = shell.refused("kubectl bifrost undo ai").await?;
    ensure!(told.contains("helm"), "{told}");
    println!("  {}", told.trim());
    Ok(())
}

/// Waits until another revision than this one is stable, and returns it.
async fn another(context: &Context, revision: &str) -> Result<String> {
    let seen = crate::wait::wait_for("another stable revision", rollout::LIMIT, || async {
        let stable = rollout::revision(&rollout::seen(context).await?, "stableRevision")?;
        Ok(Some(stable).filter(|stable| stable != revision))
    })
    .await?;
    rollout::settled(context, &seen).await?;
    Ok(seen)
}
