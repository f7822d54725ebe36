//! `canaryPercent: 10`: which share of requests takes which arm, for each front and language, and what is not split at all.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, RecordQuery};
use futures::FutureExt;
use serde_json::json;

use super::{
    arm_contents, curl,
    gateway::{self, APP_OPENAI, OBJECT, POOL_OPENAI},
    load::{self, Load, Sdk},
    objects,
};
use crate::{
    deploy::Vendors,
    scenarios::{Context, Scenario},
    wait,
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "canary-split",
    "At canaryPercent 10 a tenth of the users, and of requests without a user, takes the bifrost arm",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(600));

const REPLICAS: usize = 3;
const USERS: &str = "10000";
/// Of requests without a user, each by chance: half a point is their standard deviation.
const ANONYMOUS: &str = "4000";
/// Enough for the other front and the other language: they share the decision.
const FEWER: &str = "2000";
/// The operator asks pods that confirm every 10 s.
const SEEN: Duration = Duration::from_secs(30);
const SECOND_KEY: &str = "sk-pool-second-0123456789";

async fn run(context: &Context) -> Result<()> {
    let second = json!({"name": "second", "type": "OpenAI", "baseURL": "https://openai.vendors.svc"});
    context.stage.vendors.trust_in(&context.target, &context.namespace).await?;
    gateway::apply_all(context, gateway::key("second", "second", SECOND_KEY)).await?;
    gateway::create_with(context, REPLICAS as u32, json!({"strategy": "Canary", "canaryPercent": 10}), vec![second])
        .await?;
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;

    let users = load::send(context, &["--requests", USERS, "--users", "fixed"]).await?;
    shared("users of the OpenAI front", &users, 1.0)?;
    carries_whose_key(&control, &users).await?;
    let anonymous = load::send(context, &["--requests", ANONYMOUS]).await?;
    shared("requests of one client without a user", &anonymous, 2.5)?;
    let fewer = ["--requests", FEWER, "--users", "fixed"];
    let messages = [&fewer[..], &["--api", "messages"]].concat();
    shared("users of the Anthropic front", &load::send(context, &messages).await?, 2.5)?;
    shared("users of the JavaScript SDK", &load::send_with(context, Sdk::JavaScript, &fewer).await?, 2.5)?;
    the_status_says_so(context).await?;

    arm_contents::check(context, &control).await?;
    what_is_not_eligible(context, &control).await
}

fn shared(what: &str, load: &Load, points: f64) -> Result<()> {
    load.all_served()?;
    let (percent, speed) = (load.bifrost_percent(), load.requests as f64 / load.seconds);
    println!("  {} {what}: {percent:.2} % bifrost ({speed:.0} requests/s)", load.requests);
    ensure!((percent - 10.0).abs() <= points, "the share of {what} is {percent:.2} %");
    Ok(())
}

async fn carries_whose_key(control: &Control, load: &Load) -> Result<()> {
    let counts = control.counts().await?;
    for (key, requests) in [(POOL_OPENAI, load.arms.bifrost), (APP_OPENAI, load.arms.baseline)] {
        let seen = counts.sum(|count| count.key.as_deref() == Some(key));
        ensure!(seen == requests, "{seen} requests came with the key of {requests}");
    }
    Ok(())
}

/// What the operator has gathered from the pods.
async fn the_status_says_so(context: &Context) -> Result<()> {
    let traffic = wait::wait_for("the seen share", SEEN, || async {
        let traffic = objects::get(context, OBJECT).await?["status"]["traffic"].clone();
        let (bifrost, baseline) = (traffic["bifrostPercent"].as_i64(), traffic["baselinePercent"].as_i64());
        let (bifrost, baseline) = bifrost.zip(baseline).with_context(|| traffic.to_string())?;
        ensure!((8..=12).contains(&bifrost) && bifrost + baseline == 100, "{traffic}");
        Ok(Some(traffic))
    })
    .await?;
    ensure!(traffic["wantedPercent"] == 10, "{traffic}");
    println!("  status: {} % wanted, {} % seen", traffic["wantedPercent"], traffic["bifrostPercent"]);
    Ok(())
}

async fn what_is_not_eligible(context: &Context, control: &Control) -> Result<()> {
    for (model, credential, reason, key) in [
        ("gpt-4o-mini", false, "no_credential", POOL_OPENAI),
        ("second/gpt-4o-mini", true, "other_provider", SECOND_KEY),
    ] {
        let user = format!("ineligible-{reason}");
        let before = counted(context, reason).await?;
        let body = json!({"model": model, "user": user, "messages": [{"role": "user", "content": "hello"}]});
        let sent = curl::chat(context, &gateway::url(context), &body.to_string(), credential).await?;
        let is = (sent.status, sent.arm(), sent.reason());
        ensure!(is == (200, "bifrost", reason), "{reason}: {is:?}");
        let query = RecordQuery { user: Some(user), ..RecordQuery::default() };
        let record = control.wait_for(&query, 1, Duration::from_secs(5)).await?.pop().context("no record")?;
        let (sent_key, sent_model) = (record.key.as_deref(), record.model.as_deref());
        ensure!(sent_key == Some(key) && sent_model == Some("gpt-4o-mini"), "{reason}: {sent_model:?}");
        // A request is counted when its answer has ended, which its client may see first.
        wait::wait_until(&format!("{reason} to be counted"), SEEN, || async {
            let now = counted(context, reason).await?;
            ensure!(now == before + 1, "{now} after {before}");
            Ok(true)
        })
        .await?;
    }
    println!("  requests that are not eligible are served, marked with the reason and counted apart");
    Ok(())
}

/// Requests of the bifrost arm with this reason, as all pods together have counted them.
async fn counted(context: &Context, reason: &str) -> Result<u64> {
    let labels = format!("{{front=\"openai\",arm=\"bifrost\",reason=\"{reason}\"}} ");
    let mut sum = 0;
    for url in gateway::pod_urls(context, REPLICAS).await? {
        let metrics = curl::inside(context, &[&format!("{url}/metrics")]).await?.ok()?;
        let mut values = metrics.lines().filter_map(|line| line.strip_prefix("bifrost_arm_requests_total"));
        let value = values.find_map(|rest| rest.strip_prefix(&labels)).unwrap_or("0");
        sum += value.trim().parse::<u64>().with_context(|| value.to_owned())?;
    }
    Ok(sum)
}
