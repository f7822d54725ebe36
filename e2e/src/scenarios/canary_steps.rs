//! Steps follow each other by themselves, wait where they shall, and go back when somebody says so. The operator dies in each of them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    gateway::{self, OBJECT},
    load, migration, objects,
};
use crate::scenarios::{Context, Scenario};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "canary-steps",
    "1 → 25 → 50 → 100 by hold and promotion under load, the operator killed in each step; abort, retry, a shorter list",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(600));

const REPLICAS: u64 = 2;
/// Longer than the operator takes to come back.
const HOLD: Duration = Duration::from_secs(25);
/// How long a lower goal may take until every replica has confirmed it.
const SHORTENED: Duration = Duration::from_secs(2);
/// A step, its confirmation and the next look.
const STEP: Duration = Duration::from_secs(40);

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, 2, json!({"canaryPercent": 0})).await?;
    let pods = gateway::pods(context).await?;
    load::during(context, &[], story(context)).await?;
    ensure!(gateway::pods(context).await? == pods, "pods were replaced or restarted");
    Ok(())
}

async fn story(context: &Context) -> Result<()> {
    let steps = json!([
        {"percent": 1, "hold": "25s"},
        {"percent": 25, "hold": "2s", "pause": true},
        {"percent": 50, "pause": true},
        {"percent": 100},
    ]);
    let migration = json!({"canaryPercent": null, "canary": {"steps": steps}});
    let began = Instant::now();
    objects::merge(context, OBJECT, &json!({"spec": {"migration": migration}})).await?;

    // The hold goes on where it was: another operator neither begins it anew nor ends it.
    migration::reach(context, 1, REPLICAS, STEP).await?;
    migration::without_operator(context, "1/4", "Progressing").await?;
    migration::reach(context, 25, REPLICAS, STEP).await?;
    ensure!(began.elapsed() >= HOLD, "the hold was cut to {:?}", began.elapsed());
    println!("  1 → 25 after {:.1} s with a hold of 25 s and another operator", began.elapsed().as_secs_f64());
    gateway::wait_event(context, "StepStarted", "1 % → 25 %").await?;

    // A pause waits, whoever leads, and one request is one step.
    gateway::wait_event(context, "StepPaused", "waits for a promotion").await?;
    migration::without_operator(context, "2/4", "Paused").await?;
    let seen = migration::ask(context, "promote/one").await?;
    ensure!(seen["status"]["migration"]["step"] == "3/4", "{}", seen["status"]["migration"]);
    migration::reach(context, 50, REPLICAS, STEP).await?;
    gateway::wait_event(context, "RequestHandled", "promote: 25 % → 50 %").await?;
    migration::without_operator(context, "3/4", "Paused").await?;
    migration::ask(context, "promote/one").await?;
    migration::stays(context, 50, Duration::from_secs(3)).await?;
    println!("  a promotion is one step, the same request twice and another operator are none");

    // A request for what is no more is refused, and says so.
    migration::ask(context, "promote/two@0000000000").await?;
    gateway::wait_event(context, "RequestRefused", "revision 0000000000").await?;
    migration::stays(context, 50, Duration::from_secs(1)).await?;
    migration::ask(context, "explode/three").await?;
    gateway::wait_event(context, "RequestRefused", "<verb>/<id>").await?;

    let revision =
        migration::seen(context).await?["status"]["migration"]["revision"].as_str().unwrap_or("?").to_owned();
    migration::ask(context, &format!("promote/late@{revision}:2/4")).await?;
    gateway::wait_event(context, "RequestRefused", "to leave step 2/4, and 3/4 has come").await?;
    migration::stays(context, 50, Duration::from_secs(1)).await?;
    migration::ask(context, &format!("promote/four@{revision}:3/4")).await?;
    migration::reach(context, 100, REPLICAS, STEP).await?;
    migration::without_operator(context, "4/4", "Completed").await?;
    let drift = gateway::notes(context, "DriftCorrected").await?;
    ensure!(drift.is_empty(), "nobody changed anything: {drift:?}");

    // Back, and again.
    let asked = Instant::now();
    migration::ask(context, "abort/five").await?;
    let back = migration::reach(context, 0, REPLICAS, STEP).await?;
    println!("  abort: 100 → 0 confirmed after {:.2} s", asked.elapsed().as_secs_f64());
    ensure!(asked.elapsed() < Duration::from_secs(10), "the rollback took {:?}", asked.elapsed());
    ensure!(back["status"]["migration"]["phase"] == "RolledBack", "{}", back["status"]["migration"]);
    let degraded = gateway::wait_condition(context, OBJECT, "Degraded", "True").await?;
    ensure!(degraded["reason"] == "RolledBack", "{degraded}");
    gateway::wait_condition(context, OBJECT, "Ready", "True").await?;
    migration::without_operator(context, "0/4", "RolledBack").await?;
    migration::ask(context, "retry/six").await?;
    migration::reach(context, 100, REPLICAS, STEP).await?;

    shortened(context).await
}

/// The last step says how far it goes: taking it away goes back at once, though nobody asked for the way there.
async fn shortened(context: &Context) -> Result<()> {
    let list = |steps: Value| json!({"spec": {"migration": {"canary": {"steps": steps}}}});
    let steps = json!([{"percent": 1, "hold": "1s"}, {"percent": 25, "hold": "1s"}, {"percent": 100}]);
    objects::merge(context, OBJECT, &list(steps)).await?;
    migration::ask(context, "restart/seven").await?;
    migration::reach(context, 100, REPLICAS, STEP).await?;
    migration::phase(context, "Completed").await?;
    let began = Instant::now();
    objects::merge(context, OBJECT, &list(json!([{"percent": 1, "hold": "1s"}, {"percent": 25}]))).await?;
    migration::reach(context, 25, REPLICAS, STEP).await?;
    println!("  1 → 25 → 100 by itself; the list cut after 25: back after {:.2} s", began.elapsed().as_secs_f64());
    ensure!(began.elapsed() <= SHORTENED, "the way back took {:?}", began.elapsed());
    migration::stays(context, 25, Duration::from_secs(2)).await
}
