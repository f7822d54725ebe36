//! A minimal gateway: one resource and a key a vendor, and both SDKs work with the base URL changed and nothing else.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{
    gateway::{self, NAME, OBJECT},
    load, migration, objects,
};
use crate::{
    clients::{JavaScript, Python},
    deploy::Vendors,
    run,
    scenarios::{Context, Scenario},
    wait,
};

/// How long a share may take to be confirmed; nobody measures it here.
const LIMIT: Duration = Duration::from_secs(60);

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "gateway-drop-in",
    "A minimal gateway owns its objects and serves both SDKs, plain and streamed, through its Service's name; an abort lasts",
    |context| run(context).boxed(),
)
.embedded_only();

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, 1, Value::Null).await?;
    owned_objects(context).await?;
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;
    for script in [Python::install().await?.script("smoke.py"), JavaScript::install().await?.script("smoke.mjs")] {
        let output = run::output_of(&mut load::sdk(context, &script)?).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_str(text.trim())?;
        let results = report["results"].as_array().cloned().unwrap_or_default();
        ensure!(results.len() >= 10 && results.iter().all(|one| one["arm"] == "bifrost"), "{text}");
        println!("  {}: {} calls, all answered by the bifrost arm", report["language"], results.len());
    }
    let counts = control.counts().await?;
    let foreign =
        counts.sum(|count| !matches!(count.key.as_deref(), Some(gateway::POOL_OPENAI | gateway::POOL_ANTHROPIC)));
    ensure!(counts.total >= 20 && foreign == 0, "{foreign} of {} requests came without a pool key", counts.total);
    aborted(context).await
}

/// What somebody took back stays so whatever else is applied, until somebody asks for it; and the status says what was refused.
async fn aborted(context: &Context) -> Result<()> {
    migration::ask(context, "abort/1").await?;
    migration::reach(context, 0, 1, LIMIT).await?;
    let another = json!({"spec": {"config": {"client": {"maxRequestBody": "45Mi"}}}});
    let generation = objects::merge(context, OBJECT, &another).await?["metadata"]["generation"].clone();
    wait::wait_until("another configuration to be followed", LIMIT, || async {
        let status = migration::seen(context).await?["status"].clone();
        ensure!(status["observedGeneration"] == generation, "{status}");
        Ok(true)
    })
    .await?;
    let back = migration::reach(context, 0, 1, LIMIT).await?;
    ensure!(back["status"]["migration"]["phase"] == "RolledBack", "{}", back["status"]["migration"]);
    for (request, refused) in [("abort/2", false), ("promote/3", true), ("retry/4", false)] {
        let migration = migration::ask(context, request).await?["status"]["migration"].clone();
        ensure!(migration["refusal"].is_string() == refused, "{migration}");
    }
    migration::reach(context, 100, 1, LIMIT).await?;
    println!("  aborted: 0 % over another configuration too, until a retry");
    Ok(())
}

async fn owned_objects(context: &Context) -> Result<()> {
    let gateway = objects::get(context, OBJECT).await?;
    let owned = objects::owned(NAME);
    for name in &owned {
        let object = objects::get(context, name).await?;
        let owner = &object["metadata"]["ownerReferences"][0];
        ensure!(
            owner["uid"] == gateway["metadata"]["uid"] && owner["controller"] == true,
            "{name} has the owner {owner}"
        );
    }
    println!("  {} objects exist, each with its owner reference", owned.len());
    Ok(())
}
