//! The `partywall` binary: parse, call, exit.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main().into()
}
