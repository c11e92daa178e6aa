//! Who may administer a proxy, over HTTP and at the console. No I/O.

use std::collections::BTreeMap;
use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::auth::Secret;

/// Where administrators and monitoring connect, and what they must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminRules {
    /// Host name or address to bind.
    pub host: String,
    /// TCP port; 0 takes a free one. `None` for no admin listener.
    pub port: Option<u16>,
    /// What must be shown to change something, and off loopback to read.
    pub token: Option<AdminToken>,
}

/// A bearer token. Compared in constant time, shown by nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(Zeroizing<String>);

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(***)")
    }
}

impl AdminToken {
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The header `Authorization` that shows it.
    pub fn authorization(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Bearer {}", self.0.as_str()))
    }

    /// True if this is the token.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }
}

/// Those who may use the console: user names, compared exactly. What each has to prove is its secret of `auth_file`, and no
/// other: nobody comes in by `pool_password`, or by what the database says.
#[derive(Debug, Clone, Default)]
pub struct AdminUsers {
    secrets: BTreeMap<String, Secret>,
}

impl AdminUsers {
    pub(crate) fn add(&mut self, user: String, secret: Secret) {
        self.secrets.insert(user, secret);
    }

    /// True where nobody may, and there is no console.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// What a user has to prove; `None`: it may not come in.
    pub(crate) fn secret(&self, user: &str) -> Option<&Secret> {
        self.secrets.get(user)
    }
}
