//! `analysis`: what the analysis of the two arms, or of a candidate beside the stable revision, says.
//!
//! Read as the JSON that is there, not through a type: what a newer operator reports is shown, not dropped.

use kube::ResourceExt;
use serde_json::Value;

use crate::cli::AnalysisArgs;
use crate::failure::Failure;
use crate::run::say;
use crate::session::Session;

/// Members that name a check, the first that is there counts.
const NAMES: [&str; 3] = ["name", "type", "check"];
/// Columns that come first, in this order, under their heads.
const FIRST: [(&str, &str); 2] = [("verdict", "VERDICT"), ("provider", "PROVIDER")];
/// Columns that come last, as they are long.
const LAST: [&str; 2] = ["reason", "message"];

/// Where the status has the analysis of the migration, and what it means when there is none.
const MIGRATION: (&str, &str) = (
    "/status/analysis",
    "no analysis is configured, or it has not measured yet: the migration waits for holds and requests only",
);
/// The same of the rollout.
const ROLLOUT: (&str, &str) = (
    "/status/rollout/analysis",
    "no candidate is under way, no spec.rollout.analysis is configured, or it has not measured yet",
);

/// Prints `status.analysis`, or that of the rollout.
pub(crate) async fn run(session: &Session, args: &AnalysisArgs) -> Result<(), Failure> {
    let name = session.gateway(args.gateway.name.as_deref()).await?.name_any();
    let (pointer, none) = if args.rollout { ROLLOUT } else { MIGRATION };
    let object = session.raw(&name).await?;
    match object.data.pointer(pointer).filter(|analysis| !is_empty(analysis)) {
        Some(analysis) => say(&text(analysis)),
        None => say(&format!("{name}: {none}")),
    }
}

fn text(analysis: &Value) -> String {
    let checks = analysis.get("checks").and_then(Value::as_array).or_else(|| analysis.as_array());
    let mut text = String::new();
    for (member, value) in analysis.as_object().into_iter().flatten().filter(|(member, _)| *member != "checks") {
        text.push_str(&format!("{member}: {}\n", cell(Some(value))));
    }
    match checks {
        Some(checks) if !checks.is_empty() => text + &table(checks),
        _ => text + "no checks are reported\n",
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null()
        || value.as_object().is_some_and(serde_json::Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty)
}

/// A row a check; the columns are the members that the checks have.
fn table(checks: &[Value]) -> String {
    let members =
        |check: &Value| check.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let mut between: Vec<_> = checks.iter().flat_map(members).collect();
    between.sort();
    between.dedup();
    let is_special = |name: &String| {
        NAMES.contains(&name.as_str()) || LAST.contains(&name.as_str()) || FIRST.iter().any(|(first, _)| first == name)
    };
    let has = |name: &str| checks.iter().any(|check| check.get(name).is_some());
    let mut columns: Vec<String> = FIRST.iter().map(|(name, _)| (*name).to_owned()).filter(|name| has(name)).collect();
    columns.extend(between.into_iter().filter(|name| !is_special(name)));
    columns.extend(LAST.iter().map(|name| (*name).to_owned()).filter(|name| has(name)));
    let head = std::iter::once("CHECK".to_owned()).chain(columns.iter().map(|name| name.to_uppercase())).collect();
    let row = |check: &Value| {
        let name = NAMES.iter().find_map(|name| check.get(name));
        std::iter::once(cell(name)).chain(columns.iter().map(|column| cell(check.get(column)))).collect()
    };
    crate::table::rows(&std::iter::once(head).chain(checks.iter().map(row)).collect::<Vec<_>>())
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_analysis_is_none() {
        assert!(is_empty(&json!(null)) && is_empty(&json!({})) && !is_empty(&json!({"verdict": "Pass"})));
    }

    fn analysis() -> Value {
        serde_json::to_value(crate::status::tests::gateway().status.unwrap().analysis).unwrap()
    }

    #[test]
    fn checks_are_a_table() {
        insta::assert_snapshot!(text(&analysis()));
    }

    #[test]
    fn what_a_later_operator_may_add_is_shown_as_well() {
        let mut analysis = analysis();
        analysis["checks"][0]["requests"] = json!(812);
        let text = text(&analysis);
        let lines: Vec<Vec<_>> = text.lines().skip(1).map(|line| line.split_whitespace().take(4).collect()).collect();
        assert_eq!(lines[0], ["CHECK", "VERDICT", "REQUESTS", "MESSAGE"]);
        assert_eq!(lines[1][..3], ["errors", "Pass", "812"]);
        assert_eq!(lines[2][..3], ["first-token", "Inconclusive", "-"]);
    }
}
