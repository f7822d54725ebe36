//! Runs scenarios one after another, each in a namespace of its own, and says how each ended.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use crate::{
    deploy::{Operator, RESTRICTED, Vendors, Watch},
    progress::{self, Step},
    scenarios::{Context, Scenario, Stage, Summary, operator, report},
    target::Target,
    wait,
};

/// How long pods of an earlier scenario may take to go. They have no more work; what is left of them then only disturbs.
const GONE: Duration = Duration::from_secs(60);

/// Runs them all; `keep` leaves their namespaces.
pub async fn run(target: &Target, stage: &Stage, scenarios: &[Scenario], keep: bool) -> Summary {
    let mut summary = Summary::default();
    let mut closed = Vec::new();
    for scenario in scenarios {
        if scenario.embedded_only && target.embedded().is_none() {
            println!("SKIP {} (needs the embedded cluster)", scenario.name);
            summary.skipped += 1;
            continue;
        }
        let step = Step::start(scenario.name);
        let mut started = Instant::now();
        let opened = open(target, stage, scenario, &closed).await;
        let outcome = match &opened {
            Ok(context) => {
                started = Instant::now();
                run_and_search(scenario, context).await
            }
            Err(error) => Err(anyhow!("{error:#}")),
        };
        let took = progress::seconds(started.elapsed());
        step.done();
        match outcome {
            Ok(()) => {
                println!("PASS {} ({took})", scenario.name);
                summary.passed += 1;
            }
            Err(error) => {
                println!("FAIL {} ({took}): {error:#}", scenario.name);
                summary.failed += 1;
                after_failure(target, stage, opened.as_ref().ok()).await;
            }
        }
        if let (Ok(context), false) = (&opened, keep) {
            close(context).await;
            closed.push(context.namespace.clone());
        }
    }
    println!("{}", stage.leaks.totals());
    summary
}

async fn open(target: &Target, stage: &Stage, scenario: &Scenario, closed: &[String]) -> Result<Context> {
    let access = target.access()?;
    let namespace = format!("e2e-{}", scenario.name);
    // One that an earlier run left may hold anything.
    access.kubectl(["delete", "namespace", &namespace, "--ignore-not-found"]).await?;
    let labels = json!({RESTRICTED.0: RESTRICTED.1});
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
    access.apply(None, &object.to_string()).await?;
    let client = access.client().await?;
    if let Err(error) = emptied(&client, closed).await {
        progress::line(&format!("{error:#}"));
    }
    // What an earlier scenario told the vendors to do is over.
    let (_port, control) = Vendors::control(target).await?;
    control.reset_all().await?;
    Ok(Context { target: target.clone(), client, access, namespace, stage: stage.clone() })
}

/// Waits until the pods of earlier scenarios are gone: their end would take time from what is measured next.
async fn emptied(client: &kube::Client, closed: &[String]) -> Result<()> {
    wait::wait_until("the end of earlier pods", GONE, || async {
        let all = Api::<Pod>::all(client.clone()).list_metadata(&ListParams::default()).await?.items;
        let of_closed = |pod: &&kube::api::PartialObjectMeta<Pod>| {
            pod.metadata.namespace.as_ref().is_some_and(|namespace| closed.contains(namespace))
        };
        let left = all.iter().filter(of_closed).count();
        ensure!(left == 0, "{left} are left");
        Ok(true)
    })
    .await
}

/// A scenario is only over when what it leaves was searched: its namespace goes next.
async fn run_and_search(scenario: &Scenario, context: &Context) -> Result<()> {
    run_one(scenario, context).await?;
    context.stage.leaks.search(context).await
}

/// Shows what happened and makes the stage whole: a scenario that failed must not take the following ones with it.
async fn after_failure(target: &Target, stage: &Stage, context: Option<&Context>) {
    if let Some(cluster) = target.embedded()
        && cluster.check_health().await.is_err()
        && let Err(error) = cluster.start_api_server().await
    {
        progress::line(&format!("the API server does not come back: {error:#}"));
    }
    let Some(context) = context else { return };
    report::print(&context.access, &context.namespace).await;
    if let Err(error) = context.stage.leaks.search(context).await {
        println!("{error:#}");
    }
    let restored = async {
        Operator::install(target, &stage.images, Watch::Cluster).await?;
        operator::scale(context, 1).await
    };
    if let Err(error) = restored.await {
        progress::line(&format!("the operator does not come back: {error:#}"));
    }
}

/// Nobody waits for the end of the namespace; its pods have nothing to finish.
async fn close(context: &Context) {
    let delete = ["delete", "namespace", &context.namespace, "--ignore-not-found", "--wait=false"];
    if let Err(error) = context.access.kubectl(delete).await {
        progress::line(&format!("cannot delete the namespace {}: {error:#}", context.namespace));
    }
    let at_once = DeleteParams::default().grace_period(1);
    if let Err(error) = context.api::<Pod>().delete_collection(&at_once, &ListParams::default()).await {
        progress::line(&format!("cannot delete the pods of {}: {error}", context.namespace));
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
