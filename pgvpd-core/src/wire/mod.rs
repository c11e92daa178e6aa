//! The PostgreSQL frontend/backend protocol, version 3, on byte slices.
//!
//! Nothing here does I/O, reads a clock or knows the configuration: every function takes bytes and gives values, so
//! that it can be unit-tested, property-tested and fuzzed. Chapters refer to the PostgreSQL manual,
//! "Frontend/Backend Protocol".

mod answers;
mod backend;
mod bodies;
mod build;
mod errors;
mod frame;
mod frontend;
mod notifications;
mod options;
mod reader;
mod replies;
mod scanner;
mod sqlstate;
mod startup;
mod tracker;

pub use answers::{
    Cell, Column, ColumnType, bind_complete, close_complete, command_complete, data_row, empty_query_response, no_data,
    parameter_description, parse_complete, portal_suspended, ready_for_query, row_description,
};
pub use backend::{
    Authentication, BackendKeyData, DataRow, ErrorFields, FunctionCallResponse, NotificationResponse, ParameterStatus,
    RowDescription, TransactionStatus, sasl_initial,
};
pub use bodies::BodyScanner;
#[cfg(test)]
pub(crate) use build::test_message;
pub use build::{
    BuiltIn, ErrorResponse, Function, Severity, authentication_cleartext_password, authentication_md5_password,
    authentication_ok, authentication_sasl, authentication_sasl_continue, authentication_sasl_final, backend_key_data,
    bind_and_run, bind_and_run_named, bind_pairs, bind_values, bind_values_described, fatal_error_response, flush,
    function_call, negotiate_protocol_version, notice_response, parameter_status, password_message, query,
    sasl_initial_response, sasl_response, ssl_request, sync,
};
pub use errors::ErrorReplacement;
pub use frame::{Frame, TaggedFrames, frame, tag};
pub use frontend::{Bind, Format, FrontendMessage, Target};
pub use notifications::{NotificationFilter, Verdict};
pub use options::{OptionsError, Setting, join_options, normalize_setting_name, split_options};
pub use reader::Reader;
pub(crate) use replies::{Answer, Replies, ReplyError};
pub use scanner::Scanner;
pub use sqlstate::SqlState;
pub use startup::{
    CancelKey, CancelRequest, FirstPacket, MAX_STARTUP_PACKET, MAX_STARTUP_PARAMETERS, ProtocolVersion, StartupMessage,
    first_packet,
};
pub use tracker::Tracker;

/// What a parser found at the front of a buffer: a whole item, or too few bytes to tell.
///
/// Bytes that can never become a valid item are a [`WireError`] instead, so that a bad peer is answered at once and
/// never waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<T> {
    /// A whole item, and how many bytes of the buffer it took.
    Complete(T, usize),
    /// Everything so far is valid, and more bytes are needed.
    Incomplete,
}

/// Bytes that break the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The first packet's length field is outside what PostgreSQL accepts.
    #[error("invalid length of startup packet: {0}")]
    StartupLength(i32),
    /// The peer speaks TLS although nothing was negotiated.
    #[error("received a TLS ClientHello instead of a PostgreSQL startup packet")]
    TlsClientHello,
    /// The peer speaks HTTP.
    #[error("received an HTTP request instead of a PostgreSQL startup packet")]
    HttpRequest,
    /// The startup packet asks for a major protocol version other than 3.
    #[error("unsupported frontend protocol {major}.{minor}: pgvpd supports 3.0 to 3.2")]
    ProtocolVersion {
        /// Major version asked for.
        major: u16,
        /// Minor version asked for.
        minor: u16,
    },
    /// Names, values and terminator of the startup packet do not add up.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    StartupLayout,
    /// A name or value of the startup packet is not UTF-8.
    #[error("startup packet is not valid UTF-8")]
    StartupEncoding,
    /// A startup parameter's name or value holds a control character.
    #[error("startup parameter {0:?} contains a control character")]
    ControlCharacter(String),
    /// A startup parameter is given twice (PostgreSQL would take the last one).
    #[error("startup parameter {0:?} is given twice")]
    DuplicateParameter(String),
    /// The startup packet has more parameters than any client needs.
    #[error("the startup packet has more than {MAX_STARTUP_PARAMETERS} parameters")]
    TooManyParameters,
    /// The startup packet names no user.
    #[error("no PostgreSQL user name specified in startup packet")]
    MissingUser,
    /// A message's length field is below 4 or above the limit that holds at this point.
    #[error("invalid length {length} of a message of type {tag:?}")]
    MessageLength {
        /// The message's type byte.
        tag: char,
        /// The length it claims, itself included.
        length: i32,
    },
    /// A message ends before its fields do, or its fields before the message.
    #[error("malformed message of type {0:?}")]
    Malformed(char),
    /// An answer to nothing that was asked.
    #[error("message of type {0:?} that no request has asked for")]
    Unasked(char),
}
