//! `/metrics`: what is counted, the state of the configuration and of the process, in Prometheus' text form.

use std::fmt;
use std::sync::Arc;

use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

use super::copies::of_copies;
use super::families::{gauge, of_requests, single_counter};
use super::gather::{Gathered, Gatherer, Level};
use super::process;
use crate::shadow::Book;

/// Content type of the text form.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// What is shown of the configuration in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigStatus {
    /// Epoch of the traffic table; 0 before the first.
    pub epoch: u64,
    /// Short name of the configuration's revision; empty before the first.
    pub revision: String,
    /// Share of the eligible requests that is to take the bifrost arm; none before the first, and where rules decide.
    pub percent: Option<u8>,
    /// How many configurations this process has taken into use.
    pub generation: u64,
    /// Whether the newest one could be taken into use.
    pub last_load_succeeded: bool,
}

/// Everything that `/metrics` shows. May be rendered on any runtime.
#[derive(Clone)]
pub struct Metrics {
    gatherer: Arc<Gatherer>,
    config: Arc<dyn Fn() -> ConfigStatus + Send + Sync>,
}

impl Metrics {
    /// Of these counters and this configuration.
    pub fn new(gatherer: Arc<Gatherer>, config: impl Fn() -> ConfigStatus + Send + Sync + 'static) -> Self {
        Self { gatherer, config: Arc::new(config) }
    }

    /// Gathers and renders; takes at most a second, even with a runtime that does not answer.
    pub async fn render(&self) -> String {
        let gathered = self.gatherer.gather().await;
        let (levels, status) = (self.gatherer.levels(), (self.config)());
        let shadow = self.gatherer.shadow().clone();
        // Elsewhere: with many series this takes longer than a thread that serves requests may be held up.
        tokio::task::spawn_blocking(move || render(&gathered, &shadow, &levels, status)).await.unwrap_or_default()
    }
}

fn render(gathered: &Gathered, shadow: &Book, levels: &[Arc<Level>], status: ConfigStatus) -> String {
    let mut families = of_requests(&gathered.totals());
    families.extend(of_copies(shadow));
    families.extend(config(status));
    families.extend(process::read().into_iter().map(|number| {
        if number.is_counter {
            single_counter(number.name, number.help, number.value)
        } else {
            gauge(number.name, number.help, &[], Vec::new(), number.value)
        }
    }));
    families.extend(levels.iter().map(|level| gauge(level.name, level.help, &[], Vec::new(), (level.read)())));
    families.sort_by(|one, other| one.name().cmp(other.name()));
    let mut text = String::new();
    if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
        tracing::error!(%error, "metrics cannot be rendered");
    }
    text
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn config(status: ConfigStatus) -> Vec<MetricFamily> {
    let plain = |name, help, value| gauge(name, help, &[], Vec::new(), value);
    let mut families = vec![
        gauge(
            "bifrost_build_info",
            "Version of the gateway.",
            &["version"],
            vec![env!("CARGO_PKG_VERSION").into()],
            1.0,
        ),
        plain("bifrost_config_epoch", "Epoch of the traffic table in use.", status.epoch as f64),
        plain(
            "bifrost_config_generation",
            "How many configurations were taken into use since the start.",
            status.generation as f64,
        ),
        plain(
            "bifrost_config_last_load_success",
            "Whether the newest configuration could be taken into use (1) or an earlier one stays in use (0).",
            f64::from(u8::from(status.last_load_succeeded)),
        ),
        gauge(
            "bifrost_config_info",
            "Revision of the configuration in use.",
            &["revision"],
            vec![status.revision.into()],
            1.0,
        ),
    ];
    if let Some(percent) = status.percent {
        families.push(plain(
            "bifrost_traffic_wanted_percent",
            "Share of the eligible requests that is to take the bifrost arm, 0 to 100.",
            f64::from(percent),
        ));
    }
    families
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::outcome::tests::chat;
    use super::super::{Arm, Gaps, Outcome, Recorder};
    use super::*;

    async fn rendered(outcomes: &[Outcome<'_>]) -> String {
        let gatherer = Arc::new(Gatherer::new());
        gatherer.show_level("bifrost_memory_budget_bytes", "Budget.", || 1024.0);
        let local = tokio::task::LocalSet::new();
        let (recorder, answering) = Recorder::register(&gatherer);
        local.spawn_local(answering);
        for outcome in outcomes {
            recorder.record(outcome);
        }
        let status = ConfigStatus {
            epoch: 7,
            revision: "0123456789".into(),
            percent: Some(25),
            generation: 2,
            last_load_succeeded: true,
        };
        local.run_until(Metrics::new(gatherer, move || status.clone()).render()).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_guides_metrics_have_its_labels_and_the_arm() {
        let baseline = Outcome { arm: Some(Arm::Baseline), key_name: "", ..chat() };
        let mut gaps = Gaps::default();
        gaps.observe(Duration::from_millis(3));
        let failed = Outcome { status: 502, error_code: Some("upstream_unreachable"), ..chat() };
        let text = rendered(&[
            chat(),
            Outcome {
                endpoint: "chat_completion_stream",
                first_output: Some(Duration::from_millis(30)),
                gaps: Some(&gaps),
                ..chat()
            },
            baseline,
            Outcome { arm: None, provider: "", model: "", status: 413, upstream_latency: None, ..chat() },
            failed,
        ])
        .await;
        for line in [
            r#"bifrost_requests_total{provider="openai",model="gpt-4o-mini",status="200",arm="bifrost"} 2"#,
            r#"bifrost_requests_total{provider="openai",model="gpt-4o-mini",status="200",arm="baseline"} 1"#,
            r#"bifrost_request_duration_seconds_bucket{provider="openai",model="gpt-4o-mini",arm="bifrost",le="0.1"} 3"#,
            r#"bifrost_request_duration_seconds_count{provider="openai",model="gpt-4o-mini",arm="bifrost"} 3"#,
            r#"bifrost_arm_requests_total{front="openai",arm="baseline",reason="split"} 1"#,
            r#"http_requests_total{path="/openai/v1/chat/completions",method="POST",status="200"} 3"#,
            r#"bifrost_error_requests_total{provider="openai",model="gpt-4o-mini",method="chat_completion",selected_key_name="openai-1",arm="bifrost",status_code="502",error_code="upstream_unreachable"} 1"#,
            r#"bifrost_stream_first_token_latency_seconds_count{provider="openai",model="gpt-4o-mini",method="chat_completion_stream",selected_key_name="openai-1",arm="bifrost"} 1"#,
            r#"bifrost_output_tokens_total{provider="openai",model="gpt-4o-mini",method="chat_completion",selected_key_name="",arm="baseline"} 20"#,
            r#"bifrost_stream_inter_token_latency_seconds_bucket{provider="openai",model="gpt-4o-mini",method="chat_completion_stream",selected_key_name="openai-1",arm="bifrost",le="0.005"} 1"#,
            r#"bifrost_gateway_overhead_seconds_bucket{front="openai",arm="bifrost",le="0.0001"} 3"#,
            r#"bifrost_requests_total{provider="",model="",status="413",arm="none"} 1"#,
            "bifrost_requests_in_flight 0",
            "bifrost_config_epoch 7",
            r#"bifrost_config_info{revision="0123456789"} 1"#,
            "bifrost_config_last_load_success 1",
            "bifrost_traffic_wanted_percent 25",
            "bifrost_memory_budget_bytes 1024",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\nnot in\n{text}");
        }
        assert!(text.contains("# TYPE bifrost_request_duration_seconds histogram"));
        assert!(text.contains("process_resident_memory_bytes"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_inference_counts_in_the_http_metrics_only() {
        let health = Outcome {
            endpoint: "",
            path: "/health",
            http_method: "GET",
            provider: "",
            model: "",
            upstream_latency: None,
            ..chat()
        };
        let text = rendered(&[health]).await;
        assert!(text.contains(r#"http_requests_total{path="/health",method="GET",status="200"} 1"#), "{text}");
        assert!(!text.contains("bifrost_requests_total") && !text.contains("bifrost_arm_requests_total"), "{text}");
    }
}
