//! Proofs of identity. No I/O.

mod md5;

pub(crate) use md5::md5_password;
