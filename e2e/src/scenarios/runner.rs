//! Runs scenarios one after another, each in a namespace of its own, and says how each ended.

use std::{panic::AssertUnwindSafe, time::Instant};

use anyhow::{Context as _, Result, anyhow};
use futures::FutureExt;

use crate::{
    progress::{self, Step},
    scenarios::{Context, Scenario, Stage, Summary, report},
    target::Target,
};

/// Runs them all; `keep` leaves their namespaces.
pub async fn run(target: &Target, stage: &Stage, scenarios: &[Scenario], keep: bool) -> Result<Summary> {
    let mut summary = Summary::default();
    for scenario in scenarios {
        if scenario.embedded_only && target.embedded().is_none() {
            println!("SKIP {} (needs the embedded cluster)", scenario.name);
            continue;
        }
        let step = Step::start(scenario.name);
        let context = open(target, stage, scenario).await?;
        let started = Instant::now();
        let outcome = run_one(scenario, &context).await;
        let took = progress::seconds(started.elapsed());
        step.done();
        match outcome {
            Ok(()) => {
                println!("PASS {} ({took})", scenario.name);
                summary.passed += 1;
            }
            Err(error) => {
                println!("FAIL {} ({took}): {error:#}", scenario.name);
                recover(target).await;
                report::print(&context.access, &context.namespace).await;
                summary.failed += 1;
            }
        }
        if !keep {
            close(&context).await;
        }
    }
    Ok(summary)
}

async fn open(target: &Target, stage: &Stage, scenario: &Scenario) -> Result<Context> {
    let access = target.access()?;
    let namespace = format!("e2e-{}", scenario.name);
    // One that an earlier run left may hold anything.
    access.kubectl(["delete", "namespace", &namespace, "--ignore-not-found"]).await?;
    access.kubectl(["create", "namespace", &namespace]).await?;
    Ok(Context { target: target.clone(), client: access.client().await?, access, namespace, stage: stage.clone() })
}

/// A scenario that failed while the API server was stopped must not take the following ones with it.
async fn recover(target: &Target) {
    let Some(cluster) = target.embedded() else { return };
    if cluster.check_health().await.is_err()
        && let Err(error) = cluster.start_api_server().await
    {
        progress::line(&format!("the API server does not come back: {error:#}"));
    }
}

/// Nobody waits for the end of the namespace.
async fn close(context: &Context) {
    let delete = ["delete", "namespace", &context.namespace, "--ignore-not-found", "--wait=false"];
    if let Err(error) = context.access.kubectl(delete).await {
        progress::line(&format!("cannot delete the namespace {}: {error:#}", context.namespace));
    }
}

async fn run_one(scenario: &Scenario, context: &Context) -> Result<()> {
    let running = AssertUnwindSafe((scenario.run)(context)).catch_unwind();
    match tokio::time::timeout(scenario.limit, running).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(anyhow!("{}", panic_text(panic.as_ref()))),
        Err(elapsed) => Err(elapsed).with_context(|| format!("took longer than {} s", scenario.limit.as_secs())),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned()
}
