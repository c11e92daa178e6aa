//! Sockets: listening, dialling, options, one type for TCP, TLS and Unix streams, and what is buffered on either side of one.

mod address;
mod buffer;
mod conn;
mod listen;
mod socket;
mod steering;

pub(crate) use address::Addresses;
pub use address::{Listen, TcpTimes, UpstreamAddress};
pub(crate) use conn::Conn;
pub use listen::BindError;
pub(crate) use listen::{Accepted, Bound, BoundAdmin, Door, Listener, PortRules, bind, bind_admin};
pub(crate) use socket::{ConnectError, Socket, connect};
