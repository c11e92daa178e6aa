//! The `pgvpd` program; all of it is in the library part, so that other packages can carry it.

/// Gives memory back sooner than the system's allocator when clients leave.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    pgvpd_cli::main(std::env::args_os())
}
