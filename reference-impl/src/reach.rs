//! Where the service may be told to send: to the public Internet alone, unless it is said otherwise. Else whoever has a
//! webhook could make the service ask its own neighbours (OWASP, server-side request forgery).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnetwork::IpNetwork;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Bytes of a URL at most.
pub const URL_MAX: usize = 2_000;

/// IPv4 that is no public host's: IANA's special-purpose registry, multicast, reserved, and the one public address that
/// a cloud answers its guests on (Azure's 168.63.129.16).
const NOT_PUBLIC_V4: [&str; 16] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];
/// Of the global unicast IPv6 (2000::/3), what is no host's, or carries IPv4 within.
const NOT_PUBLIC_V6: [&str; 4] = ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];

/// Which addresses may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Public ones.
    Public,
    /// All: for tests, and for a network whose tenants are trusted.
    Everywhere,
}

/// Why nothing was asked.
#[derive(Debug, thiserror::Error)]
#[error("the address is not public")]
pub struct Refused;

impl Reach {
    /// Everywhere when `private` is said.
    pub fn of(private: bool) -> Self {
        if private { Self::Everywhere } else { Self::Public }
    }

    /// Reads a URL to send to.
    ///
    /// # Errors
    /// What is wrong with it: another scheme, a credential, a fragment, an address that is not public. A name is looked
    /// up when something is sent, and its addresses judged then.
    pub fn url(self, text: &str) -> Result<Url, &'static str> {
        if text.len() > URL_MAX {
            return Err("it is too long");
        }
        let url: Url = text.parse().map_err(|_| "it cannot be read")?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err("it must begin with http:// or https://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it must not hold a credential");
        }
        if url.fragment().is_some() {
            return Err("it must not have a fragment");
        }
        let admitted = match url.host() {
            Some(Host::Ipv4(ip)) => self.admits(ip.into()),
            Some(Host::Ipv6(ip)) => self.admits(ip.into()),
            Some(Host::Domain(_)) => true,
            None => return Err("it names no host"),
        };
        if admitted { Ok(url) } else { Err("its address is not public") }
    }

    /// Whether `ip` may be connected to.
    pub fn admits(self, ip: IpAddr) -> bool {
        self == Self::Everywhere || public(ip)
    }
}

fn public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !within(&NOT_PUBLIC_V4, ip.into()),
        IpAddr::V6(ip) => unicast(ip) && !within(&NOT_PUBLIC_V6, ip.into()),
    }
}

fn unicast(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xe000 == 0x2000
}

fn within(networks: &[&str], ip: IpAddr) -> bool {
    // What cannot be read holds everything; a test reads them all.
    networks.iter().any(|network| network.parse::<IpNetwork>().map_or(true, |network| network.contains(ip)))
}

/// Looks names up, and answers only addresses within reach: what was judged is what is connected to.
impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = *self;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let admitted: Vec<SocketAddr> = found.filter(|address| reach.admits(address.ip())).collect();
            if admitted.is_empty() { Err(Refused.into()) } else { Ok(Box::new(admitted.into_iter()) as Addrs) }
        })
    }
}

#[cfg(test)]
mod tests {
    use ipnetwork::{Ipv4Network, Ipv6Network};

    use super::*;

    #[test]
    fn only_public_addresses_are_within_reach() {
        for network in NOT_PUBLIC_V4 {
            let network: Ipv4Network = network.parse().expect(network);
            assert!(!public(network.network().into()) && !public(network.broadcast().into()), "{network}");
            let mapped = network.network().to_ipv6_mapped();
            assert!(!public(mapped.into()), "{mapped}");
        }
        for network in NOT_PUBLIC_V6 {
            let network: Ipv6Network = network.parse().expect(network);
            assert!(!public(network.network().into()) && !public(network.broadcast().into()), "{network}");
        }
        for refused in ["::", "::1", "::127.0.0.1", "64:ff9b::7f00:1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1"]
        {
            assert!(!public(refused.parse().expect(refused)), "{refused}");
        }
        for taken in ["1.1.1.1", "9.255.255.255", "11.0.0.0", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "2a00::1"] {
            assert!(public(taken.parse().expect(taken)), "{taken}");
        }
    }

    #[test]
    fn a_url_is_http_without_credential_and_its_address_public_however_it_is_spelt() {
        for refused in [
            "",
            "nonsense",
            "ftp://example.org/",
            "file:///etc/passwd",
            "https:/",
            "https://user@example.org/",
            "https://user:sesame@example.org/",
            "https://example.org/#part",
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://169.254.169.254/latest/meta-data/",
        ] {
            assert!(Reach::Public.url(refused).is_err(), "{refused}");
        }
        assert!(Reach::Public.url(&format!("https://example.org/{}", "x".repeat(URL_MAX))).is_err());
        for taken in ["https://example.org/hook?x=1", "http://example.org:8080", "https://1.1.1.1/"] {
            assert!(Reach::Public.url(taken).is_ok(), "{taken}");
        }
        assert!(Reach::Everywhere.url("http://127.0.0.1:9/").is_ok());
        assert!(Reach::Everywhere.url("file:///etc/passwd").is_err());
    }
}
