//! Sockets: listening, dialling, options, and one type for TCP and Unix streams.

mod file_limit;
mod listen;
mod socket;

pub use file_limit::{FileLimit, raise_file_limit};
pub use listen::BindError;
pub(crate) use listen::{Accepted, Listener, bind};
pub(crate) use socket::{ConnectError, Socket, connect};
