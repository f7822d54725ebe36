//! The addresses inside a cluster. They are the same in every cluster: each has a network of its own.

use std::net::Ipv4Addr;

/// The node's address.
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 1);
/// Addresses of pods.
pub const POD_CIDR: &str = "10.244.0.0/24";
/// Addresses of Services.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// The Service `kubernetes` in the namespace `default`: the first address of the range.
pub const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Its port.
pub const KUBERNETES_PORT: u16 = 443;
/// The Service `kube-dns`.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The zone of Service names.
pub const DNS_DOMAIN: &str = "cluster.local";
/// Where the API server listens, inside.
pub const API_PORT: u16 = 6443;

/// Where the kubelet serves logs and `exec`.
pub const KUBELET_PORT: u16 = 10250;

/// The resolver configuration of a client inside, as kubelet writes it for a pod of the namespace `default`.
pub fn resolv_conf() -> String {
    format!(
        "nameserver {DNS_SERVICE}\nsearch default.svc.{DNS_DOMAIN} svc.{DNS_DOMAIN} {DNS_DOMAIN}\noptions ndots:5\n"
    )
}
