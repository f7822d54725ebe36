//! docs/common-issues.md: each issue is made to happen, the page's command shows it, and the page's command mends it.

use futures::FutureExt;

use super::documentation::{
    Line::{self, Own, Page, Refused, Set},
    Reader,
};
use crate::scenarios::{Context, Scenario, gateway};

/// The scenario.
pub(super) const SCENARIO: Scenario = Scenario::new(
    "common-issues",
    "docs/common-issues.md: every issue for real, shown and mended by the commands of the page",
    |context| run(context).boxed(),
)
.embedded_only();

/// A key that vendors refuse.
const WRONG: &str = "a-wrong-key-0123456789";

// What is asked for again and again.
const CHAT: &str = r#"curl -si http://ai.llm.svc:8080/openai/v1/chat/completions -H "authorization: Bearer $OPENAI_API_KEY" -H 'content-type: application/json' -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "test"}]}' | grep -iE '^HTTP|^x-bf-|"code"'"#;
const KEYS: &str = "kubectl get pk -n llm -o wide";
const SECRET: &str = r#"kubectl create secret generic openai -n llm --from-literal=api-key="$NEW_KEY" --dry-run=client -o yaml | kubectl apply -f -"#;
const FORWARD: &str = "kubectl port-forward -n llm deploy/ai 9090:9090 &";
const ROLLED_OUT: &str = "kubectl rollout status deploy/ai --timeout=60s";

/// Everything of the page.
pub(super) const STORY: &[&[Line]] = &[BEGINNING, AUTHENTICATION, MODELS, LATENCY, FEATURES];

const BEGINNING: &[Line] = &[
    Own(SECRET, "secret/openai created"),
    Own(r#"kubectl create secret generic anthropic --from-literal=api-key="$ANTHROPIC_API_KEY""#, "created"),
    Own("kubectl apply -f examples/strategies/drop-in.yaml", "bifrostgateway.bifrost.dev/ai created"),
    Own("kubectl wait bgw/ai --for=condition=Ready --timeout=90s", "condition met"),
    Page(CHAT, "x-bf-arm: bifrost"),
];

const AUTHENTICATION: &[Line] = &[
    // The application's own credential.
    Own(
        r#"kubectl patch bgw ai --type=merge -p '{"spec":{"migration":{"strategy":"Canary","canaryPercent":0}}}'"#,
        "patched",
    ),
    Page(CHAT, "x-bf-arm: baseline"),
    Set("OPENAI_API_KEY", WRONG),
    Page(CHAT, "HTTP/1.1 401"),
    Set("OPENAI_API_KEY", gateway::APP_OPENAI),
    Page(CHAT, "HTTP/1.1 200"),
    Own(
        r#"kubectl patch bgw ai --type=merge -p '{"spec":{"migration":{"strategy":"DropIn","canaryPercent":null}}}'"#,
        "patched",
    ),
    Page(CHAT, "x-bf-arm: bifrost"),
    // A wrong value.
    Own(r#"kubectl patch secret openai -p '{"stringData":{"api-key":"a-wrong-key-0123456789"}}'"#, "patched"),
    Page(CHAT, "upstream_credentials_rejected"),
    Page(FORWARD, "Forwarding"),
    Page("curl -s localhost:9090/metrics | grep bifrost_error_requests_total", "upstream_credentials_rejected"),
    Page(SECRET, "secret/openai configured"),
    Page(CHAT, "HTTP/1.1 200"),
    Page("kubectl events -n llm --for bifrostgateway/ai", "KeyRotated"),
    // A key that is switched off.
    Own(r#"kubectl patch pk openai --type=merge -p '{"spec":{"enabled":false}}'"#, "patched"),
    Page(KEYS, "Disabled"),
    Page(CHAT, "no_provider_key"),
    Page(r#"kubectl patch pk openai -n llm --type=merge -p '{"spec":{"enabled":true}}'"#, "patched"),
    Page(CHAT, "HTTP/1.1 200"),
    // A provider that is not there.
    Own(
        "kubectl get pk openai -o yaml | sed 's/^  provider: .*/  provider: openia/' | kubectl replace --force -f -",
        "replaced",
    ),
    Page(KEYS, "ProviderNotFound"),
    Page(CHAT, "no_provider_key"),
    Page(
        "kubectl get pk openai -n llm -o yaml | sed 's/^  provider: .*/  provider: openai/' | kubectl replace --force -f -",
        "replaced",
    ),
    Page(CHAT, "HTTP/1.1 200"),
    // No Secret, and no value that was read before.
    Own("kubectl delete pk/openai secret/openai", "deleted"),
    Page(CHAT, "no_provider_key"),
    Own("kubectl apply -f examples/strategies/drop-in.yaml", "providerkey.bifrost.dev/openai created"),
    Page(KEYS, "SecretMissing"),
    Page("kubectl describe pk openai -n llm", "SecretMissing"),
    Page(SECRET, "secret/openai created"),
    Page(CHAT, "HTTP/1.1 200"),
    // A wrong label.
    Own(
        r#"kubectl patch bgw ai --type=merge -p '{"spec":{"providerKeySelector":{"matchLabels":{"team":"ai"}}}}'"#,
        "patched",
    ),
    Own("kubectl label pk openai team=other", "labeled"),
    Page(KEYS, "NoGateway"),
    Page(CHAT, "no_provider_key"),
    Page("kubectl get bgw ai -n llm -o jsonpath='{.spec.providerKeySelector}'", r#"{"team":"ai"}"#),
    Page("kubectl label pk openai -n llm --overwrite team=ai", "labeled"),
    Page(CHAT, "HTTP/1.1 200"),
    Own("kubectl label pk anthropic team=ai", "labeled"),
    // A host that the key may not be sent to.
    Own(r#"kubectl patch pk openai --type=merge -p '{"spec":{"hosts":["elsewhere.example"]}}'"#, "patched"),
    Page(KEYS, "Invalid"),
    Page(CHAT, "no_provider_key"),
    Page(r#"kubectl patch pk openai -n llm --type=merge -p '{"spec":{"hosts":["llm.internal.example"]}}'"#, "patched"),
    Page(CHAT, "HTTP/1.1 200"),
    // A path of an account.
    Own("curl -si http://ai.llm.svc:8080/openai/v1/files", "credential_required"),
    Page(
        r#"curl -si http://ai.llm.svc:8080/openai/v1/files -H "authorization: Bearer $OPENAI_API_KEY""#,
        "x-bf-arm-reason: account",
    ),
];

const MODELS: &[Line] = &[
    // A list without the model.
    Own(r#"kubectl patch pk openai --type=merge -p '{"spec":{"models":["gpt-4"]}}'"#, "patched"),
    Page(CHAT, "model_not_found"),
    Page(MODEL_LISTS, "[gpt-4]"),
    Page(
        r#"kubectl patch pk openai -n llm --type=merge -p '{"spec":{"models":["gpt-4o-mini","gpt-4o","gpt-4-turbo"]}}'"#,
        "patched",
    ),
    Page(CHAT, "HTTP/1.1 200"),
    Page(r#"kubectl patch pk openai -n llm --type=merge -p '{"spec":{"models":[]}}'"#, "patched"),
    // A model that the vendor does not have.
    Own(
        r#"curl -s http://ai.llm.svc:8080/openai/v1/chat/completions -H 'content-type: application/json' -d '{"model": "gpt-4o-maxi", "messages": [{"role": "user", "content": "test"}]}'"#,
        "does not exist",
    ),
    Page(
        r#"curl -s http://ai.llm.svc:8080/openai/v1/models -H "authorization: Bearer $OPENAI_API_KEY""#,
        "gpt-4o-mini",
    ),
    // A front without a provider.
    Own(r#"kubectl patch bgw ai --type=json -p '[{"op":"remove","path":"/spec/config/providers/1"}]'"#, "patched"),
    Own(MESSAGES, "provider_not_configured"),
    Page(
        r#"kubectl patch bgw ai -n llm --type=json -p '[{"op":"add","path":"/spec/config/providers/-","value":{"name":"anthropic","type":"Anthropic"}}]'"#,
        "patched",
    ),
    Own(MESSAGES, "HTTP/1.1 200"),
    // Two providers, and none is named like the front.
    Own(
        r#"kubectl patch bgw ai --type=json -p '[{"op":"replace","path":"/spec/config/providers/0/name","value":"first"},{"op":"add","path":"/spec/config/providers/-","value":{"name":"second","type":"OpenAI"}}]'"#,
        "patched",
    ),
    Own(
        "kubectl get pk openai -o yaml | sed 's/^  provider: .*/  provider: first/' | kubectl replace --force -f -",
        "replaced",
    ),
    Page(CHAT, "ambiguous_provider"),
    Own(
        r#"curl -si http://ai.llm.svc:8080/openai/v1/chat/completions -H 'content-type: application/json' -d '{"model": "first/gpt-4o-mini", "messages": [{"role": "user", "content": "test"}]}'"#,
        "HTTP/1.1 200",
    ),
    Own(
        r#"kubectl patch bgw ai --type=json -p '[{"op":"replace","path":"/spec/config/providers/0/name","value":"openai"}]'"#,
        "patched",
    ),
    Own(
        "kubectl get pk openai -o yaml | sed 's/^  provider: .*/  provider: openai/' | kubectl replace --force -f -",
        "replaced",
    ),
    Page(CHAT, "HTTP/1.1 200"),
    // A base URL without a front.
    Own("kubectl create deployment app --image=registry.example/app --replicas=0", "created"),
    Own("kubectl set env deploy/app OPENAI_BASE_URL=http://ai.llm.svc:8080/v1", "updated"),
    Own("curl -s -d '{}' http://ai.llm.svc:8080/v1/chat/completions", "unknown_path"),
    Page("kubectl set env deploy/app -n llm --from=configmap/ai-bifrost-env --keys=OPENAI_BASE_URL", "updated"),
    Own("kubectl set env deploy/app --list --resolve", ":8080/openai/v1"),
];

const MODEL_LISTS: &str = "kubectl get pk -n llm -o custom-columns='NAME:.metadata.name,PROVIDER:.spec.provider,ENABLED:.spec.enabled,MODELS:.spec.models'";
const MESSAGES: &str = r#"curl -si http://ai.llm.svc:8080/anthropic/v1/messages -H 'content-type: application/json' -d '{"model": "claude-3-haiku-20240307", "max_tokens": 100, "messages": [{"role": "user", "content": "test"}]}'"#;

const LATENCY: &[Line] = &[
    Own(
        r#"curl -s http://ai.llm.svc:8080/openai/v1/chat/completions -H 'content-type: application/json' -d '{"model": "gpt-4o-mini", "stream": true, "messages": [{"role": "user", "content": "test"}]}'"#,
        "[DONE]",
    ),
    Page(FORWARD, "Forwarding"),
    Page("curl -s localhost:9090/metrics | grep bifrost_gateway_overhead_seconds", r#"arm="bifrost""#),
    Page("curl -s localhost:9090/metrics | grep bifrost_upstream_latency_seconds", r#"arm="bifrost""#),
    Page("curl -s localhost:9090/metrics | grep bifrost_stream_first_token_latency_seconds", r#"arm="bifrost""#),
    Page(r#"kubectl patch pk openai -n llm --type=merge -p '{"spec":{"weight":4}}'"#, "patched"),
    Own("kubectl get pk openai -o jsonpath='it is {.spec.weight}.'", "it is 4."),
    // A vendor that takes longer than the limit.
    Own(
        r#"kubectl patch bgw ai --type=json -p '[{"op":"add","path":"/spec/config/providers/0/network","value":{"firstByteTimeout":"500ms"}}]'"#,
        "patched",
    ),
    Own(SLOW, "upstream_timeout"),
    Page(
        r#"kubectl patch bgw ai -n llm --type=json -p '[{"op":"add","path":"/spec/config/providers/0/network","value":{"firstByteTimeout":"900s","requestTimeout":"900s"}}]'"#,
        "patched",
    ),
    Own(SLOW, "HTTP/1.1 200"),
    // Too few pods.
    Page("kubectl scale bgw ai -n llm --replicas=6", "scaled"),
    Own("kubectl get bgw ai -o jsonpath='it is {.status.readyReplicas}.'", "it is 6."),
    Own("kubectl scale bgw ai --replicas=1", "scaled"),
    Own("kubectl get bgw ai -o jsonpath='it is {.status.replicas}.'", "it is 1."),
    // Too little memory.
    Own(
        r#"kubectl patch bgw ai --type=merge -p '{"spec":{"pod":{"resources":{"requests":{"memory":"32Mi"},"limits":{"memory":"48Mi"}}}}}'"#,
        "patched",
    ),
    Own(ROLLED_OUT, "successfully rolled out"),
    Own(LARGE, "give it a higher memory limit"),
    Page(
        r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"pod":{"resources":{"requests":{"cpu":"1"},"limits":{"memory":"1Gi"}}}}}'"#,
        "patched",
    ),
    Own(ROLLED_OUT, "successfully rolled out"),
    Own(LARGE, "HTTP/1.1 200"),
];

const SLOW: &str = r#"curl -si http://ai.llm.svc:8080/openai/v1/chat/completions -H 'content-type: application/json' -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "[[fake {\"head_delay_ms\":1500}]]"}]}'"#;
/// A body of 30 MB.
const LARGE: &str = r#"(printf '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "'; head -c 30000000 /dev/zero | tr '\0' x; printf '"}]}') | curl -si http://ai.llm.svc:8080/openai/v1/chat/completions -H 'content-type: application/json' -H 'expect:' --data-binary @-"#;

const FEATURES: &[Line] = &[
    Page(r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"migration":{"allowArmHeader":true}}}'"#, "patched"),
    Own(
        r#"echo '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "test"}]}' > request.json; ls"#,
        "request.json",
    ),
    Refused(BOTH_ARMS, "< x-bf-arm: baseline"),
    Page(FORWARD, "Forwarding"),
    Page("curl -s localhost:9090/metrics | grep bifrost_arm_requests_total", r#"arm="baseline""#),
    // A body that is larger than it may be.
    Own(r#"kubectl patch bgw ai --type=merge -p '{"spec":{"config":{"client":{"maxRequestBody":"1Mi"}}}}'"#, "patched"),
    Own(LARGE, "body_too_large"),
    Page(
        r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"config":{"client":{"maxRequestBody":"200Mi"}}}}'"#,
        "patched",
    ),
    Own(LARGE, "HTTP/1.1 200"),
    Page("kubectl bifrost abort ai -n llm", "abort handled"),
    Page(CHAT, "x-bf-arm: baseline"),
];

const BOTH_ARMS: &str = r#"for arm in baseline bifrost; do
curl -si http://ai.llm.svc:8080/openai/v1/chat/completions -H "authorization: Bearer $OPENAI_API_KEY" -H "x-bf-arm: $arm" -H 'content-type: application/json' -d @request.json > "$arm.txt"
done
diff baseline.txt bifrost.txt"#;

async fn run(context: &Context) -> anyhow::Result<()> {
    let mut reader = Reader::new(context).await?;
    for part in STORY {
        reader.follow(part).await?;
    }
    reader.close().await;
    Ok(())
}
