//! Which of several processes that listen on one port gets the next connection (`SO_REUSEPORT`).
//!
//! The kernel keeps the sockets of a port in the order in which they were bound, and chooses by the connection's hash, unless a classic
//! BPF program names one by its place; a place that is not there means the hash again. Closing a listener resets what waits in its
//! queue, so a process that leaves steers new connections to others first (socket(7); Linux, `net/core/sock_reuseport.c`).

use std::io;
use std::os::fd::AsFd;

/// By the connection's hash, whatever an earlier process has said.
pub(super) fn to_all(socket: &impl AsFd) -> io::Result<()> {
    steer(socket, u32::MAX)
}

/// To the socket in this place of the port's.
pub(super) fn to_place(socket: &impl AsFd, place: u32) -> io::Result<()> {
    steer(socket, place)
}

#[cfg(target_os = "linux")]
fn steer(socket: &impl AsFd, place: u32) -> io::Result<()> {
    use nix::libc::{BPF_K, BPF_RET, sock_filter, sock_fprog};
    use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};
    let code = u16::try_from(BPF_RET | BPF_K).unwrap_or_default();
    let mut program = [sock_filter { code, jt: 0, jf: 0, k: place }];
    let program = sock_fprog { len: 1, filter: program.as_mut_ptr() };
    Ok(setsockopt(socket, AttachReusePortCbpf, &program)?)
}

#[cfg(not(target_os = "linux"))]
fn steer(_: &impl AsFd, _: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
