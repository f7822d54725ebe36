//! No field is dead: each leaf of both kinds' specs has two values, both accepted, between which something differs that somebody can
//! see: an object that is rendered, what the migration does, or a status.
//!
//! What Kubernetes itself defines and the operator passes on gets its values from the schema; every other leaf has a line in a table
//! below, and one without fails the test. A hash of the spec is no effect and is blanked.

mod life;
mod schema;
mod table;

use serde_json::json;

use self::life::{effects, key, key_status, keys};
use self::schema::{lay_over, leaves, made, of_line, schema};
use self::table::{ADMISSION, FROM_SCHEMA, GATEWAY, KEY, Line};

#[test]
fn every_leaf_of_a_gateway_changes_something() {
    let mut problems = Vec::new();
    let schema = schema("BifrostGateway");
    let leaves = leaves(&schema);
    for leaf in &leaves {
        let spec = |which| match line(leaf) {
            Some(line) => Some(of_line(&schema, &line, which)),
            None => FROM_SCHEMA.iter().any(|known| leaf.starts_with(known)).then(|| made(&schema, leaf, which)),
        };
        if let Some((_, name)) = ADMISSION.iter().find(|known| known.0 == leaf) {
            assert!(schema.to_string().contains(name), "{leaf}: no rule names it");
        } else if let (Some(before), Some(after)) = (spec(0), spec(1)) {
            problems.extend(compare(leaf, effects(&before, &keys()), effects(&after, &keys())));
        } else {
            problems.push(format!("{leaf}: no line in the table of this test"));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    for line in GATEWAY {
        assert!(leaves.iter().any(|leaf| leaf == line.0), "{}: no such leaf", line.0);
    }
}

/// The line of a leaf. A rollout is analysed as a migration is.
fn line(leaf: &str) -> Option<Line> {
    const ROLLOUT: &str = "rollout: {strategy: Canary, canary: {steps: [{percent: 10, hold: 1h}]}, analysis:";
    let analysed = leaf.strip_prefix("rollout.analysis.").map(|rest| format!("migration.analysis.{rest}"));
    let same = analysed.as_deref().unwrap_or(leaf);
    let line = GATEWAY.iter().find(|line| line.0 == same)?;
    if analysed.is_none() {
        return Some(*line);
    }
    let (_, members, one, other) = line;
    let members = members.replace("migration: {canaryPercent: 10, analysis:", ROLLOUT);
    Some((leaf.to_owned().leak(), members.leak(), one, other))
}

#[test]
fn every_leaf_of_a_key_changes_something() {
    let schema = schema("ProviderKey");
    let mut problems = Vec::new();
    for leaf in leaves(&schema) {
        let Some(line) = KEY.iter().find(|line| line.0 == leaf) else {
            problems.push(format!("{leaf}: no line in the table of this test"));
            continue;
        };
        let seen = |which| {
            let mut spec = json!({"provider": "openai", "secretRef": {"name": "first", "key": "a"}});
            lay_over(&mut spec, of_line(&schema, line, which));
            let key = key("main", json!({}), spec);
            let status = key_status(&key);
            effects(&json!({}), &[key]).map(|text| text + &status)
        };
        problems.extend(compare(&leaf, seen(0), seen(1)));
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

fn compare(leaf: &str, before: Result<String, String>, after: Result<String, String>) -> Option<String> {
    match (before, after) {
        (Ok(before), Ok(after)) if before == after => Some(format!("{leaf}: changes nothing")),
        (Ok(_), Ok(_)) => None,
        (Err(why), _) | (_, Err(why)) => Some(format!("{leaf}: not accepted: {why}")),
    }
}
