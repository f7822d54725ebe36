//! `canaryPercent: 10`: which share of requests takes which arm, what each arm carries, and what is not split at all.

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, Record, RecordQuery};
use futures::FutureExt;
use serde_json::{Value, json};
use std::time::Duration;

use super::gateway::{self, APP_OPENAI, POOL_OPENAI};
use crate::{
    deploy::Vendors,
    run,
    scenarios::{Context, Scenario},
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "canary-split",
    "At canaryPercent 10 a tenth of the users, and of requests without a user, takes the bifrost arm",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(600));

const REQUESTS: &str = "10000";

async fn run(context: &Context) -> Result<()> {
    let second = json!({"name": "second", "type": "OpenAI", "baseURL": "https://openai.vendors.svc"});
    context.stage.vendors.trust_in(&context.target, &context.namespace).await?;
    gateway::apply_all(context, gateway::key("second", "second", "sk-pool-second-0123456789")).await?;
    gateway::create_with(context, 3, json!({"strategy": "Canary", "canaryPercent": 10}), vec![second]).await?;
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;

    let users = gateway::load(context, &["--requests", REQUESTS, "--users", "fixed"]).await?;
    users.all_served()?;
    println!(
        "  {} users: {:.2} % bifrost ({:.0} requests/s)",
        users.requests,
        users.bifrost_percent(),
        users.requests as f64 / users.seconds
    );
    ensure!((users.bifrost_percent() - 10.0).abs() <= 1.0, "the share of users is {:.2} %", users.bifrost_percent());
    let counts = control.counts().await?;
    ensure!(
        counts.sum(|c| c.key.as_deref() == Some(POOL_OPENAI)) == users.arms.bifrost,
        "bifrost requests do not carry the pool's key"
    );
    ensure!(
        counts.sum(|c| c.key.as_deref() == Some(APP_OPENAI)) == users.arms.baseline,
        "baseline requests do not carry the caller's key"
    );

    let anonymous = gateway::load(context, &["--requests", REQUESTS]).await?;
    anonymous.all_served()?;
    println!(
        "  {} requests of one client without a user: {:.2} % bifrost",
        anonymous.requests,
        anonymous.bifrost_percent()
    );
    ensure!(
        (anonymous.bifrost_percent() - 10.0).abs() <= 1.5,
        "the share of requests is {:.2} %",
        anonymous.bifrost_percent()
    );

    what_each_arm_carries(context, &control).await?;
    what_is_not_eligible(context, &control).await
}

fn body(model: &str, user: &str) -> String {
    format!(
        "{{ \"model\":\"{model}\" , \"user\":\"{user}\",\n\"temperature\":1.0e0,\"messages\":[{{\"role\":\"user\",\"content\":\"caf\\u00e9\"}}]}}"
    )
}

async fn what_each_arm_carries(context: &Context, control: &Control) -> Result<()> {
    let mut seen = (false, false);
    for number in 0..200 {
        let user = format!("carry-{number}");
        let text = body("gpt-4o-mini", &user);
        let sent = gateway::curl(context, &gateway::url(context), &text, true).await?;
        ensure!(sent.status == "200" && sent.reason == "canary", "{} {}", sent.status, sent.reason);
        let query = RecordQuery { user: Some(user), ..RecordQuery::default() };
        let record = control.wait_for(&query, 1, Duration::from_secs(5)).await?.pop().context("no record")?;
        ensure!(
            record.path == "/v1/chat/completions" && record.query.as_deref() == Some("trace=1"),
            "{} {:?}",
            record.path,
            record.query
        );
        ensure!(record.body == text, "other bytes arrived than were sent");
        ensure!(record.header("x-bf-secret").is_none() && record.host == "openai.vendors.svc", "{}", record.host);
        match sent.arm.as_str() {
            "baseline" => baseline_carries(&record).map(|()| seen.0 = true)?,
            "bifrost" => bifrost_carries(&record).map(|()| seen.1 = true)?,
            other => anyhow::bail!("the arm {other:?}"),
        }
        if seen == (true, true) {
            println!(
                "  baseline carries the caller's credential and bytes, bifrost the pool's key and nothing of the caller's"
            );
            return Ok(());
        }
    }
    anyhow::bail!("200 users and not both arms")
}

fn baseline_carries(record: &Record) -> Result<()> {
    ensure!(
        record.key.as_deref() == Some(APP_OPENAI) && record.header("cookie") == Some("a=b"),
        "the baseline arm changed headers"
    );
    Ok(())
}

fn bifrost_carries(record: &Record) -> Result<()> {
    ensure!(
        record.key.as_deref() == Some(POOL_OPENAI) && record.header("cookie").is_none(),
        "the bifrost arm carries the caller's"
    );
    let carries = record.headers.iter().any(|(_, value)| value.contains(APP_OPENAI));
    ensure!(!carries && record.header("openai-beta") == Some("x=y"), "the bifrost arm's headers are wrong");
    Ok(())
}

async fn what_is_not_eligible(context: &Context, control: &Control) -> Result<()> {
    for (model, credential, reason, key) in [
        ("gpt-4o-mini", false, "no_credential", POOL_OPENAI),
        ("second/gpt-4o-mini", true, "other_provider", "sk-pool-second-0123456789"),
    ] {
        let user = format!("ineligible-{reason}");
        let sent = gateway::curl(context, &gateway::url(context), &body(model, &user), credential).await?;
        ensure!(
            sent.status == "200" && sent.arm == "bifrost" && sent.reason == reason,
            "{reason}: {} {} {}",
            sent.status,
            sent.arm,
            sent.reason
        );
        let query = RecordQuery { user: Some(user), ..RecordQuery::default() };
        let record = control.wait_for(&query, 1, Duration::from_secs(5)).await?.pop().context("no record")?;
        ensure!(
            record.key.as_deref() == Some(key) && record.model.as_deref() == Some("gpt-4o-mini"),
            "{reason}: {:?}",
            record.model
        );
    }
    let metrics = run::stdout_of(context.embedded()?.command_inside("curl").args([
        "--silent",
        "--fail",
        &format!("{}/metrics", gateway::url(context)),
    ]))
    .await?;
    ensure!(metrics.contains("bifrost_requests_total{") && metrics.contains("arm=\"baseline\""), "{metrics}");
    println!("  requests that are not eligible are served, marked with the reason and counted apart");
    let status: Value =
        serde_json::from_str(&context.kubectl(&["get", "bifrostgateway", gateway::NAME, "--output=json"]).await?)?;
    ensure!(status["status"]["traffic"]["wantedPercent"] == 10, "{}", status["status"]);
    Ok(())
}
