//! A minimal gateway: one resource and a key a vendor, and both SDKs work with the base URL changed and nothing else.

use anyhow::{Result, ensure};
use futures::FutureExt;
use serde_json::Value;

use super::{
    gateway::{self, NAME, OBJECT},
    load, objects,
};
use crate::{
    clients::{JavaScript, Python},
    deploy::Vendors,
    run,
    scenarios::{Context, Scenario},
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "gateway-drop-in",
    "A minimal gateway owns its objects and serves both SDKs, plain and streamed, through its Service's name",
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
