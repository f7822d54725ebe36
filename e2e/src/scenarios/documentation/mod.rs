//! The documentation, tried: every command of a page is run, and every manifest of it is one.

#[cfg(test)]
mod commands;
mod manifests;
pub(super) mod page;
mod reader;
mod rollouts;
mod strategies;

use anyhow::Result;
use futures::FutureExt;

use self::page::{Page, page};
pub(super) use self::reader::{Line, Reader};
use crate::scenarios::{Context, Scenario};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "docs-commands",
    "README and docs: each command that they show does what they say, each manifest is valid",
    |context| run(context).boxed(),
)
.embedded_only();

/// What is tried.
const PAGES: &[Page] = &[
    page!("README.md"),
    page!("docs/analysis.md"),
    page!("docs/canary-story.md"),
    page!("docs/common-issues.md"),
    page!("docs/rollouts.md"),
    page!("docs/shadow.md"),
    page!("docs/strategies/README.md"),
    page!("docs/strategies/drop-in.md"),
    page!("docs/strategies/gradual.md"),
    page!("docs/strategies/canary.md"),
    page!("docs/strategies/blue-green.md"),
];

/// In this order on one gateway.
const STORY: &[&[Line]] = &[
    VALID,
    strategies::DROP_IN,
    strategies::CANARY,
    strategies::STEPS,
    strategies::ANALYSIS,
    strategies::GRADUAL,
    strategies::BLUE_GREEN,
    strategies::SHADOW,
    rollouts::ROLLOUTS,
    rollouts::README,
];

/// Before there is anything: all manifests are new ones then.
const VALID: &[Line] = &[
    Line::Own("kubectl apply --dry-run=server --recursive -f as-written", "created (server dry run)"),
    Line::Own(
        r#"for file in $(grep -rlE 'kind: (BifrostGateway|ProviderKey)' as-written); do kubectl bifrost lint -f "$file" || exit 1; done; echo all are good"#,
        "all are good",
    ),
];

async fn run(context: &Context) -> Result<()> {
    let mut reader = Reader::new(context).await?;
    let mut manifests = 0;
    for page in PAGES.iter().chain(manifests::EXAMPLES) {
        for (index, block) in page.yaml().iter().enumerate() {
            let text = manifests::text(&manifests::whole(block)?)?;
            reader.write(&format!("as-written/{}-{index}.yaml", page.path), &text)?;
            reader.write(&format!("{}-{index}.yaml", page.path), &manifests::for_fake_vendors(&text)?)?;
            manifests += 1;
        }
    }
    println!("  {manifests} manifests");
    for part in STORY {
        reader.follow(part).await?;
    }
    reader.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_of_yaml_is_known() {
        for page in PAGES.iter().chain(manifests::EXAMPLES) {
            for block in page.yaml() {
                let whole = manifests::whole(&block).unwrap();
                assert!(!whole.is_empty() && whole.iter().all(|one| one["kind"].is_string()), "{}: {block}", page.path);
                manifests::for_fake_vendors(&manifests::text(&whole).unwrap()).unwrap();
            }
        }
    }
}
