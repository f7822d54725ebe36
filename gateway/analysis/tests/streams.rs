//! Plain requests and streams of one model are compared apart: what is wrong with the streams alone is found beside any number of healthy
//! plain requests, and named.

use std::time::Duration;

use bifrost_analysis::{
    Action, Arm, Budget, Check, CheckKind, Failure, Inputs, Limit, Merged, Position, Prices, Report, Sample, Verdict,
    Window, verdict,
};

const MODEL: &str = "gpt-4o-mini";
/// Plain requests and streams of an arm. With so many plain ones, all requests together would be within every limit.
const PLAIN: usize = 50_000;
const STREAMS: usize = 2_500;
/// Half as long again.
const LATER: Limit = Limit::AgainstBaseline(0.5);

fn record(
    window: &mut Window,
    (model, stream): (&str, bool),
    arm: Arm,
    requests: usize,
    sample: impl Fn(usize) -> Sample,
) {
    for number in 0..requests {
        // Both kinds are of the same users.
        let sample = Sample { group: number.wrapping_mul(37) / 3 % 64, ..sample(number) };
        window.record(("openai", model, "chat_completion", stream), arm, &sample);
    }
}

/// What fails, one request in `each`, and when the first token comes.
fn sample(number: usize, each: usize, first_output: Option<u64>) -> Sample {
    Sample {
        failure: number.is_multiple_of(each).then_some(Failure::BrokenStream),
        latency: Duration::from_millis(500 + number as u64 % 17),
        first_output: first_output.map(|millis| Duration::from_millis(millis + number as u64 % 17)),
        ..Sample::default()
    }
}

/// One request in a hundred fails on both arms, but for the model's streams on the bifrost arm: they fail as often as `each` says, and
/// begin that late. The streams of another model are healthy.
fn window(plain: usize, each: usize, first_output: u64) -> Merged {
    let mut window = Window::new();
    for arm in [Arm::Baseline, Arm::Bifrost] {
        let (each, first_output) = if arm == Arm::Bifrost { (each, first_output) } else { (100, 100) };
        record(&mut window, (MODEL, false), arm, plain, |number| sample(number, 100, None));
        record(&mut window, (MODEL, true), arm, STREAMS, |number| sample(number, each, Some(first_output)));
        record(&mut window, ("another", true), arm, 10 * STREAMS, |number| sample(number, 100, Some(100)));
    }
    Merged { total: window, known_share: 1.0, is_complete: true, ..Merged::default() }
}

fn judge(merged: &Merged, kind: CheckKind, limit: Limit) -> Report {
    let checks = [Check { name: "it".into(), kind, limit, action: Action::Rollback }];
    verdict(&Inputs {
        merged,
        checks: &checks,
        prices: &Prices::new(),
        budget: Budget::default(),
        position: Position { step: 0, steps: Some(5) },
        min_requests: 100,
    })
}

fn is_of_the_streams(report: &Report) -> bool {
    let check = &report.checks[0];
    let stratum = check.stratum.as_ref().expect("a stratum");
    let named = check.reason.contains("openai/gpt-4o-mini chat_completion (stream): ");
    report.verdict == Verdict::Fail && stratum.stream && stratum.model == MODEL && named
}

fn errors() -> CheckKind {
    CheckKind::ErrorRate { classes: Vec::new() }
}

#[test]
fn streams_that_fail_are_found_beside_healthy_plain_requests() {
    let report = judge(&window(PLAIN, 20, 100), errors(), Limit::ERROR_RATE);
    assert!(is_of_the_streams(&report), "{report:?}");
    assert_eq!(report.checks[0].requests, [STREAMS as u64; 2]);
    let healthy = judge(&window(PLAIN, 100, 100), errors(), Limit::ERROR_RATE);
    assert_eq!(healthy.verdict, Verdict::Pass, "{healthy:?}");
}

#[test]
fn what_only_streams_have_is_said_of_the_streams() {
    let mut window = Window::new();
    for (arm, first_output) in [(Arm::Baseline, 100), (Arm::Bifrost, 300)] {
        record(&mut window, (MODEL, false), arm, STREAMS, |number| sample(number, 100, None));
        record(&mut window, (MODEL, true), arm, STREAMS, |number| sample(number, 100, Some(first_output)));
    }
    let merged = Merged { total: window, known_share: 1.0, is_complete: true, ..Merged::default() };
    let report = judge(&merged, CheckKind::TimeToFirstToken, LATER);
    assert!(is_of_the_streams(&report), "{report:?}");
}

#[test]
fn plain_requests_alone_pass_and_have_no_first_token() {
    let mut plain = Window::new();
    for arm in [Arm::Baseline, Arm::Bifrost] {
        record(&mut plain, (MODEL, false), arm, PLAIN, |number| sample(number, 100, None));
    }
    let plain = Merged { total: plain, known_share: 1.0, is_complete: true, ..Merged::default() };
    assert_eq!(judge(&plain, errors(), Limit::ERROR_RATE).verdict, Verdict::Pass);
    let report = judge(&plain, CheckKind::TimeToFirstToken, LATER);
    assert_eq!((report.verdict, report.checks[0].estimate), (Verdict::Inconclusive, None), "{report:?}");
}

#[test]
fn first_tokens_that_are_late_are_found_beside_plain_requests_that_have_none() {
    let late = window(PLAIN, 100, 300);
    let report = judge(&late, CheckKind::TimeToFirstToken, LATER);
    assert!(is_of_the_streams(&report), "{report:?}");
    let alone = judge(&window(0, 100, 300), CheckKind::TimeToFirstToken, LATER);
    assert_eq!(alone.checks[0].estimate, report.checks[0].estimate, "plain requests count for nothing in it");
    let healthy = judge(&window(PLAIN, 100, 100), CheckKind::TimeToFirstToken, LATER);
    assert_eq!(healthy.verdict, Verdict::Pass, "{healthy:?}");
    // The whole answers take as long as on the other arm.
    assert_eq!(judge(&late, CheckKind::Latency, LATER).verdict, Verdict::Pass);
}
