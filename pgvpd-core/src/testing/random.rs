//! Passwords and names that nobody else has.

use std::fs;
use std::io::{self, Read};

use super::PostgresError;
use crate::tenant::TenantFormat;

/// The name of a tenant that nobody else uses, in the form that the option `tenant_format` asks for: `t` and 12
/// hexadecimal digits, a version 4 UUID, or a positive 31-bit integer.
///
/// ```
/// use pgvpd_core::tenant::TenantFormat;
/// use pgvpd_core::testing::fresh_tenant;
///
/// let tenant = fresh_tenant(TenantFormat::Uuid);
/// assert!(TenantFormat::Uuid.is_canonical(&tenant));
/// assert_ne!(tenant, fresh_tenant(TenantFormat::Uuid));
/// ```
pub fn fresh_tenant(format: TenantFormat) -> String {
    // A system without its random source has no PostgreSQL to test either.
    let random = random_bits().unwrap_or_else(|_| std::process::id().into());
    match format {
        TenantFormat::Text => format!("t{:012x}", random >> 80),
        TenantFormat::Integer => ((random % u128::from(i32::MAX.unsigned_abs())) + 1).to_string(),
        TenantFormat::Uuid => {
            // RFC 9562, section 5.4: version 4, variant 10.
            let bits = random & !(0xf << 76) & !(0b11 << 62) | (0x4 << 76) | (0b10 << 62);
            let digits = format!("{bits:032x}");
            let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default();
            [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
        }
    }
}

/// 128 bits from the system, in hexadecimal digits.
pub(super) fn random_hex() -> Result<String, PostgresError> {
    let bits = random_bits().map_err(PostgresError::io("reading /dev/urandom"))?;
    Ok(format!("{bits:032x}"))
}

fn random_bits() -> io::Result<u128> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_tenant_has_the_canonical_form() {
        for format in [TenantFormat::Text, TenantFormat::Integer, TenantFormat::Uuid] {
            for _ in 0..100 {
                let tenant = fresh_tenant(format);
                assert!(format.is_canonical(&tenant), "{tenant}");
            }
        }
        assert_eq!(fresh_tenant(TenantFormat::Uuid).as_bytes().get(14), Some(&b'4'));
    }
}
