//! Which addresses a provider may have, asked once its name is resolved.
//!
//! A name is checked when the configuration is; where it leads is known only here. Without this a resource could name a host of
//! its author's own whose DNS record points into the gateway's pod or at the cloud's metadata service.

use std::net::IpAddr;

pub use bifrost_config::AddressRule;
use bifrost_config::is_local_address;

/// Whether `rule` allows a connection to `address`.
pub fn allowed(address: IpAddr, rule: AddressRule) -> bool {
    match rule {
        AddressRule::Any => true,
        AddressRule::NoLocal => !is_local_address(address),
    }
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
