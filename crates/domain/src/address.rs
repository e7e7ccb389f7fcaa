//! Which addresses are on the public internet.
//!
//! Two parts keep to it and must agree: the firewall of the containers, and the server where it fetches a page for an agent.

use std::{net::IpAddr, str::FromStr};

/// A range of addresses: `10.1.2.3`, `10.1.0.0/16`, `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    network: u128,
    mask: u128,
    is_v4: bool,
}

impl Network {
    /// Tells whether an address is in it. One of IPv4 is never in a network of IPv6.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.is_v4 == address.is_ipv4() && bits(address) & self.mask == self.network
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not an address or network such as 10.1.0.0/16");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= most).ok_or_else(wrong)?,
            None => most,
        };
        let all = u128::MAX >> (128 - most);
        let mask = if prefix == 0 { 0 } else { all & (all << (most - prefix)) };
        Ok(Self { network: bits(address) & mask, mask, is_v4: address.is_ipv4() })
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Networks of IPv4 that are never the internet: IANA's registry of special-purpose addresses, multicast, and what is
/// reserved.
pub const SPECIAL_V4: [&str; 14] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    // Azure's services for its machines, at an address that looks public.
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
];

/// Networks for examples in documents. They are not public, but the firewall leaves them alone: nothing answers there, and
/// where something does, an operator has put it there for containers to reach.
const DOCUMENTATION_V4: [&str; 3] = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"];

/// All of IPv6 that is given out. Containers have no IPv6.
const PUBLIC_V6: &str = "2000::/3";

/// What is special in [`PUBLIC_V6`].
const SPECIAL_V6: [&str; 5] = [
    // Protocol assignments, among them Teredo, which carries IPv4 addresses.
    "2001::/23",
    "2001:db8::/32",
    // 6to4 carries IPv4 addresses too.
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
];

/// Tells whether an address is on the public internet. Mapped, translated and tunnelled IPv4 is not: nobody needs it, and
/// it would be a way around the list.
pub fn is_public(address: IpAddr) -> bool {
    let among = |list: &[&str]| {
        list.iter().any(|network| network.parse::<Network>().expect("the lists above are networks").holds(address))
    };
    match address {
        IpAddr::V4(_) => !among(&SPECIAL_V4) && !among(&DOCUMENTATION_V4),
        IpAddr::V6(_) => among(&[PUBLIC_V6]) && !among(&SPECIAL_V6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2a00::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "100.100.100.200",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn an_operator_may_allow_a_network() {
        let allowed: Network = "10.1.0.0/16".parse().unwrap();
        assert!(allowed.holds("10.1.2.3".parse().unwrap()) && !allowed.holds("10.2.0.0".parse().unwrap()));
        assert!("10.1.2.3".parse::<Network>().unwrap().holds("10.1.2.3".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Network>().unwrap().holds("10.1.2.3".parse().unwrap()));
        assert!(!"0.0.0.0/0".parse::<Network>().unwrap().holds("::1".parse().unwrap()));
        assert!("fd00::/8".parse::<Network>().unwrap().holds("fd12::1".parse().unwrap()));
        for wrong in ["", "10.1", "10.0.0.0/33", "::/129", "10.0.0.0/x", "localhost"] {
            assert_eq!(
                wrong.parse::<Network>().unwrap_err(),
                format!("'{wrong}' is not an address or network such as 10.1.0.0/16")
            );
        }
    }
}
