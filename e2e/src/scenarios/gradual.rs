//! Phases by pointer: what a rule names takes the bifrost arm, what none names does not, and moving the pointer back is the rollback.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    curl,
    gateway::{self, APP_ANTHROPIC, APP_OPENAI, OBJECT},
    migration, objects,
};
use crate::{
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "gradual",
    "Phases of feature, user, endpoint and header; pointer forth and back, automatic advance over an operator's end, x-bf-arm",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(600));

const LIMIT: Duration = Duration::from_secs(40);
/// How long a pointer that is moved back may take until every replica has confirmed it.
const BACK: Duration = Duration::from_secs(2);

async fn run(context: &Context) -> Result<()> {
    let phases = json!([
        {"name": "internal", "rules": [{"match": {"headers": [{"name": "X-Team", "value": "platform"}]}}]},
        {"name": "summaries", "rules": [{"match": {"features": ["summary"], "endpoints": ["ChatCompletions"]}}, {"match": {"users": ["alice"]}}]},
        {"name": "claude", "rules": [{"match": {"providers": ["anthropic"]}}]},
        {"name": "all", "rules": [{"match": {"paths": ["/*"]}}]},
    ]);
    let migration = json!({"strategy": "Gradual", "gradual": {"phases": phases}});
    gateway::create(context, 2, migration).await?;
    for (phase, wanted) in [
        (Value::Null, [false, false, false, false, false]),
        (json!("internal"), [true, false, false, false, false]),
        (json!("summaries"), [true, true, true, false, false]),
        (json!("claude"), [true, true, true, true, false]),
        (json!("all"), [true, true, true, true, true]),
        (json!("summaries"), [true, true, true, false, false]),
        (Value::Null, [false, false, false, false, false]),
    ] {
        point_to(context, &phase).await?;
        let arms = arms(context).await?;
        ensure!(arms == wanted, "phase {phase}: {arms:?}");
        println!("  phase {phase}: header, feature, user, provider, other on the bifrost arm: {arms:?}");
    }
    automatic(context).await?;
    chosen_arm(context).await
}

async fn point_to(context: &Context, phase: &Value) -> Result<()> {
    let patch = json!({"spec": {"migration": {"gradual": {"currentPhase": phase}}}});
    let patched = objects::merge(context, OBJECT, &patch).await?;
    wait::wait_until(&format!("phase {phase}"), LIMIT, || async {
        let seen = migration::seen(context).await?;
        let programmed = gateway::condition(&seen["status"], "Programmed").is_some_and(|one| {
            one["status"] == "True" && one["observedGeneration"] == patched["metadata"]["generation"]
        });
        ensure!(programmed && seen["status"]["traffic"]["confirmedReplicas"] == 2, "{}", seen["status"]);
        Ok(true)
    })
    .await
}

/// Whether requests of several kinds take the bifrost arm.
async fn arms(context: &Context) -> Result<[bool; 5]> {
    let chat = format!("{}/openai/v1/chat/completions", gateway::url(context));
    let own = format!("authorization: Bearer {APP_OPENAI}");
    let bob = gateway::chat("bob");
    let header = curl::post(context, &chat, &[&own, "x-team: platform"], &bob).await?;
    let feature = curl::post(context, &chat, &[&own, "x-bf-feature: summary"], &bob).await?;
    let user = curl::post(context, &chat, &[&own], &gateway::chat("alice")).await?;
    let other = curl::post(context, &chat, &[&own, "x-bf-feature: chat"], &bob).await?;
    let messages = format!("{}/anthropic/v1/messages", gateway::url(context));
    let body =
        json!({"model": "claude-3-haiku-20240307", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]});
    let key = format!("x-api-key: {APP_ANTHROPIC}");
    let provider = curl::post(context, &messages, &[&key, "anthropic-version: 2023-06-01"], &body.to_string()).await?;
    let answers = [header, feature, user, provider, other];
    for answer in &answers {
        ensure!(answer.status == 200 && answer.reason() == "gradual", "{} {}", answer.status, answer.reason());
    }
    Ok(answers.map(|answer| answer.arm() == "bifrost"))
}

/// The phases up to the pointer, by themselves, also where the operator ends in one; and back with the pointer.
async fn automatic(context: &Context) -> Result<()> {
    let seen = migration::seen(context).await?;
    let mut phases = seen["spec"]["migration"]["gradual"]["phases"].clone();
    for phase in phases.as_array_mut().into_iter().flatten() {
        phase["hold"] = json!("1s");
        phase["pause"] = json!(phase["name"] == "summaries");
    }
    let gradual = json!({"phases": phases, "currentPhase": "claude", "advance": "Automatic"});
    objects::merge(context, OBJECT, &json!({"spec": {"migration": {"gradual": gradual}}})).await?;
    // Before the operator ends, and what it has not told yet with it.
    for phase in ["phase internal", "phase summaries"] {
        gateway::wait_event(context, "PhaseStarted", phase).await?;
    }
    migration::without_operator(context, "summaries", "Paused").await?;
    migration::ask(context, "promote/1").await?;
    gateway::wait_event(context, "PhaseStarted", "phase claude").await?;
    wait::wait_until("the last phase to be completed", LIMIT, || async {
        let seen = migration::seen(context).await?;
        let migration = &seen["status"]["migration"];
        ensure!(migration["step"] == "claude" && migration["phase"] == "Completed", "{migration}");
        Ok(true)
    })
    .await?;
    println!("  automatic: internal, summaries, claude, and no further");

    let began = Instant::now();
    point_to(context, &json!("internal")).await?;
    println!("  the pointer back from claude to internal: confirmed after {:.2} s", began.elapsed().as_secs_f64());
    ensure!(began.elapsed() <= BACK, "the way back took {:?}", began.elapsed());
    let arms = arms(context).await?;
    ensure!(arms == [true, false, false, false, false], "phase internal: {arms:?}");
    Ok(())
}

/// A request may choose its arm where that is allowed, and is told how if it does so wrongly.
async fn chosen_arm(context: &Context) -> Result<()> {
    let migration = json!({"strategy": "Canary", "canaryPercent": 0, "gradual": null, "allowArmHeader": true});
    objects::merge(context, OBJECT, &json!({"spec": {"migration": migration}})).await?;
    migration::reach(context, 0, 2, LIMIT).await?;
    let chat = format!("{}/openai/v1/chat/completions", gateway::url(context));
    let own = format!("authorization: Bearer {APP_OPENAI}");
    let body = gateway::chat("bob");
    let chosen = curl::post(context, &chat, &[&own, "x-bf-arm: bifrost"], &body).await?;
    ensure!((chosen.status, chosen.arm(), chosen.reason()) == (200, "bifrost", "header"), "{chosen:?}");
    let wrong = curl::post(context, &chat, &[&own, "x-bf-arm: green"], &body).await?;
    ensure!(wrong.status == 400 && wrong.body.contains("x-bf-arm"), "{wrong:?}");
    println!("  x-bf-arm at 0 %: {}; a wrong word: {} {}", chosen.arm(), wrong.status, wrong.body.trim());
    objects::merge(context, OBJECT, &json!({"spec": {"migration": {"allowArmHeader": false}}})).await?;
    wait::wait_until("the header to be ignored", LIMIT, || async {
        Ok(curl::post(context, &chat, &[&own, "x-bf-arm: bifrost"], &body).await?.arm() == "baseline")
    })
    .await
}
