//! The `audit-api` binary: parse, call, exit.

/// A list over HTTP is answered in two thirds of the time that it takes with the system's (`cargo bench --bench wall`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    partywall_reference::serve::main()
}
