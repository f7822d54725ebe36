//! What must not be taken for a worse arm: outages of the vendor, users that differ, one user who is most of the traffic. Here
//! every user is simulated, and pods are pulled as the operator pulls them.

use std::time::Duration;

use bifrost_analysis::{
    Action, Arm, Budget, Cause, Check, CheckKind, Failure, Inputs, Ledger, Limit, Position, Prices, Report, Sample,
    Verdict, Watch, Window, WindowReport,
};
use fastrand::Rng;

const PULL: u64 = 5;

struct User {
    /// Requests a second.
    rate: f64,
    /// How probable it is that one of them fails.
    failing: f64,
    group: usize,
    arm: Arm,
    /// The usual latency, in seconds.
    latency: f64,
}

/// How users differ.
#[derive(Clone, Copy, Debug)]
struct Crowd {
    users: usize,
    /// Requests a second, all together.
    rate: f64,
    percent: f64,
    /// How unequal they are: the deviation of the logarithm of their rates.
    spread: f64,
    /// The share of users who fail often, and how often they do; the others fail at 1 %.
    unlucky: (f64, f64),
}

impl Crowd {
    fn draw(&self, rng: &mut Rng) -> Vec<User> {
        let mut users: Vec<User> = (0..self.users)
            .map(|_| User {
                rate: (normal(rng) * self.spread).exp(),
                failing: if rng.f64() < self.unlucky.0 { self.unlucky.1 } else { 0.01 },
                group: rng.usize(0..64),
                arm: if rng.f64() * 100.0 < self.percent { Arm::Bifrost } else { Arm::Baseline },
                latency: (normal(rng) * 0.7).exp(),
            })
            .collect();
        let all: f64 = users.iter().map(|user| user.rate).sum();
        for user in &mut users {
            user.rate *= self.rate / all;
        }
        users
    }
}

/// Close to a normal variate.
fn normal(rng: &mut Rng) -> f64 {
    (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0
}

fn poisson(rng: &mut Rng, mean: f64) -> u32 {
    if mean > 30.0 {
        return (mean + normal(rng) * mean.sqrt()).round().max(0.0) as u32;
    }
    let (limit, mut product, mut count) = ((-mean).exp(), rng.f64(), 0);
    while product > limit {
        product *= rng.f64();
        count += 1;
    }
    count
}

/// Goes through a step of two pods; `outage` is how probable it is, at a second, that a user's requests fail on either arm.
fn run(users: &[User], seconds: u64, allowed: f64, rng: &mut Rng, outage: impl Fn(u64) -> f64) -> Report {
    let kinds = [CheckKind::ErrorRate { classes: Vec::new() }, CheckKind::Latency];
    let checks = kinds.map(|kind| Check {
        name: format!("{kind:?}"),
        kind,
        limit: Limit::AgainstBaseline(allowed),
        action: Action::Rollback,
    });
    let mut windows = [Window::new(), Window::new()];
    let mut ledger = Ledger::new(Duration::ZERO, 1);
    ledger.set_pods(["a", "b"]);
    let mut watch = Watch::default();
    let mut report = None;
    for second in (PULL..=seconds).step_by(PULL as usize) {
        let out = outage(second);
        for user in users {
            let count = poisson(rng, user.rate * PULL as f64);
            // In an outage all of a user's requests of the moment fail, or none.
            let is_out = out > 0.0 && count > 0 && rng.f64() < out;
            for _ in 0..count {
                let failure = (is_out || rng.f64() < user.failing).then_some(Failure::Upstream5xx);
                let latency = Duration::from_secs_f64(user.latency * (rng.f64() * 3.0).exp());
                let sample = Sample { group: user.group, failure, latency, ..Sample::default() };
                let pod = usize::from(rng.bool());
                windows[pod].record(("openai", "gpt-4o-mini", "chat_completion", pod == 1), user.arm, &sample);
            }
        }
        let now = Duration::from_secs(second);
        for (pod, window) in ["a", "b"].into_iter().zip(&windows) {
            let answer = WindowReport { instance: pod.into(), epoch_mark: 1, window: window.clone() };
            assert!(ledger.pull(now, pod, answer));
        }
        let merged = ledger.merged(now);
        let found = watch.look(&Inputs {
            merged: &merged,
            checks: &checks,
            prices: &Prices::new(),
            budget: Budget::default(),
            position: Position { step: 1, steps: Some(5) },
            min_requests: 100,
        });
        let is_over = found.verdict == Verdict::Fail;
        report = Some(found);
        if is_over {
            break;
        }
    }
    report.expect("a step has a pull")
}

/// How many of so many steps failed.
fn failed(crowd: Crowd, runs: u64, seconds: u64, outage: fn(u64) -> f64) -> usize {
    let reports = (0..runs).filter_map(|seed| {
        let mut rng = Rng::with_seed(seed);
        let users = crowd.draw(&mut rng);
        let report = run(&users, seconds, 0.0, &mut rng, outage);
        (report.verdict == Verdict::Fail).then_some(report)
    });
    reports
        .inspect(|report| {
            for check in report.checks.iter().filter(|check| check.verdict == Verdict::Fail) {
                println!("{crowd:?}: {}", check.reason);
            }
        })
        .count()
}

const EVEN: Crowd = Crowd { users: 1_000, rate: 20.0, percent: 50.0, spread: 0.0, unlucky: (0.0, 0.0) };

/// Ten minutes of each half an hour nearly everything, or half of it, fails.
fn outages(second: u64) -> f64 {
    match second % 3_600 {
        600..1_200 => 0.95,
        2_400..3_000 => 0.5,
        _ => 0.0,
    }
}

#[test]
fn an_outage_of_the_vendor_is_no_difference() {
    for percent in [5.0, 50.0, 95.0] {
        for spread in [0.0, 1.5] {
            let crowd = Crowd { percent, spread, ..EVEN };
            assert_eq!(failed(crowd, 5, 3_600, outages), 0, "{crowd:?}");
        }
    }
}

#[test]
fn users_who_differ_are_no_difference() {
    for percent in [5.0, 50.0, 95.0] {
        for unlucky in [(0.02, 1.0), (0.2, 0.1)] {
            let crowd = Crowd { users: 300, rate: 10.0, percent, spread: 1.5, unlucky };
            assert_eq!(failed(crowd, 8, 5_400, |_| 0.0), 0, "{crowd:?}");
        }
    }
}

#[test]
fn one_user_who_is_most_of_an_arm_is_inconclusive() {
    let mut rng = Rng::with_seed(1);
    let mut users = EVEN.draw(&mut rng);
    users.push(User { rate: 15.0, failing: 0.3, group: 5, arm: Arm::Bifrost, latency: 1.0 });
    let report = run(&users, 3_600, 0.0, &mut rng, |_| 0.0);
    assert_eq!(report.verdict, Verdict::Inconclusive, "{report:?}");
    assert_eq!(report.checks[0].cause, Some(Cause::TooFewUsers));
}

#[test]
fn an_arm_that_is_worse_for_all_fails() {
    let mut rng = Rng::with_seed(1);
    let mut users = EVEN.draw(&mut rng);
    for user in users.iter_mut().filter(|user| user.arm == Arm::Bifrost) {
        user.failing = 0.03;
    }
    let report = run(&users, 3_600, 0.005, &mut rng, |_| 0.0);
    assert_eq!((report.verdict, report.action), (Verdict::Fail, Some(Action::Rollback)), "{report:?}");
    assert!(report.checks[0].reason.contains("more than +0.5 points at any look"), "{}", report.checks[0].reason);
}

#[test]
fn an_arm_that_is_slower_for_all_fails() {
    let mut rng = Rng::with_seed(1);
    let mut users = EVEN.draw(&mut rng);
    for user in users.iter_mut().filter(|user| user.arm == Arm::Bifrost) {
        user.latency *= 1.5;
    }
    let report = run(&users, 3_600, 0.1, &mut rng, |_| 0.0);
    assert_eq!(report.verdict, Verdict::Fail, "{report:?}");
    assert!(report.checks[1].reason.contains("more than +10 % at any look"), "{}", report.checks[1].reason);
}
