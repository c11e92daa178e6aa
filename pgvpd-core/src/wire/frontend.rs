//! Messages of a client behind its startup: the simple and the extended query protocol, as a server reads them.

use super::{Frame, Reader, WireError, tag};

/// A client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrontendMessage<'a> {
    /// Query: one or several statements.
    Query(&'a str),
    /// Parse.
    Parse {
        /// The name that the statement gets; empty for the unnamed one.
        statement: &'a str,
        /// Its text.
        text: &'a str,
        /// How many types of parameters are given.
        types: usize,
    },
    /// Bind.
    Bind(Bind<'a>),
    /// Describe.
    Describe(Target<'a>),
    /// Execute.
    Execute {
        /// The portal's name.
        portal: &'a str,
        /// Rows to give at most; 0 for all.
        max_rows: usize,
    },
    /// Close.
    Close(Target<'a>),
    /// Sync.
    Sync,
    /// Flush.
    Flush,
    /// Terminate.
    Terminate,
    /// Any other type, of which a server may know more.
    Other(u8),
}

/// What a Bind says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The name that the portal gets.
    pub portal: &'a str,
    /// The statement's name.
    pub statement: &'a str,
    /// The parameters' values; `None` for NULL.
    pub values: Vec<Option<&'a [u8]>>,
    /// The results' formats: none for text, one for all columns, or one for each.
    pub formats: Vec<Format>,
}

/// How a value stands in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As text.
    Text,
    /// As the type's own bytes.
    Binary,
}

/// What a Describe or a Close is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A prepared statement.
    Statement(&'a str),
    /// A portal.
    Portal(&'a str),
}

impl<'a> FrontendMessage<'a> {
    /// Reads a whole message.
    ///
    /// # Errors
    /// [`WireError::Malformed`] where fields are missing, or left over, or a text is not UTF-8.
    pub fn parse(frame: Frame<'a>) -> Result<Self, WireError> {
        let mut reader = Reader::new(frame.body);
        let message = read(frame.tag, &mut reader).filter(|_| reader.is_empty());
        message.ok_or(WireError::Malformed(char::from(frame.tag)))
    }
}

fn read<'a>(kind: u8, reader: &mut Reader<'a>) -> Option<FrontendMessage<'a>> {
    Some(match kind {
        tag::QUERY => FrontendMessage::Query(text(reader)?),
        tag::PARSE => {
            let (statement, text) = (text(reader)?, text(reader)?);
            let types = many(reader, |reader| reader.i32())?.len();
            FrontendMessage::Parse { statement, text, types }
        }
        tag::BIND => {
            let (portal, statement) = (text(reader)?, text(reader)?);
            // Text is its own binary form, and there are no parameters of another type.
            let _formats = many(reader, format)?;
            let values = many(reader, value)?;
            FrontendMessage::Bind(Bind { portal, statement, values, formats: many(reader, format)? })
        }
        tag::DESCRIBE => FrontendMessage::Describe(target(reader)?),
        tag::EXECUTE => {
            let (portal, max_rows) = (text(reader)?, reader.i32()?);
            // The manual: zero is no limit. PostgreSQL takes what is below for the same.
            FrontendMessage::Execute { portal, max_rows: usize::try_from(max_rows).unwrap_or(0) }
        }
        tag::CLOSE => FrontendMessage::Close(target(reader)?),
        tag::SYNC => FrontendMessage::Sync,
        tag::FLUSH => FrontendMessage::Flush,
        tag::TERMINATE => FrontendMessage::Terminate,
        other => {
            reader.bytes(reader.rest().len())?;
            FrontendMessage::Other(other)
        }
    })
}

fn text<'a>(reader: &mut Reader<'a>) -> Option<&'a str> {
    std::str::from_utf8(reader.string()?).ok()
}

/// Fields behind their number. It is not allocated for what is only claimed.
fn many<'a, T>(reader: &mut Reader<'a>, one: impl Fn(&mut Reader<'a>) -> Option<T>) -> Option<Vec<T>> {
    let count = u16::from_be_bytes(reader.array()?);
    (0..count).map(|_| one(reader)).collect()
}

fn format(reader: &mut Reader<'_>) -> Option<Format> {
    match reader.i16()? {
        0 => Some(Format::Text),
        1 => Some(Format::Binary),
        _ => None,
    }
}

fn value<'a>(reader: &mut Reader<'a>) -> Option<Option<&'a [u8]>> {
    match reader.i32()? {
        -1 => Some(None),
        size => reader.bytes(usize::try_from(size).ok()?).map(Some),
    }
}

fn target<'a>(reader: &mut Reader<'a>) -> Option<Target<'a>> {
    match reader.u8()? {
        b'S' => text(reader).map(Target::Statement),
        b'P' => text(reader).map(Target::Portal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(tag: u8, body: &[u8]) -> Result<FrontendMessage<'_>, WireError> {
        FrontendMessage::parse(Frame { tag, body })
    }

    #[test]
    fn messages_are_read_as_the_manual_lays_them_out() {
        assert_eq!(parse(b'Q', b"SHOW POOLS\0"), Ok(FrontendMessage::Query("SHOW POOLS")));
        let expected = FrontendMessage::Parse { statement: "s", text: "SHOW X", types: 1 };
        assert_eq!(parse(b'P', b"s\0SHOW X\0\0\x01\0\0\0\x19"), Ok(expected));
        let bound =
            Bind { portal: "p", statement: "s", values: vec![Some(&b"ab"[..]), None], formats: vec![Format::Binary] };
        let body = b"p\0s\0\0\x01\0\0\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\x01";
        assert_eq!(parse(b'B', body), Ok(FrontendMessage::Bind(bound)));
        assert_eq!(parse(b'D', b"Sx\0"), Ok(FrontendMessage::Describe(Target::Statement("x"))));
        assert_eq!(parse(b'C', b"P\0"), Ok(FrontendMessage::Close(Target::Portal(""))));
        assert_eq!(parse(b'E', b"\0\0\0\0\x07"), Ok(FrontendMessage::Execute { portal: "", max_rows: 7 }));
        assert_eq!(parse(b'E', b"\0\xff\xff\xff\xff"), Ok(FrontendMessage::Execute { portal: "", max_rows: 0 }));
        assert_eq!(parse(b'S', b""), Ok(FrontendMessage::Sync));
        assert_eq!(parse(b'd', b"\xff any"), Ok(FrontendMessage::Other(b'd')));
    }

    #[test]
    fn what_is_cut_off_left_over_or_not_text_is_malformed() {
        let cases: [(u8, &[u8]); 9] = [
            (b'Q', b"no end"),
            (b'Q', b"end\0more"),
            (b'Q', b"\xff\0"),
            (b'P', b"s\0t\0\0\x02\0\0\0\x19"),
            (b'B', b"\0\0\0\0\xff\xff\0\0\0\x7fab"),
            (b'B', b"\0\0\0\x01\0\x02\0\0\0\0"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
            (b'D', b"Xx\0"),
            (b'S', b"x"),
        ];
        for (tag, body) in cases {
            assert_eq!(parse(tag, body), Err(WireError::Malformed(char::from(tag))), "{body:?}");
        }
    }
}
