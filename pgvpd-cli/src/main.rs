//! The `pgvpd` program; all of it is in the library part, so that other packages can carry it.

/// Less fragmentation than the system's allocator. Without transparent huge pages (`no_thp`): one session more would cost 2 MiB at a
/// time, and an idle proxy 8 MiB more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    pgvpd_cli::main(std::env::args_os())
}
