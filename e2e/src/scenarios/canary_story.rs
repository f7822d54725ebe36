//! The guide's canary story from the first command to the last, as the documentation shows it: every command in it is run here.
//!
//! With `BIFROST_RECORD=FILE` what was typed and printed is written there, for the documentation.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use serde_json::json;

use super::{
    documentation::page::{Page, page},
    gateway, load,
    shell::Shell,
};
use crate::scenarios::{Context, Scenario};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "canary-story",
    "1 → 5 → 25 → 50 → 100 with holds; a wrong key at 25, the way back, the repair, the rest: docs/canary-story.md",
    |context| run(context).boxed(),
)
.embedded_only()
.limit(Duration::from_secs(900));

/// It has one manifest, which is applied here.
const PAGE: Page = page!("docs/canary-story.md");

/// A line of the story.
enum Line {
    /// A command that succeeds.
    Do(&'static str),
    /// A command that is refused.
    Refused(&'static str),
    /// What no page says, as people type slowly enough: a command that comes to print this.
    Until(&'static str, &'static str),
}
use Line::{Do, Refused, Until};

const STORY: &[Line] = &[
    Do("kubectl bifrost lint -f gateway.yaml"),
    Do("kubectl apply -f gateway.yaml"),
    Do("kubectl wait bgw/ai --for=jsonpath='{.status.migration.step}'=1/5 --timeout=2m"),
    Do("kubectl bifrost status ai"),
    Do("kubectl wait bgw/ai --for=jsonpath='{.status.migration.step}'=3/5 --timeout=5m"),
    Do("kubectl wait bgw/ai --for=jsonpath='{.status.analysis.verdict}'=Pass --timeout=2m"),
    Do("kubectl bifrost analysis ai"),
    // Somebody rotates the pool's key to a wrong value. The applications' own keys are fine.
    Do("kubectl patch secret openai-key -p '{\"stringData\":{\"value\":\"a-wrong-key-0123456789\"}}'"),
    Do("kubectl wait bgw/ai --for=jsonpath='{.status.migration.phase}'=RolledBack --timeout=2m"),
    Do("kubectl bifrost status ai"),
    Refused("kubectl bifrost promote ai"),
    Do("kubectl get bgw ai"),
    Do("kubectl patch secret openai-key -p '{\"stringData\":{\"value\":\"sk-pool-openai-0123456789\"}}'"),
    // Who tries again before pods have the right key fails again.
    Until("kubectl bifrost test ai", "every check passed"),
    Do("kubectl bifrost retry ai"),
    Do("kubectl wait bgw/ai --for=jsonpath='{.status.migration.step}'=4/5 --timeout=5m"),
    Do("kubectl wait bgw/ai --for=jsonpath='{.status.migration.phase}'=Paused --timeout=5m"),
    Do("kubectl bifrost promote ai"),
    Do("kubectl wait bgw/ai --for=jsonpath='{.status.migration.phase}'=Completed --timeout=5m"),
    Do("kubectl bifrost status ai"),
    Do(
        "kubectl get events --field-selector involvedObject.name=ai,reason!=ConfigApplied -o custom-columns=REASON:.reason,NOTE:.message",
    ),
];

async fn run(context: &Context) -> Result<()> {
    // The application runs before there is anything to migrate to; here the gateway passes everything on.
    gateway::create(context, 2, json!({"strategy": "Canary", "canaryPercent": 0})).await?;
    let mut shell = Shell::open(context).await?;
    let manifest = PAGE.yaml().pop().context("a story without a manifest")?;
    shell.write("gateway.yaml", &manifest)?;
    let (_, load) = load::amid(context, &["--concurrency", "12"], tell(&mut shell)).await?;
    if let Some(file) = std::env::var_os("BIFROST_RECORD") {
        std::fs::write(&file, format!("# gateway.yaml\n{manifest}\n{}", shell.transcript()))
            .context("cannot record")?;
    }
    println!("  {} requests, {} of them failed, between the wrong key and the way back", load.requests, load.failures);
    ensure!(load.failures * 20 < load.requests, "{} of {} requests failed", load.failures, load.requests);
    Ok(())
}

async fn tell(shell: &mut Shell) -> Result<()> {
    for line in STORY {
        match line {
            Do(command) => shell.run(command).await?,
            Refused(command) => shell.refused(command).await?,
            Until(command, word) => shell.comes_to_say(command, &[*word]).await?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_shows_these_commands_and_no_others() {
        let shown: Vec<_> = PAGE.text.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
        let of_page = |line: &Line| match line {
            Do(command) | Refused(command) => Some(*command),
            Until(..) => None,
        };
        let told: Vec<_> = STORY.iter().filter_map(of_page).collect();
        assert_eq!(shown, told);
        assert_eq!(PAGE.yaml().len(), 1);
    }
}
