//! How etcd, the API server, the controller manager and the scheduler are started.

use anyhow::Result;

use crate::{
    cluster::{layout::Layout, network, process::Daemon},
    components::Components,
};

/// Names of the components here; they name logs and pid files too.
pub(super) const ETCD: &str = "etcd";
/// The API server.
pub(super) const API_SERVER: &str = "kube-apiserver";
/// The controller manager.
pub(super) const CONTROLLER_MANAGER: &str = "kube-controller-manager";
/// The scheduler.
pub(super) const SCHEDULER: &str = "kube-scheduler";

const ETCD_URL: &str = "http://127.0.0.1:2379";

/// etcd, on loopback inside and without waiting for the disk: its data does not outlive the cluster.
pub(super) fn etcd(layout: &Layout, components: &Components) -> Result<Daemon> {
    let peer = "http://127.0.0.1:2380";
    let args = [
        format!("--data-dir={}", layout.path("etcd").display()),
        format!("--listen-client-urls={ETCD_URL}"),
        format!("--advertise-client-urls={ETCD_URL}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ];
    Ok(Daemon::new(components.program(ETCD)?, args))
}

/// The API server with what any cluster has: Node and RBAC authorization, admission plugins (pod security, service
/// accounts, validating admission policies), the aggregation layer.
pub(super) fn api_server(layout: &Layout, components: &Components) -> Result<Daemon> {
    let pki = |file: &str| layout.pki(file).display().to_string();
    let args = [
        format!("--etcd-servers={ETCD_URL}"),
        format!("--secure-port={}", network::API_PORT),
        format!("--advertise-address={}", network::NODE_ADDRESS),
        format!("--service-cluster-ip-range={}", network::SERVICE_CIDR),
        format!("--tls-cert-file={}", pki("kube-apiserver.crt")),
        format!("--tls-private-key-file={}", pki("kube-apiserver.key")),
        format!("--cert-dir={}", layout.path("pki").display()),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--kubelet-client-certificate={}", pki("kubelet-client.crt")),
        format!("--kubelet-client-key={}", pki("kubelet-client.key")),
        // By address: logs and exec would otherwise look up the node's name.
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--service-account-issuer=https://kubernetes.default.svc.{}", network::DNS_DOMAIN),
        format!("--service-account-signing-key-file={}", pki("service-accounts.key")),
        format!("--service-account-key-file={}", pki("service-accounts.pub")),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
        "--requestheader-allowed-names=front-proxy-client".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        format!("--proxy-client-cert-file={}", pki("front-proxy.crt")),
        format!("--proxy-client-key-file={}", pki("front-proxy.key")),
        "--profiling=false".into(),
    ];
    Ok(Daemon::new(components.program(API_SERVER)?, args))
}

/// The controller manager. Alone, it elects no leader.
pub(super) fn controller_manager(layout: &Layout, components: &Components) -> Result<Daemon> {
    let pki = |file: &str| layout.pki(file).display().to_string();
    let kubeconfig = layout.kubeconfig_of(CONTROLLER_MANAGER).display().to_string();
    let args = [
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".into(),
        // An account for each controller, as RBAC wants it; the default limit on requests would spread making them over 4 s.
        "--use-service-account-credentials=true".into(),
        "--kube-api-qps=500".into(),
        "--kube-api-burst=1000".into(),
        "--allocate-node-cidrs=false".into(),
        format!("--service-account-private-key-file={}", pki("service-accounts.key")),
        format!("--root-ca-file={}", pki("ca.crt")),
        format!("--cluster-signing-cert-file={}", pki("ca.crt")),
        format!("--cluster-signing-key-file={}", pki("ca.key")),
        format!("--cert-dir={}", layout.path("pki/kube-controller-manager").display()),
        // Its default is a folder outside, which it creates.
        format!("--flex-volume-plugin-dir={}", layout.path("kubelet/volume-plugins").display()),
        "--profiling=false".into(),
    ];
    Ok(Daemon::new(components.program(CONTROLLER_MANAGER)?, args))
}

/// The scheduler.
pub(super) fn scheduler(layout: &Layout, components: &Components) -> Result<Daemon> {
    let kubeconfig = layout.kubeconfig_of(SCHEDULER).display().to_string();
    let args = [
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".into(),
        format!("--cert-dir={}", layout.path("pki/kube-scheduler").display()),
        "--profiling=false".into(),
    ];
    Ok(Daemon::new(components.program(SCHEDULER)?, args))
}
