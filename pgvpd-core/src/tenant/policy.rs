//! Whether a login is permitted: allow and deny lists, and who may bypass tenancy from where.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::address::ClientAddress;

/// Which tenants may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantPolicy {
    /// Every tenant.
    Any,
    /// These tenants alone.
    Only(BTreeSet<String>),
    /// Every tenant but these.
    AllBut(BTreeSet<String>),
}

/// A login that the rules do not permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The tenant is denied or not among those allowed; a client cannot tell which.
    #[error("tenant {0:?} is not permitted")]
    Tenant(String),
    /// A bypass user comes from elsewhere than `bypass_from`.
    #[error("user {0:?} is not permitted from this address")]
    BypassAddress(String),
}

impl TenantPolicy {
    /// Checks a tenant.
    ///
    /// # Errors
    /// [`PolicyError::Tenant`].
    pub fn admit(&self, tenant: &str) -> Result<(), PolicyError> {
        let admitted = match self {
            Self::Any => true,
            Self::Only(allowed) => allowed.contains(tenant),
            Self::AllBut(denied) => !denied.contains(tenant),
        };
        if admitted { Ok(()) } else { Err(PolicyError::Tenant(tenant.into())) }
    }
}

/// User names that are passed through without a tenant, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BypassRules {
    /// Whole user names, compared exactly.
    pub users: BTreeSet<String>,
    /// Where such a client may be.
    pub from: Vec<Network>,
}

/// A place that clients come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// `127.0.0.0/8` and `::1`.
    Loopback,
    /// The Unix socket.
    Unix,
    /// A network.
    Cidr(IpNet),
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "loopback" => return Ok(Self::Loopback),
            "unix" => return Ok(Self::Unix),
            _ => {}
        }
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(Self::Cidr)
            .map_err(|_| format!("{text:?} is not a network such as 10.0.0.0/8, an address, loopback or unix"))
    }
}

impl Network {
    /// True if the address is of this place.
    pub fn contains(&self, address: ClientAddress) -> bool {
        match (self, address) {
            (Self::Unix, ClientAddress::Unix) => true,
            (Self::Loopback, ClientAddress::Ip(ip)) => ip.to_canonical().is_loopback(),
            (Self::Cidr(network), ClientAddress::Ip(ip)) => network.contains(&ip.to_canonical()),
            _ => false,
        }
    }
}

impl BypassRules {
    /// True if an administrator may come from this address.
    pub fn permits(&self, address: ClientAddress) -> bool {
        self.from.iter().any(|network| network.contains(address))
    }

    /// True if this user, from this address, is passed through; false if the name is not a bypass user.
    ///
    /// # Errors
    /// [`PolicyError::BypassAddress`] for a bypass user from elsewhere.
    pub fn applies(&self, user: &str, address: ClientAddress) -> Result<bool, PolicyError> {
        if !self.users.contains(user) {
            return Ok(false);
        }
        if self.permits(address) { Ok(true) } else { Err(PolicyError::BypassAddress(user.into())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> ClientAddress {
        ClientAddress::Ip(text.parse().expect("address"))
    }

    #[test]
    fn denied_and_not_allowed_tenants_get_the_same_error() {
        let names = || BTreeSet::from(["acme".to_owned()]);
        let denied = TenantPolicy::AllBut(names()).admit("acme").map_err(|e| e.to_string());
        let unknown =
            TenantPolicy::Only(BTreeSet::from(["globex".to_owned()])).admit("acme").map_err(|e| e.to_string());
        assert_eq!(denied, unknown);
        assert!(denied.is_err());
        assert!(TenantPolicy::Only(names()).admit("acme").is_ok());
        assert!(TenantPolicy::AllBut(names()).admit("globex").is_ok());
        assert!(TenantPolicy::AllBut(names()).admit("Acme").is_ok());
    }

    #[test]
    fn bypass_needs_the_exact_name_and_a_permitted_address() {
        let rules = |from: &[&str]| BypassRules {
            users: ["postgres".to_owned()].into(),
            from: from.iter().map(|item| item.parse().expect("source")).collect(),
        };
        let default = rules(&["loopback", "unix"]);
        for local in [ip("127.0.0.1"), ip("127.9.9.9"), ip("::1"), ip("::ffff:127.0.0.1"), ClientAddress::Unix] {
            assert_eq!(default.applies("postgres", local), Ok(true), "{local}");
        }
        assert!(default.applies("postgres", ip("192.0.2.1")).is_err());
        assert_eq!(default.applies("Postgres", ip("192.0.2.1")), Ok(false));
        let network = rules(&["192.0.2.0/24"]);
        assert_eq!(network.applies("postgres", ip("::ffff:192.0.2.7")), Ok(true));
        assert!(network.applies("postgres", ip("127.0.0.1")).is_err());
        assert!(network.applies("postgres", ClientAddress::Unix).is_err());
    }
}
