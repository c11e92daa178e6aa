//! From the user name that a client sends to a role and context values.

use std::fmt;
use std::sync::Arc;

/// A session variable that carries context: a dotted lower-case name such as `app.current_tenant_id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariableName(String);

impl VariableName {
    /// Checks a name.
    ///
    /// # Errors
    /// A sentence that says what a valid name is. Names without a dot are settings of PostgreSQL itself, and
    /// `pgvpd.` is kept for the proxy.
    pub fn new(name: &str) -> Result<Self, String> {
        let parts: Vec<&str> = name.split('.').collect();
        let is_identifier = |part: &&str| {
            let mut bytes = part.bytes();
            bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
                && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if parts.len() < 2 || name.len() > 63 || !parts.iter().all(is_identifier) {
            return Err(format!(
                "{name:?} is not a variable name; use lower case with a dot, as in app.current_tenant_id"
            ));
        }
        if parts.first() == Some(&"pgvpd") {
            return Err(format!("{name:?} cannot be used: names that begin with pgvpd. are kept for the proxy"));
        }
        Ok(Self(name.into()))
    }

    /// `app.current_tenant_id`, the default.
    pub fn current_tenant_id() -> Self {
        Self("app.current_tenant_id".into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VariableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The form that the first context value must have. Only the canonical spelling passes: an alias of a tenant would
/// slip past deny lists, limits and caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantFormat {
    /// Any text.
    Text,
    /// A UUID as PostgreSQL prints it: lower case, with hyphens.
    Uuid,
    /// A 64-bit integer as PostgreSQL prints it: no sign but `-`, no leading zero, no blanks.
    Integer,
}

impl TenantFormat {
    /// True if `value` is the canonical spelling of a value of this form.
    pub fn is_canonical(self, value: &str) -> bool {
        match self {
            Self::Text => true,
            Self::Integer => value.parse::<i64>().is_ok_and(|number| number.to_string() == value),
            Self::Uuid => {
                value.len() == 36
                    && value.bytes().enumerate().all(|(index, byte)| match index {
                        8 | 13 | 18 | 23 => byte == b'-',
                        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
                    })
            }
        }
    }

    /// What a valid value is, for messages.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Uuid => "a UUID in lower case with hyphens",
            Self::Integer => "an integer without leading zeros or blanks",
        }
    }
}

/// How a user name becomes an [`Identity`].
///
/// ```
/// use pgvpd_core::{Config, Settings};
///
/// let mut settings = Settings::new();
/// settings.set("context_variables", "app.list_id,app.user_id")?;
/// let rules = Config::from_settings(settings)?.identity;
/// let identity = rules.identify("app_user.list1:user7").unwrap();
/// assert_eq!((identity.role(), identity.tenant()), ("app_user", "list1"));
/// assert!(rules.identify("app_user").is_err(), "no tenant");
/// assert!(rules.identify("app_user.list1").is_err(), "one value of two");
/// # Ok::<(), pgvpd_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRules {
    /// Ends the role; the first occurrence counts.
    pub separator: String,
    /// Stands between values where there are several variables.
    pub value_separator: String,
    /// The variables, the tenant first.
    pub variables: Arc<[VariableName]>,
    /// Form of the first value.
    pub format: TenantFormat,
    /// Roles that may be named, in the order in which they were given; any when `None`.
    pub login_roles: Option<Vec<String>>,
    /// The login role is the tenant's own: the role, the separator and the tenant.
    pub role_per_tenant: bool,
    /// Variables that resolvers fill: a client may set none of them.
    pub resolved: Arc<[VariableName]>,
}

/// The longest name of a role, in bytes (manual, "Identifiers and Key Words").
const MAX_ROLE: usize = 63;

/// A role and the context values of one login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    role: String,
    /// The role that the user name has before the separator.
    named_role: Box<str>,
    variables: Arc<[VariableName]>,
    values: Vec<String>,
    resolved: Arc<[VariableName]>,
}

/// A user name that names no tenant session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// There is no separator.
    #[error("user name {user:?} names no tenant")]
    NoTenant {
        /// The name sent.
        user: String,
        /// The separator in force.
        separator: String,
    },
    /// Nothing stands before the separator.
    #[error("user name {0:?} names no role before the tenant")]
    EmptyRole(String),
    /// The first value is empty.
    #[error("user name {0:?} has an empty tenant")]
    EmptyTenant(String),
    /// The payload does not split into as many values as there are variables.
    #[error("user name {user:?} gives {found} context values where {expected} are needed")]
    ValueCount {
        /// The name sent.
        user: String,
        /// Values found.
        found: usize,
        /// Variables configured.
        expected: usize,
        /// The separator in force.
        value_separator: String,
    },
    /// The first value is not canonical in the configured format.
    #[error("tenant {tenant:?} is not {}", .format.describe())]
    Format {
        /// The value sent.
        tenant: String,
        /// The format in force.
        format: TenantFormat,
    },
    /// With roles of tenants' own: PostgreSQL would cut the role's name off, and log in another tenant's.
    #[error("the role of tenant {0:?} has a name longer than {MAX_ROLE} bytes")]
    RoleTooLong(String),
    /// PostgreSQL would cut the role's name off, and log in the one that the rest names.
    #[error("the name of role {0:?} is longer than {MAX_ROLE} bytes")]
    RoleNameTooLong(String),
    /// The role may not be named by a tenant login.
    #[error("role {0:?} is not permitted for tenant logins")]
    Role(String),
}

impl IdentityRules {
    /// Splits a user name.
    ///
    /// # Errors
    /// [`IdentityError`] for every name that is not `<role><separator><payload>` by these rules.
    pub fn identify(&self, user: &str) -> Result<Identity, IdentityError> {
        let Some((role, payload)) = user.split_once(&self.separator) else {
            return Err(IdentityError::NoTenant { user: user.into(), separator: self.separator.clone() });
        };
        if role.is_empty() {
            return Err(IdentityError::EmptyRole(user.into()));
        }
        // With one variable the whole payload is its value, whatever it contains.
        let values: Vec<String> = match self.variables.len() {
            1 => vec![payload.into()],
            _ => payload.split(&self.value_separator).map(str::to_owned).collect(),
        };
        if values.first().is_none_or(String::is_empty) {
            return Err(IdentityError::EmptyTenant(user.into()));
        }
        if values.len() != self.variables.len() {
            return Err(IdentityError::ValueCount {
                user: user.into(),
                found: values.len(),
                expected: self.variables.len(),
                value_separator: self.value_separator.clone(),
            });
        }
        if role.len() > MAX_ROLE {
            return Err(IdentityError::RoleNameTooLong(role.into()));
        }
        let tenant = values.first().map_or("", String::as_str);
        let own_role = self.role_per_tenant.then(|| format!("{role}{}{tenant}", self.separator));
        if own_role.as_ref().is_some_and(|role| role.len() > MAX_ROLE) {
            return Err(IdentityError::RoleTooLong(tenant.into()));
        }
        let login_role = own_role.unwrap_or_else(|| role.into());
        let variables = Arc::clone(&self.variables);
        let resolved = Arc::clone(&self.resolved);
        let identity = Identity { role: login_role, named_role: role.into(), variables, values, resolved };
        if !self.format.is_canonical(identity.tenant()) {
            return Err(IdentityError::Format { tenant: identity.tenant().into(), format: self.format });
        }
        match &self.login_roles {
            Some(roles) if !roles.iter().any(|named| named == role) => Err(IdentityError::Role(role.into())),
            _ => Ok(identity),
        }
    }
}

impl Identity {
    /// The role to log in as.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The role that the user name has before the separator: the one to log in as, unless tenants have roles of their own.
    pub fn named_role(&self) -> &str {
        &self.named_role
    }

    /// The tenant: the first context value.
    pub fn tenant(&self) -> &str {
        self.values.first().map_or("", String::as_str)
    }

    /// The variables that resolvers fill.
    pub fn resolved(&self) -> &[VariableName] {
        &self.resolved
    }

    /// Variables and their values.
    pub fn context(&self) -> impl Iterator<Item = (&VariableName, &str)> {
        self.variables.iter().zip(self.values.iter().map(String::as_str))
    }
}

#[cfg(test)]
impl IdentityRules {
    /// The defaults, with these variables.
    pub(crate) fn for_tests(variables: &[&str]) -> Self {
        Self {
            separator: ".".into(),
            value_separator: ":".into(),
            variables: variables.iter().map(|name| VariableName::new(name).expect("valid")).collect(),
            format: TenantFormat::Text,
            login_roles: None,
            role_per_tenant: false,
            resolved: Arc::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one() -> IdentityRules {
        IdentityRules::for_tests(&["app.current_tenant_id"])
    }

    #[test]
    fn the_first_separator_splits_and_one_variable_takes_the_whole_payload() {
        let identity = one().identify("app_user.a.b:c").expect("valid");
        assert_eq!((identity.role(), identity.tenant()), ("app_user", "a.b:c"));
    }

    #[test]
    fn several_variables_take_exactly_as_many_values_and_later_ones_may_be_empty() {
        let rules = IdentityRules::for_tests(&["app.list", "app.user"]);
        let identity = rules.identify("r.l1:").expect("valid");
        let context: Vec<_> = identity.context().map(|(name, value)| (name.as_str(), value)).collect();
        assert_eq!(context, [("app.list", "l1"), ("app.user", "")]);
        for user in ["r.l1", "r.l1:a:b"] {
            assert!(matches!(rules.identify(user), Err(IdentityError::ValueCount { .. })), "{user}");
        }
        assert_eq!(rules.identify("r.:u"), Err(IdentityError::EmptyTenant("r.:u".into())));
    }

    #[test]
    fn names_without_role_or_tenant_are_refused() {
        assert!(matches!(one().identify("app_user"), Err(IdentityError::NoTenant { .. })));
        assert_eq!(one().identify(".acme"), Err(IdentityError::EmptyRole(".acme".into())));
        assert_eq!(one().identify("app_user."), Err(IdentityError::EmptyTenant("app_user.".into())));
    }

    #[test]
    fn roles_outside_login_roles_are_refused() {
        let rules = IdentityRules { login_roles: Some(["app_user".to_owned()].into()), ..one() };
        assert!(rules.identify("app_user.acme").is_ok());
        assert_eq!(rules.identify("App_User.acme"), Err(IdentityError::Role("App_User".into())));
    }

    #[test]
    fn a_role_whose_name_postgresql_would_cut_off_is_refused() {
        let rules = IdentityRules { login_roles: None, ..one() };
        let (fits, long) = ("r".repeat(63), "r".repeat(64));
        assert!(rules.identify(&format!("{fits}.acme")).is_ok());
        assert_eq!(rules.identify(&format!("{long}.acme")), Err(IdentityError::RoleNameTooLong(long)));
    }

    #[test]
    fn only_canonical_spellings_pass_a_tenant_format() {
        let integer = TenantFormat::Integer;
        for good in ["0", "7", "-7", "9223372036854775807"] {
            assert!(integer.is_canonical(good), "{good}");
        }
        for alias in ["07", " 7", "7 ", "+7", "-0", "", "0x7", "7.0", "9223372036854775808", "٧"] {
            assert!(!integer.is_canonical(alias), "{alias}");
        }
        let uuid = TenantFormat::Uuid;
        assert!(uuid.is_canonical("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"));
        for alias in [
            "A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            "a0eebc99_9c0b-4ef8-bb6d-6bb9bd380a11",
        ] {
            assert!(!uuid.is_canonical(alias), "{alias}");
        }
    }

    proptest! {
        #[test]
        fn any_name_either_fails_or_gives_a_role_and_tenant_that_make_it_up(user in "\\PC{0,30}") {
            if let Ok(identity) = one().identify(&user) {
                prop_assert!(!identity.role().is_empty() && !identity.tenant().is_empty());
                prop_assert_eq!(format!("{}.{}", identity.role(), identity.tenant()), user);
            }
        }
    }
}
