//! Which addresses a provider may have, asked once its name is resolved.
//!
//! A name is checked when the configuration is; where it leads is known only here. Without this a resource could name a host of
//! its author's own whose DNS record points into the gateway's pod or at the cloud's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use bifrost_config::AddressRule;

/// Whether `rule` allows a connection to `address`.
pub fn allowed(address: IpAddr, rule: AddressRule) -> bool {
    match rule {
        AddressRule::Any => true,
        AddressRule::NoLocal => !is_local(address),
    }
}

/// Loopback, unspecified ("this host") and link-local addresses, in every form that reaches them.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_local_v4(v4),
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || embedded_v4(v6).is_some_and(is_local_v4)
        }
    }
}

fn is_local_v4(v4: Ipv4Addr) -> bool {
    v4.is_loopback() || v4.is_link_local() || v4.octets()[0] == 0
}

/// The IPv4 address inside an IPv4-mapped (`::ffff:0:0/96`) or a NAT64 (`64:ff9b::/96`) address.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = v6.octets();
    let nat64 = octets.starts_with(&[0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]);
    let [.., a, b, c, d] = octets;
    v6.to_ipv4_mapped().or_else(|| nat64.then(|| Ipv4Addr::new(a, b, c, d)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_refused_in_every_form() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "::1",
            "::",
            "fe80::1",
            "febf::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
        ] {
            let address = text.parse().unwrap();
            assert!(!allowed(address, AddressRule::NoLocal), "{text}");
            assert!(allowed(address, AddressRule::Any), "{text}");
        }
    }

    #[test]
    fn private_and_public_addresses_are_allowed() {
        for text in
            ["10.96.0.1", "192.168.1.1", "104.18.6.192", "fd00::1", "2606:4700::1", "::ffff:10.0.0.1", "fec0::1"]
        {
            assert!(allowed(text.parse().unwrap(), AddressRule::NoLocal), "{text}");
        }
    }
}
