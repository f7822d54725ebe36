//! Gateway containers that ended: a crash would otherwise look like no data at all.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use k8s_openapi::jiff::{Timestamp, Unit};
use kube::ResourceExt;

use crate::names;

/// The first gateway container that ended since a stage began, in words.
pub fn crash(pods: &[Pod], since: Timestamp) -> Option<String> {
    // The kubelet gives whole seconds.
    let since = since.round(Unit::Second).unwrap_or(since);
    pods.iter().find_map(|pod| {
        // One that is about to go ends by order.
        if pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        let container = statuses.iter().find(|status| status.name == names::CONTAINER)?;
        let states = [&container.state, &container.last_state].into_iter().flatten();
        let mut ended = states.filter_map(|state| state.terminated.as_ref());
        let ended = ended.find(|ended| ended.finished_at.as_ref().is_some_and(|at| at.0 >= since))?;
        Some(describe(&pod.name_any(), ended))
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
        assert_eq!(crash(&[pod("b", true)], since), None);
        assert_eq!(crash(&[ended("2026-01-01T00:00:04Z", false)], since), None, "before it");
        assert_eq!(crash(&[ended("2026-01-01T00:00:07Z", true)], since), None, "by order");
        let told = crash(&[pod("b", true), ended("2026-01-01T00:00:05Z", false)], since).unwrap();
        assert_eq!(told, "the gateway container of pod ai-a ended: OOMKilled, exit code 137");
    }
}
