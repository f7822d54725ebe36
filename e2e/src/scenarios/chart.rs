//! The chart: linted and rendered with every set of values that it is meant for, and refused where values are wrong.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;

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

async fn run(context: &Context) -> Result<()> {
    let chart = paths::checkout()?.join("helm/bifrost");
    let path = chart.display().to_string();
    let good = values(&chart.join("ci"))?;
    for file in &good {
        let file = file.display().to_string();
        context.access.helm(["lint", "--strict", &path, "--values", &file]).await?;
        let rendered = context
            .access
            .helm(["template", "bifrost", &path, "--namespace", "bifrost-system", "--values", &file])
            .await?;
        ensure!(rendered.contains("kind: Deployment"), "{file} renders no Deployment");
    }
    let bad = values(&chart.join("ci/refused"))?;
    for file in &bad {
        let file = file.display().to_string();
        let rendered = context.access.helm(["template", "bifrost", &path, "--values", &file]).await;
        ensure!(rendered.is_err(), "{file} is accepted");
    }
    ensure!(good.len() >= 3 && !bad.is_empty(), "the chart's ci values are missing");
    println!("  {} sets of values render, {} are refused", good.len(), bad.len());
    Ok(())
}

fn values(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect())
}
