//! What a tenant is held to.

use std::num::NonZeroU32;
use std::time::Duration;

/// What one tenant may take; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TenantLimits {
    /// Sessions at one time.
    pub connections: Option<usize>,
    /// New connections in a second.
    pub per_second: Option<NonZeroU32>,
    /// How long a session may be idle, or one request outstanding.
    pub query_timeout: Option<Duration>,
    /// The limits are its own, by the file.
    pub(crate) is_own: bool,
    /// The file denies it.
    pub(crate) is_denied: bool,
}
