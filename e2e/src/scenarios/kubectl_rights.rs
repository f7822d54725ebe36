//! The kubectl plugin with less than an administrator's rights: who may look looks, who may edit moves, nobody needs a Secret.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    gateway,
    rollout::{self, REPLICAS},
    shell::Shell,
};
use crate::{
    deploy::OPERATOR_NAMESPACE,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "kubectl-rights",
    "kubectl bifrost with the roles view and edit: what each may, what it is told otherwise, and no Secret",
    |context| run(context).boxed(),
);

/// How long a new binding may take to be in force.
const IN_FORCE: Duration = Duration::from_secs(30);

/// Has the cluster's role view.
const VIEWER: &str = "viewer";
/// Has the cluster's role edit.
const EDITOR: &str = "editor";
/// Has view, and what the chart adds to edit: no Secret, no port-forward.
const MOVER: &str = "mover";
/// Has what the chart adds to view, and nothing else: no pods.
const WATCHER: &str = "watcher";

async fn run(context: &Context) -> Result<()> {
    let migration = json!({"canaryPercent": 10, "analysis": {}});
    let first = rollout::create(
        context,
        migration,
        json!({"strategy": "Canary", "canary": {"steps": [{"percent": 10, "pause": true}]}}),
    )
    .await?;
    let mut shell = Shell::open(context).await?;
    gateway::apply_all(context, bindings()).await?;
    for account in [VIEWER, EDITOR, MOVER, WATCHER] {
        log_in(&mut shell, account).await?;
    }
    looks(&mut shell).await?;
    is_refused(&mut shell).await?;
    watches(&mut shell).await?;
    moves(context, &mut shell, &first).await?;
    calls(&mut shell).await
}

/// The accounts, each with its roles in the scenario's namespace.
fn bindings() -> Vec<Value> {
    let own = |role: &str| format!("{OPERATOR_NAMESPACE}:bifrost-operator:{role}");
    let roles = [
        (VIEWER, vec!["view".to_owned()]),
        (EDITOR, vec!["edit".to_owned()]),
        (MOVER, vec!["view".to_owned(), own("edit")]),
        (WATCHER, vec![own("view")]),
    ];
    let group = "rbac.authorization.k8s.io";
    let mut objects = Vec::new();
    for (account, roles) in roles {
        objects.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}}));
        for (index, role) in roles.iter().enumerate() {
            objects.push(json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
                "metadata": {"name": format!("{account}-{index}")},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": account}]}));
        }
    }
    objects
}

/// Makes a kubeconfig of the account's own, with a token, and waits until its rights are in force.
async fn log_in(shell: &mut Shell, account: &str) -> Result<()> {
    let config = format!("kubectl --kubeconfig {account} config");
    shell
        .run(&format!(
            "kubectl config view --flatten --minify > {account} && kubectl create token {account} > token && \
             {config} set-credentials {account} --token=$(cat token) && {config} set-context --current --user={account}"
        ))
        .await?;
    let may = by(account, "kubectl auth can-i list bgw && kubectl get bgw ai");
    wait::wait_until(&format!("the rights of {account}"), IN_FORCE, || async {
        let told = shell.try_run(&may).await?;
        ensure!(told.starts_with("yes") && told.contains("Canary"), "{told}");
        Ok(true)
    })
    .await
}

/// A command with the rights of an account.
fn by(account: &str, command: &str) -> String {
    format!("export KUBECONFIG={account}; {command}")
}

/// Who may look sees all but Secrets, and is told what he cannot see.
async fn looks(shell: &mut Shell) -> Result<()> {
    // What the operator says of keys and of the arms comes after the gateway is ready.
    shell.comes_to_say(&by(VIEWER, "kubectl bifrost keys"), &["openai", "True"]).await?;
    shell.comes_to_say(&by(VIEWER, "kubectl bifrost analysis"), &["verdict: "]).await?;
    shell.comes_to_say(&by(VIEWER, "kubectl bifrost preflight"), &[", 0 fail"]).await?;
    let mut says = async |command: &str, words: &[&str]| shell.says(&by(VIEWER, command), words).await;
    says("kubectl bifrost status", &["ai  Ready", "2 of 2 ready", "ready, "]).await?;
    says("kubectl bifrost history", &["stable"]).await?;
    let told = says("kubectl bifrost preflight", &["0 fail"]).await?;
    println!("{told}");
    for check in ["crds", "operator", "secrets", "monitoring"] {
        let line = told.lines().find(|line| line.split_whitespace().nth(1) == Some(check)).context("no such check")?;
        ensure!(line.starts_with("warn") && line.contains("cannot be checked: "), "{line}");
    }
    let report = says("kubectl bifrost report", &["cannotBeRead: 'not allowed: secrets", "stable.json"]).await?;
    ensure!(gateway::KEYS.iter().all(|key| !report.contains(key)), "a key value in the report");
    Ok(())
}

/// Who may only look is told so by the API server's words, and what it takes.
async fn is_refused(shell: &mut Shell) -> Result<()> {
    for change in ["set-percent ai 25", "pause ai", "promote ai", "abort ai"] {
        let told = may_not(shell, change).await?;
        println!("  {change}: {}", told.trim());
    }
    for call in ["test ai", "bench ai --direct http://vendor.example --api-key-env HOME"] {
        let words = ["not allowed: ", "pods/portforward", "the role edit of the namespace", "--url"];
        let told = shell.refuses(&by(VIEWER, &format!("kubectl bifrost {call}")), &words).await?;
        ensure!(told.lines().count() == 1, "{told}");
        println!("  {call}: {}", told.trim());
    }
    Ok(())
}

async fn may_not(shell: &mut Shell, change: &str) -> Result<String> {
    let words = ["not allowed: ", "cannot patch resource", "the role edit of the namespace"];
    shell.refuses(&by(VIEWER, &format!("kubectl bifrost {change}")), &words).await
}

/// Who may see gateways and nothing else still follows them.
async fn watches(shell: &mut Shell) -> Result<()> {
    shell.says(&by(WATCHER, "kubectl bifrost status ai"), &["ai  Ready", "not allowed: pods is forbidden"]).await?;
    let _watch = shell.start(&format!("env KUBECONFIG={WATCHER} kubectl bifrost status ai -w"), "watch")?;
    shell.comes_to_say("cat watch", &["wanted  10 %"]).await?;
    shell.run("kubectl bifrost set-percent ai 15").await?;
    shell.comes_to_say("cat watch", &["wanted  15 %"]).await.map(drop)
}

/// Who may edit gateways moves everything, without a right to any Secret.
async fn moves(context: &Context, shell: &mut Shell, first: &str) -> Result<()> {
    let told = shell.try_run(&by(MOVER, "kubectl auth can-i get secrets")).await?;
    ensure!(told.trim() == "no", "{MOVER} may get Secrets: {told}");
    let mut says = async |command: &str, words: &[&str]| shell.says(&by(MOVER, command), words).await;
    says("kubectl bifrost set-percent ai 25", &["15 % → 25 %", "in force after"]).await?;
    says("kubectl bifrost pause ai", &["false → true"]).await?;
    says("kubectl bifrost resume ai", &["true → false"]).await?;
    says("kubectl bifrost abort ai", &["abort handled"]).await?;
    says("kubectl bifrost retry ai", &["retry handled"]).await?;
    let patch = rollout::body_limit("90Mi");
    says(&format!("kubectl patch bgw ai --type=merge -p '{patch}'"), &["patched"]).await?;
    let candidate = rollout::revision(&rollout::reach(context, 10).await?, "candidateRevision")?;
    for change in ["promote ai --rollout", "undo ai", "undo ai --dry-run"] {
        may_not(shell, change).await?;
    }
    let mut says = async |command: &str, words: &[&str]| shell.says(&by(MOVER, command), words).await;
    says("kubectl bifrost promote ai --rollout", &["promote --rollout handled"]).await?;
    rollout::settled(context, &candidate).await?;
    says("kubectl bifrost undo ai", &["set back to revision", first]).await?;
    rollout::reach(context, 10).await?;
    says("kubectl bifrost abort ai --rollout", &["abort --rollout handled"]).await?;
    says("kubectl bifrost undo ai", &["set back to revision", &candidate]).await?;
    println!("  {MOVER}: every change on {REPLICAS} replicas, and no Secret may be read");
    Ok(())
}

/// Who may edit may also call the gateway through the API server.
async fn calls(shell: &mut Shell) -> Result<()> {
    shell.says(&by(EDITOR, "kubectl bifrost set-percent ai 30"), &["25 % → 30 %", "in force after"]).await?;
    shell.says(&by(EDITOR, "kubectl bifrost test ai"), &["every check passed"]).await?;
    // The operator may be at what was undone just now.
    let told = shell.comes_to_say(&by(EDITOR, "kubectl bifrost preflight"), &[", 0 fail"]).await?;
    let seen = ["secrets", "monitoring", "rollback"]
        .map(|check| told.lines().any(|line| line.starts_with("ok") && line.split_whitespace().nth(1) == Some(check)));
    ensure!(seen == [true; 3], "{told}");
    Ok(())
}
