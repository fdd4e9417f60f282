//! The `audit-api` binary: parse, call, exit.

/// Requests allocate much and keep nothing; what it is worth is told by `cargo bench --bench wall -- serving`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    partywall_reference::serve::main()
}
