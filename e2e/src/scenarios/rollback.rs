//! Where a rollback goes, and what comes after it: one step back, further if it fails there too, and the failed step once more after a
//! while, as often as the spec says.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, Match, Rule, Script};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    gateway::{self, NAME, POOL_OPENAI},
    load,
    migration::{self, HANDLED, JUDGED},
    operator,
};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "rollback-retry",
    "A step that fails goes one step back, is tried again after the cooldown, once; failing there too it goes further back",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(480));

const REPLICAS: u64 = 2;
const COOLDOWN: Duration = Duration::from_secs(12);
/// So many requests fail: enough to be found, and as good as over by the time the traffic has gone back.
const FAILURES: u64 = 80;
/// Of so many requests a second at most: they are too small a part of what a quick machine sends until they are looked at.
const RATE: &str = "600";

async fn run(context: &Context) -> Result<()> {
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;
    let steps = json!([{"percent": 25, "hold": "1s"}, {"percent": 50, "hold": "1h"}, {"percent": 100}]);
    let rollback = json!({"to": "PreviousStep", "retries": 1, "cooldown": "12s"});
    let migration = json!({"canary": {"steps": steps}, "analysis": {"minRequests": 40}, "rollback": rollback});
    gateway::create(context, 2, migration).await?;
    load::amid(context, &["--concurrency", "8", "--rate", RATE], story(context, &control)).await.map(drop)
}

async fn story(context: &Context, control: &Control) -> Result<()> {
    let before = failed_at_half(context, control).await?;
    counted(context, [1.0, 25.0, 1.0]).await?;
    let reconciles = reconciles(context).await?;
    let at = before["at"].clone();
    ensure!(before["retryAt"].is_string(), "nothing says when it is tried again: {before}");
    let again = migration::reach(context, 50, REPLICAS, COOLDOWN + JUDGED).await?;
    let waited = migration::waited(&before, &again)?;
    ensure!(waited >= COOLDOWN, "tried again after {waited:?}");
    ensure!(again["status"]["migration"]["rollback"].is_null(), "{}", again["status"]["migration"]);
    counted(context, [2.0, 50.0, 0.0]).await?;
    let more = self::reconciles(context).await?;
    ensure!(more > reconciles, "{more} reconciliations after {reconciles}");
    println!("  50 → 25, and 50 once more {:.0} s later with a cooldown of 12 s", waited.as_secs_f64());

    let after = failed_at_half(context, control).await?;
    ensure!(after["at"] != at && after["retryAt"].is_null(), "{after}");
    migration::stays(context, 25, COOLDOWN + Duration::from_secs(5)).await?;
    println!("  failed again, and the one retry is used up: it stays at 25");

    fail(control, None).await?;
    let back = migration::reach(context, 0, REPLICAS, JUDGED).await?;
    let rollback = &back["status"]["migration"]["rollback"];
    ensure!(rollback["from"] == "50 %" && rollback["reason"] == "AnalysisFailed", "{rollback}");
    println!("  failed at 25 too: straight to the vendor");
    counted(context, [0.0, 0.0, 1.0]).await
}

/// The operator's metrics say so: step, percent, whether a rollback is in force, and at the baseline which check led there.
async fn counted(context: &Context, [stage, percent, rolled_back]: [f64; 3]) -> Result<()> {
    let wanted = [
        ("migration_stage", stage),
        ("gateway_wanted_percent", percent),
        ("migration_rolled_back", rolled_back),
        ("gateway_ready", 1.0),
    ];
    for (name, wanted) in wanted {
        // That a step was confirmed is written as well, and every write is confirmed anew.
        wait::wait_until(&format!("{name} to be {wanted}"), HANDLED, || async {
            let shown = operator::metric_of_gateway(context, name).await?;
            ensure!(shown == Some(wanted), "it is {shown:?}");
            Ok(true)
        })
        .await?;
    }
    // Back at a step it is judged anew; at the baseline the verdict that led there stays.
    if stage < 1.0 {
        let checks = migration::seen(context).await?["status"]["analysis"]["checks"].clone();
        let failed: Vec<_> =
            checks.as_array().into_iter().flatten().filter(|check| check["verdict"] == "Fail").collect();
        ensure!(!failed.is_empty(), "no check failed: {checks}");
        for name in failed.iter().filter_map(|check| check["name"].as_str()) {
            let gateway = format!("gateway=\"{NAME}\",namespace=\"{}\",of=\"migration\"", context.namespace);
            let shown = operator::metric(context, "analysis_verdict", &format!("check=\"{name}\",{gateway}")).await?;
            ensure!(shown == Some(-1.0), "the verdict of {name} is {shown:?}");
        }
    }
    println!("    metrics: stage {stage}, {percent} %, rolled back {rolled_back}");
    Ok(())
}

async fn reconciles(context: &Context) -> Result<f64> {
    let labels = "controller=\"gateway\",result=\"ok\"";
    operator::metric(context, "reconciles_total", labels).await?.context("no reconciliation was counted")
}

/// The pool's key fails, so often or from now on.
async fn fail(control: &Control, times: Option<u64>) -> Result<()> {
    let matches = Match { key: Some(POOL_OPENAI.to_owned()), ..Match::default() };
    let script = Script { status: Some(500), ..Script::default() };
    control.clear_rules().await?;
    Ok(control.add_rule(&Rule { name: None, matches, times, used: 0, script }).await?)
}

/// Lets half of the users fail, and returns the rollback to a quarter.
async fn failed_at_half(context: &Context, control: &Control) -> Result<Value> {
    migration::reach(context, 50, REPLICAS, JUDGED).await?;
    migration::verdict(context, "Pass").await?;
    fail(control, Some(FAILURES)).await?;
    let back = migration::reach(context, 25, REPLICAS, JUDGED).await?;
    // Where requests are few some are left, and would fail the step back too.
    control.clear_rules().await?;
    let status = &back["status"]["migration"];
    ensure!(status["phase"] == "RolledBack" && status["step"] == "1/3", "{status}");
    let rollback = status["rollback"].clone();
    ensure!(rollback["from"] == "50 %" && rollback["reason"] == "AnalysisFailed", "{rollback}");
    println!("    {}", rollback["message"].as_str().context("no message")?);
    Ok(rollback)
}
