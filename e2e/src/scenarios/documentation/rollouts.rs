//! docs/rollouts.md and README.md, command by command, on the gateway that the strategies leave.

use super::reader::Line::{self, Own, Page};

const CANDIDATE: &str = "kubectl get bgw ai -o jsonpath='it is {.status.rollout.percent}, {.status.rollout.phase}.'";
const SETTLED: &str =
    "kubectl get bgw ai -o jsonpath='it is {.status.rollout.candidateRevision}, {.status.rollout.phase}.'";

/// docs/rollouts.md.
pub(super) const ROLLOUTS: &[Line] = &[
    Page("kubectl apply -f examples/rollouts/canary.yaml", "configured"),
    Page(
        r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"config":{"client":{"maxRequestBody":"50Mi"}}}}'"#,
        "patched",
    ),
    Page("kubectl bifrost status ai -n llm -w", "candidate"),
    Own(CANDIDATE, "it is 5, Progressing."),
    Page("kubectl get bgw ai -n llm -o jsonpath='{.status.rollout}'", "candidateRevision"),
    Page("kubectl get bgw ai -n llm -o jsonpath='{.status.rollout.analysis}'", "Inconclusive"),
    Page("kubectl bifrost analysis ai --rollout -n llm", "Inconclusive"),
    Page(
        r#"kubectl annotate bgw ai -n llm --overwrite bifrost.dev/rollout-request="promote/$(date +%s)""#,
        "annotated",
    ),
    Own(CANDIDATE, "it is 25, Progressing."),
    Page("kubectl bifrost promote ai --rollout -n llm", "handled"),
    Own(CANDIDATE, "it is 50, Progressing."),
    Page(r#"kubectl annotate bgw ai -n llm --overwrite bifrost.dev/rollout-request="abort/$(date +%s)""#, "annotated"),
    Own(CANDIDATE, ", RolledBack."),
    Page(r#"kubectl annotate bgw ai -n llm --overwrite bifrost.dev/rollout-request="retry/$(date +%s)""#, "annotated"),
    Own(CANDIDATE, "it is 5, Progressing."),
    Page("kubectl bifrost abort ai --rollout -n llm", "handled"),
    Own(CANDIDATE, ", RolledBack."),
    Page("kubectl bifrost retry ai --rollout -n llm", "handled"),
    Own(CANDIDATE, ", Progressing."),
    Page("kubectl bifrost abort ai --rollout -n llm", "handled"),
    Page("kubectl bifrost restart ai --rollout -n llm", "handled"),
    Own(CANDIDATE, "it is 5, Progressing."),
    Page("kubectl bifrost abort ai --rollout -n llm", "handled"),
    Page(
        r#"kubectl annotate bgw ai -n llm --overwrite bifrost.dev/rollout-request="restart/$(date +%s)""#,
        "annotated",
    ),
    Own(CANDIDATE, "it is 5, Progressing."),
    Page("kubectl bifrost promote ai --rollout --full -n llm", "handled"),
    Own(SETTLED, "it is , Completed."),
    Page("kubectl get cm -n llm -l bifrost.dev/revision,app.kubernetes.io/instance=ai", "ai-bifrost-"),
    Page("kubectl bifrost history ai -n llm", "stable"),
    // The one before becomes the candidate.
    Page("kubectl bifrost undo ai -n llm", "50Mi → "),
    Own(CANDIDATE, "it is 5, Progressing."),
    Page("kubectl bifrost promote ai --rollout", "handled"),
    Own(CANDIDATE, "it is 25, Progressing."),
    Page(
        r#"kubectl annotate bgw ai -n llm --overwrite bifrost.dev/rollout-request="promote-full/$(date +%s)""#,
        "annotated",
    ),
    Own(SETTLED, "it is , Completed."),
    Page("kubectl apply -f examples/rollouts/blue-green.yaml", "configured"),
    Page(PREVIEW, "no_preview"),
    Page(
        r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"config":{"client":{"maxRequestBody":"50Mi"}}}}'"#,
        "patched",
    ),
    Own(CANDIDATE, ", Paused."),
    Page(PREVIEW, "200 OK"),
    Page("kubectl bifrost undo ai -n llm", "50Mi → "),
    Own(SETTLED, "it is , Completed."),
];

const PREVIEW: &str = r#"curl -i http://ai-bifrost-preview.llm.svc:8081/openai/v1/chat/completions -H "authorization: Bearer $OPENAI_API_KEY" -H 'content-type: application/json' -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "test"}]}'"#;

/// README.md, as far as it is not done yet.
pub(super) const README: &[Line] = &[
    Page("kubectl apply -f examples/openai-and-anthropic.yaml", "configured"),
    Page("kubectl wait -n llm bifrostgateway/ai --for=condition=Ready --timeout=5m", "condition met"),
    Page(
        r#"curl -i -X POST http://ai.llm.svc:8080/openai/v1/chat/completions -H 'content-type: application/json' -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "test"}]}'"#,
        "x-bf-arm: bifrost",
    ),
    Page(
        r#"curl -i -X POST http://ai.llm.svc:8080/anthropic/v1/messages -H 'content-type: application/json' -d '{"model": "claude-3-haiku-20240307", "max_tokens": 100, "messages": [{"role": "user", "content": "test"}]}'"#,
        "x-bf-arm: bifrost",
    ),
    Page(r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"migration":{"canaryPercent":50}}}'"#, "patched"),
    Page("kubectl get bgw,pk -n llm", "bifrostgateway.bifrost.dev/ai"),
    Page("kubectl bifrost status -w", "wanted  50 %"),
    Page("kubectl describe bgw ai", "Programmed"),
    Page("kubectl explain bgw.spec --recursive", "canaryPercent"),
];
