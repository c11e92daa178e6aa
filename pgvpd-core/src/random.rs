//! Bytes that nobody can foresee.

/// `N` of them.
///
/// # Panics
/// Where the system has none to give: no proof of identity is worth anything then.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        panic!("the system gives no random bytes: {error}");
    }
    bytes
}
