//! The view as a tree of lines.

use bifrost_crds::{AnalysisStatus, CheckStatus, MigrationPhase, RolloutStatus, ShadowStatus, TrafficStatus, Verdict};
use bifrost_operator::migration::progress::Cause;
use k8s_openapi::jiff::Timestamp;

use super::phase_word;
use super::view::{Fault, PodView, View};
use crate::human;
use crate::standing::{Standing, Subject};

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
    nodes.extend(view.shadow.as_ref().map(shadow));
    nodes.extend(view.rollout.as_ref().map(|status| rollout(view, status, now)));
    nodes.extend(view.keys.as_ref().map(|keys| {
        let unready = if keys.ready < keys.selected { ": `kubectl bifrost keys` says why" } else { "" };
        node("keys", format!("{} of {} ready{unready}", keys.ready, keys.selected))
    }));
    nodes.extend(view.endpoints.iter().map(|endpoint| node(endpoint.what, endpoint.url.clone())));
    if !view.conditions.is_empty() {
        let below = view.conditions.iter().map(|condition| fault(condition, now)).collect();
        nodes.push(Node { below, ..node("conditions", "") });
    }
    let below = pods(&view.pods, now);
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
    let standing = view.migration.as_ref().map(Standing::from).unwrap_or_default();
    let below = details(view, Subject::Migration, &standing, now);
    Node { below, ..node("migration", place(&view.strategy, &standing)) }
}

/// Strategy, step, phase and what comes next.
fn place(strategy: &str, standing: &Standing) -> String {
    let parts = [Some(strategy), standing.step(), standing.phase.map(phase_word)];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    // A rollback has a line of its own, which says as much.
    match standing.message.as_ref().filter(|_| standing.rollback.is_none()) {
        Some(message) => format!("{text}: {message}"),
        None => text,
    }
}

fn details(view: &View, subject: Subject, standing: &Standing, now: Timestamp) -> Vec<Node> {
    let mut nodes = Vec::new();
    if let Some(since) = standing.step_started_at.as_ref().and_then(|since| human::between(since.0, now)) {
        nodes.push(node("since", human::duration(since)));
    }
    if let Some(ends) = &standing.hold_ends_at {
        let remaining = human::between(now, ends.0).filter(|left| !left.is_zero());
        nodes.push(node(
            "hold",
            remaining.map_or("over".to_owned(), |left| format!("{} remaining", human::duration(left))),
        ));
    }
    if let Some(rollback) = &standing.rollback {
        let ago =
            human::between(rollback.at.0, now).map_or_else(String::new, |ago| format!(" {} ago", human::duration(ago)));
        nodes.push(node(
            "rolled back",
            format!("from {}{ago}, {}: {}", rollback.from, rollback.reason, rollback.message),
        ));
    }
    nodes.extend(refused(standing));
    nodes.extend(onward(view, subject, standing, now));
    nodes
}

/// The newest request, where it was refused: who wrote the annotation himself was told nothing.
fn refused(standing: &Standing) -> Option<Node> {
    let (request, why) = (standing.handled_request.as_ref()?, standing.refusal.as_ref()?);
    Some(node("refused", format!("{request}: {why}")))
}

/// What lets it go on where it waits for somebody, or went back; and when it is tried again by itself.
fn onward(view: &View, subject: Subject, standing: &Standing, now: Timestamp) -> Vec<Node> {
    let command = |verb: &str, flag: &str| format!("kubectl bifrost {verb} {}{flag} -n {}", view.name, view.namespace);
    let mut first = Vec::new();
    // Until then every request but that to go back is refused, and nothing is tried again.
    first.extend(view.is_refused().then(|| "mend the spec, as the condition Accepted below says".to_owned()));
    first.extend(view.paused.then(|| command("resume", "")));
    let first = (!first.is_empty()).then(|| first.join(", then "));
    let flag = subject.flag();
    match (standing.phase, first) {
        (Some(MigrationPhase::Paused), first) => {
            vec![node("to go on", first.unwrap_or_else(|| command("promote", flag)))]
        }
        (Some(MigrationPhase::RolledBack), first) => {
            let again = retried(standing, now).filter(|_| first.is_none());
            let again = again.map(|when| format!("by itself {when}; to stop that: {}", command("abort", flag)));
            let retry = match (first, subject) {
                (Some(first), _) => format!("{first}, then {}", command("retry", flag)),
                (None, Subject::Migration) => {
                    // One that somebody asked for outlasts another configuration.
                    let or_config = if is_aborted(standing) { "" } else { " or spec.config" };
                    format!("{}, or change spec.migration{or_config}", command("retry", flag))
                }
                (None, Subject::Rollout) => format!("{}, or change spec.config or spec.image", command("retry", flag)),
            };
            let given_up = match subject {
                Subject::Migration => String::new(),
                Subject::Rollout => format!("; to give it up: {}", command("undo", "")),
            };
            let again = again.map(|text| node("tried again", text));
            again.into_iter().chain([node("to try again", retry + &given_up)]).collect()
        }
        _ if standing.waits_for_key() => vec![node("to go on", command("keys", "") + " says why")],
        _ => Vec::new(),
    }
}

fn is_aborted(standing: &Standing) -> bool {
    standing.rollback.as_ref().is_some_and(|rollback| rollback.reason == Cause::Aborted.as_str())
}

/// When it is tried again by itself; none where somebody has to ask for it.
fn retried(standing: &Standing, now: Timestamp) -> Option<String> {
    let at = standing.rollback.as_ref()?.retry_at.as_ref()?;
    let left = human::between(now, at.0).filter(|left| !left.is_zero());
    Some(left.map_or_else(|| "now".to_owned(), |left| format!("in {}", human::duration(left))))
}

/// The stable revision, and the candidate with all that is said of it.
fn rollout(view: &View, status: &RolloutStatus, now: Timestamp) -> Node {
    let standing = Standing::from(status);
    let candidate = status.candidate_revision.as_ref();
    let mut stable: Vec<_> = [&status.stable_revision, &status.stable_image].into_iter().flatten().cloned().collect();
    stable.extend(status.percent.filter(|_| candidate.is_some()).map(|percent| format!("serves {} %", 100 - percent)));
    let mut below = vec![node("stable", stable.join(", "))];
    if let Some(revision) = candidate {
        let image = status.candidate_image.clone().unwrap_or_else(|| "the same image".to_owned());
        let mut parts = vec![revision.clone(), image];
        parts.extend(status.percent.map(|percent| format!("serves {percent} %")));
        parts.extend(status.candidate_ready_replicas.map(|ready| format!("pods of its own: {ready} ready")));
        below.push(Node { below: pods(&view.candidate_pods, now), ..node("candidate", parts.join(", ")) });
        below.extend(details(view, Subject::Rollout, &standing, now));
        below.extend(status.analysis.as_ref().map(analysis));
    } else {
        below.extend(refused(&standing));
    }
    Node { below, ..node("rollout", place(&view.rollout_strategy, &standing)) }
}

fn shadow(shadow: &ShadowStatus) -> Node {
    let mut text = format!("{} copied", human::count(usize::try_from(shadow.copied).unwrap_or(0), "request"));
    if let Some(agreed) = shadow.agreed_percent {
        text.push_str(&format!(", {agreed} % agree"));
    }
    text.push_str(&format!(", {} today", shadow.spent));
    if !shadow.message.is_empty() {
        text.push_str(&format!(": {}", shadow.message));
    }
    node("shadow", text)
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
        open.map(|check| node(check.name.clone(), format!("{:?}: {}", check.verdict, said(check)))).collect();
    let passed = analysis.checks.len() - below.len();
    Node {
        below,
        ..node("analysis", format!("{:?}, {passed} of {} checks pass", analysis.verdict, analysis.checks.len()))
    }
}

/// What is said of a check, without its name at the beginning, which stands before it.
fn said(check: &CheckStatus) -> &str {
    let said = check.message.strip_prefix(&check.name);
    let said = said.and_then(|said| said.strip_prefix(": ").or_else(|| said.strip_prefix(' ')));
    said.unwrap_or(&check.message)
}

fn fault(fault: &Fault, now: Timestamp) -> Node {
    let since = human::between(fault.since.0, now)
        .map_or_else(String::new, |since| format!(" (for {})", human::duration(since)));
    node(format!("{}={}", fault.type_, fault.status), format!("{}: {}{since}", fault.reason, fault.message))
}

fn pods(pods: &[PodView], now: Timestamp) -> Vec<Node> {
    pods.iter().map(|one| pod(one, now)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checks_name_stands_there_once() {
        let said = |name: &str, message: &str| {
            let check = CheckStatus { name: name.into(), verdict: Verdict::Fail, message: message.into() };
            super::said(&check).to_owned()
        };
        assert_eq!(said("ttft", "ttft: nothing has been measured yet"), "nothing has been measured yet");
        assert_eq!(said("errors", "errors all requests: 9 %"), "all requests: 9 %");
        assert_eq!(said("error", "errors are many"), "errors are many", "another word");
        assert_eq!(said("errors", "9 % of them"), "9 % of them");
    }
}
