//! `status`: where a gateway is and what to do about what is wrong.

mod tree;
mod view;

use bifrost_crds::{BifrostGateway, MigrationPhase};
use bifrost_operator::names::candidate_selector_text;
use futures::future::ready;
use futures::{StreamExt as _, pin_mut, stream};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::watcher::{Config, watch_object, watcher};
use tokio::time::{Duration, sleep};

use self::view::View;
use crate::cli::{Format, StatusArgs};
use crate::failure::Failure;
use crate::run::say;
use crate::session::{Session, pod_labels};
use crate::wait::{is_refused, refused};

/// Changes come in bursts: those within this time are shown as one.
const BURST: Duration = Duration::from_millis(200);

/// Prints the status, with `--watch` at every change.
pub(crate) async fn run(session: &Session, args: &StatusArgs) -> Result<(), Failure> {
    let gateway = session.gateway(args.gateway.name.as_deref()).await?;
    if !args.watch {
        return say(&print(&read(session, gateway).await, args.output)?);
    }
    tokio::select! {
        result = follow(session, &gateway, args.output) => result,
        // Ctrl-C is how a watch is meant to end.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn read(session: &Session, gateway: BifrostGateway) -> View {
    // Who may read the gateway but not its pods still sees the rest.
    match session.pods(&gateway).await {
        Ok((own, candidates)) => view::view(&gateway, &own, &candidates),
        Err(failure) => View { pods_fault: Some(failure.to_string()), ..view::view(&gateway, &[], &[]) },
    }
}

/// Prints again at every change of the gateway or of its pods that can be seen in what is printed.
async fn follow(session: &Session, gateway: &BifrostGateway, format: Option<Format>) -> Result<(), Failure> {
    let name = gateway.name_any();
    let of_gateway = watch_object(session.api::<BifrostGateway>(), &name).map(|event| event.map(|_| ()));
    // Who may not watch pods follows the gateway alone.
    let pods = |labels: &str| {
        let changes = watcher(session.api::<Pod>(), Config::default().labels(labels));
        let changes = changes.take_while(|event| ready(!event.as_ref().is_err_and(is_refused)));
        changes.map(|event| event.map(|_| ()))
    };
    let of_pods = stream::select(pods(&pod_labels(gateway)), pods(&candidate_selector_text(&name)));
    let changes = stream::select(of_gateway, of_pods);
    pin_mut!(changes);
    let mut printed = None;
    while let Some(change) = changes.next().await {
        if let Err(error) = change {
            refused(error)?;
            continue;
        }
        sleep(BURST).await;
        let view = read(session, session.gateway(Some(&name)).await?).await;
        if printed.as_ref() != Some(&view) {
            if printed.is_some() && format.is_none() {
                say("")?;
            }
            say(&print(&view, format)?)?;
            printed = Some(view);
        }
    }
    Ok(())
}

fn print(view: &View, format: Option<Format>) -> Result<String, Failure> {
    Ok(match format {
        None => tree::tree(view, Timestamp::now()),
        Some(Format::Json) => serde_json::to_string_pretty(view).unwrap_or_default(),
        // A document by itself, so that those of a watch can be told apart.
        Some(Format::Yaml) => format!("---\n{}", serde_yaml_ng::to_string(view).unwrap_or_default()),
    })
}

/// A phase as the API spells it.
pub(crate) const fn phase_word(phase: MigrationPhase) -> &'static str {
    match phase {
        MigrationPhase::Progressing => "Progressing",
        MigrationPhase::Paused => "Paused",
        MigrationPhase::Inconclusive => "Inconclusive",
        MigrationPhase::Completed => "Completed",
        MigrationPhase::RolledBack => "RolledBack",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A gateway in the middle of a canary.
    pub(crate) fn gateway() -> BifrostGateway {
        serde_yaml_ng::from_str(include_str!("../testdata/gateway.yaml")).unwrap()
    }

    /// A gateway with a candidate of another image, and with a shadow.
    pub(crate) fn rolling_out() -> BifrostGateway {
        serde_yaml_ng::from_str(include_str!("../testdata/rolling-out.yaml")).unwrap()
    }

    /// A gateway whose canary somebody took back.
    pub(crate) fn rolled_back() -> BifrostGateway {
        let text = include_str!("../testdata/rolled-back.yaml");
        let status = serde_yaml_ng::from_str::<BifrostGateway>(text).unwrap().status;
        BifrostGateway { status, ..gateway() }
    }

    fn pods() -> Vec<Pod> {
        let text = include_str!("../testdata/pods.yaml");
        serde_yaml_ng::from_str(text).unwrap()
    }

    fn shown(gateway: &BifrostGateway) -> String {
        tree::tree(&view::view(gateway, &pods(), &[]), "2026-03-02T10:05:00Z".parse().unwrap())
    }

    #[test]
    fn a_canary_on_its_way() {
        insta::assert_snapshot!(shown(&gateway()));
    }

    #[test]
    fn a_rollback_says_why_and_what_to_do() {
        insta::assert_snapshot!(shown(&rolled_back()));
    }

    /// The line below the migration with this label.
    fn line(gateway: &BifrostGateway, label: &str) -> Option<String> {
        let shown = shown(gateway);
        let found = shown.lines().find_map(|line| line.split_once(&format!("─ {label}  ")))?;
        Some(found.1.trim().to_owned())
    }

    fn refuse(gateway: &mut BifrostGateway) {
        let conditions = &mut gateway.status.as_mut().unwrap().conditions;
        conditions.iter_mut().find(|condition| condition.type_ == "Accepted").unwrap().status = "False".into();
    }

    #[test]
    fn what_is_tried_again_by_itself_says_when_and_how_to_stop_it() {
        let retried = |at: &str| {
            let mut gateway = rolled_back();
            let migration = gateway.status.as_mut().unwrap().migration.as_mut().unwrap();
            migration.rollback.as_mut().unwrap().retry_at =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at.parse().unwrap()));
            gateway
        };
        let again = line(&retried("2026-03-02T10:05:12Z"), "tried again ").unwrap();
        assert_eq!(again, "by itself in 12s; to stop that: kubectl bifrost abort ai -n llm");
        let again = line(&retried("2026-03-02T10:05:00Z"), "tried again ").unwrap();
        assert!(again.starts_with("by itself now; "), "{again}");
        assert_eq!(line(&rolled_back(), "tried again "), None, "only where it is");
        let mut paused = retried("2026-03-02T10:05:12Z");
        paused.spec.paused = true;
        assert_eq!(line(&paused, "tried again "), None, "held as well");
        let by_hand = "kubectl bifrost resume ai -n llm, then kubectl bifrost retry ai -n llm";
        assert_eq!(line(&paused, "to try again").as_deref(), Some(by_hand));
    }

    #[test]
    fn what_holds_it_is_ended_by_the_command_that_ends_it() {
        let mut held = gateway();
        held.status.as_mut().unwrap().migration.as_mut().unwrap().phase = Some(MigrationPhase::Paused);
        let onward = |gateway: &BifrostGateway| line(gateway, "to go on").unwrap();
        assert_eq!(onward(&held), "kubectl bifrost promote ai -n llm");
        held.spec.paused = true;
        assert_eq!(onward(&held), "kubectl bifrost resume ai -n llm");
        refuse(&mut held);
        let both = "mend the spec, as the condition Accepted below says, then kubectl bifrost resume ai -n llm";
        assert_eq!(onward(&held), both);
        held.spec.paused = false;
        assert_eq!(onward(&held), "mend the spec, as the condition Accepted below says");
        let mut candidate = rolling_out();
        candidate.spec.paused = true;
        assert_eq!(onward(&candidate), "kubectl bifrost resume ai -n llm");
    }

    #[test]
    fn a_candidate_stands_beside_the_stable_revision() {
        let candidates: Vec<Pod> = serde_yaml_ng::from_str(include_str!("../testdata/candidate-pods.yaml")).unwrap();
        let view = view::view(&rolling_out(), &pods(), &candidates);
        insta::assert_snapshot!(tree::tree(&view, "2026-03-02T10:05:00Z".parse().unwrap()));
    }

    #[test]
    fn a_candidate_that_was_taken_back_says_why_and_what_to_do() {
        let mut gateway = rolling_out();
        let rollout = gateway.status.as_mut().unwrap().rollout.as_mut().unwrap();
        rollout.phase = Some(MigrationPhase::RolledBack);
        (rollout.step, rollout.percent, rollout.candidate_ready_replicas) = (Some("0/3".into()), Some(0), None);
        let rollback = serde_json::json!({"at": "2026-03-02T10:04:50Z", "from": "10 %", "reason": "AnalysisFailed", "message": "errors openai/gpt-4o-mini chat_completion: 9.1 % on the candidate against 0.4 % on the stable revision (132 and 1,190 requests), more than +0.5 points at any look"});
        rollout.rollback = serde_json::from_value(rollback).unwrap();
        insta::assert_snapshot!(shown(&gateway));
    }

    #[test]
    fn a_request_that_was_refused_says_why() {
        let mut gateway = gateway();
        assert_eq!(line(&gateway, "refused"), None);
        let migration = gateway.status.as_mut().unwrap().migration.as_mut().unwrap();
        migration.handled_request = Some("promote/7".into());
        migration.refusal = Some("the last step is reached".into());
        assert_eq!(line(&gateway, "refused").as_deref(), Some("promote/7: the last step is reached"));
    }

    #[test]
    fn without_a_candidate_the_stable_revision_is_named() {
        let mut gateway = rolling_out();
        let rollout = gateway.status.as_mut().unwrap().rollout.as_mut().unwrap();
        *rollout = bifrost_crds::RolloutStatus {
            stable_revision: rollout.stable_revision.clone(),
            stable_image: rollout.stable_image.clone(),
            phase: Some(MigrationPhase::Completed),
            ..Default::default()
        };
        let shown = shown(&gateway);
        assert!(
            shown.contains(
                "├─ rollout    Canary, Completed\n│  └─ stable  3f2a9c1e07, registry.example/bifrost-gateway:0.1.0\n"
            ),
            "{shown}"
        );
    }

    #[test]
    fn a_gateway_that_no_operator_has_seen() {
        let mut gateway = gateway();
        gateway.status = None;
        insta::assert_snapshot!(tree::tree(&view::view(&gateway, &[], &[]), Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn programs_get_the_same_in_their_form() {
        insta::assert_snapshot!(print(&view::view(&gateway(), &pods(), &[]), Some(Format::Yaml)).unwrap());
    }
}
