//! The `mcp-monitor` binary: everything it does is in the library.
use std::process::ExitCode;

/// Messages and events are many small pieces, made on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mcp_monitor::cli::main()
}
