//! What scenario `drift` does to each owned object, one edit at a time.

/// Edits of every object of a gateway that the API server lets pass: a path, and another value or a member that is not ours.
pub(super) const EDITS: &[(&str, &[(&str, &str)])] = &[
    (
        "deployment/ai",
        &[
            (MANAGED_BY, r#""somebody""#),
            ("/spec/replicas", "2"),
            ("/spec/strategy/rollingUpdate/maxUnavailable", "1"),
            ("/spec/template/spec/terminationGracePeriodSeconds", "7"),
            (OWNER, "false"),
            ("/spec/strategy/rollingUpdate/maxSurge", "3"),
            ("/spec/revisionHistoryLimit", "7"),
            ("/spec/template/metadata/labels/app.kubernetes.io~1component", r#""other""#),
            ("/spec/template/spec/serviceAccountName", r#""default""#),
            ("/spec/template/spec/automountServiceAccountToken", "false"),
            ("/spec/template/spec/securityContext/runAsNonRoot", "false"),
            ("/spec/template/spec/enableServiceLinks", "true"),
            ("/spec/template/spec/topologySpreadConstraints/0/maxSkew", "5"),
            ("/spec/template/spec/securityContext/runAsUser", "1000"),
            ("/spec/template/spec/securityContext/runAsGroup", "1000"),
            ("/spec/template/spec/securityContext/fsGroup", "1000"),
            ("/spec/template/spec/securityContext/seccompProfile/type", r#""Unconfined""#),
            ("/spec/template/spec/dnsConfig/options/0/value", r#""7""#),
            ("/spec/template/spec/containers/0/image", r#""elsewhere/gateway:1""#),
            ("/spec/template/spec/containers/0/args/0", r#""--help""#),
            ("/spec/template/spec/containers/0/env/0/valueFrom/fieldRef/fieldPath", r#""metadata.uid""#),
            ("/spec/template/spec/containers/0/resources/requests/cpu", r#""7m""#),
            ("/spec/template/spec/containers/0/resources/limits/memory", r#""700Mi""#),
            ("/spec/template/spec/containers/0/securityContext/allowPrivilegeEscalation", "true"),
            ("/spec/template/spec/containers/0/securityContext/readOnlyRootFilesystem", "false"),
            ("/spec/template/spec/containers/0/securityContext/capabilities/drop", "[]"),
            ("/spec/template/spec/containers/0/livenessProbe/httpGet/path", r#""/""#),
            ("/spec/template/spec/containers/0/livenessProbe/periodSeconds", "77"),
            ("/spec/template/spec/containers/0/readinessProbe/failureThreshold", "7"),
            ("/spec/template/spec/containers/0/volumeMounts/0/name", r#""keys""#),
            ("/spec/template/spec/containers/0/volumeMounts/1/readOnly", "false"),
            ("/spec/template/spec/volumes/0/emptyDir/sizeLimit", r#""7Mi""#),
            // Apply alone would add ours beside each of these, and that would be no valid object.
            ("/spec/template/spec/containers/0/ports/0/containerPort", "9999"),
            ("/spec/template/spec/containers/0/readinessProbe", r#"{"tcpSocket": {"port": 1}}"#),
            ("/spec/template/spec/volumes/0", r#"{"name": "state", "hostPath": {"path": "/tmp"}}"#),
        ],
    ),
    (
        "service/ai",
        &[
            (MANAGED_BY, r#""somebody""#),
            ("/spec/ports/0/port", "9999"),
            ("/spec/ports/0/name", r#""web""#),
            (OWNER, "false"),
            ("/spec/ports/0/targetPort", "1"),
            ("/spec/ports/0/appProtocol", r#""https""#),
            ("/spec/ports/1", r#"{"name": "foreign", "port": 9999}"#),
            ("/spec/ports", r#"[{"name": "http", "port": 9999}, {"name": "web", "port": 8080}]"#),
            ("/spec/selector", r#"{"app": "other"}"#),
            ("/spec/type", r#""NodePort""#),
        ],
    ),
    (
        "configmap/ai-bifrost",
        &[
            (MANAGED_BY, r#""somebody""#),
            (OWNER, "false"),
            (TRAFFIC, r#""{}""#),
            ("/data/stable.json", r#""{}""#),
            ("/data/foreign", r#""x""#),
            ("/binaryData", r#"{"foreign": "eA=="}"#),
            ("/immutable", "true"),
        ],
    ),
    (
        "configmap/ai-bifrost-env",
        &[("/data/OPENAI_BASE_URL", r#""http://elsewhere""#), ("/data/ANTHROPIC_API_KEY", r#""x""#)],
    ),
    (
        "configmap/ai-bifrost-env-direct",
        &[("/data/OPENAI_BASE_URL", r#""http://elsewhere""#), ("/data/ANTHROPIC_API_KEY", r#""x""#)],
    ),
    (
        "secret/ai-bifrost-keys",
        &[
            (MANAGED_BY, r#""somebody""#),
            (OWNER, "false"),
            ("/data/key.openai", r#""eA==""#),
            ("/data/foreign", r#""eA==""#),
        ],
    ),
    (
        "role/ai-bifrost",
        &[
            (MANAGED_BY, r#""somebody""#),
            (OWNER, "false"),
            ("/rules/0/verbs", r#"["get", "list", "watch", "delete"]"#),
            ("/rules/0/resourceNames", r#"["other"]"#),
            ("/rules/1/resources", r#"["pods"]"#),
            ("/rules/1", r#"{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}"#),
        ],
    ),
    (
        "rolebinding/ai-bifrost",
        &[
            (MANAGED_BY, r#""somebody""#),
            (OWNER, "false"),
            ("/subjects/0/name", r#""default""#),
            ("/subjects/0/namespace", r#""default""#),
        ],
    ),
    (
        "serviceaccount/ai-bifrost",
        &[(MANAGED_BY, r#""somebody""#), (OWNER, "false"), ("/automountServiceAccountToken", "true")],
    ),
    (
        "poddisruptionbudget/ai-bifrost",
        &[
            (MANAGED_BY, r#""somebody""#),
            (OWNER, "false"),
            ("/spec/maxUnavailable", "3"),
            ("/spec/unhealthyPodEvictionPolicy", r#""IfHealthyBudget""#),
            ("/spec", r#"{"minAvailable": 1, "selector": {"matchLabels": {"app": "other"}}}"#),
        ],
    ),
    (
        "networkpolicy/ai-bifrost",
        &[
            (MANAGED_BY, r#""somebody""#),
            (OWNER, "false"),
            ("/spec/ingress", "[]"),
            ("/spec/ingress/0/ports/0/port", "9999"),
            ("/spec/podSelector", "{}"),
            ("/spec/policyTypes", r#"["Ingress", "Egress"]"#),
        ],
    ),
];
const MANAGED_BY: &str = "/metadata/labels/app.kubernetes.io~1managed-by";
/// Without its controller an object would be anybody's, and no longer ours to repair: this is the rest of the reference.
const OWNER: &str = "/metadata/ownerReferences/0/blockOwnerDeletion";
/// Members that come back with another epoch or generation.
pub(super) const COUNTED: [&str; 3] = [TRAFFIC, "/data/state.json", "/data/generations.json"];
const TRAFFIC: &str = "/data/traffic.json";
