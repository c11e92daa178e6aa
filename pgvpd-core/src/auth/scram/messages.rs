//! The attributes of SCRAM messages (RFC 5802, section 7).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::ScramError;

/// What is left of a message: attributes `x=value`, separated by commas.
pub(super) struct Attributes<'a> {
    rest: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    pub(super) fn of(message: &'a str) -> Self {
        Self { rest: Some(message) }
    }

    /// The next attribute, which has to have this name.
    pub(super) fn expect(&mut self, name: char) -> Result<&'a str, ScramError> {
        match self.next()? {
            Some((found, value)) if found == name => Ok(value),
            _ => Err(ScramError::Malformed("an attribute is missing or not in its place")),
        }
    }

    /// The next attribute, whatever it is; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(char, &'a str)>, ScramError> {
        let Some(rest) = self.rest else { return Ok(None) };
        let (attribute, rest) = match rest.split_once(',') {
            Some((attribute, rest)) => (attribute, Some(rest)),
            None => (rest, None),
        };
        self.rest = rest;
        let mut characters = attribute.chars();
        match (characters.next(), characters.next()) {
            (Some(name), Some('=')) if name.is_ascii_alphabetic() => Ok(Some((name, characters.as_str()))),
            _ => Err(ScramError::Malformed("an attribute is not of the form a=value")),
        }
    }

    /// Reads over extensions; one that is mandatory (`m`) would have come first.
    pub(super) fn skip_extensions(&mut self) -> Result<(), ScramError> {
        while self.next()?.is_some() {}
        Ok(())
    }
}

/// Printable ASCII without a comma, at least one character.
pub(super) fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && byte != b',')
}

pub(super) fn decode(text: &str) -> Result<Vec<u8>, ScramError> {
    STANDARD.decode(text).map_err(|_| ScramError::Malformed("a value is not in base64"))
}

pub(super) fn decode_key(text: &str) -> Result<[u8; super::keys::KEY], ScramError> {
    decode(text)?.try_into().map_err(|_| ScramError::Malformed("a value does not have 32 bytes"))
}

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn text(message: &[u8]) -> Result<&str, ScramError> {
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))
}
