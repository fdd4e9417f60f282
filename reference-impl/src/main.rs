//! The `audit-api` binary: parse, call, exit.

use clap::Parser;
use partywall_reference::{config::Cli, serve};

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    match serve::run(cli) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::from(2)
        }
    }
}
