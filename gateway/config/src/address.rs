//! Addresses that lead back into the pod or to its node, however they are written. The operator asks for hosts as they are
//! configured, the pod again for what a name resolved to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Loopback, "this host" and link-local addresses, in every form that reaches them. Cloud metadata services are link-local.
pub fn is_local_address(address: IpAddr) -> bool {
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

/// Whether a configured host is such an address, or a name that always means one. IPv6 without its brackets.
pub fn is_local_host(host: &str) -> bool {
    // A dot at the end says only that no search domain is to be tried.
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    match host.parse().ok().or_else(|| loose_v4(&host).map(IpAddr::V4)) {
        Some(address) => is_local_address(address),
        None => host == "localhost" || host.ends_with(".localhost"),
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

/// An IPv4 address as resolvers of the C library read it: one to four numbers, decimal, octal (`0177`) or hexadecimal (`0x7f`),
/// the last of which fills all bytes that are left.
fn loose_v4(host: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = host.split('.').map(loose_number).collect::<Option<_>>()?;
    let (last, bytes) = parts.split_last()?;
    if bytes.len() > 3 || bytes.iter().any(|byte| *byte > 0xff) {
        return None;
    }
    let filled = 8 * (4 - bytes.len());
    if u64::from(*last) >= 1 << filled {
        return None;
    }
    let above = bytes.iter().enumerate().fold(0, |sum, (index, byte)| sum | byte << (24 - 8 * index));
    Some(Ipv4Addr::from(above | last))
}

fn loose_number(text: &str) -> Option<u32> {
    match (text.strip_prefix("0x"), text.strip_prefix('0')) {
        (Some(digits), _) => u32::from_str_radix(digits, 16).ok(),
        (None, Some(digits)) if !digits.is_empty() => u32::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_known_in_every_form() {
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
            assert!(is_local_address(text.parse().unwrap()) && is_local_host(text), "{text}");
        }
    }

    #[test]
    fn local_hosts_are_known_in_every_spelling() {
        for text in [
            "localhost",
            "LocalHost.",
            "a.localhost",
            "127.0.0.1.",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "0",
            "169.254.43518",
        ] {
            assert!(is_local_host(text), "{text}");
        }
    }

    #[test]
    fn other_addresses_and_names_are_not_local() {
        for text in [
            "10.96.0.1",
            "192.168.1.1",
            "104.18.6.192",
            "fd00::1",
            "2606:4700::1",
            "::ffff:10.0.0.1",
            "fec0::1",
            "api.openai.com",
            "ollama.ai.svc",
            "localhost.example",
            "10.1",
            "4294967296",
            "127.0.0.0.1",
            "0x",
        ] {
            assert!(!is_local_host(text), "{text}");
        }
    }
}
