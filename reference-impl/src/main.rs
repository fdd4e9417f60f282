//! The `audit-api` binary: parse, call, exit.

fn main() -> std::process::ExitCode {
    partywall_reference::serve::main()
}
