//! An operator that dies at any moment leaves nothing half done: its successor ends where an undisturbed one would have.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    final_state::{self, State},
    gateway, operator,
};
use crate::{
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "operator-crash",
    "Killed at random moments of create, change and delete, the operator ends in the same state as undisturbed",
    |context| run(context).boxed(),
)
.embedded_only();

/// Each kills the operator three times.
const ROUNDS: usize = 7;
/// The kill is sent at a random moment of this time, and takes as long as it takes to run a program.
const WINDOW: Duration = Duration::from_millis(300);
/// When the request is sent, so that some kills come before it and most in the midst of the work that follows.
const REQUEST: Duration = Duration::from_millis(100);
/// How long the next operator may take to the final state.
const LIMIT: Duration = Duration::from_secs(30);

async fn run(context: &Context) -> Result<()> {
    context.stage.vendors.trust_in(&context.target, &context.namespace).await?;
    gateway::apply_all(context, keys()).await?;
    let expected = undisturbed(context).await?;
    let seed = seed()?;
    println!("  seed {seed}; BIFROST_SEED={seed} repeats the moments");
    let mut killer = Killer { context, random: Random(seed), killed: None, present: Vec::new(), moments: Vec::new() };
    let began = Instant::now();
    for round in 1..=ROUNDS {
        killer.round(&format!("crash-{round}"), &expected).await.with_context(|| format!("round {round}"))?;
    }
    println!(
        "  operator killed {} times in {:.0} s; after every one the same objects, spec and status as undisturbed",
        killer.moments.len(),
        began.elapsed().as_secs_f64()
    );
    println!("  milliseconds from the request to the kill, for create, change and delete: {:?}", killer.moments);
    println!("  of {} objects there were at the kills in creations: {:?}", final_state::OBJECTS, killer.present);
    nothing_is_left(context).await
}

fn keys() -> Vec<Value> {
    let mut keys = gateway::key("openai", "openai", gateway::POOL_OPENAI);
    keys.extend(gateway::key("anthropic", "anthropic", gateway::POOL_ANTHROPIC));
    for key in keys.iter_mut().filter(|object| object["kind"] == "ProviderKey") {
        let provider = key["spec"]["provider"].clone();
        key["metadata"]["labels"] = json!({"for": provider});
    }
    keys
}

/// What a gateway comes to when nobody interferes: after it was made, and after it was changed.
async fn undisturbed(context: &Context) -> Result<[State; 2]> {
    let name = "crash-0";
    let api = gateways(context);
    api.create(&PostParams::default(), &manifest(name)?).await?;
    let created = final_state::settled(context, name, LIMIT).await?;
    change(&api, name).await?;
    let changed = final_state::settled(context, name, LIMIT).await?;
    ensure!(created != changed, "the change changes nothing");
    api.delete(name, &DeleteParams::default()).await?;
    Ok([created, changed])
}

fn gateways(context: &Context) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("bifrost.dev", "v1alpha1", "BifrostGateway");
    Api::namespaced_with(context.client.clone(), &context.namespace, &ApiResource::from_gvk(&kind))
}

fn manifest(name: &str) -> Result<DynamicObject> {
    let mut manifest = gateway::manifest(1, json!({"strategy": "Canary", "canaryPercent": 10}), Vec::new());
    manifest["metadata"]["name"] = json!(name);
    Ok(serde_json::from_value(manifest)?)
}

/// Something for every writer: split, configuration, a key that leaves, Service, a policy that goes, Deployment.
async fn change(api: &Api<DynamicObject>, name: &str) -> Result<()> {
    let patch = json!({"spec": {
        "replicas": 2,
        "migration": {"canaryPercent": 40},
        "config": {"client": {"maxRequestBody": "1Mi"}},
        "providerKeySelector": {"matchLabels": {"for": "openai"}},
        "service": {"port": 8090},
        "networkPolicy": {"enabled": false},
    }});
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

struct Killer<'a> {
    context: &'a Context,
    random: Random,
    /// The container that was killed last.
    killed: Option<String>,
    /// How many of a gateway's objects were there when the operator died in its creation.
    present: Vec<usize>,
    /// Milliseconds from each request to its kill.
    moments: Vec<i128>,
}

impl Killer<'_> {
    async fn round(&mut self, name: &str, [created, changed]: &[State; 2]) -> Result<()> {
        let api = gateways(self.context);
        let new = manifest(name)?;
        self.during(api.create(&PostParams::default(), &new).map(|made| Ok(made.map(drop)?))).await?;
        self.present.push(final_state::present(self.context, name).await?);
        final_state::reached(self.context, name, created, LIMIT).await.context("after the creation")?;
        self.during(change(&api, name)).await?;
        final_state::reached(self.context, name, changed, LIMIT).await.context("after the change")?;
        self.during(api.delete(name, &DeleteParams::default()).map(|gone| Ok(gone.map(drop)?))).await
    }

    /// Kills the leading operator at a random moment of what begins now.
    async fn during(&mut self, act: impl Future<Output = Result<()>>) -> Result<()> {
        let id = self.leading_container().await?;
        let wait = WINDOW.mul_f64(self.random.fraction());
        let cluster = self.context.embedded()?;
        let act = async {
            tokio::time::sleep(REQUEST).await;
            let sent = Instant::now();
            act.await.map(|()| sent)
        };
        let kill = async {
            tokio::time::sleep(wait).await;
            cluster.kill_container(&id).await.map(|()| Instant::now())
        };
        let (sent, killed) = tokio::try_join!(act, kill)?;
        let after = |one: Instant, other: Instant| one.saturating_duration_since(other).as_millis().cast_signed();
        self.moments.push(after(killed, sent) - after(sent, killed));
        self.killed = Some(id);
        Ok(())
    }

    /// Waits until the operator runs again and has renewed its Lease since.
    async fn leading_container(&self) -> Result<String> {
        wait::wait_for("an operator that leads", LIMIT, || async {
            let pods = operator::pods(self.context).await?;
            let pod = pods.first().context("no operator pod")?;
            let (id, started) = operator::container(pod)?;
            let renewed = operator::renewed(self.context).await?;
            ensure!(renewed > started, "started at {started}, the Lease was renewed at {renewed}");
            Ok(Some(id).filter(|id| self.killed.as_ref() != Some(id)))
        })
        .await
    }
}

/// The gateways are deleted; everything of theirs goes, and the operator brings nothing back.
async fn nothing_is_left(context: &Context) -> Result<()> {
    let selector = "app.kubernetes.io/name=bifrost-gateway";
    wait::wait_until("everything to be collected", Duration::from_secs(60), || async {
        let left = context.kubectl(&["get", operator::OWNED_KINDS, "--selector", selector, "--output=name"]).await?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(true)
    })
    .await?;
    operator::scale(context, 1).await?;
    let left = context.kubectl(&["get", operator::OWNED_KINDS, "--selector", selector, "--output=name"]).await?;
    ensure!(left.trim().is_empty(), "the operator brought back {left}");
    println!("  nothing is left of {} deleted gateways", ROUNDS + 1);
    Ok(())
}

fn seed() -> Result<u64> {
    match std::env::var("BIFROST_SEED") {
        Ok(seed) => seed.parse().with_context(|| format!("BIFROST_SEED={seed} is no number")),
        Err(_) => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
    }
}

/// SplitMix64: a seed gives the same numbers on every machine.
struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}
