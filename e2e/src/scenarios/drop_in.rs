//! A minimal gateway: one resource and a key a vendor, and both SDKs work with the base URL changed and nothing else.

use anyhow::{Result, ensure};
use futures::FutureExt;
use serde_json::Value;

use super::gateway::{self, NAME};
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

/// Every object of a gateway, and the kind it has.
const OWNED: &[(&str, &str)] = &[
    ("deployment", ""),
    ("service", ""),
    ("configmap", "-bifrost"),
    ("configmap", "-bifrost-env"),
    ("configmap", "-bifrost-env-direct"),
    ("secret", "-bifrost-keys"),
    ("serviceaccount", "-bifrost"),
    ("role", "-bifrost"),
    ("rolebinding", "-bifrost"),
    ("poddisruptionbudget", "-bifrost"),
    ("networkpolicy", "-bifrost"),
];

async fn run(context: &Context) -> Result<()> {
    gateway::create(context, 1, Value::Null).await?;
    owned_objects(context).await?;
    let (_port, control) = Vendors::control(&context.target).await?;
    control.reset_all().await?;
    for script in [Python::install().await?.script("smoke.py"), JavaScript::install().await?.script("smoke.mjs")] {
        let output = run::output_of(&mut gateway::sdk(context, &script)?).await?;
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
    let uid = context.kubectl(&["get", "bifrostgateway", NAME, "--output=jsonpath={.metadata.uid}"]).await?;
    for (kind, suffix) in OWNED {
        let name = format!("{NAME}{suffix}");
        let object: Value = serde_json::from_str(&context.kubectl(&["get", kind, &name, "--output=json"]).await?)?;
        let owner = &object["metadata"]["ownerReferences"][0];
        ensure!(owner["uid"] == uid.as_str() && owner["controller"] == true, "{kind} {name} has the owner {owner}");
    }
    println!("  {} objects exist, each with its owner reference", OWNED.len());
    Ok(())
}
