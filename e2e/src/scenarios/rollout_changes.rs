//! What happens in the middle of a rollout: another change, the change taken back, the operator or its record gone, a key rotated.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, RecordQuery};
use futures::{FutureExt, future::try_join_all};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::{
    gateway::{self, OBJECT},
    load, objects, operator, rollout,
};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "rollout-changes",
    "In mid-rollout: A → B → C, back to A in 2 s, the operator killed in each phase, its record deleted, a key rotated",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(420));

/// How long it may take until every replica serves the stable revision again.
const BACK: Duration = Duration::from_secs(2);
const NEW_KEY: &str = "sk-pool-rotated-0123456789";
/// How long a rotated key may take to be in use everywhere.
const ROTATED: Duration = Duration::from_secs(5);
/// So many users of each revision are asked whether it is.
const USERS: usize = 4;

async fn run(context: &Context) -> Result<()> {
    let steps =
        json!([{"percent": 20, "pause": true}, {"percent": 60, "pause": true}, {"percent": 100, "hold": "30s"}]);
    let first = rollout::create(context, Value::Null, rollout::canary(steps)).await?;
    let pods = rollout::stable_pods(context).await?;
    load::during(context, &[], changed_and_taken_back(context, &first)).await?;
    load::during(context, &[], disturbed(context, &first)).await?;
    ensure!(rollout::stable_pods(context).await? == pods, "pods were replaced or restarted");
    Ok(())
}

/// A → B → C begins anew with C, and A is at once all there is.
async fn changed_and_taken_back(context: &Context, stable: &str) -> Result<()> {
    let (second, _) = rollout::begin(context, &rollout::body_limit("90Mi"), 20).await?;
    rollout::ask(context, "promote/1").await?;
    rollout::reach(context, 60).await?;
    let (third, took) = rollout::begin(context, &rollout::body_limit("80Mi"), 20).await?;
    let seen = rollout::seen(context).await?;
    ensure!(third != second && rollout::revision(&seen, "stableRevision")? == stable, "{}", seen["status"]["rollout"]);
    println!("  {stable} → {second} at 60 % → {third}: at 20 % after {:.2} s", took.as_secs_f64());
    rollout::share(context, stable, &third, 20).await?;

    let began = Instant::now();
    objects::merge(context, OBJECT, &rollout::body_limit("100Mi")).await?;
    rollout::settled(context, stable).await?;
    println!("  back to {stable}: confirmed after {:.2} s", began.elapsed().as_secs_f64());
    ensure!(began.elapsed() <= BACK, "the way back took {:?}", began.elapsed());
    rollout::only(context, stable).await
}

/// Nothing that is lost on the way begins a step anew or skips one.
async fn disturbed(context: &Context, stable: &str) -> Result<()> {
    let (candidate, _) = rollout::begin(context, &rollout::body_limit("70Mi"), 20).await?;
    let users = rollout::share(context, stable, &candidate, 20).await?;
    without_operator(context, 20, "Paused").await?;
    ensure!(rollout::share(context, stable, &candidate, 20).await? == users, "users changed their revision");

    rollout::ask(context, "promote/2").await?;
    rollout::reach(context, 60).await?;
    without_operator(context, 60, "Paused").await?;
    without_record(context).await?;
    rotated(context, &candidate).await?;

    rollout::ask(context, "abort/3").await?;
    without_operator(context, 0, "RolledBack").await?;
    let seen = rollout::phase(context, "RolledBack").await?;
    ensure!(seen["status"]["rollout"]["rollback"]["reason"] == "Aborted", "{}", seen["status"]["rollout"]);

    // What was taken out of the pods begins anew.
    rollout::ask(context, "retry/4").await?;
    rollout::reach(context, 20).await?;
    rollout::ask(context, "promote-full/5").await?;
    rollout::reach(context, 100).await?;
    without_operator(context, 100, "Progressing").await?;
    rollout::settled(context, &candidate).await?;
    println!("  the operator was killed at 20, 60, 0 and 100 %: no step began anew, none was skipped");
    rollout::only(context, &candidate).await
}

/// Kills the operator once all is said of a phase; the next one goes on where the step is, which began when it began.
async fn without_operator(context: &Context, percent: u64, phase: &str) -> Result<()> {
    let place = |seen: &Value| {
        let rollout = &seen["status"]["rollout"];
        ["stableRevision", "candidateRevision", "percent", "phase", "step", "stepStartedAt", "holdEndsAt"]
            .map(|member| rollout[member].clone())
    };
    let before = wait::wait_for(&format!("{phase} at {percent} %"), rollout::LIMIT, || async {
        let seen = rollout::seen(context).await?;
        let rollout = &seen["status"]["rollout"];
        // What progresses is in its hold.
        let is_all = phase != "Progressing" || rollout["holdEndsAt"].is_string();
        ensure!(rollout["phase"] == phase && rollout["percent"] == percent && is_all, "{rollout}");
        Ok(Some(place(&seen)))
    })
    .await?;
    operator::kill(context).await?;
    // It leads before it has looked.
    wait::wait_until("the successor to have looked", rollout::LIMIT, || async {
        let shown = operator::metric_of_gateway(context, "rollout_percent").await?;
        ensure!(shown == Some(percent as f64), "rollout_percent is {shown:?}");
        Ok(true)
    })
    .await?;
    rollout::stays(context, percent, Duration::from_secs(2)).await?;
    // Until it has asked the pods, it tells that it waits for them.
    wait::wait_until("the successor to be where the one before was", rollout::LIMIT, || async {
        let after = place(&rollout::seen(context).await?);
        ensure!(after == before, "{before:?} became {after:?}");
        Ok(true)
    })
    .await
}

/// The ConfigMap goes, and comes back with the same rollout.
async fn without_record(context: &Context) -> Result<()> {
    let published = async || {
        let map = objects::find(context, "configmap/ai-bifrost").await?.context("no ConfigMap")?;
        let mut table: Value = serde_json::from_str(map["data"]["traffic.json"].as_str().unwrap_or("null"))?;
        // Numbers of tables, which rise.
        for member in ["epoch", "since"] {
            table[member] = Value::Null;
            table["rollout"][member] = Value::Null;
        }
        let members = ["stable.json", "candidate.json"].map(|member| map["data"][member].clone());
        anyhow::Ok((map["metadata"]["uid"].clone(), (table, members)))
    };
    let (uid, before) = published().await?;
    ensure!(before.1.iter().all(Value::is_string), "{:?}", before.1);
    let began = Instant::now();
    objects::api(context, "ConfigMap")?.delete("ai-bifrost", &DeleteParams::default()).await?;
    let after = wait::wait_for("another ConfigMap", rollout::LIMIT, || async {
        let (now, after) = published().await?;
        Ok((now != uid).then_some(after))
    })
    .await?;
    println!("  the ConfigMap deleted: there again after {:.2} s", began.elapsed().as_secs_f64());
    ensure!(after == before, "{before:?} became {after:?}");
    rollout::reach(context, 60).await.map(drop)
}

/// A rotated key is in use for users of both revisions.
async fn rotated(context: &Context, candidate: &str) -> Result<()> {
    let (_port, control) = Vendors::control(&context.target).await?;
    let url = gateway::url(context);
    // Who is whose is found out before: to look for them takes time that is not the rotation's.
    let (mut of_candidate, mut of_stable) = (Vec::new(), Vec::new());
    for number in 0..100 {
        let user = format!("rotation-{number}");
        let is_tried = rollout::answers(context, &url, &user).await? == candidate;
        if is_tried { &mut of_candidate } else { &mut of_stable }.push(user);
        if of_candidate.len().min(of_stable.len()) >= USERS {
            break;
        }
    }
    ensure!(of_candidate.len().min(of_stable.len()) >= USERS, "{of_candidate:?} and {of_stable:?} are too few users");
    let users: Vec<_> = of_candidate.iter().take(USERS).chain(of_stable.iter().take(USERS)).collect();
    let began = Instant::now();
    objects::merge(context, "secret/openai-key", &json!({"stringData": {"value": NEW_KEY}})).await?;
    let of_both = wait::wait_for("the new value to be used by both revisions", ROTATED, || async {
        let keys = users.iter().map(async |user| {
            let revision = rollout::answers(context, &url, user).await?;
            let key = key_of(&control, user).await?;
            ensure!(key == NEW_KEY, "an old value for {revision}");
            anyhow::Ok(revision)
        });
        let (of_candidate, of_others): (Vec<_>, Vec<_>) =
            try_join_all(keys).await?.into_iter().partition(|revision| revision == candidate);
        let of_both = of_candidate.len() == USERS && of_others.len() == USERS;
        ensure!(of_both, "{of_candidate:?} and {of_others:?} answered");
        Ok(Some(began.elapsed()))
    })
    .await?;
    println!("  a rotated key: used by both revisions after {:.2} s", of_both.as_secs_f64());
    rollout::stays(context, 60, Duration::from_secs(1)).await
}

/// The key of a user's last request.
async fn key_of(control: &Control, user: &str) -> Result<String> {
    let query = RecordQuery { user: Some(user.to_owned()), ..RecordQuery::default() };
    let record = control.wait_for(&query, 1, ROTATED).await?.pop().context("no record")?;
    record.key.context("a request without a key")
}
