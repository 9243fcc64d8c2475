//! The `mcp-monitor` binary: everything it does is in the library.
use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_monitor::cli::main()
}
