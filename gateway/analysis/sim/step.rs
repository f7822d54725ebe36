//! One step of a migration: traffic on two arms, pulled every five seconds and judged.

use bifrost_analysis::{
    Action, Arm, ArmTally, Budget, Check, CheckKind, Failure, GROUPS, Inputs, Limit, Merged, Position, Prices, Report,
    Stratum, Tally, Verdict, Watch, could_be_gross, may_be_gross, span,
};
use fastrand::Rng;

use super::draw::{Poisson, scatter};

/// Seconds between pulls.
pub(crate) const PULL: u64 = 5;
/// How many spans of the recent past are looked at.
const SPANS: usize = 17;

/// The traffic of a step and how it is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Requests a second, over both arms.
    pub rate: f64,
    /// Percent of them on the new arm.
    pub percent: f64,
    /// Error rates of the old and of the new arm.
    pub errors: [f64; 2],
    /// The new arm has its own error rate only from this second on; before it has the old arm's.
    pub onset: u64,
    /// How many failures come together, all of one user.
    pub clump: u32,
    /// How long the step lasts, in seconds.
    pub seconds: u64,
    /// How much more may fail on the new arm.
    pub allowed: f64,
    /// Where the migration stands.
    pub position: Position,
}

/// What a step's traffic was when it failed.
pub(crate) struct Found {
    /// When, in seconds since the step began.
    pub second: u64,
    /// Pulls after which 20 requests had failed on the new arm since the onset, in seconds since the step began.
    pub twentieth: Option<u64>,
    /// The report.
    pub report: Report,
}

/// Requests and failures of both arms.
#[derive(Clone, Copy, Default)]
struct Counts {
    requests: [u64; 2],
    failures: [u64; 2],
}

struct Sources {
    successes: [Poisson; 2],
    clumps: [Poisson; 2],
    clump: u32,
}

impl Sources {
    fn new(plan: &Plan, errors: [f64; 2]) -> Self {
        let share = plan.percent / 100.0;
        let each = [1.0 - share, share].map(|share| share * plan.rate * PULL as f64);
        Self {
            successes: [0, 1].map(|arm| Poisson::new(each[arm] * (1.0 - errors[arm]))),
            clumps: [0, 1].map(|arm| Poisson::new(each[arm] * errors[arm] / f64::from(plan.clump))),
            clump: plan.clump,
        }
    }

    fn draw(&self, rng: &mut Rng) -> Counts {
        let mut counts = Counts::default();
        for arm in [0, 1] {
            let failures = u64::from(self.clumps[arm].draw(rng) * self.clump);
            counts.failures[arm] = failures;
            counts.requests[arm] = u64::from(self.successes[arm].draw(rng)) + failures;
        }
        counts
    }
}

/// Goes through the step, until it fails.
pub(crate) fn run(plan: &Plan, rng: &mut Rng) -> Option<Found> {
    let checks = [Check {
        name: "ErrorRate".into(),
        kind: CheckKind::ErrorRate { classes: Vec::new() },
        limit: Limit::AgainstBaseline(plan.allowed),
        action: Action::Rollback,
    }];
    let prices = Prices::new();
    let (healthy, ill) = (Sources::new(plan, [plan.errors[0]; 2]), Sources::new(plan, plan.errors));
    let mut merged = Merged { known_share: 1.0, is_complete: true, ..Merged::default() };
    let mut watch = Watch::default();
    let mut past = Past::new();
    let (mut pending, mut seen, mut failed_since_onset, mut twentieth) = (Counts::default(), 0, 0, None);
    let (mut second, mut gross_looks) = (0, 0);
    while second < plan.seconds {
        let sources = if second < plan.onset { &healthy } else { &ill };
        let counts = sources.draw(rng);
        failed_since_onset += if second < plan.onset { 0 } else { counts.failures[1] };
        second += PULL;
        if failed_since_onset >= 20 {
            twentieth = twentieth.or(Some(second));
        }
        for arm in [0, 1] {
            pending.requests[arm] += counts.requests[arm];
            pending.failures[arm] += counts.failures[arm];
        }
        seen += counts.requests[1];
        past.add(counts);
        let is_due = seen > 0 && watch.is_due(seen);
        let could_be_gross = past.any(could_be_gross);
        merged.gross_looks = gross_looks;
        gross_looks += u64::from(could_be_gross);
        let is_gross = could_be_gross && past.any(may_be_gross);
        if !(is_due || is_gross) {
            continue;
        }
        if is_due {
            settle(&mut merged, std::mem::take(&mut pending), plan.clump, rng);
        }
        merged.recent = past.tallies(plan.clump, rng);
        let report = watch.look(&Inputs {
            merged: &merged,
            checks: &checks,
            prices: &prices,
            budget: Budget::default(),
            position: plan.position,
            min_requests: 100,
        });
        if report.verdict == Verdict::Fail {
            return Some(Found { second, twentieth, report });
        }
    }
    None
}

fn stratum() -> Stratum {
    Stratum {
        provider: "openai".into(),
        model: "gpt-4o-mini".into(),
        endpoint: "chat_completion".into(),
        stream: false,
    }
}

/// Requests and failures by group.
fn by_group(rng: &mut Rng, requests: u64, failures: u64, clump: u32) -> ArmTally {
    let failures = scatter(rng, failures / u64::from(clump)).map(|count| count * clump);
    let mut counts = scatter(rng, requests - failures.iter().map(|&n| u64::from(n)).sum::<u64>());
    for group in 0..GROUPS {
        counts[group] += failures[group];
    }
    ArmTally { requests: counts, failures }
}

/// Adds to the step's totals what came since the last look.
fn settle(merged: &mut Merged, pending: Counts, clump: u32, rng: &mut Rng) {
    let stats = merged.total.stratum_mut(&stratum());
    for (place, arm) in [(0, Arm::Baseline), (1, Arm::Bifrost)] {
        if pending.requests[place] == 0 {
            continue;
        }
        let tally = by_group(rng, pending.requests[place], pending.failures[place], clump);
        let class = Failure::ALL.iter().position(|class| *class == Failure::Upstream5xx).unwrap_or_default();
        for (group, sums) in stats.arm_mut(arm).groups.iter_mut().enumerate() {
            sums.requests += tally.requests[group];
            sums.failures[class] += tally.failures[group];
        }
    }
}

/// The recent past: the last pulls, and their sums over each span. Requests of both arms, then failures.
struct Past {
    ring: Vec<[u32; 4]>,
    next: usize,
    pulls: [usize; SPANS],
    spans: [[u32; 4]; SPANS],
}

impl Past {
    /// More pulls than the longest span has; a power of two.
    const SIZE: usize = 2_048;

    fn new() -> Self {
        let pulls = std::array::from_fn(|place| (span(place as i32).as_secs_f64() / PULL as f64).ceil() as usize);
        Self { ring: vec![[0; 4]; Self::SIZE], next: 0, pulls, spans: [[0; 4]; SPANS] }
    }

    fn add(&mut self, counts: Counts) {
        let Counts { requests, failures } = counts;
        let new = [requests[0], requests[1], failures[0], failures[1]].map(|count| count as u32);
        for (pulls, sums) in self.pulls.iter().zip(&mut self.spans) {
            let leaving = self.ring[(self.next + Self::SIZE - pulls) % Self::SIZE];
            for place in 0..4 {
                sums[place] = sums[place] + new[place] - leaving[place];
            }
        }
        self.ring[self.next] = new;
        self.next = (self.next + 1) % Self::SIZE;
    }

    fn any(&self, condition: fn([u64; 2], [u64; 2]) -> bool) -> bool {
        self.counts().any(|Counts { requests, failures }| condition(requests, failures))
    }

    fn counts(&self) -> impl Iterator<Item = Counts> + '_ {
        self.spans.iter().map(|sums| {
            let [old, new, old_failed, new_failed] = sums.map(u64::from);
            Counts { requests: [old, new], failures: [old_failed, new_failed] }
        })
    }

    /// All spans, if there can be gross failure in one.
    fn tallies(&self, clump: u32, rng: &mut Rng) -> Vec<Tally> {
        if !self.any(may_be_gross) {
            return Vec::new();
        }
        self.counts()
            .map(|sums| {
                let pair = [0, 1].map(|arm| by_group(rng, sums.requests[arm], sums.failures[arm], clump));
                Tally { strata: vec![(stratum(), pair)] }
            })
            .collect()
    }
}
