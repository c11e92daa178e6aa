//! SQLSTATE codes that the proxy itself reports (PostgreSQL manual, appendix A).

/// A five-character error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(&'static str);

impl SqlState {
    /// `00000`: that of a notice.
    pub const SUCCESSFUL_COMPLETION: Self = Self("00000");
    /// `08006`: the upstream cannot be reached, or it closed during the login.
    pub const CONNECTION_FAILURE: Self = Self("08006");
    /// `08P01`: a peer broke the protocol.
    pub const PROTOCOL_VIOLATION: Self = Self("08P01");
    /// `0A000`: the feature is not supported in this mode.
    pub const FEATURE_NOT_SUPPORTED: Self = Self("0A000");
    /// `28000`: the login names no tenant, or one that is not permitted.
    pub const INVALID_AUTHORIZATION: Self = Self("28000");
    /// `28P01`: the password is wrong.
    pub const INVALID_PASSWORD: Self = Self("28P01");
    /// `42501`: the client may not set this parameter.
    pub const INSUFFICIENT_PRIVILEGE: Self = Self("42501");
    /// `53300`: a limit of connections is reached.
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    /// `25001`: not inside a transaction.
    pub const ACTIVE_TRANSACTION: Self = Self("25001");
    /// `25P02`: the transaction has failed, and ends before anything else.
    pub const IN_FAILED_TRANSACTION: Self = Self("25P02");
    /// `26000`: there is no prepared statement of this name.
    pub const INVALID_STATEMENT_NAME: Self = Self("26000");
    /// `34000`: there is no portal of this name.
    pub const INVALID_CURSOR_NAME: Self = Self("34000");
    /// `42601`: the text is no statement.
    pub const SYNTAX_ERROR: Self = Self("42601");
    /// `42704`: there is nothing of this name.
    pub const UNDEFINED_OBJECT: Self = Self("42704");
    /// `54000`: more than is taken.
    pub const PROGRAM_LIMIT_EXCEEDED: Self = Self("54000");
    /// `55000`: not as things are.
    pub const NOT_IN_PREREQUISITE_STATE: Self = Self("55000");
    /// `57014`: a time limit ended the operation.
    pub const QUERY_CANCELED: Self = Self("57014");
    /// `57P01`: the proxy is shutting down.
    pub const ADMIN_SHUTDOWN: Self = Self("57P01");
    /// `57P05`: the session was idle for too long.
    pub const IDLE_SESSION_TIMEOUT: Self = Self("57P05");
    /// `58030`: what has to be written cannot be.
    pub const IO_ERROR: Self = Self("58030");
    /// `F0000`: the configuration is not valid.
    pub const CONFIG_FILE_ERROR: Self = Self("F0000");

    /// The five characters.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for SqlState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}
