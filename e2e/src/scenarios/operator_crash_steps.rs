//! An operator that dies between two writes, the one that publishes a step and the one that reports it: its successor skips no step,
//! takes none again, and handles no request twice.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{FutureExt, StreamExt, stream::BoxStream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    ResourceExt,
    api::{WatchEvent, WatchParams},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{
    gateway::{self, OBJECT},
    migration, objects, operator, rollout,
};
use crate::scenarios::{Context, Scenario};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "operator-crash-steps",
    "Killed as soon as a step, a rollback or a candidate is published, the operator leaves a successor that takes no step twice",
    |context| run(context).boxed(),
)
.embedded_only();

/// The published ConfigMap.
const PUBLISHED: &str = "ai-bifrost";
/// How long it may take from a word until it is published, and from there until a successor has reported it.
const LIMIT: Duration = Duration::from_secs(60);
/// With nothing new for so long, nothing more comes.
const CALM: Duration = Duration::from_secs(2);

/// What is asked of the migration, and what it comes to.
const REQUESTS: [(&str, &str); 4] =
    [("promote/a", "60 %"), ("promote/b", "80 %"), ("retry/c", "80 %"), ("abort/d", "back")];
/// Those before a gateway pod crashes.
const BEFORE: usize = 2;
/// The same of the rollout.
const OF_ROLLOUT: [(&str, &str); 4] =
    [("promote/1", "60 %"), ("abort/2", "back"), ("retry/3", "20 %"), ("promote/4", "60 %")];

async fn run(context: &Context) -> Result<()> {
    // The hold is longer than it takes to know which operator leads, and to ask for something in it.
    let plan = rollout::canary(json!([{"percent": 20, "pause": true}, {"percent": 60, "hold": "12s"}]));
    rollout::create(context, json!({"canaryPercent": 0}), plan).await?;
    let mut killer = Killer::new(context).await?;
    candidate(&mut killer).await?;
    steps(&mut killer).await?;
    killer.quiet().await?;

    let [of_migration, of_rollout] = &killer.steps;
    println!("  steps: {}; of the rollout: {}", of_migration.join(" → "), of_rollout.join(" → "));
    ensure!(*of_migration == ["0 %", "10 %", "30 %", "60 %", "80 %", "back", "80 %", "back"], "{of_migration:?}");
    ensure!(
        *of_rollout == ["none", "0 %", "20 %", "60 %", "back", "0 %", "20 %", "60 %", "100 %", "none"],
        "{of_rollout:?}"
    );
    for (of, requests) in [("migration", REQUESTS), ("rollout", OF_ROLLOUT)] {
        let handled = &killer.state[of]["handled"];
        ensure!(*handled == json!(requests.map(|(request, _)| request)), "{handled}");
    }
    let (kills, between) = (killer.kills, killer.between);
    println!(
        "  {between} of {kills} kills fell between the two writes, each at most {} ms after the first one was seen",
        killer.slowest.as_millis()
    );
    // All do, but on a machine that is too busy to kill at once.
    ensure!(between * 4 >= kills, "only {between} of {kills} kills fell between the two writes");
    Ok(())
}

/// A changed configuration: begun, promoted, taken back, begun again, promoted, and stable after its last hold.
async fn candidate(killer: &mut Killer<'_>) -> Result<()> {
    let context = killer.context;
    killer.changed(&rollout::body_limit("90Mi"), Axis::Rollout, "20 %").await?;
    let candidate = rollout::revision(&rollout::reach(context, 20).await?, "candidateRevision")?;
    for (request, step) in OF_ROLLOUT {
        killer.changed(&ask(rollout::REQUEST, request), Axis::Rollout, step).await?;
        let seen = match step {
            "back" => rollout::phase(context, "RolledBack").await?,
            "20 %" => rollout::reach(context, 20).await?,
            _ => rollout::reach(context, 60).await?,
        };
        ensure!(seen["status"]["rollout"]["handledRequest"] == request, "{}", seen["status"]["rollout"]);
    }
    killer.by_itself("the last hold to end", Axis::Rollout, "none").await?;
    rollout::settled(context, &candidate).await.map(drop)
}

/// Steps by the spec, by a hold and by promotion; back after a crash of a gateway pod, and by a word.
async fn steps(killer: &mut Killer<'_>) -> Result<()> {
    let context = killer.context;
    let steps = json!([
        {"percent": 10, "hold": "3s"}, {"percent": 30, "pause": true}, {"percent": 60, "pause": true},
        {"percent": 80, "pause": true}, {"percent": 100},
    ]);
    let change = json!({"spec": {"migration": {"canaryPercent": null, "canary": {"steps": steps}}}});
    killer.changed(&change, Axis::Migration, "10 %").await?;
    killer.by_itself("a hold to end", Axis::Migration, "30 %").await?;
    reached(context, 30, "Paused").await?;
    for (number, (request, step)) in REQUESTS.into_iter().enumerate() {
        if number == BEFORE {
            let process = killer.aim().await?;
            gateway::crash(context, &gateway::selector()).await?;
            killer.shoot("a rollback", process, Axis::Migration, "back").await?;
            let seen = reached(context, 0, "RolledBack").await?;
            let rollback = &seen["status"]["migration"]["rollback"];
            ensure!(rollback["reason"] == "GatewayCrash" && rollback["from"] == "80 %", "{rollback}");
        }
        killer.changed(&ask(migration::REQUEST, request), Axis::Migration, step).await?;
        let seen = match step {
            "60 %" => reached(context, 60, "Paused").await?,
            "80 %" => reached(context, 80, "Paused").await?,
            _ => reached(context, 0, "RolledBack").await?,
        };
        ensure!(seen["status"]["migration"]["handledRequest"] == request, "{}", seen["status"]["migration"]);
    }
    Ok(())
}

fn ask(annotation: &str, request: &str) -> Value {
    json!({"metadata": {"annotations": {annotation: request}}})
}

/// Waits until a successor reports this place, which every replica has confirmed.
async fn reached(context: &Context, percent: u64, phase: &str) -> Result<Value> {
    migration::reach(context, percent, rollout::REPLICAS, LIMIT).await?;
    migration::phase(context, phase).await
}

/// Of which steps.
#[derive(Debug, Clone, Copy)]
enum Axis {
    Migration,
    Rollout,
}

/// Where both are, by what is published, and since when.
fn places(map: &ConfigMap) -> Result<[(String, Value); 2]> {
    let [traffic, state] = ["traffic.json", "state.json"].map(|name| member(map, name));
    let (traffic, state) = (traffic?, state?);
    let place = |progress: &Value, percent: &Value| {
        let is_back = progress["rollback"].is_object();
        let place = if is_back { "back".to_owned() } else { format!("{} %", percent.as_u64().unwrap_or(0)) };
        (place, progress["started"].clone())
    };
    let candidate = &state["rollout"]["candidate"];
    let of_rollout = match candidate.is_object() {
        true => place(&candidate["progress"], &traffic["rollout"]["percent"]),
        false => ("none".to_owned(), Value::Null),
    };
    Ok([place(&state["migration"], &traffic["percent"]), of_rollout])
}

fn member(map: &ConfigMap, name: &str) -> Result<Value> {
    let text = map.data.as_ref().and_then(|data| data.get(name)).with_context(|| format!("no {name} is published"))?;
    Ok(serde_json::from_str(text)?)
}

/// Follows what is published, and kills the operator where it shall.
struct Killer<'a> {
    context: &'a Context,
    changes: BoxStream<'static, kube::Result<WatchEvent<ConfigMap>>>,
    /// The container that was killed last.
    killed: Option<String>,
    /// Every step that was published, of the migration and of the rollout; one that began twice is there twice.
    steps: [Vec<String>; 2],
    /// The last of both, and since when.
    places: [(String, Value); 2],
    /// The newest notebook.
    state: Value,
    kills: usize,
    /// After how many of them the status was older than what was published.
    between: usize,
    /// The longest time from seeing a change to the kill.
    slowest: Duration,
}

impl<'a> Killer<'a> {
    async fn new(context: &'a Context) -> Result<Self> {
        let api = context.api::<ConfigMap>();
        let map = api.get(PUBLISHED).await?;
        let version = map.resource_version().context("a ConfigMap without a version")?;
        let only = WatchParams::default().fields(&format!("metadata.name={PUBLISHED}"));
        let places = places(&map)?;
        Ok(Self {
            context,
            changes: api.watch(&only, &version).await?.boxed(),
            killed: None,
            steps: places.clone().map(|(place, _)| vec![place]),
            places,
            state: member(&map, "state.json")?,
            kills: 0,
            between: 0,
            slowest: Duration::ZERO,
        })
    }

    /// Changes the gateway, and kills the operator when this step of it is published.
    async fn changed(&mut self, patch: &Value, axis: Axis, step: &str) -> Result<()> {
        let process = self.aim().await?;
        objects::merge(self.context, OBJECT, patch).await?;
        self.shoot(&patch.to_string(), process, axis, step).await
    }

    /// The same of a step that comes by itself.
    async fn by_itself(&mut self, what: &str, axis: Axis, step: &str) -> Result<()> {
        let process = self.aim().await?;
        self.shoot(what, process, axis, step).await
    }

    /// The process of the operator that leads; looking for it takes longer than there is time between two writes.
    async fn aim(&mut self) -> Result<Pid> {
        let id = operator::leading(self.context, self.killed.as_deref()).await?;
        let process = self.context.embedded()?.container_process(&id).await?;
        self.killed = Some(id);
        Ok(Pid::from_raw(process))
    }

    /// Waits until this step is published, and kills in the same moment.
    async fn shoot(&mut self, what: &str, process: Pid, axis: Axis, step: &str) -> Result<()> {
        let (axis, before) = (axis as usize, self.steps[axis as usize].len());
        let published = async {
            while self.steps[axis].len() == before || self.places[axis].0 != step {
                self.next().await?;
            }
            anyhow::Ok(Instant::now())
        };
        let published = tokio::time::timeout(LIMIT, published).await;
        let seen = published.with_context(|| format!("{step} was not published after {what}"))??;
        kill(process, Signal::SIGKILL).context("cannot kill the operator")?;
        self.slowest = self.slowest.max(seen.elapsed());
        let reported = migration::seen(self.context).await?["status"]["traffic"]["epoch"].as_u64();
        self.between += usize::from(reported < self.state["epoch"].as_u64());
        self.kills += 1;
        Ok(())
    }

    /// Takes in the next change.
    async fn next(&mut self) -> Result<()> {
        let change = self.changes.next().await.context("the watch ended")??;
        let WatchEvent::Modified(map) = change else { return Ok(()) };
        self.state = member(&map, "state.json")?;
        let before = std::mem::replace(&mut self.places, places(&map)?);
        for ((steps, now), before) in self.steps.iter_mut().zip(&self.places).zip(before) {
            if *now != before {
                steps.push(now.0.clone());
            }
        }
        Ok(())
    }

    /// Takes in what still comes.
    async fn quiet(&mut self) -> Result<()> {
        while let Ok(taken) = tokio::time::timeout(CALM, self.next()).await {
            taken?;
        }
        Ok(())
    }
}
