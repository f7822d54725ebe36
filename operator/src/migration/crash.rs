//! Gateway containers that ended: a crash would otherwise look like no data at all.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use k8s_openapi::jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use kube::ResourceExt;

use crate::names;

/// The end of a gateway container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// Which one it is among all.
    pub id: String,
    /// What happened, in words.
    pub message: String,
}

/// The first gateway container that ended since a stage is watched, other than the one that counted already.
pub fn crash(pods: &[Pod], since: Timestamp, counted: Option<&str>) -> Option<Crash> {
    // The kubelet gives whole seconds.
    let since = since.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Floor)).unwrap_or(since);
    pods.iter().find_map(|pod| {
        let status = pod.status.as_ref()?;
        // One that is about to go ends by order; one that was evicted, or whose node shuts down, fails as a whole.
        if pod.metadata.deletion_timestamp.is_some() || status.phase.as_deref() == Some("Failed") {
            return None;
        }
        let statuses = status.container_statuses.as_ref()?;
        let container = statuses.iter().find(|status| status.name == names::CONTAINER)?;
        let states = [&container.state, &container.last_state].into_iter().flatten();
        let mut ended = states.filter_map(|state| state.terminated.as_ref());
        let id = |ended: &ContainerStateTerminated| {
            Some(format!("{}/{}", pod.name_any(), ended.finished_at.as_ref().filter(|at| at.0 >= since)?.0))
        };
        let is_new = |ended: &&ContainerStateTerminated| id(ended).is_some_and(|id| counted != Some(id.as_str()));
        let ended = ended.find(is_new)?;
        Some(Crash { id: id(ended)?, message: describe(&pod.name_any(), ended) })
    })
}

fn describe(pod: &str, ended: &ContainerStateTerminated) -> String {
    let reason = ended.reason.as_deref().filter(|reason| !reason.is_empty()).unwrap_or("Error");
    format!("the gateway container of pod {pod} ended: {reason}, exit code {}", ended.exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::pod;
    use serde_json::json;

    fn ended(at: &str, deleted: bool) -> Pod {
        let mut pod = pod("a", true);
        let status = &mut pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0];
        let state = json!({"terminated": {"finishedAt": at, "exitCode": 137, "reason": "OOMKilled"}});
        status.last_state = serde_json::from_value(state).unwrap();
        if deleted {
            pod.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:09Z")).unwrap());
        }
        pod
    }

    #[test]
    fn a_container_that_ended_within_the_stage_is_named() {
        let since: Timestamp = "2026-01-01T00:00:05.2Z".parse().unwrap();
        assert_eq!(crash(&[pod("b", true)], since, None), None);
        assert_eq!(crash(&[ended("2026-01-01T00:00:04Z", false)], since, None), None, "before it");
        assert_eq!(crash(&[ended("2026-01-01T00:00:07Z", true)], since, None), None, "by order");
        let mut evicted = ended("2026-01-01T00:00:07Z", false);
        evicted.status.as_mut().unwrap().phase = Some("Failed".into());
        assert_eq!(crash(&[evicted], since, None), None, "with its node");
        let pods = [pod("b", true), ended("2026-01-01T00:00:05Z", false)];
        let told = crash(&pods, since, None).unwrap();
        assert_eq!(told.message, "the gateway container of pod ai-a ended: OOMKilled, exit code 137");
        assert_eq!(crash(&pods, since, Some(&told.id)), None, "it counts once");
    }
}
