//! docs/strategies and docs/shadow.md, command by command: one gateway goes from strategy to strategy.

use super::reader::Line::{self, Own, Page, Refused};

const STEP: &str = "kubectl get bgw ai -o jsonpath='it is {.status.migration.step}.'";
const PHASE: &str = "kubectl get bgw ai -o jsonpath='it is {.status.migration.phase}.'";
const PERCENT: &str = "kubectl get bgw ai -o jsonpath='it is {.status.traffic.wantedPercent}.'";
const STRATEGY: &str = "kubectl get bgw ai -o jsonpath='it is {.status.migration.strategy}.'";
const PAUSED: &str = "kubectl get bgw ai -o jsonpath='it is {.spec.paused}.'";

/// docs/strategies/drop-in.md.
pub(super) const DROP_IN: &[Line] = &[
    // The scenario has its namespace already.
    Refused("kubectl create namespace llm", "already exists"),
    Page(
        r#"kubectl -n llm create secret generic openai --from-literal=api-key="$OPENAI_API_KEY""#,
        "secret/openai created",
    ),
    Page(
        r#"kubectl -n llm create secret generic anthropic --from-literal=api-key="$ANTHROPIC_API_KEY""#,
        "secret/anthropic created",
    ),
    Page("kubectl apply -f examples/strategies/drop-in.yaml", "bifrostgateway.bifrost.dev/ai created"),
    Page("kubectl wait -n llm bifrostgateway/ai --for=condition=Ready --timeout=5m", "condition met"),
    Page("kubectl get pk -n llm", "InUse"),
    Page(
        r#"curl -i http://ai.llm.svc:8080/openai/v1/chat/completions -H 'content-type: application/json' -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "test"}]}'"#,
        "x-bf-arm: bifrost",
    ),
    Page(
        r#"curl -i http://ai.llm.svc:8080/anthropic/v1/messages -H 'content-type: application/json' -d '{"model": "claude-3-haiku-20240307", "max_tokens": 100, "messages": [{"role": "user", "content": "test"}]}'"#,
        "x-bf-arm: bifrost",
    ),
    Page("kubectl get bgw ai -n llm", "DropIn"),
    Page("kubectl get bgw", "DropIn"),
    Page("kubectl bifrost status ai -n llm -w", "DropIn, Completed"),
    Page(r#"kubectl annotate bgw ai -n llm --overwrite bifrost.dev/request="abort/$(date +%s)""#, "annotated"),
    Own(PERCENT, "it is 0."),
    Page("kubectl bifrost retry ai -n llm", "retry handled"),
    Own(PERCENT, "it is 100."),
    Page("kubectl bifrost abort ai -n llm", "abort handled"),
    Own(PERCENT, "it is 0."),
    Page(
        r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"migration":{"strategy":"Canary","canaryPercent":0}}}'"#,
        "patched",
    ),
    Own(STRATEGY, "it is Canary."),
    Page(
        r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"migration":{"strategy":"DropIn","canaryPercent":null,"canary":null,"gradual":null,"blueGreen":null,"analysis":null,"rollback":null,"shadow":null}}}'"#,
        "patched",
    ),
    Own(PERCENT, "it is 100."),
];

/// docs/strategies/canary.md by hand, and what docs/strategies/README.md says of every strategy.
pub(super) const CANARY: &[Line] = &[
    Page("kubectl apply -f examples/strategies/canary-percent.yaml", "configured"),
    Page("kubectl get bgw ai -n llm -w", "Canary"),
    Page("kubectl bifrost set-percent ai 25 -n llm", "10 % → 25 %"),
    Page(r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"migration":{"canaryPercent":0}}}'"#, "patched"),
    Own(PERCENT, "it is 0."),
    Page(r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"migration":{"canaryPercent":25}}}'"#, "patched"),
    Own(PERCENT, "it is 25."),
    Page("kubectl bifrost set-percent ai 0 -n llm", "25 % → 0 %"),
    Page("kubectl port-forward -n llm deploy/ai 9090:9090 &", "Forwarding"),
    Page("curl -s localhost:9090/metrics | grep bifrost_requests_total", r#"arm="bifrost""#),
    Page("curl -s localhost:9090/metrics | grep bifrost_request_duration_seconds", r#"arm="bifrost""#),
    Own("kubectl apply -f docs/strategies/README.md-0.yaml", "configured"),
    Page(
        r#"curl -i http://ai.llm.svc:8080/openai/v1/chat/completions -H "authorization: Bearer $OPENAI_API_KEY" -H 'x-bf-arm: bifrost' -H 'content-type: application/json' -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "test"}]}'"#,
        "x-bf-arm-reason: header",
    ),
    Page("kubectl describe bgw ai -n llm", "TrafficChanged"),
    Page("kubectl events -n llm --for bifrostgateway/ai", "TrafficChanged"),
];

/// docs/strategies/canary.md by steps.
pub(super) const STEPS: &[Line] = &[
    Page("kubectl apply -f examples/strategies/canary-steps.yaml", "configured"),
    Own(STEP, "it is 1/5."),
    Page("kubectl bifrost promote ai -n llm", "2/5"),
    Page(r#"kubectl annotate bgw ai -n llm --overwrite bifrost.dev/request="promote/$(date +%s)""#, "annotated"),
    Own(STEP, "it is 3/5."),
    Page(
        "revision=$(kubectl get bgw ai -n llm -o jsonpath='{.status.migration.revision}')\n\
         kubectl get bgw ai -n llm -o jsonpath='{.status.migration.message}'\n\
         kubectl annotate bgw ai -n llm --overwrite bifrost.dev/request=\"promote/$(date +%s)@$revision\"",
        "annotated",
    ),
    Own(STEP, "it is 4/5."),
    Page(r#"kubectl annotate bgw ai -n llm --overwrite bifrost.dev/request="abort/$(date +%s)""#, "annotated"),
    Own(STEP, "it is 0/5."),
    Page(r#"kubectl annotate bgw ai -n llm --overwrite bifrost.dev/request="retry/$(date +%s)""#, "annotated"),
    Own(STEP, "it is 4/5."),
    Page("kubectl bifrost abort ai -n llm", "RolledBack"),
    Page(r#"kubectl annotate bgw ai -n llm --overwrite bifrost.dev/request="restart/$(date +%s)""#, "annotated"),
    Own(STEP, "it is 1/5."),
    Page(r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"paused":true}}'"#, "patched"),
    Own(PAUSED, "it is true."),
    Page("kubectl bifrost resume ai -n llm", "in force"),
    Page("kubectl bifrost pause ai -n llm", "in force"),
    Page(r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"paused":false}}'"#, "patched"),
    Own(PAUSED, "it is false."),
    Page("kubectl bifrost promote ai --full -n llm", "5/5"),
    Page(
        "kubectl wait bgw/ai -n llm --for=jsonpath='{.status.migration.phase}'=Completed --timeout=168h",
        "condition met",
    ),
    Page("kubectl bifrost abort ai -n llm", "RolledBack"),
    Page("kubectl bifrost restart ai -n llm", "1/5"),
    Page(r#"kubectl annotate bgw ai -n llm --overwrite bifrost.dev/request="promote-full/$(date +%s)""#, "annotated"),
    Own(STEP, "it is 5/5."),
    // The next canary begins below its first step.
    Page("kubectl bifrost abort ai -n llm", "RolledBack"),
];

/// docs/strategies/canary.md by numbers.
pub(super) const ANALYSIS: &[Line] = &[
    Page("kubectl apply -f examples/strategies/canary-analysis.yaml", "configured"),
    Page("kubectl get bgw ai -n llm -o jsonpath='{.status.analysis}'", "Inconclusive"),
    Page("kubectl bifrost status ai -n llm", "Inconclusive"),
    Page("kubectl bifrost abort ai -n llm", "RolledBack"),
    Page("kubectl get bgw ai -n llm -o jsonpath='{.status.migration.rollback}'", "Aborted"),
];

/// docs/strategies/gradual.md.
pub(super) const GRADUAL: &[Line] = &[
    Page("kubectl apply -f examples/strategies/gradual.yaml", "configured"),
    Page("kubectl get bgw ai -n llm -w", "development"),
    Page("kubectl bifrost set-phase ai features -n llm", "features"),
    Page(
        r#"curl -si http://ai.llm.svc:8080/openai/v1/chat/completions -H "authorization: Bearer $OPENAI_API_KEY" -H 'x-bf-feature: chat' -H 'content-type: application/json' -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "test"}]}' | grep -i '^x-bf-'"#,
        "x-bf-arm-reason: gradual",
    ),
    Page("kubectl bifrost set-phase ai development -n llm", "development"),
    Page(
        r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"migration":{"gradual":{"currentPhase":"features"}}}}'"#,
        "patched",
    ),
    Own(STEP, "it is features."),
    Page(
        r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"migration":{"gradual":{"currentPhase":"development"}}}}'"#,
        "patched",
    ),
    Own(STEP, "it is development."),
    Page(
        r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"migration":{"gradual":{"currentPhase":null}}}}'"#,
        "patched",
    ),
    Own(STEP, "it is -."),
    Page("kubectl bifrost set-phase ai none -n llm", "already"),
    // Phases that follow by themselves.
    Own("kubectl apply -f docs/strategies/gradual.md-1.yaml", "configured"),
    Own(STEP, "it is development."),
    Page("kubectl bifrost promote ai -n llm", "features"),
    Page(r#"kubectl annotate bgw ai -n llm --overwrite bifrost.dev/request="promote-full/$(date +%s)""#, "annotated"),
    Own(STEP, "it is all."),
];

/// docs/strategies/blue-green.md.
pub(super) const BLUE_GREEN: &[Line] = &[
    Page("kubectl apply -f examples/strategies/blue-green.yaml", "configured"),
    Page("kubectl wait -n llm bifrostgateway/ai --for=condition=Ready --timeout=5m", "condition met"),
    Page("kubectl get bgw ai -n llm -o jsonpath='{.status.endpoints.preview}'", "http://ai-bifrost-preview."),
    Page(
        r#"curl -i http://ai-bifrost-preview.llm.svc:8081/openai/v1/chat/completions -H "authorization: Bearer $OPENAI_API_KEY" -H 'content-type: application/json' -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "test"}]}'"#,
        "x-bf-arm-reason: preview",
    ),
    Page(
        r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"migration":{"blueGreen":{"active":"Green"}}}}'"#,
        "patched",
    ),
    Own(PERCENT, "it is 100."),
    Page("kubectl bifrost switch ai blue -n llm", "Blue"),
    Own(PERCENT, "it is 0."),
    Page("kubectl bifrost switch ai green -n llm", "Green"),
    Own(PERCENT, "it is 100."),
    Page(
        r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"migration":{"blueGreen":{"active":"Blue"}}}}'"#,
        "patched",
    ),
    Own(PERCENT, "it is 0."),
    // Automatic promotion.
    Own("kubectl apply -f docs/strategies/blue-green.md-1.yaml", "configured"),
    Own(PHASE, "it is Progressing."),
    Page(r#"kubectl annotate bgw ai -n llm --overwrite bifrost.dev/request="promote/$(date +%s)""#, "annotated"),
    Own(PERCENT, "it is 100."),
    Page("kubectl bifrost abort ai -n llm", "RolledBack, Blue"),
    Page("kubectl bifrost retry ai -n llm", "Green"),
    Page(r#"kubectl annotate bgw ai -n llm --overwrite bifrost.dev/request="abort/$(date +%s)""#, "annotated"),
    Own(PERCENT, "it is 0."),
    Page("kubectl bifrost restart ai -n llm", "Blue"),
    Page("kubectl bifrost promote ai -n llm", "Green"),
    Page(
        r#"kubectl patch bgw ai -n llm --type=merge -p '{"spec":{"migration":{"strategy":"DropIn","blueGreen":null,"analysis":null,"rollback":null,"shadow":null}}}'"#,
        "patched",
    ),
    Own(STRATEGY, "it is DropIn."),
];

/// docs/shadow.md.
pub(super) const SHADOW: &[Line] = &[
    Own("kubectl apply -f docs/shadow.md-0.yaml", "configured"),
    Page("kubectl get bgw ai -n llm -o jsonpath='{.status.shadow}'", "copied"),
];
