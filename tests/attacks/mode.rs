//! The ways to run pgvpd that are attacked.

use crate::stage::{KEY, hex};

/// What is attacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As plain, with row-level security off: to see what it is that holds.
    Bare,
    /// No key: the context is a setting that anybody can set.
    Plain,
    /// Signed, a backend for each client.
    Framed,
    /// Signed, backends that clients share.
    Session,
    /// A role for each tenant, no key: the role alone has to hold.
    Role,
    /// A role for each tenant, signed, backends that the clients of a role share.
    RoleSession,
    /// As framed, in a database with `sql/hardening.sql`.
    Hardened,
}

/// All of them, by name.
pub(crate) const MODES: &[(&str, Mode)] = &[
    ("without policies", Mode::Bare),
    ("plain", Mode::Plain),
    ("framed", Mode::Framed),
    ("session", Mode::Session),
    ("role", Mode::Role),
    ("role, session", Mode::RoleSession),
    ("hardened", Mode::Hardened),
];

impl Mode {
    /// Contexts are signed.
    pub(crate) fn is_signed(self) -> bool {
        matches!(self, Self::Framed | Self::Session | Self::RoleSession | Self::Hardened)
    }

    /// One backend serves one client after the other.
    pub(crate) fn is_pooled(self) -> bool {
        matches!(self, Self::Session | Self::RoleSession)
    }

    /// Each tenant has a login role.
    pub(crate) fn has_own_roles(self) -> bool {
        matches!(self, Self::Role | Self::RoleSession)
    }

    /// What the proxy is told; `passwords` is its `auth_file`.
    pub(crate) fn options(self, passwords: &str) -> Vec<(&'static str, String)> {
        let mut options = vec![if self.is_pooled() { ("pool_mode", "session") } else { ("relay", "framed") }];
        if self.is_pooled() {
            options.push(("auth_file", passwords));
        }
        if self.has_own_roles() {
            options.push(("isolation", "role"));
        }
        let key = hex(&KEY);
        if self.is_signed() {
            options.extend([("context_signing", "require"), ("context_signing_key", &*key)]);
        }
        options.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
    }
}

/// Whose role an attack means where it says `app_user`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// It names none, or each as it is.
    AsSaid,
    /// The one that the attacker has logged in as.
    Attackers,
    /// The victim's own.
    Victims,
    /// The one of which every tenant's role is a member: the attacker acts as it.
    Shared,
}

impl Whose {
    /// Those that there are to try: all, where each tenant has one.
    pub(crate) fn all(mode: Mode) -> &'static [Self] {
        if mode.has_own_roles() { &[Self::Attackers, Self::Victims, Self::Shared] } else { &[Self::Attackers] }
    }

    /// What stands behind an attack's name.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::AsSaid | Self::Attackers => "",
            Self::Victims => ", the victim's role",
            Self::Shared => ", the shared role",
        }
    }

    /// A script that says `app_user`, in this mode and about this role.
    pub(crate) fn spell(self, mode: Mode, script: &str) -> String {
        if !mode.has_own_roles() {
            return script.to_owned();
        }
        let role = match self {
            Self::AsSaid => return script.to_owned(),
            Self::Shared => return format!("SET ROLE app_user;;{script}"),
            Self::Attackers => "app_user.acme",
            Self::Victims => "app_user.globex",
        };
        // An identifier, or all of a literal.
        let script = script.replace("app_user", &format!("\"{role}\""));
        script.replace(&format!("'\"{role}\"'"), &format!("'{role}'"))
    }
}
