//! The metrics: for each its name, its help and which labels of a series it keeps. Series that differ only in labels that a
//! metric does not have are added up.

use std::borrow::Cow;
use std::collections::BTreeMap;

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::gather::Totals;
use super::histogram::{self, BYTES, DURATION, FIRST_OUTPUT, NANOS, OVERHEAD};
use super::series::Labels;

/// Values of a metric's labels, in the order of their names.
pub(super) type Values<'a> = Vec<Cow<'a, str>>;

/// Labels of the metrics of upstream calls.
const CALL: &[&str] = &["provider", "model", "method", "selected_key_name", "arm"];
const HTTP: &[&str] = &["path", "method", "status"];

/// All metrics of requests. Those without a series yet are left out.
pub(super) fn of_requests(totals: &Totals) -> Vec<MetricFamily> {
    let every = || totals.series.iter();
    // What is no inference has no provider, model or arm.
    let inference = || every().filter(|(labels, _)| !labels.endpoint.is_empty());
    let calls = || inference().filter(|(labels, _)| !labels.provider.is_empty());
    let families = [
        counter(
            "bifrost_requests_total",
            "Inference requests by provider, model, status and arm.",
            &["provider", "model", "status", "arm"],
            inference().map(|(l, n)| (provider_model(l, [status(l), l.arm.into()]), n.requests)),
        ),
        times(
            "bifrost_request_duration_seconds",
            "Time from an inference request's head to its answer's last byte, in seconds.",
            &["provider", "model", "arm"],
            inference().map(|(l, n)| (provider_model(l, [l.arm.into()]), &n.total)),
        ),
        counter(
            "bifrost_arm_requests_total",
            "Inference requests by front, by the arm they took and why they took it.",
            &["front", "arm", "reason"],
            inference().map(|(l, n)| (vec![l.front.into(), l.arm.into(), l.reason.into()], n.requests)),
        ),
        counter(
            "bifrost_client_gone_total",
            "Requests whose client left before the answer's end.",
            CALL,
            inference().map(|(l, n)| (call(l), n.client_gone)),
        ),
        counter(
            "http_requests_total",
            "HTTP requests by path template, method and status.",
            HTTP,
            every().map(|(l, n)| (http(l), n.requests)),
        ),
        times(
            "http_request_duration_seconds",
            "Time from a request's head to its answer's last byte, in seconds.",
            HTTP,
            every().map(|(l, n)| (http(l), &n.total)),
        ),
        sizes(
            "http_request_size_bytes",
            "Size of requests' bodies in bytes.",
            every().map(|(l, n)| (http(l), &n.request_bytes)),
        ),
        sizes(
            "http_response_size_bytes",
            "Size of answers' bodies in bytes.",
            every().map(|(l, n)| (http(l), &n.response_bytes)),
        ),
        counter(
            "bifrost_upstream_requests_total",
            "Requests for which a provider was called.",
            CALL,
            calls().map(|(l, n)| (call(l), n.upstream.count)),
        ),
        times(
            "bifrost_upstream_latency_seconds",
            "Time from the first byte sent to a provider to the answer's last byte, in seconds.",
            &["provider", "model", "method", "selected_key_name", "arm", "is_success"],
            calls().map(|(l, n)| (call_and(l, is_success(l).to_string().into()), &n.upstream)),
        ),
        counter(
            "bifrost_success_requests_total",
            "Requests answered with a status below 400.",
            CALL,
            calls().filter(|(l, _)| is_success(l)).map(|(l, n)| (call(l), n.requests)),
        ),
        counter(
            "bifrost_error_requests_total",
            "Requests answered with an error; error_code is the gateway's own code, upstream_error_event for an error in mid-stream, else empty.",
            &["provider", "model", "method", "selected_key_name", "arm", "status_code", "error_code"],
            calls().filter(|(l, _)| !is_success(l)).map(|(l, n)| {
                let mut values = call_and(l, status(l));
                values.push(l.error_code.unwrap_or_default().into());
                (values, n.requests)
            }),
        ),
        counter(
            "bifrost_input_tokens_total",
            "Input tokens as the providers counted them.",
            CALL,
            calls().map(|(l, n)| (call(l), n.input_tokens)),
        ),
        counter(
            "bifrost_output_tokens_total",
            "Output tokens as the providers counted them.",
            CALL,
            calls().map(|(l, n)| (call(l), n.output_tokens)),
        ),
        histogram(
            "bifrost_stream_first_token_latency_seconds",
            "Time from a streaming request's last byte to the first event with output, in seconds.",
            CALL,
            NANOS,
            calls().map(|(l, n)| (call(l), (&FIRST_OUTPUT, &n.first_output))),
        ),
        histogram(
            "bifrost_stream_inter_token_latency_seconds",
            "Time between the chunks of a stream, from the first with output on, in seconds.",
            CALL,
            NANOS,
            calls().map(|(l, n)| (call(l), n.gaps.bounds_and_counts())),
        ),
        histogram(
            "bifrost_gateway_overhead_seconds",
            "Time from a request's last byte to the call of the provider, in seconds.",
            &["front", "arm"],
            NANOS,
            calls().map(|(l, n)| (vec![l.front.into(), l.arm.into()], (&OVERHEAD, &n.overhead))),
        ),
        gauge("bifrost_requests_in_flight", "Requests in progress.", &[], Vec::new(), totals.requests as f64),
        gauge("bifrost_open_connections", "Open connections of clients.", &[], Vec::new(), totals.connections as f64),
    ];
    families.into_iter().filter(|family| !family.get_metric().is_empty()).collect()
}

/// A gauge with one value.
pub(super) fn gauge(name: &str, help: &str, names: &[&str], values: Values<'_>, value: f64) -> MetricFamily {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::default();
    metric.set_gauge(gauge);
    family(name, help, MetricType::GAUGE, [labelled(metric, names, &values)])
}

/// A counter with one value and no labels.
pub(super) fn single_counter(name: &str, help: &str, value: f64) -> MetricFamily {
    family(name, help, MetricType::COUNTER, [count_of(value)])
}

fn status(labels: &Labels) -> Cow<'static, str> {
    if labels.status == 0 { "unknown".into() } else { labels.status.to_string().into() }
}

fn is_success(labels: &Labels) -> bool {
    (1..400).contains(&labels.status) && labels.error_code.is_none()
}

fn provider_model<'a, const N: usize>(labels: &'a Labels, rest: [Cow<'a, str>; N]) -> Values<'a> {
    let mut values: Values<'a> = vec![(&*labels.provider).into(), (&*labels.model).into()];
    values.extend(rest);
    values
}

fn http(labels: &Labels) -> Values<'_> {
    vec![labels.path.into(), labels.http_method.into(), status(labels)]
}

fn call(labels: &Labels) -> Values<'_> {
    provider_model(labels, [labels.endpoint.into(), (&*labels.key_name).into(), labels.arm.into()])
}

fn call_and<'a>(labels: &'a Labels, last: Cow<'a, str>) -> Values<'a> {
    let mut values = call(labels);
    values.push(last);
    values
}

pub(super) fn counter<'a>(
    name: &str,
    help: &str,
    names: &[&str],
    series: impl Iterator<Item = (Values<'a>, u64)>,
) -> MetricFamily {
    let mut sums = BTreeMap::<Values<'a>, u64>::new();
    for (values, count) in series {
        *sums.entry(values).or_default() += count;
    }
    let metrics = sums
        .into_iter()
        .filter(|(_, sum)| *sum > 0)
        .map(|(values, sum)| labelled(count_of(sum as f64), names, &values));
    family(name, help, MetricType::COUNTER, metrics)
}

fn times<'a>(
    name: &str,
    help: &str,
    names: &[&str],
    series: impl Iterator<Item = (Values<'a>, &'a histogram::Histogram<21>)>,
) -> MetricFamily {
    histogram(name, help, names, NANOS, series.map(|(values, times)| (values, (&DURATION, times))))
}

fn sizes<'a>(
    name: &str,
    help: &str,
    series: impl Iterator<Item = (Values<'a>, &'a histogram::Histogram<8>)>,
) -> MetricFamily {
    histogram(name, help, HTTP, 1.0, series.map(|(values, sizes)| (values, (&BYTES, sizes))))
}

fn histogram<'a, const N: usize>(
    name: &str,
    help: &str,
    names: &[&str],
    unit: f64,
    series: impl Iterator<Item = (Values<'a>, (&'static [u64; N], &'a histogram::Histogram<N>))>,
) -> MetricFamily {
    let mut sums = BTreeMap::<Values<'a>, (&'static [u64; N], histogram::Histogram<N>)>::new();
    for (values, (bounds, histogram)) in series.filter(|(_, (_, histogram))| histogram.count > 0) {
        sums.entry(values).or_insert_with(|| (bounds, histogram::Histogram::default())).1.merge(histogram);
    }
    let metrics = sums.into_iter().map(|(values, (bounds, sum))| {
        let mut metric = Metric::default();
        metric.set_histogram(sum.to_proto(bounds, unit));
        labelled(metric, names, &values)
    });
    family(name, help, MetricType::HISTOGRAM, metrics)
}

fn count_of(value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    metric
}

fn labelled(mut metric: Metric, names: &[&str], values: &[Cow<'_, str>]) -> Metric {
    let pairs = names.iter().zip(values).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.clone().into_owned());
        pair
    });
    metric.set_label(pairs.collect());
    metric
}

fn family(name: &str, help: &str, kind: MetricType, metrics: impl IntoIterator<Item = Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics.into_iter().collect());
    family
}
