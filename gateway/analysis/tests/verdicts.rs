//! What each verdict needs, on windows made for it.

use std::time::Duration;

use bifrost_analysis::{
    Action, Arm, Budget, Cause, Check, CheckKind, CheckReport, Failure, GROSS_FAILURE, Inputs, Limit, Merged, Position,
    Price, Prices, Report, Sample, Verdict, Watch, Window, verdict,
};

/// `requests` of a model on an arm, evenly over the groups, of which one in `each` fails.
fn traffic(window: &mut Window, model: &str, arm: Arm, requests: usize, each: usize) {
    for number in 0..requests {
        let sample = Sample {
            // Failures are spread over the groups too.
            group: number.wrapping_mul(37) / 3 % 64,
            failure: (each > 0 && number % each == 0).then_some(Failure::Timeout),
            latency: Duration::from_millis(if arm == Arm::Bifrost { 130 } else { 100 } + number as u64 % 17),
            input_tokens: Some(10),
            output_tokens: Some(if arm == Arm::Bifrost { 30 } else { 20 } + number as u64 % 5),
            ..Sample::default()
        };
        window.record(("openai", model, "chat_completion", false), arm, &sample);
    }
}

fn check(kind: CheckKind, limit: Limit, action: Action) -> Check {
    Check { name: "It".into(), kind, limit, action }
}

fn error_rate(action: Action) -> Check {
    check(CheckKind::ErrorRate { classes: Vec::new() }, Limit::ERROR_RATE, action)
}

fn complete(total: Window) -> Merged {
    Merged { total, known_share: 1.0, is_complete: true, ..Merged::default() }
}

fn inputs<'a>(merged: &'a Merged, checks: &'a [Check], prices: &'a Prices) -> Inputs<'a> {
    let position = Position { step: 0, steps: Some(5) };
    Inputs { merged, checks, prices, budget: Budget::default(), position, min_requests: 100 }
}

fn judge(merged: &Merged, checks: &[Check]) -> Report {
    verdict(&inputs(merged, checks, &Prices::new()))
}

/// 1 % fail on baseline, 5 % on bifrost.
fn worse() -> Window {
    let mut window = Window::new();
    traffic(&mut window, "gpt-4o-mini", Arm::Baseline, 5_000, 100);
    traffic(&mut window, "gpt-4o-mini", Arm::Bifrost, 5_000, 20);
    window
}

#[test]
fn a_fail_is_explained_in_a_sentence() {
    let report = judge(&complete(worse()), &[error_rate(Action::Rollback)]);
    assert_eq!((report.verdict, report.action), (Verdict::Fail, Some(Action::Rollback)));
    assert_eq!(
        report.checks[0].reason,
        "It openai/gpt-4o-mini chat_completion: 5 % on the bifrost arm against 1 % on baseline (5,000 and 5,000 requests), \
         more than +0.5 points at any look"
    );
    let (low, high) = report.checks[0].bounds.unwrap();
    assert!(low > 0.005 && low < 0.04 && high > 0.04, "{low} {high}");
}

#[test]
fn a_fail_needs_most_of_the_traffic_and_a_pass_every_pod() {
    let unknown = Merged { known_share: 0.79, ..complete(worse()) };
    let report = judge(&unknown, &[error_rate(Action::Rollback)]);
    assert_eq!((report.verdict, report.checks[0].cause), (Verdict::Inconclusive, Some(Cause::UnknownTraffic)));

    let mut window = Window::new();
    traffic(&mut window, "gpt-4o-mini", Arm::Baseline, 500, 100);
    traffic(&mut window, "gpt-4o-mini", Arm::Bifrost, 500, 100);
    let mut merged = complete(window);
    assert_eq!(judge(&merged, &[error_rate(Action::Rollback)]).verdict, Verdict::Pass);
    merged.is_complete = false;
    let report = judge(&merged, &[error_rate(Action::Rollback)]);
    assert_eq!((report.verdict, report.checks[0].cause), (Verdict::Inconclusive, Some(Cause::MissingPods)));
}

#[test]
fn a_warning_is_said_and_holds_nothing() {
    let report = judge(&complete(worse()), &[error_rate(Action::Warn)]);
    assert_eq!((report.verdict, report.action), (Verdict::Pass, Some(Action::Warn)));
    assert_eq!(report.checks[0].verdict, Verdict::Fail);
}

#[test]
fn nothing_is_inconclusive() {
    let report = judge(&complete(Window::new()), &[error_rate(Action::Rollback)]);
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert_eq!(report.checks[0].cause, Some(Cause::TooFewRequests));
    assert_eq!(report.checks[1].name, GROSS_FAILURE);
}

#[test]
fn without_a_baseline_absolute_limits_still_work() {
    let mut window = Window::new();
    traffic(&mut window, "gpt-4o-mini", Arm::Bifrost, 5_000, 20);
    let kind = || CheckKind::ErrorRate { classes: Vec::new() };
    let against = check(kind(), Limit::AgainstBaseline(0.0), Action::Pause);
    let absolute = check(kind(), Limit::Absolute(0.02), Action::Pause);
    let report = judge(&complete(window), &[against, absolute]);
    assert_eq!((report.verdict, report.action), (Verdict::Fail, Some(Action::Pause)));
    assert_eq!(report.checks[0].cause, Some(Cause::NoBaseline));
    assert_eq!(report.checks[1].verdict, Verdict::Fail);
}

#[test]
fn another_mix_of_models_is_no_difference() {
    let mut window = Window::new();
    // "weak" fails at 10 % and "strong" at 1 % on both arms; the bifrost arm has more of the weak one.
    for (arm, weak, strong) in [(Arm::Baseline, 1_000, 9_000), (Arm::Bifrost, 9_000, 1_000)] {
        traffic(&mut window, "weak", arm, weak, 10);
        traffic(&mut window, "strong", arm, strong, 100);
    }
    assert_eq!(judge(&complete(window), &[error_rate(Action::Rollback)]).verdict, Verdict::Pass);
}

#[test]
fn what_has_no_counterpart_on_the_old_arm_holds_a_pass() {
    let window = |alone: usize| {
        let mut window = Window::new();
        for arm in [Arm::Baseline, Arm::Bifrost] {
            traffic(&mut window, "compared", arm, 1_000, 100);
        }
        traffic(&mut window, "alone", Arm::Bifrost, alone, 2);
        window
    };
    let report = |alone| judge(&complete(window(alone)), &[error_rate(Action::Rollback)]);
    assert_eq!(report(100).verdict, Verdict::Pass);
    let held = report(1_000);
    assert_eq!((held.verdict, held.checks[0].cause), (Verdict::Inconclusive, Some(Cause::NoBaseline)));
    assert!(held.checks[0].reason.contains("have none on the baseline arm"), "{}", held.checks[0].reason);
}

#[test]
fn one_bad_model_among_good_ones_fails() {
    let mut window = worse();
    for arm in [Arm::Baseline, Arm::Bifrost] {
        traffic(&mut window, "large", arm, 100_000, 100);
    }
    let report = judge(&complete(window), &[error_rate(Action::Rollback)]);
    assert_eq!(report.checks[0].stratum.as_ref().map(|stratum| stratum.model.as_str()), Some("gpt-4o-mini"));
}

#[test]
fn durations_tokens_and_cost_are_relative() {
    let merged = complete(worse());
    let prices: Prices = [(merged.total.strata()[0].stratum.clone(), Price { input: 1e-6, output: 4e-6 })].into();
    for (kind, least, most) in [
        (CheckKind::Latency, 0.25, 0.3),
        (CheckKind::OutputTokens, 0.44, 0.46),
        (CheckKind::CostPerRequest, 0.38, 0.42),
    ] {
        for (limit, expected) in [(0.2, Verdict::Fail), (0.6, Verdict::Pass)] {
            let checks = [check(kind.clone(), Limit::AgainstBaseline(limit), Action::Pause)];
            let report = verdict(&inputs(&merged, &checks, &prices));
            assert_eq!(report.verdict, expected, "{report:?}");
            let estimate = report.checks[0].estimate.unwrap();
            assert!((least..most).contains(&estimate), "{kind:?}: {estimate}");
        }
    }
}

#[test]
fn cost_without_a_price_is_inconclusive() {
    let checks = [check(CheckKind::CostPerRequest, Limit::AgainstBaseline(0.1), Action::Pause)];
    let report = judge(&complete(worse()), &checks);
    assert_eq!((report.verdict, report.checks[0].cause), (Verdict::Inconclusive, Some(Cause::NoPrice)));
}

#[test]
fn checks_are_looked_at_again_when_the_data_has_grown() {
    let mut merged = complete(Window::new());
    traffic(&mut merged.total, "gpt-4o-mini", Arm::Baseline, 5_000, 100);
    traffic(&mut merged.total, "gpt-4o-mini", Arm::Bifrost, 5_000, 100);
    let (checks, prices, mut watch) = ([error_rate(Action::Rollback)], Prices::new(), Watch::default());
    assert_eq!(watch.look(&inputs(&merged, &checks, &prices)).checks[0].requests[1], 5_000);
    traffic(&mut merged.total, "gpt-4o-mini", Arm::Bifrost, 99, 100);
    assert_eq!(watch.look(&inputs(&merged, &checks, &prices)).checks[0].requests[1], 5_000);
    let other = [error_rate(Action::Pause)];
    assert_eq!(watch.look(&inputs(&merged, &other, &prices)).checks[0].requests[1], 5_099, "other checks");
    traffic(&mut merged.total, "gpt-4o-mini", Arm::Bifrost, 1, 0);
    let mut watch = Watch::default();
    let report = watch.look(&inputs(&merged, &checks, &prices));
    assert_eq!(report.checks[0].requests[1], 5_100);
    assert_eq!(report, verdict(&inputs(&merged, &checks, &prices)));
}

/// Copies of a model, evenly over the groups, of which one in `each` differs.
fn copied(window: &mut Window, model: &str, copies: usize, each: usize) {
    for number in 0..copies {
        let group = number.wrapping_mul(37) / 3 % 64;
        window.record_copy(("openai", model, "chat_completion", false), group, number % each != 0);
    }
}

fn agreement(window: Window, least: f64) -> CheckReport {
    let kind = CheckKind::ShadowAgreement;
    let mut report = judge(&complete(window), &[check(kind, Limit::Absolute(1.0 - least), Action::Rollback)]);
    report.checks.swap_remove(0)
}

#[test]
fn copies_that_differ_too_often_fail_and_say_how_many_agree() {
    let mut window = Window::new();
    traffic(&mut window, "gpt-4o-mini", Arm::Bifrost, 5_000, 0);
    let none = agreement(window.clone(), 0.95);
    assert_eq!((none.verdict, none.cause), (Verdict::Inconclusive, Some(Cause::TooFewRequests)));
    assert_eq!(none.reason, "It: nothing has been copied and compared yet, see status.shadow");

    copied(&mut window, "gpt-4o-mini", 90, 10);
    let few = agreement(window.clone(), 0.95);
    assert_eq!((few.verdict, few.cause, few.requests), (Verdict::Inconclusive, Some(Cause::TooFewRequests), [0, 90]));
    assert!(
        few.reason.ends_with("90 % of 90 copies agree, too few copies yet: 100 are needed on the bifrost arm"),
        "{}",
        few.reason
    );

    copied(&mut window, "gpt-4o-mini", 1_910, 10);
    let place = "It openai/gpt-4o-mini chat_completion";
    let fail = agreement(window.clone(), 0.95);
    assert_eq!(fail.verdict, Verdict::Fail);
    assert_eq!(fail.reason, format!("{place}: 90 % of 2,000 copies agree, less than 95 % at any look"));
    let pass = agreement(window.clone(), 0.9);
    assert_eq!(pass.verdict, Verdict::Pass);
    assert_eq!(pass.reason, format!("{place}: 90 % of 2,000 copies agree, not less than 90 %"));
    let unsure = agreement(window, 0.907);
    assert_eq!((unsure.verdict, unsure.cause), (Verdict::Inconclusive, Some(Cause::Unproven)));
    assert!(unsure.reason.ends_with("below 90.7 %, which may still be chance"), "{}", unsure.reason);
}

#[test]
fn one_users_copies_do_not_fail_alone() {
    let mut window = Window::new();
    copied(&mut window, "gpt-4o-mini", 1_000, 1_000);
    for _ in 0..300 {
        window.record_copy(("openai", "gpt-4o-mini", "chat_completion", false), 7, false);
    }
    assert_eq!(agreement(window, 0.95).verdict, Verdict::Inconclusive);
}

#[test]
fn copies_alone_bring_a_look() {
    let mut window = Window::new();
    copied(&mut window, "gpt-4o-mini", 200, 200);
    let checks = [check(CheckKind::ShadowAgreement, Limit::Absolute(0.05), Action::Rollback)];
    let prices = Prices::new();
    let mut watch = Watch::default();
    let before = complete(window.clone());
    assert_eq!(
        watch.look(&inputs(&before, &checks, &prices)).verdict,
        Verdict::Inconclusive,
        "gross failure has no data"
    );
    copied(&mut window, "gpt-4o-mini", 2_000, 3);
    let after = complete(window);
    assert_eq!(watch.look(&inputs(&after, &checks, &prices)).checks[0].verdict, Verdict::Fail);
}
