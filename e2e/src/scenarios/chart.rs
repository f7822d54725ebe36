//! The chart: linted and rendered with every set of values that it is meant for, and refused where values are wrong.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use serde_json::Value;

use crate::{
    paths,
    scenarios::{Context, Scenario},
};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "chart",
    "The chart is free of lint, renders with every set of values, and refuses values that are wrong",
    |context| run(context).boxed(),
);

/// A release of its own name: the resource definitions are another's.
const NOTES: [&str; 7] =
    ["install", "notes", "--dry-run=client", "--namespace", "bifrost-notes", "--set", "crds.install=false"];

async fn run(context: &Context) -> Result<()> {
    let chart = paths::checkout()?.join("helm/bifrost");
    let (good, bad) = (values(&chart.join("ci"))?, values(&chart.join("ci/refused"))?);
    let path = chart.display().to_string();
    for file in &good {
        accepted(context, &path, file).await.with_context(|| file.display().to_string())?;
    }
    for file in &bad {
        refused(context, &path, file).await.with_context(|| file.display().to_string())?;
    }
    ensure!(good.len() >= 3 && !bad.is_empty(), "the chart's ci values are missing");
    println!("  {} sets of values render, with their notes; {} are refused by name", good.len(), bad.len());
    Ok(())
}

async fn accepted(context: &Context, chart: &str, values: &Path) -> Result<()> {
    let values = values.display().to_string();
    context.access.helm(["lint", "--strict", chart, "--values", &values]).await?;
    let render = ["template", "bifrost", chart, "--namespace", "bifrost-system", "--values", &values];
    let rendered = context.access.helm(render).await?;
    ensure!(rendered.contains("kind: Deployment"), "it renders no Deployment");
    let printed = context.access.helm(NOTES.into_iter().chain([chart, "--values", &values])).await?;
    let (_, notes) = printed.split_once("NOTES:").context("no notes")?;
    ensure!(notes.contains("serves BifrostGateways"), "{notes}");
    ensure!(!notes.contains("<no value>") && !notes.contains("%!"), "the notes have a hole: {notes}");
    Ok(())
}

/// Fails unless the message names one of the values that the file sets, by its place.
async fn refused(context: &Context, chart: &str, values: &Path) -> Result<()> {
    let file = values.display().to_string();
    let rendered = context.access.helm(["template", "bifrost", chart, "--values", &file]).await;
    let error = rendered.err().context("accepted")?;
    // The command itself is in the first line, and the file's name with it.
    let text = format!("{error:#}");
    let (_, message) = text.split_once('\n').context("no message")?;
    let set: Value = serde_yaml_ng::from_str(&crate::files::read(values)?)?;
    let mut places = Vec::new();
    leaves(&set, &mut Vec::new(), &mut places);
    ensure!(places.iter().any(|place| names(message, place)), "the message names none of its values: {message}");
    Ok(())
}

/// The paths of the values that are set.
fn leaves(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let Some(members) = value.as_object() else { return found.push(path.clone()) };
    for (name, member) in members {
        path.push(name.clone());
        leaves(member, path, found);
        path.pop();
    }
}

/// `at '/watch/namespaces': …`, of a list's entry `at '/watch/namespaces/0': …`, or of a value that there is not: `at '/watch': additional properties 'namespace' …`.
fn names(message: &str, place: &[String]) -> bool {
    let Some((last, above)) = place.split_last() else { return false };
    let at = |path: &[String]| ["'", "/"].iter().any(|end| message.contains(&format!("'/{}{end}", path.join("/"))));
    at(place) || (at(above) && message.contains(&format!("'{last}'")))
}

fn values(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_names_the_place_of_a_value() {
        let mut places = Vec::new();
        leaves(&json!({"watch": {"cluster": true, "namespaces": ["a"]}, "x": 1}), &mut Vec::new(), &mut places);
        assert_eq!(places, [vec!["watch", "cluster"], vec!["watch", "namespaces"], vec!["x"]]);
        assert!(names("- at '/watch/namespaces': maxItems: got 1, want 0", &places[1]));
        assert!(names("- at '/watch': additional properties 'namespaces' not allowed", &places[1]));
        assert!(!names("- at '/watch/namespaces': maxItems: got 1, want 0", &places[2]));
        assert!(names("- at '/watch/namespaces/0': '' does not match", &places[1]));
        assert!(!names("cannot render", &places[0]));
    }
}
