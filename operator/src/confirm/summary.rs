//! What the answers of all pods amount to: a pure function.

use std::collections::BTreeMap;

use bifrost_config::report::{ArmCounts, ShadowReport};

use super::{Answer, Target};

/// From this many requests on the seen percent says something about the wanted one.
const SKEW_REQUESTS: u64 = 1000;
/// More points than this between the wanted and the seen percent are worth a word.
const SKEW_POINTS: i32 = 5;

/// How far the pods of a gateway are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whether there are answers, or no pods to give any.
    pub is_known: bool,
    /// Ready pods.
    pub ready: usize,
    /// Ready pods that confirm what is published.
    pub confirmed: usize,
    /// At least one pod is ready, and every ready pod confirms.
    pub programmed: bool,
    /// Every running pod acts upon the published configuration, those that are about to stop too: no pod uses an older one. So it
    /// is with no pod at all.
    pub released: bool,
    /// Greatest epoch that a pod of this gateway reports.
    pub greatest_epoch: u64,
    /// Seen percent of the baseline and the bifrost arm over all ready pods; none without eligible requests.
    pub percents: Option<(u8, u8)>,
    /// The seen percent is far from the wanted one, on many requests.
    pub skewed: bool,
    /// What became of copies, over all ready pods; none where nothing is copied.
    pub shadow: Option<ShadowReport>,
    /// Ready pods that do not confirm, and why not.
    pub waiting: Vec<String>,
    /// Pods that report that they cannot use what is published.
    pub faults: Vec<String>,
    /// The same as `released` of the gateway's own pods alone: none of them forwards anything by an older table.
    pub own_released: bool,
    /// At least one pod is ready, and every ready one holds the candidate, or reaches its own pods. Those are not counted.
    pub holds_candidate: bool,
    /// The same, whatever was written since: every write is confirmed anew. Pods that were not asked yet are taken to.
    pub keeps_candidate: bool,
    /// Pods of the candidate's own that are ready, and of these the ones that confirm and hold it.
    pub candidates: (usize, usize),
    /// Those that are ready and hold it, whatever was written since, and those that were not asked yet.
    pub keeping: usize,
}

impl Summary {
    /// Of the answers to this target, by the pods' UIDs.
    pub(super) fn of(target: &Target, answers: &BTreeMap<String, Answer>) -> Self {
        let mut summary = Self { released: true, own_released: true, ..Self::default() };
        summary.is_known = target.pods.is_empty() || !answers.is_empty();
        let (mut holders, mut keepers) = (0, 0);
        let mut eligible = ArmCounts::default();
        for pod in &target.pods {
            let report = match answers.get(&pod.uid) {
                Some(Ok(report)) => Ok(report),
                Some(Err(error)) => Err(error.to_string()),
                None => Err("was not asked yet".to_owned()),
            };
            let keeps =
                report.as_ref().is_ok_and(|report| target.candidate.is_some() && report.candidate == target.candidate);
            let holds = keeps && report.as_ref().is_ok_and(|report| target.is_confirmed_by(report));
            // Who has not asked yet does not know that something is missing.
            let keeps = keeps || (target.candidate.is_some() && !answers.contains_key(&pod.uid));
            if pod.of_candidate {
                summary.candidates.0 += usize::from(pod.ready);
                summary.candidates.1 += usize::from(pod.ready && holds);
                summary.keeping += usize::from(pod.ready && keeps);
                summary.released &= report.is_ok_and(|report| target.is_table_of(report));
                continue;
            }
            holders += usize::from(pod.ready && holds);
            keepers += usize::from(pod.ready && keeps);
            summary.ready += usize::from(pod.ready);
            let waits = match report {
                Err(why) => Some(why),
                Ok(report) => {
                    if report.gateway_uid == target.gateway_uid {
                        summary.greatest_epoch = summary.greatest_epoch.max(report.epoch);
                    }
                    if let (Some(problem), true) = (&report.problem, pod.ready) {
                        summary.faults.push(format!("{}: {problem}", pod.name));
                    }
                    if pod.ready {
                        eligible.baseline = eligible.baseline.saturating_add(report.eligible.baseline);
                        eligible.bifrost = eligible.bifrost.saturating_add(report.eligible.bifrost);
                        if let Some(of_pod) = &report.shadow {
                            summary.shadow.get_or_insert_default().merge(of_pod);
                        }
                    }
                    summary.own_released &= target.is_table_of(report);
                    (!target.is_confirmed_by(report)).then(|| match &report.problem {
                        Some(problem) => problem.clone(),
                        None if report.epoch != target.epoch => format!("is at epoch {}", report.epoch),
                        None => "has not loaded the newest keys yet".to_owned(),
                    })
                }
            };
            summary.own_released &= answers.get(&pod.uid).is_some_and(Result::is_ok);
            match waits {
                None => summary.confirmed += usize::from(pod.ready),
                Some(why) if pod.ready => summary.waiting.push(format!("{}: {why}", pod.name)),
                Some(_) => {}
            }
        }
        summary.released &= summary.own_released;
        summary.programmed = summary.ready > 0 && summary.confirmed == summary.ready;
        summary.holds_candidate = summary.ready > 0 && holders == summary.ready;
        summary.keeps_candidate = summary.ready > 0 && keepers == summary.ready;
        summary.percents = percents(eligible);
        summary.skewed = skewed(eligible, target.wanted_percent);
        summary
    }
}

/// Both percents, rounded so that they add up to 100.
fn percents(seen: ArmCounts) -> Option<(u8, u8)> {
    let total = seen.baseline.checked_add(seen.bifrost).filter(|total| *total > 0)?;
    let bifrost = (u128::from(seen.bifrost) * 200 + u128::from(total)) / (u128::from(total) * 2);
    let bifrost = u8::try_from(bifrost).ok()?;
    Some((100 - bifrost, bifrost))
}

fn skewed(seen: ArmCounts, wanted: Option<u8>) -> bool {
    let Some(wanted) = wanted else { return false };
    let enough = seen.baseline.saturating_add(seen.bifrost) >= SKEW_REQUESTS;
    enough && percents(seen).is_some_and(|(_, bifrost)| (i32::from(bifrost) - i32::from(wanted)).abs() > SKEW_POINTS)
}

#[cfg(test)]
mod tests {
    use super::super::{Pod, PodError};
    use super::*;
    use bifrost_config::SecretValue;
    use bifrost_config::report::StateReport;

    fn target(pods: &[(&str, bool)]) -> Target {
        let pod = |(uid, ready): &(&str, bool)| Pod {
            uid: (*uid).into(),
            name: format!("ai-{uid}"),
            ip: "::1".into(),
            ready: *ready,
            of_candidate: false,
        };
        Target {
            gateway_uid: "g".into(),
            epoch: 7,
            digest: "d".into(),
            keys: BTreeMap::from([("main".into(), 2)]),
            wanted_percent: Some(10),
            candidate: None,
            token: SecretValue::new("t"),
            pods: pods.iter().map(pod).collect(),
        }
    }

    fn report() -> StateReport {
        StateReport {
            gateway_uid: "g".into(),
            epoch: 7,
            digest: "d".into(),
            keys: BTreeMap::from([("main".into(), 2)]),
            ..StateReport::default()
        }
    }

    fn summary(pods: &[(&str, bool)], answers: Vec<(&str, Answer)>) -> Summary {
        Summary::of(&target(pods), &answers.into_iter().map(|(uid, answer)| (uid.to_owned(), answer)).collect())
    }

    #[test]
    fn every_ready_pod_has_to_confirm_and_there_must_be_one() {
        let both = summary(&[("a", true), ("b", true)], vec![("a", Ok(report())), ("b", Ok(report()))]);
        assert!(both.programmed && both.released);
        let one = summary(&[("a", true), ("b", true)], vec![("a", Ok(report())), ("b", Err(PodError::Unreachable))]);
        assert!(!one.programmed && !one.released);
        assert_eq!((one.ready, one.confirmed), (2, 1));
        assert_eq!(one.waiting, ["ai-b: does not answer on port 9090"]);
        assert!(!summary(&[], vec![]).programmed);
        assert!(summary(&[], vec![]).released);
        assert!(!summary(&[("a", true)], vec![]).programmed);
    }

    #[test]
    fn a_stopping_pod_counts_for_the_removal_of_keys_only() {
        let old = StateReport { epoch: 6, digest: "c".into(), ..report() };
        let seen = summary(&[("a", true), ("z", false)], vec![("a", Ok(report())), ("z", Ok(old))]);
        assert!(seen.programmed);
        assert!(!seen.released);
    }

    #[test]
    fn older_keys_are_not_confirmed_but_hold_no_removal_up() {
        let old = StateReport { keys: BTreeMap::from([("main".into(), 1)]), ..report() };
        let seen = summary(&[("a", true)], vec![("a", Ok(old))]);
        assert!(!seen.programmed && seen.released);
        assert_eq!(seen.waiting, ["ai-a: has not loaded the newest keys yet"]);
    }

    #[test]
    fn a_pod_of_another_gateway_confirms_nothing_and_raises_no_epoch() {
        let other = StateReport { gateway_uid: "x".into(), epoch: 99, ..report() };
        let seen = summary(&[("a", true)], vec![("a", Ok(other))]);
        assert_eq!((seen.programmed, seen.greatest_epoch), (false, 0));
    }

    #[test]
    fn copies_of_all_ready_pods_are_added_up() {
        let of = |copied| StateReport { shadow: Some(ShadowReport { copied, ..ShadowReport::default() }), ..report() };
        let pods = [("a", true), ("b", true), ("z", false)];
        let seen = summary(&pods, vec![("a", Ok(of(2))), ("b", Ok(of(3))), ("z", Ok(of(9)))]);
        assert_eq!(seen.shadow.map(|shadow| shadow.copied), Some(5));
        assert_eq!(summary(&pods, vec![("a", Ok(report()))]).shadow, None);
    }

    #[test]
    fn percents_add_up_and_skew_needs_many_requests() {
        let counted = |baseline, bifrost| {
            let seen = StateReport { eligible: ArmCounts { baseline, bifrost }, ..report() };
            summary(&[("a", true)], vec![("a", Ok(seen))])
        };
        assert_eq!(counted(0, 0).percents, None);
        assert_eq!(counted(2, 1).percents, Some((67, 33)));
        assert!(!counted(600, 399).skewed);
        assert!(counted(600, 400).skewed);
        assert!(!counted(850, 150).skewed);
    }

    #[test]
    fn a_candidate_is_held_by_the_gateways_pods_and_confirmed_by_its_own() {
        let mut target = Target { candidate: Some("c".into()), ..target(&[("a", true), ("b", true), ("x", true)]) };
        target.pods[2].of_candidate = true;
        let holding = || Ok(StateReport { candidate: Some("c".into()), ..report() });
        let seen = |b: Answer, x: Answer| {
            let answers = [("a".to_owned(), holding()), ("b".to_owned(), b), ("x".to_owned(), x)].into();
            let summary = Summary::of(&target, &answers);
            (summary.programmed, summary.holds_candidate, summary.candidates, summary.released, summary.own_released)
        };
        assert_eq!(seen(holding(), holding()), (true, true, (1, 1), true, true));
        // What was written since is confirmed anew; the candidate is there all the same.
        let older = || Ok(StateReport { epoch: 1, ..holding().unwrap() });
        assert_eq!(seen(older(), older()), (false, false, (1, 0), false, false));
        let answers = ["a", "b", "x"].map(|uid| (uid.to_owned(), older())).into();
        let summary = Summary::of(&target, &answers);
        assert_eq!((summary.keeps_candidate, summary.keeping), (true, 1));
        // So it is where nobody was asked yet.
        let summary = Summary::of(&target, &BTreeMap::new());
        assert_eq!((summary.keeps_candidate, summary.keeping, summary.holds_candidate), (true, 1, false));
        // One that cannot use it serves what is stable, and confirms that.
        assert_eq!(seen(Ok(report()), holding()), (true, false, (1, 1), true, true));
        // The gateway is what it is without the candidate's pods.
        assert_eq!(seen(holding(), Err(PodError::Unreachable)), (true, true, (1, 0), false, true));
    }
}
