//! Faults on the bifrost arm alone: each is found, and the traffic goes back by itself while the baseline's clients see nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, Cut, Match, RecordQuery, Rule, Script, Usage};
use futures::FutureExt;
use serde_json::{Value, json};

use self::Asking::{Everybody, Pool, PoolsStreams};
use super::{
    gateway::{self, APP_OPENAI, OBJECT, POOL_OPENAI},
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
    "analysis",
    "Errors, slow first tokens, cut streams, dear, empty or broken answers, a crash: rolled back, the baseline unharmed",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(900));

const REPLICAS: u64 = 2;
/// How long it may take from the counts that decide, or the crash, until every replica has confirmed the way back.
const BACK: Duration = Duration::from_secs(10);
/// How long streams must have failed until they are named: before, all requests together can be the surer sign.
const TELLING: Duration = Duration::from_secs(4);
/// Every request is of another user, as they come from many.
const USERS: [&str; 2] = ["--concurrency", "8"];
const STREAMS: [&str; 5] = ["--stream", "--users", "fixed", "--concurrency", "8"];
/// Beside streams, of the same users.
const PLAIN: [&str; 4] = ["--users", "fixed", "--concurrency", "4"];
const TOOLS: [&str; 3] = ["--tools", "--concurrency", "8"];

async fn run(context: &Context) -> Result<()> {
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;
    gateway::create(context, 2, half(json!({}))).await?;
    nothing_is_known_without_traffic(context).await?;

    for fault in faults() {
        fault.run(context, &control).await.context(fault.name)?;
    }
    crash(context).await
}

/// What happens to the requests of the pool's key, and the checks that find it.
struct Fault {
    name: &'static str,
    load: &'static [&'static str],
    analysis: Value,
    /// How the vendor answers everybody.
    usual: Script,
    /// How it answers the pool's key once the check has passed.
    broken: Script,
}

fn faults() -> Vec<Fault> {
    let check = |kind: &str, increase: &str| json!({"checks": [{"name": "it", "type": kind, "maxIncrease": increase}]});
    let fault = |name, load, analysis, broken| Fault { name, load, analysis, usual: Script::default(), broken };
    let errors = Script { status: Some(500), ..Script::default() };
    let slow = Script { first_byte_delay_ms: 400, ..Script::default() };
    let cut = Script { chunks: Some(20), cut_after: Some(3), cut: Cut::Reset, ..Script::default() };
    let dear = Script { usage: Usage { output: Some(2_000), ..Usage::default() }, ..Script::default() };
    let tool_calls = Fault {
        usual: calls_tool(r#"{"amount": 5}"#),
        ..fault("broken tool calls", &TOOLS, check("InvalidToolCallRate", "5%"), calls_tool(r#"{"amount": "#))
    };
    vec![
        fault("empty answers", &USERS, check("EmptyResponseRate", "5%"), says_nothing()),
        fault("errors", &USERS, json!({}), errors),
        fault("slow first tokens", &STREAMS, check("TimeToFirstToken", "50%"), slow),
        fault("cut streams", &STREAMS, json!({}), cut),
        fault("dear answers", &USERS, check("CostPerRequest", "20%"), dear),
        tool_calls,
    ]
}

/// An answer that calls the tool that requests bring.
fn calls_tool(arguments: &str) -> Script {
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "pay", "arguments": arguments}});
    answers(&json!({"role": "assistant", "content": null, "tool_calls": [call]}), "tool_calls")
}

/// An answer that cost tokens and has no text.
fn says_nothing() -> Script {
    answers(&json!({"role": "assistant", "content": "", "refusal": null, "annotations": []}), "length")
}

fn answers(message: &Value, finish_reason: &str) -> Script {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30},
    });
    Script { status: Some(200), body: Some(body), ..Script::default() }
}

/// Half of the users for a long time, then all.
fn half(analysis: Value) -> Value {
    let mut analysis = analysis;
    analysis["minRequests"] = json!(40);
    json!({"canary": {"steps": [{"percent": 50, "hold": "1h"}, {"percent": 100}]}, "analysis": analysis})
}

/// Arms the migration anew, with other checks.
async fn begin(context: &Context, analysis: Value) -> Result<Value> {
    let now = migration::seen(context).await?;
    let mut migration = half(analysis);
    // What the patch does not name stays: the checks of the story before.
    if migration["analysis"]["checks"].is_null() {
        migration["analysis"]["checks"] = Value::Null;
    }
    // Another text, so that it is another revision.
    let size = format!("{}Mi", now["metadata"]["generation"].as_u64().unwrap_or(0) + 50);
    let patch = json!({"spec": {"migration": migration, "config": {"client": {"maxRequestBody": size}}}});
    let generation = objects::merge(context, OBJECT, &patch).await?["metadata"]["generation"].clone();
    // At half of the users already, it is there before anybody has read the patch.
    wait::wait_until("the patch to be followed", JUDGED, || async {
        let seen = migration::seen(context).await?;
        ensure!(seen["status"]["observedGeneration"] == generation, "{}", seen["status"]);
        Ok(true)
    })
    .await?;
    migration::reach(context, 50, REPLICAS, JUDGED).await
}

async fn nothing_is_known_without_traffic(context: &Context) -> Result<()> {
    let steps = json!({"canary": {"steps": [{"percent": 50, "hold": "1s"}, {"percent": 100}]}});
    objects::merge(context, OBJECT, &json!({"spec": {"migration": steps}})).await?;
    let told = gateway::wait_event(context, "AnalysisInconclusive", "100 % waits for the analysis").await?;
    println!("  no traffic: {told}");
    migration::stays(context, 50, Duration::from_secs(8)).await?;
    let seen = migration::seen(context).await?;
    ensure!(seen["status"]["analysis"]["verdict"] == "Inconclusive", "{}", seen["status"]["analysis"]);
    ensure!(seen["status"]["migration"]["phase"] == "Inconclusive", "{}", seen["status"]["migration"]);
    Ok(())
}

impl Fault {
    /// Whether streams alone are broken, and plain requests of the same users go on beside them.
    fn is_of_streams(&self) -> bool {
        self.load == STREAMS
    }

    async fn run(&self, context: &Context, control: &Control) -> Result<()> {
        control.reset_all().await?;
        answer(control, Everybody, &self.usual).await?;
        let spec = begin(context, self.analysis.clone()).await?["spec"].clone();
        let story = async {
            migration::verdict(context, "Pass").await?;
            let before = control.last_seq().await?;
            let broken = Instant::now();
            control.clear_rules().await?;
            answer(control, if self.is_of_streams() { PoolsStreams } else { Pool }, &self.broken).await?;
            answer(control, Everybody, &self.usual).await?;
            let back = rolled_back(context, self.name, broken, "AnalysisFailed").await?;
            Ok((before, broken, back))
        };
        let story = load::amid(context, self.load, story);
        let ((before, broken, back), load) = match self.is_of_streams() {
            true => {
                let (done, plain) = load::amid(context, &PLAIN, story).await?;
                plain.all_served()?;
                println!("    {} plain requests meanwhile, none failed", plain.requests);
                done
            }
            false => story.await?,
        };
        ensure!(back["spec"] == spec, "the spec was written");
        let rollback = &back["status"]["migration"]["rollback"];
        let why = rollback["message"].as_str().unwrap_or_default();
        let is_telling = self.is_of_streams() && migration::lasted(rollback, broken)? >= TELLING;
        ensure!(!is_telling || why.contains("(stream)"), "the streams are not named: {why}");
        let own = RecordQuery { since: before, key: Some(APP_OPENAI.to_owned()), ..RecordQuery::default() };
        let own = control.records(&own).await?;
        let harmed = own.iter().filter(|record| record.status != 200).count();
        ensure!(own.len() > 50 && harmed == 0, "{harmed} of {} requests of the baseline arm", own.len());
        ensure!(
            load.failed_arms.bifrost == load.failures,
            "{} failures, of which {:?} are of an arm; the first: {:?}",
            load.failures,
            load.failed_arms,
            load.first_error
        );
        println!(
            "    {} of {} requests failed meanwhile, all on the bifrost arm, none of {} on the baseline arm",
            load.failures, load.requests, load.arms.baseline
        );
        Ok(())
    }
}

/// Whose requests are answered like this.
#[derive(Clone, Copy, PartialEq)]
enum Asking {
    /// Whoever no earlier word is about.
    Everybody,
    /// The pool's key.
    Pool,
    /// The pool's key, for a stream.
    PoolsStreams,
}

/// How requests are answered.
async fn answer(control: &Control, asking: Asking, script: &Script) -> Result<()> {
    let key = (asking != Everybody).then(|| POOL_OPENAI.to_owned());
    let matches = Match { key, stream: (asking == PoolsStreams).then_some(true), ..Match::default() };
    Ok(control.add_rule(&Rule { name: None, matches, times: None, used: 0, script: script.clone() }).await?)
}

/// Waits until every replica has confirmed the way back for this reason, and checks what is told of it.
async fn rolled_back(context: &Context, name: &str, broken: Instant, reason: &str) -> Result<Value> {
    let back = migration::reach(context, 0, REPLICAS, JUDGED).await?;
    let confirmed = Instant::now();
    let migration = &back["status"]["migration"];
    let rollback = &migration["rollback"];
    ensure!(migration["phase"] == "RolledBack" && rollback["reason"] == reason, "{migration}");
    // A crash decides by itself.
    let since = if reason == "GatewayCrash" { broken } else { migration::counted(rollback, broken)? };
    println!(
        "  {name}: 0 % confirmed by {REPLICAS} replicas {:.1} s after it began, at most {:.1} s after what decides was counted",
        (confirmed - broken).as_secs_f64(),
        (confirmed - since).as_secs_f64()
    );
    println!("    {}", rollback["message"].as_str().unwrap_or_default());
    ensure!(confirmed - since <= BACK, "the way back took {:?}", confirmed - since);
    for (condition, status) in [("Degraded", "True"), ("Ready", "True")] {
        let found = gateway::condition(&back["status"], condition).context("no such condition")?;
        ensure!(found["status"] == status, "{found}");
    }
    migration::stays(context, 0, Duration::from_secs(3)).await?;
    Ok(back)
}

/// A gateway container that ends is no lack of data.
async fn crash(context: &Context) -> Result<()> {
    begin(context, json!({})).await?;
    // The kubelet tells whole seconds: an end in the second of the beginning could as well be before it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let broken = Instant::now();
    gateway::crash(context, &gateway::selector()).await?;
    rolled_back(context, "a crash", broken, "GatewayCrash").await?;
    context.wait_for_pods(&gateway::selector(), 2, JUDGED).await.map(drop)
}
