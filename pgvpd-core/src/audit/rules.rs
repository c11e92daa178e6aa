//! Where events are written, and what becomes of what cannot be.

use std::path::PathBuf;

/// Where security events are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// The program's standard output.
    Stdout,
    /// This file; lines are appended.
    File(PathBuf),
}

/// The audit stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRules {
    /// `None` for none.
    pub target: Option<AuditTarget>,
    /// Whether a login goes on if its event cannot be written.
    pub on_error: AuditOnError,
}

/// Whether a login, or an administrator's action, goes on if its event cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOnError {
    /// It is refused.
    Refuse,
    /// It goes on, and the log says that an event is lost.
    Continue,
}
