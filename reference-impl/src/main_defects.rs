//! The `audit-api-defects` binary: `audit-api` with deliberate defects on offer. Never deploy it.

fn main() -> std::process::ExitCode {
    partywall_reference::serve::main()
}
