//! An operator that dies at any moment leaves nothing half done: its successor ends where an undisturbed one would have.

use std::{
    ops::Range,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{
    final_state::{self, State},
    gateway, objects, operator,
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
.embedded_only()
.limit(Duration::from_secs(600));

/// Each kills the operator three times.
const ROUNDS: u32 = 8;
/// So many at least, each after its request was answered.
const KILLS: usize = 20;
/// When kills in changes and deletions come, counted from the request: the operator's work takes less.
const WINDOW: Duration = Duration::from_millis(300);
/// How long the next operator may take to the final state, pods included.
const LIMIT: Duration = Duration::from_secs(60);

async fn run(context: &Context) -> Result<()> {
    context.stage.vendors.trust_in(&context.target, &context.namespace).await?;
    gateway::apply_all(context, keys()).await?;
    let (expected, creation) = undisturbed(context).await?;
    println!("  undisturbed, the operator makes all objects in {} ms", creation.as_millis());
    let seed = seed()?;
    println!("  seed {seed}; BIFROST_SEED={seed} repeats the moments");
    let mut killer = Killer {
        context,
        random: Random(seed),
        killed: None,
        middle: creation / 2,
        present: Vec::new(),
        moments: Vec::new(),
    };
    let began = Instant::now();
    for round in 1..=ROUNDS {
        killer.round(round, &expected).await.with_context(|| format!("round {round}"))?;
    }
    println!(
        "  operator killed {} times in {:.0} s; after every one the same objects, spec and status as undisturbed",
        killer.moments.len(),
        began.elapsed().as_secs_f64()
    );
    println!("  milliseconds from the request to the kill, for create, change and delete: {:?}", killer.moments);
    let (all, present) = (objects::owned("").len(), &killer.present);
    println!("  of {all} objects there were at the kills in creations: {present:?}");
    ensure!(killer.moments.len() >= KILLS, "only {} kills", killer.moments.len());
    let thirds = [0, 1, 2]
        .map(|third| killer.moments.iter().filter(|moment| **moment * 3 / WINDOW.as_millis() == third).count());
    ensure!(thirds.iter().all(|kills| *kills > 0), "the kills are not spread over the work: {thirds:?}");
    ensure!(present.iter().any(|present| (1..all).contains(present)), "no creation was hit half-way");
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

/// What a gateway comes to when nobody interferes: after it was made, and after it was changed. And how long it is until all its
/// objects are there.
async fn undisturbed(context: &Context) -> Result<([State; 2], Duration)> {
    let name = "crash-undisturbed";
    let api = gateways(context);
    let began = Instant::now();
    api.create(&PostParams::default(), &manifest(name)?).await?;
    let creation = wait::wait_for("all objects", LIMIT, || async {
        let present = objects::owned_now(context, name).await?.len();
        Ok((present == objects::owned(name).len()).then(|| began.elapsed()))
    })
    .await?;
    let created = final_state::settled(context, name, LIMIT).await?;
    change(&api, name).await?;
    let changed = final_state::settled(context, name, LIMIT).await?;
    ensure!(created != changed, "the change changes nothing");
    api.delete(name, &DeleteParams::default()).await?;
    Ok(([created, changed], creation))
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
    /// Where the middle of a creation may be, counted from the request.
    middle: Duration,
    /// How many of a gateway's objects were there when the operator died in its creation.
    present: Vec<usize>,
    /// Milliseconds from each request to its kill.
    moments: Vec<u128>,
}

impl Killer<'_> {
    async fn round(&mut self, round: u32, [created, changed]: &[State; 2]) -> Result<()> {
        let (name, api) = (&format!("crash-{round}"), gateways(self.context));
        let new = manifest(name)?;
        // A part of the work a round: together they cover it.
        let part = WINDOW * (round - 1) / ROUNDS..WINDOW * round / ROUNDS;
        let moment = self.random.within(&(self.middle / 2..self.middle * 3 / 2));
        self.during(moment, async { Ok(api.create(&PostParams::default(), &new).await.map(drop)?) }).await?;
        self.aim(objects::owned_now(self.context, name).await?.len());
        final_state::reached(self.context, name, created, LIMIT).await.context("after the creation")?;
        let moment = self.random.within(&part);
        self.during(moment, change(&api, name)).await?;
        final_state::reached(self.context, name, changed, LIMIT).await.context("after the change")?;
        let (moment, delete) = (self.random.within(&part), DeleteParams::default());
        self.during(moment, async { Ok(api.delete(name, &delete).await.map(drop)?) }).await
    }

    /// Notes how many objects there were at a kill, and comes later next time if there was none, earlier if all were there: a kill
    /// before and after the work interrupts nothing.
    fn aim(&mut self, present: usize) {
        if present == 0 {
            self.middle = self.middle * 3 / 2;
        } else if present == objects::owned("").len() {
            self.middle = self.middle * 2 / 3;
        }
        self.present.push(present);
    }

    /// Kills the leading operator so long after the request was answered.
    async fn during(&mut self, moment: Duration, request: impl Future<Output = Result<()>>) -> Result<()> {
        let id = operator::leading(self.context, self.killed.as_deref()).await?;
        let process = Pid::from_raw(self.context.embedded()?.container_process(&id).await?);
        request.await?;
        let sent = Instant::now();
        tokio::time::sleep(moment).await;
        kill(process, Signal::SIGKILL).context("cannot kill the operator")?;
        self.moments.push(sent.elapsed().as_millis());
        self.killed = Some(id);
        Ok(())
    }
}

/// The gateways are deleted; everything of theirs goes, and the operator brings nothing back.
async fn nothing_is_left(context: &Context) -> Result<()> {
    let selector = "app.kubernetes.io/name=bifrost-gateway";
    objects::collected(context, selector).await?;
    operator::replace(context).await?;
    let left = objects::labelled(context, selector).await?;
    ensure!(left.is_empty(), "the operator brought back {}", left.join(" "));
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
    /// A moment of this time.
    fn within(&mut self, time: &Range<Duration>) -> Duration {
        time.start + time.end.saturating_sub(time.start).mul_f64(self.fraction())
    }

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
