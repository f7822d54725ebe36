//! What others measure of a migration: a Prometheus query or a webhook. Read from the spec, with a problem for each member that makes
//! no sense. Which hosts may be asked is the operator's to say, not the spec's.

use std::time::Duration;

use bifrost_analysis::Action;
use bifrost_config::units::parse_duration;
use bifrost_config::{BaseUrl, Problem};
use bifrost_crds::{AnalysisMetric, PrometheusMetric};

use super::guard::action;

/// How often a metric is asked for, unless configured.
const INTERVAL: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(3600);
const NAMESPACE: &str = "{{namespace}}";
const GATEWAY: &str = "{{gateway}}";

/// A metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its name in reports.
    pub name: String,
    /// Where it stands in the spec.
    pub path: String,
    /// Where it comes from.
    pub source: Source,
    /// How often it is asked for, and how long after a stage began for the first time.
    pub interval: Duration,
    /// What follows when it fails.
    pub action: Action,
}

/// Where a metric comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A query whose value is compared.
    Prometheus(Query),
    /// Something that gives a verdict.
    Webhook {
        /// Its URL, by which it is judged whether it may be asked.
        url: BaseUrl,
        /// The same as it is called: here a slash at the end counts.
        target: String,
    },
}

/// A query of Prometheus.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Where Prometheus is.
    pub url: BaseUrl,
    /// The query, with placeholders.
    text: String,
    /// The most that passes.
    pub max: Option<Bound>,
    /// The least that passes.
    pub min: Option<Bound>,
}

/// A number as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// For people.
    pub text: String,
    /// For comparisons.
    pub value: f64,
}

impl Metric {
    /// Where it is asked for.
    pub const fn url(&self) -> &BaseUrl {
        match &self.source {
            Source::Prometheus(query) => &query.url,
            Source::Webhook { url, .. } => url,
        }
    }

    /// The member that names the source.
    pub const fn source_name(&self) -> &'static str {
        match &self.source {
            Source::Prometheus(_) => "prometheus",
            Source::Webhook { .. } => "webhook",
        }
    }
}

impl Query {
    /// The query for this gateway; none where a name could mean something else in it.
    pub fn fill(&self, namespace: &str, gateway: &str) -> Option<String> {
        let is_plain = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        };
        let filled = || self.text.replace(NAMESPACE, namespace).replace(GATEWAY, gateway);
        (is_plain(namespace) && is_plain(gateway)).then(filled)
    }
}

/// Reads the metrics of the analysis of `whose`. All of them are there if there was no problem.
pub(super) fn read(specs: &[AnalysisMetric], whose: &str, taken: &[&str], problems: &mut Vec<Problem>) -> Vec<Metric> {
    let mut metrics = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let path = format!("{whose}.analysis.metrics[{index}]");
        let at = |(member, message): (String, String)| Problem::invalid(format!("{path}.{member}"), message);
        if taken.contains(&spec.name.as_str()) {
            let message = format!("a check is called {} already: give the metric another name", spec.name);
            problems.push(at(("name".to_owned(), message)));
        }
        match (source(spec), interval(spec)) {
            (Ok(source), Ok(interval)) => {
                let (name, action) = (spec.name.clone(), action(spec.action));
                metrics.push(Metric { name, path: path.clone(), source, interval, action });
            }
            (source, interval) => problems.extend(source.err().into_iter().chain(interval.err()).map(at)),
        }
    }
    metrics
}

fn source(spec: &AnalysisMetric) -> Result<Source, (String, String)> {
    let url = |source: &str, text: &str| {
        BaseUrl::parse(text).map_err(|error| (format!("{source}.url"), format!("{text:?} {error}")))
    };
    match (&spec.prometheus, &spec.webhook) {
        (Some(_), Some(_)) => {
            Err(("webhook".to_owned(), "either prometheus or webhook: take one of the two out".to_owned()))
        }
        (None, None) => {
            Err(("prometheus".to_owned(), "the metric needs a source: set prometheus, or webhook".to_owned()))
        }
        (Some(prometheus), None) => {
            let url = url("prometheus", &prometheus.url)?;
            query(url, prometheus).map_err(|(member, message)| (format!("prometheus.{member}"), message))
        }
        (None, Some(webhook)) => {
            let url = url("webhook", &webhook.url)?;
            let slash = if webhook.url.ends_with('/') && !url.path.is_empty() { "/" } else { "" };
            Ok(Source::Webhook { target: format!("{url}{slash}"), url })
        }
    }
}

fn query(url: BaseUrl, spec: &PrometheusMetric) -> Result<Source, (&'static str, String)> {
    if spec.query.replace(NAMESPACE, "").replace(GATEWAY, "").contains("{{") {
        return Err(("query", format!("knows the placeholders {NAMESPACE} and {GATEWAY}, and no others")));
    }
    let bound = |member: &'static str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => match decimal(text) {
            Some(value) => Ok(Some(Bound { text: text.clone(), value })),
            None => Err((member, format!("{text:?} is no number, such as 0.02"))),
        },
    };
    let (max, min) = (bound("max", &spec.max)?, bound("min", &spec.min)?);
    match (&max, &min) {
        (None, None) => return Err(("max", "the query needs a limit: set max, or min, or both".to_owned())),
        (Some(max), Some(min)) if min.value > max.value => {
            return Err(("min", format!("{} is above max, so that nothing passes", min.text)));
        }
        _ => {}
    }
    Ok(Source::Prometheus(Query { url, text: spec.query.clone(), max, min }))
}

fn decimal(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| is_plain)
}

fn interval(spec: &AnalysisMetric) -> Result<Duration, (String, String)> {
    let Some(text) = &spec.interval else { return Ok(INTERVAL) };
    parse_duration(text)
        .filter(|interval| (SHORTEST..=LONGEST).contains(interval))
        .ok_or_else(|| ("interval".to_owned(), format!("{text:?} is no duration from 10s to 1h, such as 30s")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_all(metrics: serde_json::Value) -> Result<Vec<Metric>, String> {
        let specs: Vec<AnalysisMetric> = serde_json::from_value(metrics).unwrap();
        let mut problems = Vec::new();
        let metrics = read(&specs, "spec.migration", &["errors"], &mut problems);
        let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        if problems.is_empty() { Ok(metrics) } else { Err(text) }
    }

    #[test]
    fn metrics_are_read() {
        let metrics = read_all(json!([
            {"name": "a", "prometheus": {"url": "http://p:9090/", "query": "q{n=\"{{namespace}}\", g=\"{{gateway}}\"}", "max": "0.02"}},
            {"name": "b", "webhook": {"url": "https://w.example/ask/"}, "interval": "5m", "action": "Pause"},
        ]))
        .unwrap();
        let Source::Prometheus(query) = &metrics[0].source else { panic!("{metrics:?}") };
        assert_eq!(query.fill("llm", "ai").as_deref(), Some("q{n=\"llm\", g=\"ai\"}"));
        assert_eq!(query.fill("llm", "a\"}"), None);
        assert_eq!((metrics[0].interval, metrics[0].action), (INTERVAL, Action::Rollback));
        let Source::Webhook { target, .. } = &metrics[1].source else { panic!("{metrics:?}") };
        assert_eq!(target, "https://w.example/ask/");
        assert_eq!((metrics[1].interval, metrics[1].action), (Duration::from_secs(300), Action::Pause));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let prometheus = |change: serde_json::Value| {
            let mut member = json!({"url": "http://p", "query": "q", "max": "1"});
            member.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            member
        };
        let webhook = json!({"url": "http://w"});
        for (metric, at) in [
            (json!({"name": "errors", "webhook": webhook}), "name"),
            (json!({"name": "a"}), "prometheus"),
            (json!({"name": "a", "webhook": webhook, "prometheus": prometheus(json!({}))}), "webhook"),
            (json!({"name": "a", "webhook": webhook, "interval": "9s"}), "interval"),
            (json!({"name": "a", "webhook": {"url": "http://u:p@w"}}), "webhook.url"),
            (json!({"name": "a", "prometheus": prometheus(json!({"url": "http://p?q"}))}), "prometheus.url"),
            (json!({"name": "a", "prometheus": prometheus(json!({"query": "{{pod}}"}))}), "prometheus.query"),
            (json!({"name": "a", "prometheus": prometheus(json!({"max": "inf"}))}), "prometheus.max"),
            (json!({"name": "a", "prometheus": prometheus(json!({"max": null}))}), "prometheus.max"),
            (json!({"name": "a", "prometheus": prometheus(json!({"min": "1e1"}))}), "prometheus.min"),
            (json!({"name": "a", "prometheus": prometheus(json!({"min": "1.5"}))}), "prometheus.min"),
        ] {
            let problems = read_all(json!([metric])).unwrap_err();
            assert!(problems.starts_with(&format!("spec.migration.analysis.metrics[0].{at}: ")), "{problems}");
        }
    }
}
