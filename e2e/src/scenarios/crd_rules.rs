//! The cases of `crds/tests/cel` against a real API server: what it accepts, what it refuses, and with which words; and the resources
//! that README and examples show.

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams},
    core::Status,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    paths, run,
    scenarios::{Context, Scenario},
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "crd-rules",
    "Every rule of the resources accepts what it should and refuses the rest with its message and field",
    |context| run(context).boxed(),
);

const CASES: &str = "crds/tests/cel";
const DOCUMENTS: [&str; 10] = [
    "README.md",
    "examples/openai-and-anthropic.yaml",
    "examples/rollouts/blue-green.yaml",
    "examples/rollouts/canary.yaml",
    "examples/strategies/blue-green.yaml",
    "examples/strategies/canary-analysis.yaml",
    "examples/strategies/canary-percent.yaml",
    "examples/strategies/canary-steps.yaml",
    "examples/strategies/drop-in.yaml",
    "examples/strategies/gradual.yaml",
];

/// One behaviour; see the folder's README.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    accepted: Vec<Value>,
    #[serde(default)]
    rejected: Vec<Rejected>,
    #[serde(default)]
    updates: Vec<Update>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rejected {
    manifest: Value,
    field: String,
    message: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    from: Value,
    to: Value,
    field: Option<String>,
    message: Option<String>,
}

async fn run(context: &Context) -> Result<()> {
    // The operator would act on objects that are there for a moment only.
    let mut checks = 0;
    for case in cases()? {
        let name = case.name.clone();
        checks += one(context, case).await.with_context(|| format!("case {name:?}"))?;
    }
    println!("  {checks} checks");
    ensure!(checks >= 150, "only {checks} checks were found in {CASES}");
    let mut shown = 0;
    for file in DOCUMENTS {
        for manifest in shown_in(file)? {
            let (list, namespace) = (manifest.to_string(), &context.namespace);
            let args = ["create", "--dry-run=server", "--validate=strict", "--namespace", namespace, "--filename", "-"];
            run::stdout_with_input(&mut context.access.kubectl_command(args), list.as_bytes())
                .await
                .with_context(|| format!("{file} shows what is refused: {manifest}"))?;
            shown += 1;
        }
    }
    println!("  {shown} resources that {} show are accepted", DOCUMENTS.join(", "));
    ensure!(shown >= 20, "only {shown} resources were found in {DOCUMENTS:?}");
    Ok(())
}

/// The resources of this project's kinds in a YAML file, or in the YAML of a Markdown file, without their namespaces.
fn shown_in(file: &str) -> Result<Vec<Value>> {
    let text = crate::files::read(&paths::checkout()?.join(file))?;
    let blocks: Vec<&str> = match file.ends_with(".md") {
        true => text.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next()).collect(),
        false => vec![&text],
    };
    let mut found = Vec::new();
    for block in blocks {
        for document in serde_yaml_ng::Deserializer::from_str(block) {
            let mut manifest = Value::deserialize(document).with_context(|| format!("{file}: {block}"))?;
            if manifest["apiVersion"] == "bifrost.dev/v1alpha1" {
                manifest["metadata"].as_object_mut().map(|metadata| metadata.remove("namespace"));
                found.push(manifest);
            }
        }
    }
    Ok(found)
}

fn cases() -> Result<Vec<Case>> {
    let folder = paths::checkout()?.join(CASES);
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = crate::files::read(&path)?;
            for document in serde_yaml_ng::Deserializer::from_str(&text) {
                cases.push(Case::deserialize(document).with_context(|| path.display().to_string())?);
            }
        }
    }
    Ok(cases)
}

async fn one(context: &Context, case: Case) -> Result<usize> {
    let checks = case.accepted.len() + case.rejected.len() + case.updates.len();
    let try_only = PostParams { dry_run: true, ..PostParams::default() };
    for manifest in case.accepted {
        let (api, object) = object(context, &manifest)?;
        api.create(&try_only, &object).await.with_context(|| format!("refused: {manifest}"))?;
    }
    for Rejected { manifest, field, message } in case.rejected {
        let (api, object) = object(context, &manifest)?;
        refused(api.create(&try_only, &object).await, &field, &message).with_context(|| manifest.to_string())?;
    }
    for Update { from, to, field, message } in case.updates {
        let (api, before) = object(context, &from)?;
        let created = api.create(&PostParams::default(), &before).await.with_context(|| format!("refused: {from}"))?;
        let name = created.metadata.name.clone().context("no name")?;
        let outcome = update(&api, &name, &to, field.as_deref().zip(message.as_deref())).await;
        api.delete(&name, &DeleteParams::default()).await?;
        outcome.with_context(|| format!("{from} → {to}"))?;
    }
    Ok(checks)
}

/// Replaces an object; again when the operator has written its status meanwhile.
async fn update(api: &Api<DynamicObject>, name: &str, to: &Value, refusal: Option<(&str, &str)>) -> Result<()> {
    loop {
        let mut after: DynamicObject = serde_json::from_value(to.clone())?;
        after.metadata.resource_version = api.get(name).await?.metadata.resource_version;
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let outcome = api.replace(name, &params, &after).await;
        if matches!(&outcome, Err(kube::Error::Api(status)) if status.code == 409) {
            continue;
        }
        return match refusal {
            None => outcome.map(drop).context("refused"),
            Some((field, message)) => refused(outcome, field, message),
        };
    }
}

fn object(context: &Context, manifest: &Value) -> Result<(Api<DynamicObject>, DynamicObject)> {
    let object: DynamicObject = serde_json::from_value(manifest.clone())?;
    let kind = object.types.as_ref().map(|types| types.kind.clone()).context("no kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("bifrost.dev", "v1alpha1", &kind));
    Ok((Api::namespaced_with(context.client.clone(), &context.namespace, &resource), object))
}

/// Whether it was refused for this field with these words.
fn refused<T>(outcome: kube::Result<T>, field: &str, message: &str) -> Result<()> {
    let status: Box<Status> = match outcome {
        Ok(_) => anyhow::bail!("accepted, though {field} should be refused: {message}"),
        Err(kube::Error::Api(status)) => status,
        Err(error) => return Err(error.into()),
    };
    let causes = status.details.as_ref().map(|details| details.causes.clone()).unwrap_or_default();
    let wanted = |cause_field: &str| match field {
        "" => cause_field.is_empty() || cause_field == "<nil>",
        field => cause_field == field,
    };
    ensure!(
        status.code == 422 && causes.iter().any(|cause| wanted(&cause.field) && cause.message.contains(message)),
        "expected {field}: {message:?}, and the API server says {}",
        status.message
    );
    Ok(())
}
