//! The `pgvpd` program; all of it is in the library part, so that other packages can carry it.

/// Gives memory back when sessions have ended, also where one thread frees what another allocated and neither allocates any
/// more; the system's allocator and mimalloc keep it. `.cargo/config.toml` says how soon.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    pgvpd_cli::main(std::env::args_os())
}
