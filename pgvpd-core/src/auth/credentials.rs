//! What a login of the proxy's own can prove.

use super::{ClientKey, Secret, Verifier};

/// What the proxy can prove to the server for one role.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    pub(crate) password: Option<Secret>,
    /// A verifier that a client has proved, and the key that its proof gave away.
    pub(crate) recovered: Option<(Verifier, ClientKey)>,
}
