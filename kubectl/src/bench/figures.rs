//! Percentiles of what was measured, and how they are printed. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::human::count;
use crate::table::table;

/// What was seen one way.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// Times of the requests that succeeded.
    pub(super) took: Vec<Duration>,
    /// Requests that did not.
    pub(super) failed: usize,
    /// Arms that served them.
    pub(super) arms: Vec<String>,
}

impl Figures {
    /// Adds those of another worker.
    pub(super) fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.failed += other.failed;
        self.arms.extend(other.arms);
    }

    /// The time within which this percent of the requests were answered (nearest rank); 0 without any.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.took.clone();
        sorted.sort();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    fn mean(&self) -> Duration {
        let number = u32::try_from(self.took.len()).unwrap_or(u32::MAX).max(1);
        self.took.iter().sum::<Duration>() / number
    }
}

/// A time that says something of a way.
type Measure = fn(&Figures) -> Duration;
/// Those that are printed: p50, p95, mean, min and max.
const MEASURES: [Measure; 5] = [
    |all| all.percentile(50),
    |all| all.percentile(95),
    Figures::mean,
    |all| all.percentile(0),
    |all| all.percentile(100),
];

/// Both ways and their difference.
pub(super) fn text(direct: &Figures, through: &Figures, ping: Option<Duration>) -> String {
    let row = |name: &str, ok: String, failed: String, time: &dyn Fn(Measure) -> String| {
        let [p50, p95, mean, min, max] = MEASURES.map(time);
        [name.to_owned(), ok, failed, p50, p95, mean, min, max]
    };
    let way = |name: &str, figures: &Figures| {
        let time = |measure: Measure| milliseconds(measure(figures));
        row(name, figures.took.len().to_string(), figures.failed.to_string(), &time)
    };
    let difference = |measure: Measure| signed(measure(direct), measure(through));
    let last = row("difference", String::new(), String::new(), &difference);
    let rows = [way("direct", direct), way("gateway", through), last];
    let mut text = table(["WAY", "OK", "FAILED", "P50", "P95", "MEAN", "MIN", "MAX"], &rows);
    let mut arms = BTreeMap::new();
    for arm in &through.arms {
        *arms.entry(arm.as_str()).or_insert(0) += 1;
    }
    if !arms.is_empty() {
        let arms: Vec<_> =
            arms.into_iter().map(|(arm, number)| format!("{} by arm {arm}", count(number, "request"))).collect();
        text.push_str(&format!("gateway: {}\n", arms.join(", ")));
    }
    if let Some(ping) = ping {
        text.push_str(&format!(
            "the port-forward itself takes about {} of the gateway's time (p50 of requests that reach no vendor); from inside the cluster use --url\n",
            milliseconds(ping)
        ));
    }
    if direct.took.len() < 100 {
        text.push_str(
            "vendors' times vary: with fewer than 100 requests a difference of some milliseconds says little\n",
        );
    }
    text
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

fn signed(before: Duration, after: Duration) -> String {
    format!("{:+.1} ms", (after.as_secs_f64() - before.as_secs_f64()) * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(milliseconds: impl IntoIterator<Item = u64>, arm: &str) -> Figures {
        let took: Vec<_> = milliseconds.into_iter().map(Duration::from_millis).collect();
        Figures { arms: vec![arm.to_owned(); took.len()], took, failed: 1 }
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let hundred = figures(1..=100, "x");
        assert_eq!(hundred.percentile(50), Duration::from_millis(50));
        assert_eq!(hundred.percentile(95), Duration::from_millis(95));
        assert_eq!([0, 100].map(|end| hundred.percentile(end)), [1, 100].map(Duration::from_millis), "min and max");
        assert_eq!(figures([7], "x").percentile(95), Duration::from_millis(7));
        assert_eq!(Figures::default().percentile(50), Duration::ZERO);
    }

    #[test]
    fn both_ways_and_their_difference() {
        let (direct, through) = (figures(400..420, ""), figures(403..423, "bifrost"));
        insta::assert_snapshot!(text(&Figures { arms: vec![], ..direct }, &through, Some(Duration::from_micros(1900))));
    }
}
