//! The view as a tree of lines.

use bifrost_crds::{AnalysisStatus, MigrationPhase, MigrationStatus, TrafficStatus, Verdict};
use k8s_openapi::jiff::Timestamp;

use super::phase_word;
use super::view::{Fault, PodView, View};
use crate::human;

/// A line with those below it.
struct Node {
    label: String,
    text: String,
    below: Vec<Node>,
}

fn node(label: impl Into<String>, text: impl Into<String>) -> Node {
    Node { label: label.into(), text: text.into(), below: Vec::new() }
}

/// The whole tree.
pub(super) fn tree(view: &View, now: Timestamp) -> String {
    let mut lines = vec![head(view)];
    let mut nodes = vec![migration(view, now), traffic(view)];
    nodes.extend(view.analysis.as_ref().map(analysis));
    nodes.extend(view.keys.as_ref().map(|keys| {
        let unready = if keys.ready < keys.selected { ": `kubectl bifrost keys` says why" } else { "" };
        node("keys", format!("{} of {} ready{unready}", keys.ready, keys.selected))
    }));
    nodes.extend(view.endpoints.iter().map(|endpoint| node(endpoint.what, endpoint.url.clone())));
    if !view.conditions.is_empty() {
        let below = view.conditions.iter().map(|condition| fault(condition, now)).collect();
        nodes.push(Node { below, ..node("conditions", "") });
    }
    let below = view.pods.iter().map(|one| pod(one, now)).collect();
    let mut pods = format!("{} of {} ready", view.ready_replicas, view.wanted_replicas);
    if let Some(fault) = &view.pods_fault {
        pods.push_str(&format!("; {fault}"));
    }
    nodes.push(Node { below, ..node("pods", pods) });
    draw(&nodes, "", &mut lines);
    lines.join("\n") + "\n"
}

fn draw(nodes: &[Node], indent: &str, lines: &mut Vec<String>) {
    let width = nodes.iter().map(|node| node.label.chars().count()).max().unwrap_or(0);
    for (index, node) in nodes.iter().enumerate() {
        let (branch, below) = if index + 1 == nodes.len() { ("└─", "  ") } else { ("├─", "│ ") };
        lines.push(format!("{indent}{branch} {:width$}  {}", node.label, node.text).trim_end().to_owned());
        draw(&node.below, &format!("{indent}{below} "), lines);
    }
}

fn head(view: &View) -> String {
    let mut line = format!("BifrostGateway {}/{}  ", view.namespace, view.name);
    match view.ready.as_str() {
        "True" => line.push_str("Ready"),
        "False" => line.push_str(&format!("Not ready, {}: {}", view.reason, view.message)),
        _ => line.push_str(&format!("Unknown, {}: {}", view.reason, view.message)),
    }
    if view.outdated && view.ready != "Unknown" {
        line.push_str("  (the newest spec has not been looked at yet)");
    }
    if view.paused {
        line.push_str("  (paused: what adds is held back until `kubectl bifrost resume`)");
    }
    line
}

fn migration(view: &View, now: Timestamp) -> Node {
    let status = view.migration.clone().unwrap_or_default();
    // A strategy that takes no steps has none.
    let step = status.step.as_deref().filter(|step| *step != "-");
    let parts = [Some(view.strategy.as_str()), step, status.phase.map(phase_word)];
    let mut text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    // A rollback has a line of its own, which says as much.
    if let Some(message) = status.message.as_ref().filter(|_| status.rollback.is_none()) {
        text = format!("{text}: {message}");
    }
    Node { below: details(view, &status, now), ..node("migration", text) }
}

fn details(view: &View, status: &MigrationStatus, now: Timestamp) -> Vec<Node> {
    let name = &view.name;
    let mut nodes = Vec::new();
    if let Some(since) = status.step_started_at.as_ref().and_then(|since| human::between(since.0, now)) {
        nodes.push(node("since", human::duration(since)));
    }
    if let Some(ends) = &status.hold_ends_at {
        let remaining = human::between(now, ends.0).filter(|left| !left.is_zero());
        nodes.push(node(
            "hold",
            remaining.map_or("over".to_owned(), |left| format!("{} remaining", human::duration(left))),
        ));
    }
    if let Some(rollback) = &status.rollback {
        let ago =
            human::between(rollback.at.0, now).map_or_else(String::new, |ago| format!(" {} ago", human::duration(ago)));
        nodes.push(node(
            "rolled back",
            format!("from {}{ago}, {}: {}", rollback.from, rollback.reason, rollback.message),
        ));
    }
    match status.phase {
        Some(MigrationPhase::Paused) => {
            nodes.push(node("to go on", format!("kubectl bifrost promote {name} -n {}", view.namespace)));
        }
        Some(MigrationPhase::RolledBack) => nodes.push(node(
            "to try again",
            format!("kubectl bifrost retry {name} -n {}, or change spec.migration or spec.config", view.namespace),
        )),
        _ => {}
    }
    nodes
}

fn traffic(view: &View) -> Node {
    let Some(traffic) = &view.traffic else { return node("traffic", "nothing is published yet") };
    let below = arms(traffic).map(|(arm, text)| node(arm, text)).into();
    let confirmed = traffic.confirmed_replicas.unwrap_or(0);
    let epoch = traffic.epoch.map_or_else(String::new, |epoch| format!(" (epoch {epoch})"));
    Node { below, ..node("traffic", format!("confirmed by {confirmed} of {} ready pods{epoch}", view.ready_replicas)) }
}

/// What each arm shall get, of the users, and what it got, of the requests.
fn arms(traffic: &TrafficStatus) -> [(&'static str, String); 2] {
    let wanted =
        |percent: Option<i32>| percent.map_or_else(|| "by rules".to_owned(), |percent| format!("{percent:>3} %"));
    let seen = |percent: Option<i32>| {
        percent.map_or_else(|| "no requests yet".to_owned(), |percent| format!("{percent:>3} %"))
    };
    let bifrost = traffic.wanted_percent;
    let line = |wanted_percent, seen_percent| format!("wanted {}, seen {}", wanted(wanted_percent), seen(seen_percent));
    [
        ("bifrost", line(bifrost, traffic.bifrost_percent)),
        ("baseline", line(bifrost.map(|percent| 100 - percent), traffic.baseline_percent)),
    ]
}

/// The verdict, and the checks that are in its way.
fn analysis(analysis: &AnalysisStatus) -> Node {
    let open = analysis.checks.iter().filter(|check| check.verdict != Verdict::Pass);
    let below: Vec<_> =
        open.map(|check| node(check.name.clone(), format!("{:?}: {}", check.verdict, check.message))).collect();
    let passed = analysis.checks.len() - below.len();
    Node {
        below,
        ..node("analysis", format!("{:?}, {passed} of {} checks pass", analysis.verdict, analysis.checks.len()))
    }
}

fn fault(fault: &Fault, now: Timestamp) -> Node {
    let since = human::between(fault.since.0, now)
        .map_or_else(String::new, |since| format!(" (for {})", human::duration(since)));
    node(format!("{}={}", fault.type_, fault.status), format!("{}: {}{since}", fault.reason, fault.message))
}

fn pod(pod: &PodView, now: Timestamp) -> Node {
    let mut parts = vec![pod.state.clone()];
    parts.extend(pod.since.as_ref().and_then(|since| human::between(since.0, now)).map(human::duration));
    if pod.restarts > 0 {
        parts.push(human::count(usize::try_from(pod.restarts).unwrap_or(0), "restart"));
    }
    parts.extend(pod.node.as_ref().map(|node| format!("on {node}")));
    node(pod.name.clone(), parts.join(", "))
}
