//! The node: containerd, kubelet and kube-proxy with their configuration.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    cluster::{layout::Layout, network, process::Daemon},
    components::{Components, packages},
    files, run,
};

/// The container runtime.
pub(super) const CONTAINERD: &str = "containerd";
/// The node's agent.
pub(super) const KUBELET: &str = "kubelet";
/// What makes Service addresses work.
pub(super) const KUBE_PROXY: &str = "kube-proxy";

/// Writes containerd's configuration and describes the daemon. `pause_image` is what holds a pod's namespaces.
pub(super) fn containerd(layout: &Layout, pause_image: &str) -> Result<Daemon> {
    let config = layout.path("containerd/config.toml");
    files::write(&config, containerd_config(layout, pause_image)?)?;
    write_pod_network(layout)?;
    let program = run::find_program(CONTAINERD).context("the program `containerd` is missing")?;
    Ok(Daemon::new(program, [format!("--config={}", config.display())]))
}

/// TOML is written by hand, with every value quoted as TOML and JSON agree on: a crate for one file would be too much.
fn containerd_config(layout: &Layout, pause_image: &str) -> Result<String> {
    let quoted = |path: PathBuf| Value::from(path.display().to_string()).to_string();
    let plugins = packages::cni_folder().context("the CNI plugins `bridge` and `portmap` are missing")?;
    let (root, state) = (quoted(layout.path("containerd/root")), quoted(layout.containerd_state()));
    let (socket, ttrpc) =
        (quoted(layout.containerd_socket()), quoted(layout.containerd_socket().with_extension("ttrpc")));
    let (conf_dir, bin_dir) = (quoted(layout.path("cni")), quoted(plugins.to_owned()));
    let (runc_root, pause) = (quoted(layout.path("containerd/runc")), Value::from(pause_image));
    Ok(format!(
        r#"version = 2
root = {root}
state = {state}
# Plugins for other file systems, and one that writes to /opt.
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = {socket}

[ttrpc]
address = {ttrpc}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {pause}
# Where root may not lower oom_score_adj (containers, sandboxes), every pod fails without this.
restrict_oom_score_adj = true
# Which namespaces are this cluster's is then known by their place.
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {bin_dir}
conf_dir = {conf_dir}

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = {runc_root}
"#
    ))
}

/// The pods' network: a bridge that is their gateway. Its name in the network's cache is the cluster's tag.
fn write_pod_network(layout: &Layout) -> Result<()> {
    let network = json!({
        "cniVersion": "0.4.0",
        "name": layout.tag(),
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": network::POD_CIDR}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": layout.path("ipam"),
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    files::write(&layout.path("cni/10-pods.conflist"), serde_json::to_vec_pretty(&network)?)
}

/// Writes kubelet's configuration and describes the daemon.
pub(super) fn kubelet(layout: &Layout, components: &Components) -> Result<Daemon> {
    let config = layout.path("kubelet.json");
    files::write(&config, serde_json::to_vec_pretty(&kubelet_config(layout))?)?;
    let args = [
        format!("--config={}", config.display()),
        format!("--kubeconfig={}", layout.kubeconfig_of(KUBELET).display()),
        format!("--hostname-override={}", layout.tag()),
        format!("--node-ip={}", network::NODE_ADDRESS),
        format!("--root-dir={}", layout.path("kubelet").display()),
        format!("--cert-dir={}", layout.path("kubelet/pki").display()),
    ];
    Ok(Daemon::new(components.program(KUBELET)?, args))
}

fn kubelet_config(layout: &Layout) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": layout.pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{}", layout.containerd_socket().display()),
        "clusterDNS": [network::DNS_SERVICE],
        "clusterDomain": network::DNS_DOMAIN,
        "podLogsDir": layout.path("pod-logs"),
        "volumePluginDir": layout.path("kubelet/volume-plugins"),
        // The machine's own resolver is out of reach inside.
        "resolvConf": "",
        // No systemd needed, swap and cgroup v1 are fine, and the node takes nothing of the machine for itself.
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "failCgroupV1": false,
        "localStorageCapacityIsolation": false,
        // A full disk of the user's must not evict pods or remove images, which nobody can pull again.
        "evictionHard": {
            "imagefs.available": "0%", "imagefs.inodesFree": "0%",
            "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "memory.available": "1Mi",
        },
        "imageGCHighThresholdPercent": 100,
        // A container that a test kills often would otherwise wait up to five minutes.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
    })
}

/// Writes kube-proxy's configuration and describes the daemon. Start it after the node is registered: without its node
/// it waits for 30 s.
pub(super) fn kube_proxy(layout: &Layout, components: &Components) -> Result<Daemon> {
    let config = layout.path("kube-proxy.json");
    let content = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": layout.kubeconfig_of(KUBE_PROXY)},
        "clusterCIDR": network::POD_CIDR,
        "hostnameOverride": layout.tag(),
        "mode": "iptables",
        // Limits of connection tracking belong to the whole machine: leave them.
        "conntrack": {"maxPerCore": 0, "min": 0},
        // The default of one second delays the effect of a changed Service.
        "iptables": {"minSyncPeriod": "100ms"},
    });
    files::write(&config, serde_json::to_vec_pretty(&content)?)?;
    Ok(Daemon::new(components.program(KUBE_PROXY)?, [format!("--config={}", config.display())]))
}
