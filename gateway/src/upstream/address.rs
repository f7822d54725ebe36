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
    fn the_rule_decides_about_local_addresses_only() {
        for (text, is_local) in
            [("127.0.0.1", true), ("169.254.169.254", true), ("10.96.0.1", false), ("2606:4700::1", false)]
        {
            let address = text.parse().unwrap();
            assert_eq!(allowed(address, AddressRule::NoLocal), !is_local, "{text}");
            assert!(allowed(address, AddressRule::Any), "{text}");
        }
    }
}
