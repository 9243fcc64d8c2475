//! What a contributor types: `cargo xtask setup | build | image | demo | test | tidy | bench | fuzz`.
//! Each calls what it needs first, so that any of them works on a machine that has only
//! rustup and a C compiler.

mod bench;
mod bpf;
mod build;
mod demo;
mod fuzz;
mod image;
mod setup;
mod sh;
mod source;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Development tasks of mcp-monitor
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what is missing: BPF toolchain, tools and peers of the tests
    Setup(setup::Args),
    /// Build mcp-monitor with its kernel program
    Build(build::Args),
    /// Run the checks: format, lints, tidy, unit, property, golden and live tests
    Test(test::Args),
    /// Check the layers, file lengths, rule pages and forbidden words
    Tidy,
    /// Build the container image, without an engine
    Image(image::Args),
    /// Watch a real MCP session while its server is swapped for another
    Demo(demo::Args),
    /// Measure what the monitor costs
    Bench(bench::Args),
    /// Run the fuzz targets
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup(args) => setup::run(&args),
        Task::Build(args) => build::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Tidy => tidy::run(),
        Task::Image(args) => image::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
