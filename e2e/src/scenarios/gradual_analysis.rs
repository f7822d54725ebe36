//! Phases that follow by themselves when the numbers are good: hold and pause, a failure that goes one phase back, the failed phase
//! again after the cooldown and by a word, an abort. What each phase moves is seen from outside.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bifrost_fake_provider::{Control, Match, Rule, Script};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    curl,
    gateway::{self, APP_ANTHROPIC, APP_OPENAI, OBJECT, POOL_ANTHROPIC},
    load,
    migration::{self, JUDGED},
    objects,
};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "gradual-analysis",
    "Automatic phases with hold, pause and analysis: a failure goes one phase back, retry by itself and by word, abort",
    |context| run(context).boxed(),
)
.embedded_only();

const REPLICAS: u64 = 2;
/// Both longer than it takes to look which arm serves what, on a machine that is busy with the steady requests.
const HOLD: Duration = Duration::from_secs(15);
const COOLDOWN: Duration = Duration::from_secs(20);
/// Models of single requests, which are none of the steady ones': shares of users are of those alone.
const MODELS: [&str; 2] = ["gpt-4o", "claude-3-opus-20240229"];

async fn run(context: &Context) -> Result<()> {
    let (_port, control) = Vendors::control(&context.target).await?;
    gateway::create(context, 2, json!({"canaryPercent": 0})).await?;
    let messages = ["--api", "messages", "--concurrency", "4"];
    let both = load::amid(context, &messages, story(context, &control));
    let (_, chat) = load::amid(context, &["--concurrency", "4"], both).await?;
    // Nothing of theirs failed: what fails is Anthropic's.
    chat.all_served()
}

/// Three phases up to the pointer, and one behind it.
fn spec() -> Value {
    // The share is what the analysis compares; the rule beside it is what single requests ask for.
    let rules = |rule: Value, model: &str, percent: u32| json!([{"match": rule}, {"match": {"models": [model], "userPercent": percent}}]);
    let features = json!({"features": ["summary"]});
    let people = json!({"users": ["alice"], "endpoints": ["ChatCompletions"]});
    let claude = json!({"providers": ["anthropic"], "models": ["claude-3-opus*"]});
    let phases = json!([
        {"name": "features", "hold": "15s", "rules": rules(features, "gpt-4o-mini", 30)},
        {"name": "people", "pause": true, "rules": rules(people, "gpt-4o-mini", 50)},
        {"name": "claude", "hold": "1h", "rules": rules(claude, "claude-3-haiku*", 50)},
        {"name": "all", "rules": [{"match": {"paths": ["/*"]}}]},
    ]);
    json!({"spec": {"migration": {
        "strategy": "Gradual", "canaryPercent": null,
        "gradual": {"advance": "Automatic", "currentPhase": "claude", "phases": phases},
        "analysis": {"minRequests": 40},
        "rollback": {"to": "PreviousStep", "retries": 1, "cooldown": "20s"},
    }}})
}

async fn story(context: &Context, control: &Control) -> Result<()> {
    arms(context, "no phase", "canary", [false, false, false, false]).await?;
    let began = Instant::now();
    objects::merge(context, OBJECT, &spec()).await?;
    at(context, "features", "Progressing").await?;
    arms(context, "features", "gradual", [true, false, false, false]).await?;

    // A hold and a Pass, then a hold that somebody ends.
    let paused = at(context, "people", "Paused").await?;
    ensure!(began.elapsed() > HOLD, "the hold was cut to {:?}", began.elapsed());
    println!("  features → people after {:.1} s: {}", began.elapsed().as_secs_f64(), message(&paused));
    arms(context, "people", "gradual", [true, true, false, false]).await?;
    migration::ask(context, "promote/1").await?;
    at(context, "claude", "Progressing").await?;
    arms(context, "claude", "gradual", [true, true, true, false]).await?;
    for (reason, about) in [
        ("PhaseStarted", "phase features → phase people"),
        ("StepPaused", "phase claude waits for a promotion"),
        ("RequestHandled", "promote: phase people → phase claude"),
        ("PhaseStarted", "phase people → phase claude"),
        ("TrafficChanged", "Gradual what 4 rules name → Gradual what 6 rules name"),
    ] {
        gateway::wait_event(context, reason, about).await?;
    }

    // Back by one phase, and the failed one once more.
    migration::verdict(context, "Pass").await?;
    let rollback = failed(context, control).await?;
    ensure!(rollback["retryAt"].is_string(), "nothing says when it is tried again: {rollback}");
    arms(context, "people, after a failure", "gradual", [true, true, false, false]).await?;
    let again = at(context, "claude", "Progressing").await?;
    ensure!(again["status"]["migration"]["rollback"].is_null(), "{}", again["status"]["migration"]);
    let waited = migration::waited(&rollback, &again)?;
    ensure!(waited >= COOLDOWN, "tried again after {waited:?}");
    println!("  claude once more after {:.0} s, with a cooldown of 20 s", waited.as_secs_f64());

    // The one retry is used up: from here on somebody says what comes.
    let rollback = failed(context, control).await?;
    ensure!(rollback["retryAt"].is_null(), "a second retry is announced: {rollback}");
    migration::ask(context, "retry/2").await?;
    at(context, "claude", "Progressing").await?;
    arms(context, "claude, after a retry", "gradual", [true, true, true, false]).await?;
    migration::ask(context, "abort/3").await?;
    at(context, "0/3", "RolledBack").await?;
    arms(context, "no phase, after an abort", "gradual", [false, false, false, false]).await?;
    migration::ask(context, "retry/4").await?;
    at(context, "claude", "Progressing").await?;
    migration::ask(context, "restart/5").await?;
    at(context, "features", "Progressing").await?;
    arms(context, "features, after a restart", "gradual", [true, false, false, false]).await
}

/// Waits until every replica has confirmed a phase, and the migration is there in this state.
async fn at(context: &Context, step: &str, phase: &str) -> Result<Value> {
    wait::wait_for(&format!("{step} {phase}"), JUDGED, || async {
        let seen = migration::seen(context).await?;
        let (status, migration) = (&seen["status"], &seen["status"]["migration"]);
        let programmed = gateway::condition(status, "Programmed").is_some_and(|one| one["status"] == "True");
        let confirmed = programmed && status["traffic"]["confirmedReplicas"] == REPLICAS;
        ensure!(confirmed && migration["step"] == step && migration["phase"] == phase, "{status}");
        Ok(Some(seen))
    })
    .await
}

fn message(seen: &Value) -> &str {
    seen["status"]["migration"]["message"].as_str().unwrap_or_default()
}

/// Lets fail what the phase `claude` alone sends to the bifrost arm, and returns the rollback to the one before.
async fn failed(context: &Context, control: &Control) -> Result<Value> {
    let matches = Match { key: Some(POOL_ANTHROPIC.to_owned()), ..Match::default() };
    let script = Script { status: Some(500), ..Script::default() };
    control.add_rule(&Rule { name: None, matches, times: None, used: 0, script }).await?;
    let back = at(context, "people", "RolledBack").await?;
    control.clear_rules().await?;
    let rollback = back["status"]["migration"]["rollback"].clone();
    ensure!(rollback["from"] == "phase claude" && rollback["reason"] == "AnalysisFailed", "{rollback}");
    println!("  {}", message(&back));
    gateway::wait_event(context, "RolledBack", "phase claude → phase people").await?;
    Ok(rollback)
}

/// Which arm serves a feature, a user, a provider and what no rule names.
async fn arms(context: &Context, phase: &str, reason: &str, wanted: [bool; 4]) -> Result<()> {
    let url = gateway::url(context);
    let (chat, messages) = (format!("{url}/openai/v1/chat/completions"), format!("{url}/anthropic/v1/messages"));
    let [openai, anthropic] = [format!("authorization: Bearer {APP_OPENAI}"), format!("x-api-key: {APP_ANTHROPIC}")];
    let question = json!([{"role": "user", "content": "hello"}]);
    let of = |user: &str| json!({"model": MODELS[0], "user": user, "messages": question});
    let claude = json!({"model": MODELS[1], "max_tokens": 10, "messages": question});
    let asked = [
        (&chat, vec![&*openai, "x-bf-feature: summary"], of("bob")),
        (&chat, vec![&*openai], of("alice")),
        (&messages, vec![&*anthropic, "anthropic-version: 2023-06-01"], claude),
        (&chat, vec![&*openai, "x-bf-feature: chat"], of("bob")),
    ];
    let mut arms = Vec::new();
    for (url, headers, body) in asked {
        let answer = curl::post(context, url, &headers, &body.to_string()).await?;
        ensure!(answer.status == 200 && answer.reason() == reason, "{phase}: {answer:?}");
        arms.push(answer.arm() == "bifrost");
    }
    println!("  {phase}: feature, user, provider, other on the bifrost arm: {arms:?}");
    ensure!(arms == wanted, "{phase}: {arms:?}");
    Ok(())
}
