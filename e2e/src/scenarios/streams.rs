//! Streams that are open while something happens, by the vendors' SDKs: none of them may be cut.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bifrost_fake_provider::{Control, RecordQuery};
use futures::future::try_join_all;
use serde_json::json;

use super::load::{self, Load, Sdk};
use crate::{scenarios::Context, wait};

/// Streams of one client: language, API, model and number. Nothing else asks for their models.
pub(super) type Group = (Sdk, &'static str, &'static str, usize);

/// Fifty, of both languages and three APIs.
pub(super) const FIFTY: &[Group] = &[
    (Sdk::Python, "chat", "gpt-4o", 15),
    (Sdk::Python, "messages", "claude-3-opus-20240229", 15),
    (Sdk::JavaScript, "responses", "gpt-4o", 10),
    (Sdk::JavaScript, "messages", "claude-3-opus-20240229", 10),
];
/// Twenty more, for what begins later.
pub(super) const TWENTY: &[Group] = &[(Sdk::Python, "chat", "gpt-4.1", 20)];

/// Longer than whatever they are open for; they [`end`] when that is over.
pub(super) const LONG: Duration = Duration::from_secs(240);
/// Between two events of a stream. To read what is left of a long one at once takes its client the longer the more there are.
const GAP: Duration = Duration::from_secs(1);
/// How long it may take until all are open: the SDKs are loaded first.
const OPENED: Duration = Duration::from_secs(60);

/// Opens the streams, all at once, and reads each to its end, at the latest after `length`. Fails if one is cut.
pub(super) async fn run(context: &Context, groups: &[Group], length: Duration) -> Result<Load> {
    let script = json!({"chunks": length.div_duration_f64(GAP).ceil() as u64, "gap_ms": GAP.as_millis()});
    let prompt = format!("[[fake {script}]]");
    let of = async |(sdk, api, model, count): &Group| {
        let count = count.to_string();
        let all = ["--stream", "--requests", &count, "--concurrency", &count, "--users", "fixed"];
        let args = [&all[..], &["--api", api, "--model", model, "--prompt", &prompt]].concat();
        let load = load::send_with(context, *sdk, &args).await?;
        load.all_served().with_context(|| format!("streams of {api} by {sdk:?}"))?;
        anyhow::Ok(load)
    };
    let loads = try_join_all(groups.iter().map(of)).await?;
    let all = loads.into_iter().fold(Load::default(), Load::and);
    println!(
        "  {} streams of {:.0} s: none cut ({} bifrost, {} baseline)",
        all.requests, all.seconds, all.arms.bifrost, all.arms.baseline
    );
    Ok(all)
}

/// Waits until all of them are open.
pub(super) async fn all_open(control: &Control, groups: &[Group]) -> Result<()> {
    wait::wait_until("all streams to be open", OPENED, || async {
        let (open, all) = (open(control, groups).await?, count(groups));
        ensure!(open == all, "{open} of {all} are open");
        Ok(true)
    })
    .await
}

/// Has those that are open come to their end: what they were open for is over. Fails unless all of them are.
pub(super) async fn end(control: &Control, groups: &[Group]) -> Result<()> {
    let (open, all) = (open(control, groups).await?, count(groups));
    ensure!(open == all, "only {open} streams of {all} were open to the end");
    for model in models(groups) {
        control.hurry(model).await?;
    }
    Ok(())
}

/// How many of them are open.
pub(super) async fn open(control: &Control, groups: &[Group]) -> Result<usize> {
    let mut open = 0;
    for model in models(groups) {
        let query = RecordQuery { model: Some(model.to_owned()), ..RecordQuery::default() };
        let records = control.records(&query).await?;
        open += records.iter().filter(|one| one.streamed && one.status == 200 && one.ended.is_none()).count();
    }
    Ok(open)
}

fn models(groups: &[Group]) -> BTreeSet<&'static str> {
    groups.iter().map(|(_, _, model, _)| *model).collect()
}

/// How many they are.
pub(super) fn count(groups: &[Group]) -> usize {
    groups.iter().map(|(.., count)| count).sum()
}
