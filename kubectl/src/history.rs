//! `history`: the revisions of spec.config and image that were stable, out of the ConfigMaps that the operator keeps of them.

use bifrost_crds::{BifrostGateway, RolloutStatus};
use bifrost_operator::names::LABEL_REVISION;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::{Timestamp, Unit};
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cli::HistoryArgs;
use crate::failure::Failure;
use crate::human;
use crate::run::{note, say};
use crate::session::Session;
use crate::status::phase_word;
use crate::table::table;

/// The one member.
const MEMBER: &str = "revision.json";

/// A revision that was stable.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Revision {
    /// Its name.
    #[serde(rename = "revision")]
    pub(crate) id: String,
    /// The whole image.
    pub(crate) image: String,
    /// When it became stable.
    pub(crate) at: Timestamp,
    /// `spec.config` as the resource had it.
    pub(crate) config: Map<String, Value>,
}

/// Prints the history.
pub(crate) async fn run(session: &Session, args: &HistoryArgs) -> Result<(), Failure> {
    let gateway = session.gateway(args.gateway.name.as_deref()).await?;
    let history = read(session, &gateway).await?;
    say(&text(&gateway, &history, Timestamp::now()))
}

/// The revisions of a gateway, the newest last. One that cannot be read is told and left out.
pub(crate) async fn read(session: &Session, gateway: &BifrostGateway) -> Result<Vec<Revision>, Failure> {
    let (history, faults) = parse(gateway, &session.list::<ConfigMap>(&labels(&gateway.name_any())).await?);
    for fault in faults {
        note(&format!("warning: {fault}"));
    }
    Ok(history)
}

/// The labels of the history's ConfigMaps.
pub(crate) fn labels(gateway: &str) -> String {
    format!("app.kubernetes.io/instance={gateway},{LABEL_REVISION}")
}

fn parse(gateway: &BifrostGateway, maps: &[ConfigMap]) -> (Vec<Revision>, Vec<String>) {
    let (mut history, mut faults) = (Vec::new(), Vec::new());
    for map in maps {
        let name = map.name_any();
        let is_its = |uid: &String| map.owner_references().iter().any(|owner| owner.uid == *uid);
        if !gateway.metadata.uid.as_ref().is_some_and(is_its) {
            faults.push(format!("ConfigMap {name} does not belong to this gateway and is left out"));
            continue;
        }
        let member = map.data.as_ref().and_then(|data| data.get(MEMBER));
        match member.map(|text| serde_json::from_str::<Revision>(text)) {
            Some(Ok(revision)) => history.push(revision),
            Some(Err(error)) => faults.push(format!("ConfigMap {name}: {MEMBER} cannot be read: {error}")),
            None => faults.push(format!("ConfigMap {name} has no {MEMBER}")),
        }
    }
    history.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    (history, faults)
}

fn text(gateway: &BifrostGateway, history: &[Revision], now: Timestamp) -> String {
    let status = gateway.status.as_ref().and_then(|status| status.rollout.clone()).unwrap_or_default();
    let mut rows: Vec<_> = history.iter().map(|revision| row(revision, &status, now)).collect();
    if let Some(candidate) = &status.candidate_revision
        && history.iter().all(|revision| revision.id != *candidate)
    {
        let image = status.candidate_image.as_ref().or(status.stable_image.as_ref());
        let image = image.cloned().unwrap_or_else(|| "-".to_owned());
        rows.push([candidate.clone(), image, "-".to_owned(), mark(candidate, &status)]);
    }
    let lost = lost(&gateway.name_any(), history, &status);
    if rows.is_empty() {
        return lost.unwrap_or_else(|| format!("{}: no revision has become stable yet", gateway.name_any()));
    }
    table(["REVISION", "IMAGE", "BECAME STABLE", "NOW"], &rows) + &lost.map_or_else(String::new, |lost| lost + "\n")
}

/// Says so where the stable revision is not among those that are kept.
fn lost(name: &str, history: &[Revision], status: &RolloutStatus) -> Option<String> {
    let stable = status.stable_revision.as_ref()?;
    history.iter().all(|revision| revision.id != *stable).then(|| {
        format!(
            "{name}: nothing is kept of the stable revision {stable}: its ConfigMap may have been deleted, or is not written yet, as that of an image is once all pods run it; a deleted one is not made again until another revision has been stable"
        )
    })
}

fn row(revision: &Revision, status: &RolloutStatus, now: Timestamp) -> [String; 4] {
    let ago =
        human::between(revision.at, now).map_or_else(String::new, |ago| format!(" ({} ago)", human::duration(ago)));
    let at = revision.at.round(Unit::Second).unwrap_or(revision.at);
    [revision.id.clone(), revision.image.clone(), format!("{at}{ago}"), mark(&revision.id, status)]
}

/// What a revision is at present.
fn mark(id: &str, status: &RolloutStatus) -> String {
    if status.stable_revision.as_deref() == Some(id) {
        return "stable".to_owned();
    }
    match status.phase {
        _ if status.candidate_revision.as_deref() != Some(id) => String::new(),
        Some(phase) => format!("candidate, {}", phase_word(phase)),
        None => "candidate".to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::status::tests::rolling_out;

    /// Two revisions of `ai`, and what is none.
    pub(crate) fn maps() -> Vec<ConfigMap> {
        serde_yaml_ng::from_str(include_str!("../testdata/history.yaml")).unwrap()
    }

    #[test]
    fn revisions_are_listed_with_what_they_are_now() {
        let gateway = rolling_out();
        let (history, _) = parse(&gateway, &maps());
        insta::assert_snapshot!(text(&gateway, &history, "2026-03-02T10:05:00Z".parse().unwrap()));
    }

    #[test]
    fn what_is_no_revision_of_the_gateway_is_told_and_left_out() {
        let (history, faults) = parse(&rolling_out(), &maps());
        let ids: Vec<_> = history.iter().map(|revision| revision.id.as_str()).collect();
        assert_eq!(ids, ["77aa00bb11", "3f2a9c1e07"], "the newest last");
        assert_eq!(faults.len(), 3, "{faults:?}");
        for (fault, words) in faults.iter().zip(["does not belong", "cannot be read", "has no revision.json"]) {
            assert!(fault.contains(words), "{fault}");
        }
    }

    #[test]
    fn without_a_history_it_says_so() {
        let gateway = crate::status::tests::gateway();
        assert!(text(&gateway, &[], Timestamp::UNIX_EPOCH).contains("no revision has become stable yet"));
    }

    #[test]
    fn a_stable_revision_that_is_not_kept_may_have_been_deleted() {
        let mut gateway = rolling_out();
        let with_candidate = text(&gateway, &[], Timestamp::UNIX_EPOCH);
        assert!(with_candidate.starts_with("REVISION") && with_candidate.contains("9b1c2d3e4f"), "{with_candidate}");
        gateway.status.as_mut().unwrap().rollout.as_mut().unwrap().candidate_revision = None;
        let alone = text(&gateway, &[], Timestamp::UNIX_EPOCH);
        for told in [with_candidate, alone] {
            assert!(
                told.contains("ai: nothing is kept of the stable revision 3f2a9c1e07: its ConfigMap may"),
                "{told}"
            );
        }
    }
}
