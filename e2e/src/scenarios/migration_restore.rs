//! A gateway that a backup brings into another namespace begins anew, and nothing is asked of it again. Its users are those of the old
//! one where a salt says so.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use kube::api::PostParams;
use serde_json::{Value, json};

use super::{
    curl,
    gateway::{self, NAME},
    migration, objects, rollout,
};
use crate::{
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "migration-restore",
    "Restored into another namespace: at the first step, no request run again, the same users by stickiness.salt alone",
    |context| run(context).boxed(),
)
.embedded_only();

const STEP: Duration = Duration::from_secs(60);
const CALM: Duration = Duration::from_secs(3);
/// Enough that two choices of half of them are never the same by chance.
const USERS: usize = 32;
const REQUESTS: [(&str, &str); 2] = [(migration::REQUEST, "promote/1"), (rollout::REQUEST, "restart/2")];

async fn run(context: &Context) -> Result<()> {
    let steps = json!([{"percent": 50, "pause": true}, {"percent": 80, "pause": true}, {"percent": 100}]);
    let migration = json!({"canary": {"steps": steps}, "stickiness": {"salt": "shop"}});
    gateway::create(context, 1, migration).await?;
    migration::reach(context, 50, 1, STEP).await?;
    let users = cohort(context, NAME).await?;
    ensure!((4..=28).contains(&users.len()), "{} of {USERS} users at 50 %", users.len());
    migration::ask(context, REQUESTS[0].1).await?;
    migration::reach(context, 80, 1, STEP).await?;
    rollout::ask(context, REQUESTS[1].1).await?;

    let other = elsewhere(context).await?;
    let outcome = restore(&migration::seen(context).await?, &other, &users).await;
    // Its logs go with it.
    let searched = other.stage.leaks.search(&other).await;
    let removed = context.access.kubectl(["delete", "namespace", &other.namespace, "--wait=false"]).await;
    outcome.and(searched).and(removed.map(drop))
}

/// Another namespace, with what a gateway needs there.
async fn elsewhere(context: &Context) -> Result<Context> {
    let other = Context {
        target: context.target.clone(),
        access: context.access.clone(),
        client: context.client.clone(),
        namespace: format!("{}-other", context.namespace),
        stage: context.stage.clone(),
    };
    // One that an earlier run left may hold anything.
    context.access.kubectl(["delete", "namespace", &other.namespace, "--ignore-not-found"]).await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other.namespace}});
    context.access.apply(None, &namespace.to_string()).await?;
    other.stage.vendors.trust_in(&other.target, &other.namespace).await?;
    let mut keys = gateway::key("openai", "openai", gateway::POOL_OPENAI);
    keys.extend(gateway::key("anthropic", "anthropic", gateway::POOL_ANTHROPIC));
    gateway::apply_all(&other, keys).await?;
    Ok(other)
}

async fn restore(old: &Value, other: &Context, users: &BTreeSet<String>) -> Result<()> {
    for (annotation, request) in REQUESTS {
        ensure!(old["metadata"]["annotations"][annotation] == request, "{}", old["metadata"]["annotations"]);
    }
    let salted = Backup { other, name: NAME };
    let (found, salt) = salted.restored(old).await?;
    ensure!(found == *users && salt == "shop", "salt {salt}: {found:?} instead of {users:?}");
    println!(
        "  restored as {NAME} elsewhere: first step, nothing run again, the same {} of {USERS} users",
        found.len()
    );

    let mut unsalted = old.clone();
    unsalted["spec"]["migration"]["stickiness"] = Value::Null;
    let renamed = Backup { other, name: "shop" };
    let (found, salt) = renamed.restored(&unsalted).await?;
    let of_its_name = format!("{}/shop", other.namespace);
    ensure!(salt == of_its_name && found != *users, "salt {salt}: {found:?}");
    println!("  without a salt, as shop: the salt is {salt}, and other users ({}) are chosen", found.len());

    // Neither was anything of it told as done or refused.
    for reason in ["RequestHandled", "RequestRefused"] {
        let told = gateway::notes(other, reason).await?;
        ensure!(told.is_empty(), "{reason}: {told:?}");
    }
    Ok(())
}

/// What a backup is made into.
struct Backup<'a> {
    other: &'a Context,
    name: &'a str,
}

impl Backup<'_> {
    /// Makes it, with its annotations and without its status, and returns its users on the bifrost arm and the salt of their choice.
    async fn restored(&self, old: &Value) -> Result<(BTreeSet<String>, String)> {
        let copy = json!({
            "apiVersion": old["apiVersion"], "kind": old["kind"], "spec": old["spec"],
            "metadata": {"name": self.name, "annotations": old["metadata"]["annotations"]},
        });
        let api = objects::api(self.other, "BifrostGateway")?;
        api.create(&PostParams::default(), &serde_json::from_value(copy)?).await?;
        wait::wait_until("the first step of what was restored", STEP, || self.is_at_first_step()).await?;
        migration::stays_of(self.other, self.name, 50, CALM).await?;
        // A replica may have to confirm anew; a step that was left does not come back.
        wait::wait_until("the first step, still", STEP, || self.is_at_first_step()).await?;
        let map = objects::get(self.other, &format!("configmap/{}-bifrost", self.name)).await?;
        let traffic: Value = serde_json::from_str(map["data"]["traffic.json"].as_str().context("no traffic.json")?)?;
        let salt = traffic["salt"].as_str().context("no salt")?.to_owned();
        Ok((cohort(self.other, self.name).await?, salt))
    }

    async fn is_at_first_step(&self) -> Result<bool> {
        let status = objects::get(self.other, &format!("bifrostgateway/{}", self.name)).await?["status"].take();
        let (traffic, migration) = (&status["traffic"], &status["migration"]);
        let paused = migration["step"] == "1/3" && migration["phase"] == "Paused" && migration["rollback"].is_null();
        ensure!(paused && traffic["wantedPercent"] == 50 && traffic["confirmedReplicas"] == 1, "{status}");
        // Both are noted as known.
        let noted = [&migration["handledRequest"], &status["rollout"]["handledRequest"]];
        ensure!(noted == REQUESTS.map(|(_, request)| json!(request)).each_ref(), "{status}");
        Ok(true)
    }
}

/// The users of a gateway that take the bifrost arm.
async fn cohort(context: &Context, name: &str) -> Result<BTreeSet<String>> {
    let url = format!("http://{name}.{}.svc.cluster.local:8080", context.namespace);
    let url = &url;
    // One that was just made is ready before its Service leads to it.
    let look = || async { curl::inside(context, &[url.as_str()]).await.map(|_| true) };
    wait::wait_until(&format!("an answer of {url}"), STEP, look).await?;
    let asked = stream::iter(0..USERS).map(|number| async move {
        let user = format!("shopper-{number}");
        let answer = curl::chat(context, url, &gateway::chat(&user), true).await?;
        ensure!(answer.status == 200, "{} for {user}", answer.status);
        anyhow::Ok((answer.arm() == "bifrost").then_some(user))
    });
    let users: Vec<_> = asked.buffered(4).try_collect().await?;
    Ok(users.into_iter().flatten().collect())
}
