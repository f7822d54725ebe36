//! The pods. Nothing of the configuration is in the template, not even as a hash: a new configuration must not restart a pod.

use std::collections::BTreeMap;

use bifrost_config::AddressRule;
use bifrost_config::report::{self, ADMIN_PORT, FORWARD_PORT};
use bifrost_config::units::parse_duration;
use bifrost_crds::{DrainSpec, PodSettings, ServiceType};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
    HTTPGetAction, Lifecycle, LifecycleHandler, ObjectFieldSelector, PodDNSConfig, PodDNSConfigOption,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile, SecretVolumeSource, SecurityContext,
    SleepAction, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Observed, Part, merged, meta, non_empty};
use crate::names;
use crate::rollout::revision::Revision;

/// Port of the applications.
pub const APP_PORT: i32 = 8080;
/// Port of the preview.
pub const PREVIEW_PORT: i32 = report::PREVIEW_PORT as i32;
/// Name of the applications' port.
pub(super) const APP_PORT_NAME: &str = "http";
/// Name of the preview's port.
pub(super) const PREVIEW_PORT_NAME: &str = "preview";
/// Name of the port of what is forwarded to a candidate.
pub(super) const FORWARD_PORT_NAME: &str = "forward";
/// Name of the port of health, metrics and state.
pub const ADMIN_PORT_NAME: &str = "admin";

/// Says on the Deployment, not on its pods, which form of the pod template it has.
const TEMPLATE_VERSION: &str = "bifrost.dev/template-version";
/// The only form there is: 1 had no port for the preview, 2 no pause before SIGTERM, and neither was released. A later operator that
/// builds pods otherwise must not restart those that run: it raises the number, and keeps this form for Deployments that have this
/// number, or none, until their image or their spec changes.
const TEMPLATE: u32 = 3;

/// Where the last snapshot lies.
const STATE_DIR: &str = "/var/lib/bifrost";
/// Where the ConfigMap is mounted.
const CONFIG_DIR: &str = "/etc/bifrost/config";
/// Where the Secret is mounted.
const KEYS_DIR: &str = "/etc/bifrost/keys";
/// Not root, and nobody's else.
const USER: i64 = 65532;
/// What a pod may take to end once its streams are over, in seconds.
const GRACE: u64 = 15;
/// What the kubelet waits before SIGTERM, in seconds, as part of the grace: the kernel drops a signal for a container's first process
/// that has no handler for it yet, and a pod deleted in the moment of its start would stay until its grace is over.
const BEFORE_SIGTERM: i64 = 1;

/// Which pods are built.
struct Kind<'a> {
    image: &'a str,
    /// By which labels they are selected.
    selector: BTreeMap<String, String>,
    /// The candidate's revision, for pods of its own.
    candidate: Option<&'a str>,
    addresses: AddressRule,
}

impl Kind<'_> {
    fn selector(&self) -> LabelSelector {
        LabelSelector { match_labels: Some(self.selector.clone()), ..LabelSelector::default() }
    }
}

/// The Deployment.
pub(super) fn build_deployment(observed: &Observed, image: &str, addresses: AddressRule) -> Deployment {
    let kind = Kind { image, selector: names::selector(observed.name()), candidate: None, addresses };
    build(observed, Part::Deployment, &kind, observed.gateway.spec.replicas)
}

/// That of a candidate's own pods.
pub(super) fn build_candidate_deployment(
    observed: &Observed,
    revision: &Revision,
    pods: usize,
    addresses: AddressRule,
) -> Deployment {
    let selector = names::candidate_selector(observed.name());
    let kind = Kind { image: &revision.image, selector, candidate: Some(&revision.id), addresses };
    build(observed, Part::Candidate, &kind, i32::try_from(pods).unwrap_or(i32::MAX))
}

fn build(observed: &Observed, part: Part, kind: &Kind<'_>, replicas: i32) -> Deployment {
    let spec = &observed.gateway.spec;
    let mut ours = names::labels(observed.name());
    ours.extend(kind.selector.clone());
    ours.extend(kind.candidate.map(|revision| (names::LABEL_REVISION.to_owned(), revision.to_owned())));
    let pod_labels = merged(&spec.pod.labels, ours);
    let annotations = [(TEMPLATE_VERSION.to_owned(), TEMPLATE.to_string())].into();
    Deployment {
        metadata: ObjectMeta { annotations: Some(annotations), ..meta(observed, part) },
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            revision_history_limit: Some(5),
            selector: kind.selector(),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::String("25%".to_owned())),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: non_empty(&spec.pod.annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(observed, kind)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn pod(observed: &Observed, kind: &Kind<'_>) -> PodSpec {
    let spec = &observed.gateway.spec;
    let settings: &PodSettings = &spec.pod;
    let spread = settings.topology_spread_constraints.clone().unwrap_or_else(|| spread(kind));
    PodSpec {
        service_account_name: Some(Part::ServiceAccount.name(observed.name())),
        automount_service_account_token: Some(true),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(termination_grace(&spec.drain)),
        // Names of vendors have dots enough to be looked up as they are.
        dns_config: Some(PodDNSConfig {
            options: Some(vec![PodDNSConfigOption { name: Some("ndots".to_owned()), value: Some("1".to_owned()) }]),
            ..PodDNSConfig::default()
        }),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(observed, kind)],
        volumes: Some(volumes(observed)),
        topology_spread_constraints: Some(spread).filter(|list| !list.is_empty()),
        node_selector: non_empty(&settings.node_selector),
        tolerations: Some(settings.tolerations.clone()).filter(|list| !list.is_empty()),
        affinity: settings.affinity.clone(),
        image_pull_secrets: Some(settings.image_pull_secrets.clone()).filter(|list| !list.is_empty()),
        priority_class_name: settings.priority_class_name.clone(),
        ..PodSpec::default()
    }
}

/// As even as possible over zones and nodes, without ever keeping a pod from running.
fn spread(kind: &Kind<'_>) -> Vec<TopologySpreadConstraint> {
    let over = |key: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(kind.selector()),
        // So that the pods of the revision that leaves do not count.
        match_label_keys: Some(vec!["pod-template-hash".to_owned()]),
        ..TopologySpreadConstraint::default()
    };
    vec![over("topology.kubernetes.io/zone"), over("kubernetes.io/hostname")]
}

/// The schema bounds both texts; were one unreadable, its default would do.
fn termination_grace(drain: &DrainSpec) -> i64 {
    let seconds = |text: &str, default: u64| {
        parse_duration(text).map_or(default, |duration| duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
    };
    let total = seconds(&drain.readiness_delay, 5) + seconds(&drain.timeout, 300) + GRACE;
    i64::try_from(total).unwrap_or(i64::MAX)
}

fn container(observed: &Observed, kind: &Kind<'_>) -> Container {
    let spec = &observed.gateway.spec;
    let port = |name: &str, number: i32| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let mut ports = vec![
        port(APP_PORT_NAME, APP_PORT),
        port(PREVIEW_PORT_NAME, PREVIEW_PORT),
        port(ADMIN_PORT_NAME, i32::from(ADMIN_PORT)),
    ];
    ports.extend(kind.candidate.map(|_| port(FORWARD_PORT_NAME, i32::from(FORWARD_PORT))));
    Container {
        name: names::CONTAINER.to_owned(),
        image: Some(kind.image.to_owned()),
        args: Some(args(observed)),
        env: Some(env(kind)),
        ports: Some(ports),
        resources: spec.pod.resources.clone(),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        liveness_probe: Some(probe("/livez", 10, 3)),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: BEFORE_SIGTERM }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            mount("state", STATE_DIR, false),
            mount("config", CONFIG_DIR, true),
            mount("keys", KEYS_DIR, true),
        ]),
        ..Container::default()
    }
}

fn args(observed: &Observed) -> Vec<String> {
    let spec = &observed.gateway.spec;
    let port = APP_PORT.to_string();
    let admin_port = ADMIN_PORT.to_string();
    let pairs = [
        ("--namespace", "$(POD_NAMESPACE)"),
        ("--name", observed.name()),
        ("--port", &port),
        ("--admin-port", &admin_port),
        ("--state-dir", STATE_DIR),
        ("--mounted-config", CONFIG_DIR),
        ("--mounted-keys", KEYS_DIR),
        ("--drain-timeout", &spec.drain.timeout),
        ("--readiness-delay", &spec.drain.readiness_delay),
        ("--log-format", "json"),
    ];
    let mut args = vec!["--cluster".to_owned()];
    args.extend(pairs.iter().map(|(flag, value)| format!("{flag}={value}")));
    // Outside the cluster nobody needs to know how much traffic there is.
    if spec.service.type_ == ServiceType::ClusterIP {
        args.push("--metrics-on-app-port".to_owned());
    }
    args
}

fn env(kind: &Kind<'_>) -> Vec<EnvVar> {
    let mut env = vec![field_env("POD_NAME", "metadata.name"), field_env("POD_NAMESPACE", "metadata.namespace")];
    // A variable, not a flag: an older gateway that does not know it must start.
    let mut add = |name: &str, value: &str| {
        env.push(EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() });
    };
    if kind.addresses == AddressRule::Any {
        add("BIFROST_ALLOW_LOCAL_ADDRESSES", "true");
    }
    if let Some(revision) = kind.candidate {
        add("BIFROST_CANDIDATE_REVISION", revision);
    }
    env
}

fn field_env(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path: path.to_owned() }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(ADMIN_PORT_NAME.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// ConfigMap and Secret are optional: a pod must be able to start while they are made anew.
fn volumes(observed: &Observed) -> Vec<Volume> {
    let volume = |name: &str| Volume { name: name.to_owned(), ..Volume::default() };
    vec![
        Volume {
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity("16Mi".to_owned())),
                ..EmptyDirVolumeSource::default()
            }),
            ..volume("state")
        },
        Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: Part::Published.name(observed.name()),
                optional: Some(true),
                ..ConfigMapVolumeSource::default()
            }),
            ..volume("config")
        },
        Volume {
            secret: Some(SecretVolumeSource {
                secret_name: Some(Part::Keys.name(observed.name())),
                optional: Some(true),
                default_mode: Some(0o440),
                ..SecretVolumeSource::default()
            }),
            ..volume("keys")
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::tests::observed;

    fn pod_spec() -> PodSpec {
        build_deployment(&observed(), "r/g:1", AddressRule::NoLocal).spec.unwrap().template.spec.unwrap()
    }

    #[test]
    fn the_pod_meets_the_restricted_profile_with_a_read_only_root() {
        let pod = pod_spec();
        let context = pod.security_context.as_ref().unwrap();
        assert_eq!(context.run_as_non_root, Some(true));
        assert_eq!(context.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
        assert!(pod.host_network.is_none() && pod.host_pid.is_none() && pod.host_ipc.is_none());
        for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
            let context = container.security_context.as_ref().unwrap();
            assert_eq!(context.allow_privilege_escalation, Some(false));
            assert_eq!(context.read_only_root_filesystem, Some(true));
            assert_eq!(context.capabilities.as_ref().unwrap().drop, Some(vec!["ALL".to_owned()]));
            assert!(context.privileged.is_none() && context.capabilities.as_ref().unwrap().add.is_none());
            assert!(container.ports.iter().flatten().all(|port| port.host_port.is_none()));
        }
        for volume in pod.volumes.iter().flatten() {
            assert!(volume.host_path.is_none());
            assert!(volume.empty_dir.is_some() || volume.config_map.is_some() || volume.secret.is_some());
        }
    }

    #[test]
    fn a_pod_has_the_time_that_its_drain_may_take() {
        assert_eq!(pod_spec().termination_grace_period_seconds, Some(320));
        let drain = DrainSpec { timeout: "1m30s".into(), readiness_delay: "500ms".into() };
        assert_eq!(termination_grace(&drain), 106);
    }

    #[test]
    fn metrics_leave_the_app_port_when_the_service_leaves_the_cluster() {
        let mut observed = observed();
        assert!(args(&observed).contains(&"--metrics-on-app-port".to_owned()));
        observed.gateway.spec.service.type_ = ServiceType::LoadBalancer;
        assert!(!args(&observed).contains(&"--metrics-on-app-port".to_owned()));
    }

    #[test]
    fn a_users_label_never_takes_the_place_of_ours() {
        let mut observed = observed();
        observed.gateway.spec.pod.labels =
            [("team".to_owned(), "a".to_owned()), (names::LABEL_INSTANCE.to_owned(), "x".to_owned())].into();
        let deployment = build_deployment(&observed, "r/g:1", AddressRule::NoLocal).spec.unwrap();
        let labels = deployment.template.metadata.unwrap().labels.unwrap();
        assert_eq!((labels["team"].as_str(), labels[names::LABEL_INSTANCE].as_str()), ("a", "ai"));
        for (key, value) in deployment.selector.match_labels.unwrap() {
            assert_eq!(labels.get(&key), Some(&value));
        }
    }

    #[test]
    fn the_form_of_the_template_is_noted_where_it_restarts_no_pod() {
        let mut seen = observed();
        let noted = |seen: &Observed| build_deployment(seen, "r/g:1", AddressRule::NoLocal).metadata.annotations;
        let before = noted(&seen);
        assert_eq!(before, Some([(TEMPLATE_VERSION.to_owned(), "3".to_owned())].into()));
        seen.gateway.spec.drain.timeout = "9s".into();
        assert_eq!(noted(&seen), before);
        let template = build_deployment(&seen, "r/g:1", AddressRule::NoLocal).spec.unwrap().template;
        assert_eq!(template.metadata.unwrap().annotations, None);
    }

    #[test]
    fn an_empty_list_means_no_spreading() {
        let mut observed = observed();
        observed.gateway.spec.pod.topology_spread_constraints = Some(Vec::new());
        let pod = build_deployment(&observed, "r/g:1", AddressRule::NoLocal).spec.unwrap().template.spec.unwrap();
        assert_eq!(pod.topology_spread_constraints, None);
    }
}
