//! A request over which the gateway breaks down, in a process of its own: its log panics.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails, and this one is about panics")]

#[expect(dead_code, reason = "the helpers for the fake provider")]
mod support;

use std::time::Duration;

use bifrost_analysis::{Arm, Failure};
use bifrost_gateway::telemetry::Comparison;
use serde_json::json;
use support::Pair;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Panics at the line that the relay writes of an answer that broke off.
struct PanickingLog;

impl Subscriber for PanickingLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().ends_with("pipeline::respond")
    }

    fn event(&self, _: &Event<'_>) {
        panic!("as the test wants it");
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn a_panic_over_a_request_is_the_gateways_failure_and_costs_no_other() {
    tracing::subscriber::set_global_default(PanickingLog).unwrap();
    let pair = Pair::start(r#"{"strategy":"Canary","canaryPercent":100}"#, "{}").await;
    let script = json!({"chunks": 20, "cut_after": 5});
    let body = json!({"model": "gpt-4o-mini", "stream": true, "messages": [{"role": "user", "content": format!("[[fake {script}]]")}]});
    let path = "/openai/v1/chat/completions";
    assert!(pair.post(path, &body.to_string()).send().await.unwrap().bytes().await.is_err());
    let counted = async {
        loop {
            let window = pair.shared.gatherer.window(Comparison::Arms).await.window;
            if window.requests(Arm::Bifrost) > 0 {
                return window;
            }
            tokio::task::yield_now().await;
        }
    };
    let window = tokio::time::timeout(Duration::from_secs(10), counted).await.expect("it is not counted");
    let groups = &window.strata()[0].arm(Arm::Bifrost).unwrap().groups;
    assert_eq!(groups.iter().map(|group| group.failed(&[Failure::Gateway])).sum::<u64>(), 1);
    let next = pair.post(path, r#"{"model":"gpt-4o-mini","messages":[]}"#).send().await.unwrap();
    assert_eq!(next.status(), 200);
}
