//! The few messages that the proxy builds itself.

use super::{ProtocolVersion, SqlState, tag};

/// Type OID of `text`.
const TEXT: u32 = 25;
/// Type OID of `bytea`.
const BYTEA: u32 = 17;

/// An ErrorResponse with severity FATAL.
#[derive(Debug, Clone, Copy)]
pub struct ErrorResponse<'a> {
    /// Field `C`.
    pub code: SqlState,
    /// Field `M`.
    pub message: &'a str,
    /// Field `H`.
    pub hint: Option<&'a str>,
}

impl ErrorResponse<'_> {
    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        message(out, tag::ERROR_RESPONSE, |out| {
            for (kind, value) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', self.code.as_str()), (b'M', self.message)] {
                out.push(kind);
                string(out, value);
            }
            if let Some(hint) = self.hint {
                out.push(b'H');
                string(out, hint);
            }
            out.push(0);
        });
    }
}

/// Appends AuthenticationCleartextPassword to `out`.
pub fn authentication_cleartext_password(out: &mut Vec<u8>) {
    message(out, tag::AUTHENTICATION, |out| out.extend(3_i32.to_be_bytes()));
}

/// Appends AuthenticationSASL with these mechanisms to `out`.
pub fn authentication_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) {
    message(out, tag::AUTHENTICATION, |out| {
        out.extend(10_i32.to_be_bytes());
        for name in mechanisms {
            string(out, name);
        }
        out.push(0);
    });
}

/// Appends NegotiateProtocolVersion to `out`: the newest version that will be spoken, and the `_pq_.` options that
/// are not known.
pub fn negotiate_protocol_version(out: &mut Vec<u8>, version: ProtocolVersion, unknown: &[String]) {
    message(out, tag::NEGOTIATE_PROTOCOL_VERSION, |out| {
        out.extend(version.to_bytes());
        out.extend(i32::try_from(unknown.len()).unwrap_or(i32::MAX).to_be_bytes());
        for name in unknown {
            string(out, name);
        }
    });
}

/// Appends PasswordMessage to `out`.
pub fn password_message(out: &mut Vec<u8>, password: &[u8]) {
    message(out, tag::PASSWORD, |out| {
        out.extend(password);
        out.push(0);
    });
}

/// Appends Query: one or several statements without parameters.
pub fn query(out: &mut Vec<u8>, sql: &str) {
    message(out, tag::QUERY, |out| string(out, sql));
}

/// Appends Parse, Bind, Execute and Sync for one unnamed statement to `out`.
///
/// `pairs` become parameters `$1 … $2n`, alternately a name (`text`) and a value (`bytea`, sent in binary, so that the
/// client's `client_encoding` never reinterprets it). All result columns come back in binary.
pub fn bind_and_run(out: &mut Vec<u8>, sql: &str, pairs: &[(&str, &[u8])]) {
    let count = i16::try_from(pairs.len() * 2).unwrap_or(i16::MAX);
    message(out, b'P', |out| {
        string(out, "");
        string(out, sql);
        out.extend(count.to_be_bytes());
        for _ in pairs {
            out.extend(TEXT.to_be_bytes());
            out.extend(BYTEA.to_be_bytes());
        }
    });
    message(out, b'B', |out| {
        string(out, "");
        string(out, "");
        out.extend(count.to_be_bytes());
        for _ in pairs {
            out.extend([0, 0, 0, 1]);
        }
        out.extend(count.to_be_bytes());
        for (name, value) in pairs {
            for field in [name.as_bytes(), value] {
                out.extend(i32::try_from(field.len()).unwrap_or(i32::MAX).to_be_bytes());
                out.extend(field);
            }
        }
        out.extend([0, 1, 0, 1]);
    });
    message(out, b'E', |out| {
        string(out, "");
        out.extend([0; 4]);
    });
    message(out, b'S', |_| {});
}

/// Appends a message, filling in its length.
fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    out.extend([0; 4]);
    body(out);
    let size = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
    out.splice(start..start + 4, size.to_be_bytes());
}

/// Appends a String. A NUL inside would end it early and shift every later field, so it is dropped.
fn string(out: &mut Vec<u8>, value: &str) {
    out.extend(value.bytes().filter(|&byte| byte != 0));
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Authentication, ErrorFields, Parsed, frame};

    #[test]
    fn an_error_response_reads_back_and_a_nul_in_a_name_cannot_shift_fields() {
        let mut out = Vec::new();
        ErrorResponse { code: SqlState::INVALID_AUTHORIZATION, message: "a\0b", hint: Some("do") }.encode(&mut out);
        let Ok(Parsed::Complete(found, size)) = frame(&out, 1000) else { panic!("not whole") };
        assert_eq!((found.tag, size), (b'E', out.len()));
        let fields = ErrorFields::new(found.body);
        assert_eq!(fields.code().as_deref(), Some("28000"));
        assert_eq!(fields.message().as_deref(), Some("ab"));
        assert_eq!(fields.field(b'H').as_deref(), Some("do"));
    }

    #[test]
    fn sasl_offer_reads_back() {
        let mut out = Vec::new();
        authentication_sasl(&mut out, &["SCRAM-SHA-256"]);
        assert_eq!(Authentication::parse(&out[5..]), Ok(Authentication::Sasl { mechanisms: vec!["SCRAM-SHA-256"] }));
    }

    #[test]
    fn negotiation_bytes_are_those_of_the_manual() {
        let mut out = Vec::new();
        negotiate_protocol_version(&mut out, ProtocolVersion::LATEST, &["_pq_.x".into()]);
        assert_eq!(out, b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0");
    }

    #[test]
    fn a_bound_statement_is_four_whole_messages() {
        let mut out = Vec::new();
        bind_and_run(&mut out, "select 1", &[("app.x", b"v")]);
        let tags: Vec<u8> = crate::wire::TaggedFrames::new(&out, 1000).map(|f| f.tag).collect();
        assert_eq!(tags, b"PBES");
    }
}
