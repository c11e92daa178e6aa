//! The few messages that the proxy builds itself.

use super::{CancelKey, ProtocolVersion, SqlState, tag};

/// Type OID of `text`.
const TEXT: u32 = 25;
/// Type OID of `bytea`.
const BYTEA: u32 = 17;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The session ends.
    Fatal,
    /// The statement has failed.
    Error,
    /// For the user to know: a NoticeResponse.
    Notice,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Notice => "NOTICE",
        }
    }
}

/// A message of the server's or the client's, for tests.
#[cfg(test)]
pub(crate) fn test_message(tag: u8, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
    [&[tag], &size[..], body].concat()
}

/// An ErrorResponse, or a NoticeResponse.
#[derive(Debug, Clone, Copy)]
pub struct ErrorResponse<'a> {
    /// Fields `S` and `V`.
    pub severity: Severity,
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
        let kind = match self.severity {
            Severity::Notice => tag::NOTICE_RESPONSE,
            Severity::Fatal | Severity::Error => tag::ERROR_RESPONSE,
        };
        let severity = self.severity.name();
        message(out, kind, |out| {
            for (kind, value) in [(b'S', severity), (b'V', severity), (b'C', self.code.as_str()), (b'M', self.message)]
            {
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

/// Appends an ErrorResponse with this body, as a server's, to `out`, with severity FATAL: the session ends with it.
pub fn fatal_error_response(out: &mut Vec<u8>, body: &[u8]) {
    message(out, tag::ERROR_RESPONSE, |out| {
        for field in body.split_inclusive(|&byte| byte == 0) {
            match field.first() {
                Some(kind @ (b'S' | b'V')) => {
                    out.push(*kind);
                    string(out, "FATAL");
                }
                _ => out.extend(field),
            }
        }
    });
}

/// Appends a NoticeResponse with this body, as a server's, to `out`.
pub fn notice_response(out: &mut Vec<u8>, body: &[u8]) {
    message(out, tag::NOTICE_RESPONSE, |out| out.extend(body));
}

/// Appends AuthenticationCleartextPassword to `out`.
pub fn authentication_cleartext_password(out: &mut Vec<u8>) {
    authentication(out, 3, &[]);
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

/// Appends SSLRequest to `out`.
pub fn ssl_request(out: &mut Vec<u8>) {
    out.extend(8_i32.to_be_bytes());
    out.extend(super::startup::SSL_REQUEST.to_be_bytes());
}

/// Appends PasswordMessage to `out`.
pub fn password_message(out: &mut Vec<u8>, password: &[u8]) {
    message(out, tag::PASSWORD, |out| {
        out.extend(password);
        out.push(0);
    });
}

/// Appends SASLInitialResponse to `out`.
pub fn sasl_initial_response(out: &mut Vec<u8>, mechanism: &str, data: &[u8]) {
    message(out, tag::PASSWORD, |out| {
        string(out, mechanism);
        out.extend(i32::try_from(data.len()).unwrap_or(i32::MAX).to_be_bytes());
        out.extend(data);
    });
}

/// Appends SASLResponse to `out`.
pub fn sasl_response(out: &mut Vec<u8>, data: &[u8]) {
    message(out, tag::PASSWORD, |out| out.extend(data));
}

/// Appends AuthenticationOk to `out`.
pub fn authentication_ok(out: &mut Vec<u8>) {
    authentication(out, 0, &[]);
}

/// Appends AuthenticationMD5Password to `out`.
pub fn authentication_md5_password(out: &mut Vec<u8>, salt: [u8; 4]) {
    authentication(out, 5, &salt);
}

/// Appends AuthenticationSASLContinue to `out`.
pub fn authentication_sasl_continue(out: &mut Vec<u8>, data: &[u8]) {
    authentication(out, 11, data);
}

/// Appends AuthenticationSASLFinal to `out`.
pub fn authentication_sasl_final(out: &mut Vec<u8>, data: &[u8]) {
    authentication(out, 12, data);
}

fn authentication(out: &mut Vec<u8>, code: i32, data: &[u8]) {
    message(out, tag::AUTHENTICATION, |out| {
        out.extend(code.to_be_bytes());
        out.extend(data);
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
    parse_and_bind_pairs(out, "", sql, pairs);
    execute(out, "");
    sync(out);
}

/// As [`bind_and_run`], with a statement and a portal of this name, which are closed again: those without a name stay as
/// they are.
pub fn bind_and_run_named(out: &mut Vec<u8>, name: &str, sql: &str, pairs: &[(&str, &[u8])]) {
    parse_and_bind_pairs(out, name, sql, pairs);
    execute(out, name);
    // A portal lasts as long as the transaction, whatever becomes of its statement.
    for kind in [b'P', b'S'] {
        message(out, tag::CLOSE, |out| {
            out.push(kind);
            string(out, name);
        });
    }
    sync(out);
}

/// Appends Parse, Bind, Execute and Sync for one unnamed statement to `out`. `values` become parameters `$1 … $n` in text
/// form, whose types are for the server to find out; results come back in text form.
pub fn bind_values(out: &mut Vec<u8>, sql: &str, values: &[&[u8]]) {
    parse_and_bind_values(out, sql, values);
    execute(out, "");
    sync(out);
}

/// As [`bind_and_run`], without the Sync: what follows up to one is in the same transaction (manual, "Pipelining").
pub fn bind_pairs(out: &mut Vec<u8>, sql: &str, pairs: &[(&str, &[u8])]) {
    parse_and_bind_pairs(out, "", sql, pairs);
    execute(out, "");
}

/// As [`bind_values`], with the result described, and no more rows of it than `max_rows` (0 for all).
pub fn bind_values_described(out: &mut Vec<u8>, sql: &str, values: &[&[u8]], max_rows: u32) {
    parse_and_bind_values(out, sql, values);
    message(out, tag::DESCRIBE, |out| out.extend(b"P\0"));
    message(out, tag::EXECUTE, |out| {
        string(out, "");
        out.extend(max_rows.to_be_bytes());
    });
    sync(out);
}

/// A function of `pg_catalog` with the number that it has in every version of PostgreSQL (`pg_proc.dat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltIn {
    /// `current_setting(name text, missing_ok boolean) returns text`
    CurrentSetting = 3294,
    /// `set_config(name text, value text, is_local boolean) returns text`
    SetConfig = 2078,
    /// `setseed(double precision) returns void`
    SetSeed = 1599,
    /// `textin(cstring) returns text`: its argument.
    TextIn = 46,
}

/// A function by its number (`pg_proc.oid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function(pub u32);

impl From<BuiltIn> for Function {
    fn from(function: BuiltIn) -> Self {
        Self(function as u32)
    }
}

/// Appends FunctionCall to `out`, arguments and result in text form (manual, "Message Flow", "Function Call").
///
/// It is neither parsed nor planned, so that it takes the server a fifth of what a statement does; and no name in it is
/// looked up, so that no `search_path` has a say.
pub fn function_call(out: &mut Vec<u8>, function: Function, arguments: &[&[u8]]) {
    message(out, tag::FUNCTION_CALL, |out| {
        out.extend(function.0.to_be_bytes());
        count(out, 0);
        fields(out, arguments.iter().copied());
        count(out, 0);
    });
}

/// Appends Flush to `out`.
pub fn flush(out: &mut Vec<u8>) {
    message(out, tag::FLUSH, |_| {});
}

/// Appends Sync to `out`.
pub fn sync(out: &mut Vec<u8>) {
    message(out, tag::SYNC, |_| {});
}

fn parse_and_bind_pairs(out: &mut Vec<u8>, name: &str, sql: &str, pairs: &[(&str, &[u8])]) {
    parse(out, name, sql, &[TEXT, BYTEA].repeat(pairs.len()));
    message(out, tag::BIND, |out| {
        string(out, name);
        string(out, name);
        count(out, pairs.len() * 2);
        for _ in pairs {
            out.extend([0, 0, 0, 1]);
        }
        fields(out, pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value]));
        out.extend([0, 1, 0, 1]);
    });
}

fn parse_and_bind_values(out: &mut Vec<u8>, sql: &str, values: &[&[u8]]) {
    parse(out, "", sql, &[]);
    message(out, tag::BIND, |out| {
        out.extend([0, 0, 0, 0]);
        fields(out, values.iter().copied());
        out.extend([0, 0]);
    });
}

fn parse(out: &mut Vec<u8>, name: &str, sql: &str, types: &[u32]) {
    message(out, tag::PARSE, |out| {
        string(out, name);
        string(out, sql);
        count(out, types.len());
        types.iter().for_each(|oid| out.extend(oid.to_be_bytes()));
    });
}

fn execute(out: &mut Vec<u8>, portal: &str) {
    message(out, tag::EXECUTE, |out| {
        string(out, portal);
        out.extend([0; 4]);
    });
}

/// Values, each behind its length, behind their number.
fn fields<'a>(out: &mut Vec<u8>, values: impl Iterator<Item = &'a [u8]> + Clone) {
    count(out, values.clone().count());
    for value in values {
        out.extend(i32::try_from(value.len()).unwrap_or(i32::MAX).to_be_bytes());
        out.extend(value);
    }
}

pub(super) fn count(out: &mut Vec<u8>, n: usize) {
    out.extend(i16::try_from(n).unwrap_or(i16::MAX).to_be_bytes());
}

/// Appends ParameterStatus to `out`.
pub fn parameter_status(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    message(out, tag::PARAMETER_STATUS, |out| {
        for field in [name, value] {
            out.extend(field);
            out.push(0);
        }
    });
}

/// Appends BackendKeyData to `out`.
pub fn backend_key_data(out: &mut Vec<u8>, key: &CancelKey) {
    message(out, tag::BACKEND_KEY_DATA, |out| {
        out.extend(key.pid.to_be_bytes());
        out.extend(&key.secret);
    });
}

/// Appends a message, filling in its length.
pub(super) fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    out.extend([0; 4]);
    body(out);
    let size = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
    out.splice(start..start + 4, size.to_be_bytes());
}

/// Appends a String. A NUL inside would end it early and shift every later field, so it is dropped.
pub(super) fn string(out: &mut Vec<u8>, value: &str) {
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
        let (severity, code) = (Severity::Fatal, SqlState::INVALID_AUTHORIZATION);
        ErrorResponse { severity, code, message: "a\0b", hint: Some("do") }.encode(&mut out);
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
        let tags = |out: &[u8]| crate::wire::TaggedFrames::new(out, 1000).map(|f| f.tag).collect::<Vec<u8>>();
        assert_eq!(tags(&out), b"PBES");
        out.clear();
        bind_and_run_named(&mut out, "own", "select 1", &[("app.x", b"v")]);
        assert_eq!(tags(&out), b"PBECCS");
        out.clear();
        bind_values(&mut out, "select $1", &[b"v"]);
        assert_eq!(tags(&out), b"PBES");
    }
}
