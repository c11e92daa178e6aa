//! Messages that a server sends during the login, read from a whole message body.

use super::{CancelKey, Reader, WireError, tag};

/// An Authentication message ('R').
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// The login is complete.
    Ok,
    /// Asks for the password as it is.
    CleartextPassword,
    /// Asks for the password hashed with the user name and this salt.
    Md5Password {
        /// The server's salt.
        salt: [u8; 4],
    },
    /// Offers SASL mechanisms.
    Sasl {
        /// Names, in the server's order of preference.
        mechanisms: Vec<&'a str>,
    },
    /// A SASL challenge, which asks for a response.
    SaslContinue(&'a [u8]),
    /// The end of the SASL exchange, which asks for none.
    SaslFinal(&'a [u8]),
    /// Another method, by its number.
    Other(i32),
}

impl<'a> Authentication<'a> {
    /// Reads a message body.
    ///
    /// # Errors
    /// [`WireError::Malformed`] where a field is missing.
    pub fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let malformed = || WireError::Malformed('R');
        let mut reader = Reader::new(body);
        Ok(match reader.i32().ok_or_else(malformed)? {
            0 => Self::Ok,
            3 => Self::CleartextPassword,
            5 => Self::Md5Password { salt: reader.array().ok_or_else(malformed)? },
            10 => {
                let mut mechanisms = Vec::new();
                loop {
                    match reader.string().ok_or_else(malformed)? {
                        [] => break Self::Sasl { mechanisms },
                        name => mechanisms.push(std::str::from_utf8(name).map_err(|_| malformed())?),
                    }
                }
            }
            11 => Self::SaslContinue(reader.rest()),
            12 => Self::SaslFinal(reader.rest()),
            other => Self::Other(other),
        })
    }

    /// What people call the method with this code (manual, "Message Formats").
    pub fn method_name(code: i32) -> String {
        match code {
            2 => "Kerberos V5".into(),
            6 => "SCM credentials".into(),
            7 => "GSSAPI".into(),
            9 => "SSPI".into(),
            other => format!("method {other}"),
        }
    }
}

/// A ParameterStatus message ('S').
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterStatus<'a> {
    /// The parameter's name.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> ParameterStatus<'a> {
    /// Reads a message body.
    ///
    /// # Errors
    /// [`WireError::Malformed`] where a field is missing.
    pub fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let (Some(name), Some(value)) = (reader.string(), reader.string()) else {
            return Err(WireError::Malformed(char::from(tag::PARAMETER_STATUS)));
        };
        Ok(Self { name, value })
    }
}

/// A BackendKeyData message ('K').
#[derive(Debug)]
pub struct BackendKeyData;

impl BackendKeyData {
    /// Reads a message body: the key that a CancelRequest must carry.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for a secret outside 4 to 256 bytes (protocol 3.2).
    pub fn parse(body: &[u8]) -> Result<CancelKey, WireError> {
        let mut reader = Reader::new(body);
        let pid = reader.i32();
        match (pid, reader.rest().len()) {
            (Some(pid), 4..=256) => Ok(CancelKey { pid, secret: reader.rest().into() }),
            _ => Err(WireError::Malformed(char::from(tag::BACKEND_KEY_DATA))),
        }
    }
}

/// A DataRow message ('D').
#[derive(Debug)]
pub struct DataRow;

impl DataRow {
    /// The columns of a row, `None` for NULL.
    ///
    /// # Errors
    /// [`WireError::Malformed`] where counts and lengths do not add up.
    pub fn parse(body: &[u8]) -> Result<Vec<Option<&[u8]>>, WireError> {
        let malformed = || WireError::Malformed(char::from(tag::DATA_ROW));
        let mut reader = Reader::new(body);
        let count = reader.i16().and_then(|n| usize::try_from(n).ok()).ok_or_else(malformed)?;
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(match reader.i32().ok_or_else(malformed)? {
                -1 => None,
                size => {
                    let size = usize::try_from(size).map_err(|_| malformed())?;
                    Some(reader.bytes(size).ok_or_else(malformed)?)
                }
            });
        }
        if reader.is_empty() { Ok(columns) } else { Err(malformed()) }
    }
}

/// A RowDescription message ('T').
#[derive(Debug)]
pub struct RowDescription;

impl RowDescription {
    /// The names of the columns.
    ///
    /// # Errors
    /// [`WireError::Malformed`] where the number is not that of the fields.
    pub fn names(body: &[u8]) -> Result<Vec<&[u8]>, WireError> {
        /// Table, column, type, its size and modifier, format.
        const REST: usize = 18;
        let malformed = || WireError::Malformed(char::from(tag::ROW_DESCRIPTION));
        let mut reader = Reader::new(body);
        let count = reader.i16().and_then(|n| usize::try_from(n).ok()).ok_or_else(malformed)?;
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(reader.string().ok_or_else(malformed)?);
            reader.bytes(REST).ok_or_else(malformed)?;
        }
        if reader.is_empty() { Ok(names) } else { Err(malformed()) }
    }
}

/// A NotificationResponse message ('A').
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotificationResponse<'a> {
    /// The channel.
    pub channel: &'a [u8],
    /// What was said.
    pub payload: &'a [u8],
}

impl<'a> NotificationResponse<'a> {
    /// Reads the body.
    ///
    /// # Errors
    /// [`WireError::Malformed`] where it is not a number and two strings.
    pub fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let malformed = || WireError::Malformed(char::from(tag::NOTIFICATION_RESPONSE));
        let mut reader = Reader::new(body);
        let parsed = reader.i32().and_then(|_pid| Some(Self { channel: reader.string()?, payload: reader.string()? }));
        parsed.filter(|_| reader.is_empty()).ok_or_else(malformed)
    }
}

/// A FunctionCallResponse message ('V').
#[derive(Debug)]
pub struct FunctionCallResponse;

impl FunctionCallResponse {
    /// The result, `None` for NULL.
    ///
    /// # Errors
    /// [`WireError::Malformed`] where the length is not that of the rest.
    pub fn parse(body: &[u8]) -> Result<Option<&[u8]>, WireError> {
        let malformed = || WireError::Malformed(char::from(tag::FUNCTION_CALL_RESPONSE));
        let mut reader = Reader::new(body);
        match reader.i32().ok_or_else(malformed)? {
            -1 if reader.is_empty() => Ok(None),
            size if usize::try_from(size).is_ok_and(|size| size == reader.rest().len()) => Ok(Some(reader.rest())),
            _ => Err(malformed()),
        }
    }
}

/// The status byte of ReadyForQuery ('Z').
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Not in a transaction block.
    Idle,
    /// In a transaction block.
    InTransaction,
    /// In a failed transaction block.
    Failed,
}

impl TransactionStatus {
    /// Reads a message body.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for anything but one known byte.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        match body {
            b"I" => Ok(Self::Idle),
            b"T" => Ok(Self::InTransaction),
            b"E" => Ok(Self::Failed),
            _ => Err(WireError::Malformed(char::from(tag::READY_FOR_QUERY))),
        }
    }

    /// The byte of a message body.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// The fields of an ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, Copy)]
pub struct ErrorFields<'a> {
    body: &'a [u8],
}

impl<'a> ErrorFields<'a> {
    /// Reads a message body.
    pub fn new(body: &'a [u8]) -> Self {
        Self { body }
    }

    /// SQLSTATE and primary message, for a log.
    pub fn summary(&self) -> String {
        format!("{} {}", self.code().unwrap_or_default(), self.message().unwrap_or_default())
    }

    /// The field of this type, as text; bytes that are not UTF-8 are replaced.
    pub fn field(&self, kind: u8) -> Option<std::borrow::Cow<'a, str>> {
        let mut reader = Reader::new(self.body);
        loop {
            match reader.u8()? {
                0 => return None,
                found => {
                    let value = reader.string()?;
                    if found == kind {
                        return Some(String::from_utf8_lossy(value));
                    }
                }
            }
        }
    }

    /// SQLSTATE.
    pub fn code(&self) -> Option<std::borrow::Cow<'a, str>> {
        self.field(b'C')
    }

    /// The primary message.
    pub fn message(&self) -> Option<std::borrow::Cow<'a, str>> {
        self.field(b'M')
    }
}

/// Mechanism and data of a SASLInitialResponse's body; `None` where it is none.
pub fn sasl_initial(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader::new(body);
    let mechanism = reader.string()?;
    let length = usize::try_from(reader.i32()?).ok()?;
    let data = reader.bytes(length)?;
    reader.is_empty().then_some((mechanism, data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn authentication_requests_are_told_apart() {
        let parse = |body: &'static [u8]| Authentication::parse(body);
        assert_eq!(parse(b"\0\0\0\0"), Ok(Authentication::Ok));
        assert_eq!(parse(b"\0\0\0\x03"), Ok(Authentication::CleartextPassword));
        assert_eq!(parse(b"\0\0\0\x05abcd"), Ok(Authentication::Md5Password { salt: *b"abcd" }));
        assert_eq!(
            parse(b"\0\0\0\x0aSCRAM-SHA-256\0\0"),
            Ok(Authentication::Sasl { mechanisms: vec!["SCRAM-SHA-256"] })
        );
        assert_eq!(parse(b"\0\0\0\x07"), Ok(Authentication::Other(7)));
        for short in [&b""[..], b"\0\0\0", b"\0\0\0\x05abc", b"\0\0\0\x0aSCRAM", b"\0\0\0\x0aSCRAM\0"] {
            assert_eq!(Authentication::parse(short), Err(WireError::Malformed('R')));
        }
    }

    #[test]
    fn cancel_keys_of_protocol_3_0_and_3_2_are_read() {
        let short = BackendKeyData::parse(b"\0\0\x01\0abcd").expect("4-byte secret");
        assert_eq!((short.pid, &*short.secret), (256, &b"abcd"[..]));
        let long = [&[0, 0, 0, 7][..], &[9; 32]].concat();
        assert_eq!(BackendKeyData::parse(&long).expect("32-byte secret").secret.len(), 32);
        assert!(BackendKeyData::parse(b"\0\0\0\x07abc").is_err());
        assert!(BackendKeyData::parse(&[0; 261]).is_err());
    }

    #[test]
    fn a_row_gives_its_columns_and_null() {
        let body = b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff";
        assert_eq!(DataRow::parse(body), Ok(vec![Some(&b"ab"[..]), None]));
        assert!(DataRow::parse(b"\0\x01\0\0\0\x05ab").is_err());
        assert!(DataRow::parse(b"\0\x01\xff\xff\xff\xfe").is_err());
        assert!(DataRow::parse(b"\0\0x").is_err());
    }

    #[test]
    fn error_fields_are_found_by_type() {
        let fields = ErrorFields::new(b"SFATAL\0C28P01\0Mno\0\0");
        assert_eq!(fields.code().as_deref(), Some("28P01"));
        assert_eq!(fields.message().as_deref(), Some("no"));
        assert_eq!(fields.field(b'H'), None);
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Authentication::parse(&body);
            let _ = ParameterStatus::parse(&body);
            let _ = BackendKeyData::parse(&body);
            let _ = DataRow::parse(&body);
            let _ = TransactionStatus::parse(&body);
            let _ = ErrorFields::new(&body).message();
        }
    }
}
