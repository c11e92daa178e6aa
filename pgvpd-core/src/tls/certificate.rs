//! What is read of a certificate: what a proof is bound to, and whom it names. Pure.

use std::sync::Arc;

use rustls::CertificateError;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

use crate::tenant::CertificateNames;

/// The channel binding data `tls-server-end-point` of a server's certificate, in DER: its hash, by the hash function of its
/// signature, and SHA-256 instead of MD5 and SHA-1 (RFC 5929, section 4.1). `None` where the signature has no hash function of its
/// own (Ed25519), for which the RFC defines nothing, and PostgreSQL neither.
pub(crate) fn end_point(der: &[u8]) -> Option<Arc<[u8]>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let algorithm = &certificate.signature_algorithm;
    let hash = match SignatureAlgorithm::try_from(algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => parameters.hash_algorithm_oid().to_id_string(),
        _ => algorithm.algorithm.to_id_string(),
    };
    Some(match hash.as_str() {
        // RSA with MD5, SHA-1 and SHA-256, ECDSA with SHA-1 and SHA-256; and the hash functions themselves, for PSS.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2"
        | "1.3.14.3.2.26"
        | "2.16.840.1.101.3.4.2.1" => Sha256::digest(der).to_vec().into(),
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" | "2.16.840.1.101.3.4.2.4" => {
            Sha224::digest(der).to_vec().into()
        }
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => {
            Sha384::digest(der).to_vec().into()
        }
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => {
            Sha512::digest(der).to_vec().into()
        }
        _ => return None,
    })
}

/// Whom a certificate names. `None` where it cannot be read.
pub(super) fn names(der: &[u8]) -> Option<CertificateNames> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut common_names = certificate.subject().iter_common_name();
    // With two of them, it is a matter of opinion which one counts.
    let common_name = match (common_names.next(), common_names.next()) {
        (Some(name), None) => name.as_str().ok().map(str::to_owned),
        _ => None,
    };
    let mut names = CertificateNames { common_name, ..CertificateNames::default() };
    let alternatives = certificate.subject_alternative_name().ok()?;
    for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
            GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
            _ => {}
        }
    }
    Some(names)
}

/// Whether a certificate's time has come and is not over.
pub(super) fn check_time(der: &[u8], now: u64) -> Result<(), CertificateError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
    let validity = certificate.validity();
    match i64::try_from(now).unwrap_or(i64::MAX) {
        now if now < validity.not_before.timestamp() => Err(CertificateError::NotValidYet),
        now if now > validity.not_after.timestamp() => Err(CertificateError::Expired),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, SignatureAlgorithm};

    use super::*;

    fn made(params: &CertificateParams, algorithm: &'static SignatureAlgorithm) -> Vec<u8> {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        let params = CertificateParams::default();
        for (algorithm, bytes) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(32)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(48)),
            (&rcgen::PKCS_ED25519, None),
        ] {
            let der = made(&params, algorithm);
            assert_eq!(end_point(&der).map(|hash| hash.len()), bytes, "{algorithm:?}");
        }
        let der = made(&params, &rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(*end_point(&der).expect("defined"), *Sha256::digest(&der));
    }

    #[test]
    fn names_are_read_and_two_common_names_are_none() {
        let mut params = CertificateParams::new(["app.example.org".to_owned()]).expect("names");
        params.subject_alt_names.push(SanType::URI("spiffe://example.org/acme".try_into().expect("ASCII")));
        params.distinguished_name.push(DnType::CommonName, "acme-app");
        let found = names(&made(&params, &rcgen::PKCS_ECDSA_P256_SHA256)).expect("a certificate");
        assert_eq!(found.common_name.as_deref(), Some("acme-app"));
        assert_eq!(found.dns, ["app.example.org"]);
        assert_eq!(found.uris, ["spiffe://example.org/acme"]);
        assert!(names(b"no certificate").is_none() && end_point(b"").is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), end in any::<prop::sample::Index>()) {
            let mut params = CertificateParams::new(["app.example.org".to_owned()]).expect("names");
            params.distinguished_name.push(DnType::CommonName, "acme-app");
            let mut der = made(&params, &rcgen::PKCS_ECDSA_P256_SHA256);
            let (at, end) = (at.index(der.len()), end.index(der.len()));
            der[at] = byte;
            for bytes in [&der[..], &der[..end]] {
                let _ = (names(bytes), end_point(bytes), check_time(bytes, 0));
            }
        }
    }

    #[test]
    fn a_certificate_has_its_time() {
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let der = made(&params, &rcgen::PKCS_ECDSA_P256_SHA256);
        // 2019, 2025 and 2031.
        let found = [1_550_000_000, 1_750_000_000, 1_925_000_000].map(|now| check_time(&der, now));
        assert_eq!(found, [Err(CertificateError::NotValidYet), Ok(()), Err(CertificateError::Expired)]);
    }
}
