//! What an answer to a metric means. Pure. Of a body nothing is kept but the verdict, and of Prometheus the number.

use bifrost_analysis::Verdict;
use serde::Deserialize;
use serde_json::Value;

use crate::migration::metric::Query;

/// What came of asking once.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The verdict.
    pub verdict: Verdict,
    /// The number that was compared.
    pub value: Option<f64>,
    /// Why, as a clause.
    pub why: String,
}

impl Answer {
    /// One that says nothing.
    pub fn unsure(why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Inconclusive, value: None, why: why.into() }
    }
}

#[derive(Deserialize)]
struct Response {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

#[derive(Deserialize)]
struct Said {
    verdict: Verdict,
}

/// Of the answer to an instant query.
pub(super) fn of_query(query: &Query, body: &[u8]) -> Answer {
    match sample(body) {
        Ok(value) => compare(query, value),
        Err(why) => Answer::unsure(why),
    }
}

/// Of the answer of a webhook.
pub(super) fn of_webhook(body: &[u8]) -> Answer {
    match serde_json::from_slice(body) {
        Ok(Said { verdict }) => Answer { verdict, value: None, why: format!("says {verdict:?}") },
        Err(_) => Answer::unsure("the answer has no verdict of Pass, Fail or Inconclusive"),
    }
}

fn compare(query: &Query, value: f64) -> Answer {
    let is_over = |most: f64| value > most;
    let is_under = |least: f64| value < least;
    let shown = shown(value);
    let (verdict, why) = match (&query.max, &query.min) {
        _ if value.is_nan() => return Answer::unsure("the query has no number (NaN): is there traffic?"),
        (Some(max), _) if is_over(max.value) => (Verdict::Fail, format!("{shown} is above {}", max.text)),
        (_, Some(min)) if is_under(min.value) => (Verdict::Fail, format!("{shown} is below {}", min.text)),
        (Some(max), Some(min)) => (Verdict::Pass, format!("{shown} lies between {} and {}", min.text, max.text)),
        (Some(max), None) => (Verdict::Pass, format!("{shown} is not above {}", max.text)),
        (None, Some(min)) => (Verdict::Pass, format!("{shown} is not below {}", min.text)),
        (None, None) => return Answer::unsure("there is no limit"),
    };
    // A report is JSON and knows no infinity.
    Answer { verdict, value: Some(value).filter(|value| value.is_finite()), why }
}

/// The one number of a result.
fn sample(body: &[u8]) -> Result<f64, String> {
    const NO_RESULT: &str = "the answer is no result of a query";
    let Response { data } = serde_json::from_slice(body).map_err(|_| NO_RESULT)?;
    let pair = match (data.result_type.as_str(), &data.result) {
        ("scalar", pair) => pair,
        ("vector", Value::Array(series)) => match series.as_slice() {
            [one] => &one["value"],
            [] => return Err("the query has no sample".to_owned()),
            many => {
                let count = many.len();
                return Err(format!("the query has {count} samples and one is needed: aggregate them, as with sum()"));
            }
        },
        _ => return Err("the query gives neither a scalar nor a vector".to_owned()),
    };
    pair[1].as_str().and_then(|text| text.parse().ok()).ok_or_else(|| NO_RESULT.to_owned())
}

/// Six figures that matter.
fn shown(value: f64) -> String {
    if !value.is_finite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e12).contains(&size) {
        return format!("{value:e}");
    }
    let before = if size < 1.0 { 0 } else { size.log10() as usize + 1 };
    let text = format!("{value:.*}", 6_usize.saturating_sub(before));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::guard::guard;
    use crate::migration::metric::Source;
    use serde_json::json;

    fn query(limits: Value) -> Query {
        let mut prometheus = json!({"url": "http://p", "query": "q"});
        prometheus.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
        let metrics = json!([{"name": "a", "prometheus": prometheus}]);
        let spec = json!({"canaryPercent": 50, "analysis": {"metrics": metrics}});
        let analysis = guard(&serde_json::from_value(spec).unwrap()).unwrap().analysis.unwrap();
        let Source::Prometheus(query) = analysis.metrics[0].source.clone() else { panic!("no query") };
        query
    }

    fn ask(limits: Value, data: Value) -> (Verdict, String) {
        let body = json!({"status": "success", "data": data}).to_string();
        let answer = of_query(&query(limits), body.as_bytes());
        (answer.verdict, answer.why)
    }

    fn vector(values: &[&str]) -> Value {
        let series: Vec<_> = values.iter().map(|value| json!({"metric": {"a": "b"}, "value": [1.5, value]})).collect();
        json!({"resultType": "vector", "result": series})
    }

    #[test]
    fn a_number_is_compared_with_both_limits() {
        for (limits, value, verdict, why) in [
            (json!({"max": "0.02"}), "0.031", Verdict::Fail, "0.031 is above 0.02"),
            (json!({"max": "0.02"}), "0.02", Verdict::Pass, "0.02 is not above 0.02"),
            (json!({"min": "-1"}), "-2", Verdict::Fail, "-2 is below -1"),
            (json!({"min": "1"}), "1.23456789", Verdict::Pass, "1.23457 is not below 1"),
            (json!({"min": "0", "max": "10"}), "1234.5", Verdict::Fail, "1234.5 is above 10"),
            (json!({"min": "0", "max": "10"}), "5e0", Verdict::Pass, "5 lies between 0 and 10"),
            (json!({"max": "10"}), "+Inf", Verdict::Fail, "+Inf is above 10"),
            (json!({"max": "10"}), "0.0000000012", Verdict::Pass, "1.2e-9 is not above 10"),
        ] {
            assert_eq!(ask(limits.clone(), vector(&[value])), (verdict, why.to_owned()));
            let scalar = json!({"resultType": "scalar", "result": [1, value]});
            assert_eq!(ask(limits, scalar), (verdict, why.to_owned()));
        }
    }

    #[test]
    fn what_is_not_one_number_says_nothing() {
        for (data, part) in [
            (vector(&[]), "no sample"),
            (vector(&["1", "2"]), "2 samples"),
            (vector(&["NaN"]), "NaN"),
            (vector(&["secret"]), "no result"),
            (json!({"resultType": "matrix", "result": []}), "neither"),
            (json!({"resultType": "vector", "result": [{"metric": {}, "histogram": []}]}), "no result"),
            (json!({"resultType": "scalar", "result": 5}), "no result"),
            (json!(null), "no result"),
        ] {
            let (verdict, why) = ask(json!({"max": "1"}), data);
            assert_eq!(verdict, Verdict::Inconclusive);
            assert!(why.contains(part) && !why.contains("secret"), "{why}");
        }
    }

    #[test]
    fn a_webhook_says_one_of_three_words() {
        for (body, verdict) in [
            (r#"{"verdict": "Pass", "note": "secret"}"#, Verdict::Pass),
            (r#"{"verdict": "Fail"}"#, Verdict::Fail),
            (r#"{"verdict": "Inconclusive"}"#, Verdict::Inconclusive),
            (r#"{"verdict": "secret"}"#, Verdict::Inconclusive),
            (r#"{"result": "Pass"}"#, Verdict::Inconclusive),
            ("secret", Verdict::Inconclusive),
        ] {
            let answer = of_webhook(body.as_bytes());
            assert_eq!(answer.verdict, verdict, "{body}");
            assert!(!answer.why.contains("secret"), "{}", answer.why);
        }
    }
}
