//! The metrics of copies: they count in no other.

use prometheus::proto::MetricFamily;

use super::families::{Values, counter, gauge, single_counter};
use crate::shadow::Book;

/// All metrics of copies; none where nothing is copied, and nothing was.
pub(super) fn of_copies(book: &Book) -> Vec<MetricFamily> {
    let Some(report) = book.report() else { return Vec::new() };
    let one = |value: &'static str| -> Values<'static> { vec![value.into()] };
    let outcomes = [
        (one("agreed"), report.agreed),
        (one("failed"), report.failed),
        (one("differed"), report.copied.saturating_sub(report.agreed).saturating_sub(report.failed)),
    ];
    let skipped = book.skipped().map(|(why, count)| (vec![format!("skipped_{why}").into()], count));
    let steps = book.similarity().into_iter().enumerate();
    let (cost, left) = book.money();
    let [first, copy] = book.sums();
    let plain = |name, help, value| gauge(name, help, &[], Vec::new(), value);
    let families = vec![
        counter(
            "bifrost_shadow_requests_total",
            "Requests that were chosen to be run on the other arm too, by what became of that.",
            &["outcome"],
            outcomes.into_iter().chain(skipped),
        ),
        counter(
            "bifrost_shadow_differences_total",
            "Copies whose answer is of another structure than the first, by what differs.",
            &["aspect"],
            book.differences().map(|(aspect, count)| (one(aspect), count)),
        ),
        counter(
            "bifrost_shadow_similarity_total",
            "Copies by the share of the words that are in both answers, in steps of 0.1.",
            &["at_least"],
            steps.map(|(step, count)| (vec![format!("0.{step}").into()], count)),
        ),
        counter(
            "bifrost_shadow_output_tokens_total",
            "Output tokens of requests that were copied, by side; only where both vendors named them.",
            &["side"],
            [(one("first"), first.1), (one("copy"), copy.1)].into_iter(),
        ),
        single_counter(
            "bifrost_shadow_first_seconds_total",
            "Time that requests took which were copied, in seconds.",
            first.0,
        ),
        single_counter("bifrost_shadow_copy_seconds_total", "Time that their copies took, in seconds.", copy.0),
        single_counter(
            "bifrost_shadow_cost_total",
            "What copies have cost, in the currency of the price table; what is under way not counted.",
            cost,
        ),
        plain(
            "bifrost_shadow_budget_left",
            "What may be spent on copies now, in the currency of the price table.",
            left,
        ),
        plain("bifrost_shadow_in_flight", "Copies in progress.", f64::from(book.running())),
    ];
    families.into_iter().filter(|family| !family.get_metric().is_empty()).collect()
}
