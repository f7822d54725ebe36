//! What is told of an analysis: its report, and beside that the watch for gateway containers that end, as a check. Pure.

use bifrost_analysis::{CheckReport, Report};
use bifrost_crds::{AnalysisStatus, CheckStatus, Verdict};

use crate::migration::outlook::cut;
use crate::migration::progress::{Cause, Progress};
use crate::rollout::in_words;

/// The watch's name among the checks. None of a spec is called so: their names have no capitals.
const GATEWAY_CRASH: &str = Cause::GatewayCrash.as_str();

/// How the arms compare. What led to a rollback is told for as long as that is in force.
pub(super) fn analysis(
    report: Option<&Report>,
    progress: Option<&Progress>,
    before: Option<AnalysisStatus>,
) -> Option<AnalysisStatus> {
    let is_back = progress.is_some_and(|progress| progress.rollback.is_some());
    let told = report.map(compared).or_else(|| before.filter(|_| is_back));
    let Some(crash) = progress.and_then(crash) else { return told };
    let mut told = told.unwrap_or(AnalysisStatus { verdict: Verdict::Inconclusive, checks: Vec::new() });
    if crash.verdict == Verdict::Fail {
        told.verdict = Verdict::Fail;
    }
    told.checks.retain(|check| check.name != crash.name);
    told.checks.push(crash);
    Some(told)
}

/// The same of a candidate and the stable revision.
pub(super) fn of_rollout(
    report: Option<&Report>,
    progress: &Progress,
    before: Option<AnalysisStatus>,
) -> Option<AnalysisStatus> {
    let mut told = analysis(report, Some(progress), before)?;
    for check in &mut told.checks {
        check.message = cut(&in_words(&check.message));
    }
    Some(told)
}

/// What the watch says; none while nobody watches.
fn crash(progress: &Progress) -> Option<CheckStatus> {
    let rollback = progress.rollback.as_ref().filter(|rollback| rollback.reason == Cause::GatewayCrash);
    let (verdict, why) = match rollback {
        Some(rollback) => (Verdict::Fail, rollback.message.as_str()),
        None => (Verdict::Pass, progress.watched.map(|_| "no gateway container ended at this step")?),
    };
    Some(CheckStatus { name: GATEWAY_CRASH.to_owned(), verdict, message: cut(&format!("{GATEWAY_CRASH}: {why}")) })
}

fn compared(report: &Report) -> AnalysisStatus {
    let check = |check: &CheckReport| CheckStatus {
        name: check.name.clone(),
        verdict: verdict(check.verdict),
        message: cut(&check.reason),
    };
    AnalysisStatus { verdict: verdict(report.verdict), checks: report.checks.iter().map(check).collect() }
}

const fn verdict(verdict: bifrost_analysis::Verdict) -> Verdict {
    match verdict {
        bifrost_analysis::Verdict::Pass => Verdict::Pass,
        bifrost_analysis::Verdict::Fail => Verdict::Fail,
        bifrost_analysis::Verdict::Inconclusive => Verdict::Inconclusive,
    }
}

#[cfg(test)]
mod tests {
    use bifrost_config::{Position, Strategy};
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::migration::progress::Rollback;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn watched() -> Progress {
        let begun = Progress::new(Strategy::Canary, "r", None, at(0)).at(Some(Position::Percent(10)), at(1));
        Progress { watched: Some(at(2)), ..begun }
    }

    fn back(reason: Cause) -> Progress {
        let message = "the gateway container of pod ai-a ended: OOMKilled, exit code 137".to_owned();
        let rollback = Rollback { from: Some(Position::Percent(10)), at: at(3), reason, message };
        Progress { rollback: Some(rollback), ..watched().at(None, at(3)) }
    }

    fn report() -> Report {
        let verdict = bifrost_analysis::Verdict::Pass;
        Report { verdict, action: None, checks: Vec::new() }
    }

    fn shown(status: Option<AnalysisStatus>) -> Option<(Verdict, Vec<(String, Verdict)>)> {
        status.map(|one| (one.verdict, one.checks.into_iter().map(|check| (check.message, check.verdict)).collect()))
    }

    #[test]
    fn a_watch_that_sees_no_crash_passes_and_changes_no_verdict() {
        let calm = ("GatewayCrash: no gateway container ended at this step".to_owned(), Verdict::Pass);
        let told = analysis(Some(&report()), Some(&watched()), None);
        assert_eq!(shown(told), Some((Verdict::Pass, vec![calm.clone()])));
        let unmeasured = analysis(None, Some(&watched()), None);
        assert_eq!(shown(unmeasured), Some((Verdict::Inconclusive, vec![calm])));
        let unwatched = Progress { watched: None, ..watched() };
        assert_eq!(shown(analysis(Some(&report()), Some(&unwatched), None)), Some((Verdict::Pass, vec![])));
        assert_eq!(analysis(None, None, None), None);
    }

    #[test]
    fn a_crash_fails_the_whole_for_as_long_as_its_rollback_is_in_force() {
        let ended = "GatewayCrash: the gateway container of pod ai-a ended: OOMKilled, exit code 137".to_owned();
        let failed = Some((Verdict::Fail, vec![(ended, Verdict::Fail)]));
        let before = analysis(Some(&report()), Some(&watched()), None);
        let told = of_rollout(None, &back(Cause::GatewayCrash), before);
        assert_eq!(shown(told.clone()), failed, "once, in the place of what passed before");
        assert_eq!(shown(analysis(Some(&report()), Some(&back(Cause::GatewayCrash)), None)), failed);
        let anew = analysis(Some(&report()), Some(&watched()), told).unwrap();
        assert_eq!(anew.verdict, Verdict::Pass, "tried again");
    }

    #[test]
    fn what_led_to_another_rollback_stays() {
        let before = analysis(Some(&report()), Some(&watched()), None);
        assert_eq!(analysis(None, Some(&back(Cause::AnalysisFailed)), before.clone()), before);
    }
}
