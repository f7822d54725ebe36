//! What holds for all windows.

use std::time::Duration;

use bifrost_analysis::{
    Action, Arm, Budget, Check, CheckKind, Failure, Inputs, Ledger, Limit, Merged, Position, Price, Prices, Sample,
    Stratum, Tally, Verdict, Window, WindowReport, verdict,
};
use proptest::prelude::*;

fn sample() -> impl Strategy<Value = Sample> {
    let failure = proptest::option::weighted(0.2, proptest::sample::select(Failure::ALL.to_vec()));
    let first = (0usize..64, failure, 0u64..100_000_000, any::<Option<u32>>(), any::<Option<u32>>());
    let second = (any::<Option<u16>>(), any::<Option<u16>>(), any::<Option<bool>>(), any::<Option<bool>>());
    (first, second).prop_map(|((group, failure, latency, ttft, overhead), (input, output, empty, invalid))| Sample {
        group,
        failure,
        latency: Duration::from_micros(latency),
        first_output: ttft.map(|micros| Duration::from_micros(micros.into())),
        overhead: overhead.map(|micros| Duration::from_micros(micros.into())),
        input_tokens: input.map(u64::from),
        output_tokens: output.map(u64::from),
        empty_response: empty,
        invalid_tool_call: invalid,
    })
}

fn window() -> impl Strategy<Value = Window> {
    let request = (0usize..4, any::<bool>(), any::<bool>(), sample(), 1u32..40);
    proptest::collection::vec(request, 0..40).prop_map(|requests| {
        let mut window = Window::new();
        for (model, stream, is_new, sample, times) in requests {
            let arm = if is_new { Arm::Bifrost } else { Arm::Baseline };
            let stratum = ("openai", ["a", "b", "c", "d"][model], "chat_completion", stream);
            for _ in 0..times {
                window.record(stratum, arm, &sample);
            }
            if sample.failure.is_none() {
                window.record_copy(stratum, sample.group, is_new);
            }
        }
        window
    })
}

fn merged(parts: &[&Window]) -> Window {
    let mut all = Window::new();
    for part in parts {
        all.merge(part);
    }
    all
}

/// The strata in one order, with their numbers as text: floating sums are the same only up to their last digits.
fn shown(window: &Window) -> Vec<String> {
    let mut strata: Vec<_> = window.strata().iter().collect();
    strata.sort_by(|a, b| a.stratum.cmp(&b.stratum));
    let show = |stats: &bifrost_analysis::StratumStats, arm| {
        stats.arm(arm).map(|stats| {
            let groups: Vec<_> = stats
                .groups
                .iter()
                .map(|g| {
                    let logs =
                        [g.latency, g.first_output, g.overhead].map(|sum| (sum.n, format!("{:.6}", sum.sum + 0.0)));
                    (
                        g.requests,
                        g.failures,
                        logs.map(|(n, sum)| (n, sum.replace("-0.000000", "0.000000"))),
                        g.usage,
                        g.empty,
                        g.invalid_tool_call,
                        g.copies,
                    )
                })
                .collect();
            format!("{groups:?} {:?} {:?}", stats.latency, stats.first_output)
        })
    };
    strata
        .into_iter()
        .map(|stats| format!("{:?} {:?} {:?}", stats.stratum, show(stats, Arm::Baseline), show(stats, Arm::Bifrost)))
        .collect()
}

fn all_checks(limit: Limit) -> Vec<Check> {
    let kinds = [
        CheckKind::ErrorRate { classes: Vec::new() },
        CheckKind::Latency,
        CheckKind::TimeToFirstToken,
        CheckKind::GatewayOverhead,
        CheckKind::OutputTokens,
        CheckKind::CostPerRequest,
        CheckKind::EmptyResponseRate,
        CheckKind::InvalidToolCallRate,
    ];
    let check = |kind: CheckKind| Check { name: format!("{kind:?}"), kind, limit, action: Action::Rollback };
    kinds.into_iter().map(check).collect()
}

fn judge(window: &Window, recent: Vec<Tally>, checks: &[Check]) -> bifrost_analysis::Report {
    let merged = Merged { total: window.clone(), recent, known_share: 1.0, is_complete: true, gross_looks: 0 };
    let stratum = |model: &str| Stratum {
        provider: "openai".into(),
        model: model.into(),
        endpoint: "chat_completion".into(),
        stream: true,
    };
    let prices: Prices = [(stratum("a"), Price { input: 1e-6, output: 4e-6 })].into();
    verdict(&Inputs {
        merged: &merged,
        checks,
        prices: &prices,
        budget: Budget::default(),
        position: Position::default(),
        min_requests: 100,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn merging_is_associative_and_commutative(a in window(), b in window(), c in window()) {
        let left = merged(&[&merged(&[&a, &b]), &c]);
        prop_assert_eq!(shown(&left), shown(&merged(&[&a, &merged(&[&b, &c])])));
        prop_assert_eq!(shown(&left), shown(&merged(&[&c, &b, &a])));
    }

    #[test]
    fn json_gives_back_what_it_was_given(window in window(), mark: u64) {
        let report = WindowReport { instance: "i".into(), epoch_mark: mark, window };
        let text = serde_json::to_string(&report).unwrap();
        let back: WindowReport = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(back.epoch_mark, mark);
        prop_assert_eq!(shown(&back.window), shown(&report.window));
    }

    #[test]
    fn garbage_is_refused_without_a_panic(text in ".{0,200}", cut in 0usize..2_000, junk: u8) {
        prop_assert!(serde_json::from_str::<WindowReport>(&text).is_err());
        let mut window = Window::new();
        window.record(("openai", "a", "chat_completion", true), Arm::Bifrost, &Sample::default());
        let report = WindowReport { instance: "i".into(), epoch_mark: 3, window };
        let mut bytes = serde_json::to_vec(&report).unwrap();
        let place = cut % bytes.len();
        bytes[place] = junk;
        // Some such changes are sound JSON still; what is read can be judged.
        if let Ok(report) = serde_json::from_slice::<WindowReport>(&bytes) {
            let _ = judge(&report.window, Vec::new(), &all_checks(Limit::AgainstBaseline(0.0)));
        }
        bytes.truncate(place);
        prop_assert!(serde_json::from_slice::<WindowReport>(&bytes).is_err());
    }

    #[test]
    fn the_same_data_has_the_same_verdict_and_too_little_never_fails(window in window(), limit in -1e3f64..1e3) {
        for limit in [Limit::Absolute(limit), Limit::AgainstBaseline(limit), Limit::AgainstBaseline(0.0)] {
            let checks = all_checks(limit);
            let report = judge(&window, Vec::new(), &checks);
            prop_assert_eq!(&report, &judge(&window, Vec::new(), &checks));
            for check in report.checks.iter().filter(|check| check.verdict == Verdict::Fail) {
                prop_assert!(check.requests[1] >= 100, "{:?}", check);
                prop_assert!(matches!(limit, Limit::Absolute(_)) || check.requests[0] >= 100, "{:?}", check);
            }
            let text = serde_json::to_string(&report).unwrap();
            prop_assert!(!text.contains("null,null"), "a bound that is no number: {}", text);
        }
    }

    #[test]
    fn without_a_baseline_only_absolute_limits_decide(window in window()) {
        let mut alone = Window::new();
        for stats in window.strata() {
            if let Some(arm) = stats.arm(Arm::Bifrost) {
                *alone.stratum_mut(&stats.stratum).arm_mut(Arm::Bifrost) = arm.clone();
            }
        }
        let report = judge(&alone, Vec::new(), &all_checks(Limit::AgainstBaseline(0.0)));
        prop_assert!(report.checks[..8].iter().all(|check| check.verdict == Verdict::Inconclusive));
    }

    #[test]
    fn fewer_than_twenty_failures_are_never_gross(groups in proptest::collection::vec(0usize..64, 0..20)) {
        let mut window = Window::new();
        for group in groups {
            let sample = Sample { group, failure: Some(Failure::Timeout), ..Sample::default() };
            window.record(("openai", "a", "chat_completion", true), Arm::Bifrost, &sample);
        }
        let report = judge(&window, vec![Tally::of(&window)], &[]);
        prop_assert_ne!(report.verdict, Verdict::Fail);
    }

    #[test]
    fn pods_in_any_order_make_the_same_totals(a in window(), b in window()) {
        let total = |pods: [(&str, &Window); 2]| {
            let mut ledger = Ledger::new(Duration::ZERO, 1);
            ledger.set_pods(["a", "b"]);
            for (pod, window) in pods {
                let report = WindowReport { instance: pod.into(), epoch_mark: 1, window: window.clone() };
                assert!(ledger.pull(Duration::from_secs(5), pod, report));
            }
            shown(&ledger.merged(Duration::from_secs(5)).total)
        };
        prop_assert_eq!(total([("a", &a), ("b", &b)]), total([("b", &b), ("a", &a)]));
    }
}
