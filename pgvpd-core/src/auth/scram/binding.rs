//! Channel binding: what ties a proof to the TLS connection that it is given on, so that who comes between cannot pass it on
//! (RFC 5802, section 6; RFC 5929, section 4).

use std::sync::Arc;

/// What a client says of channel binding in the header of its first message (`gs2-header`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binding {
    /// It does none (`n`).
    None,
    /// It could, and the server did not offer it (`y`).
    NotOffered,
    /// It binds to this hash of the server's certificate (`tls-server-end-point`).
    EndPoint(Arc<[u8]>),
}

impl Binding {
    pub(super) fn header(&self) -> &'static str {
        match self {
            Self::None => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// What the proof repeats: the header, and what it is bound to.
    pub(super) fn input(&self) -> Vec<u8> {
        let data: &[u8] = match self {
            Self::None | Self::NotOffered => &[],
            Self::EndPoint(hash) => hash,
        };
        [self.header().as_bytes(), data].concat()
    }
}
