//! A tool by others tries every operation against the document; `tests/schemathesis/run` brings it.

use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::program::{Program, command, free_port};
use crate::world::World;

const PROGRAM: &str = env!("CARGO_BIN_EXE_audit-api");

#[tokio::test]
#[ignore = "needs Schemathesis, which reference-impl/tests/schemathesis/run brings"]
async fn the_service_does_what_its_document_says() -> anyhow::Result<()> {
    let schemathesis = std::env::var_os("SCHEMATHESIS").context("run reference-impl/tests/schemathesis/run")?;
    let options = std::env::var("SCHEMATHESIS_OPTIONS").unwrap_or_default();
    let world = World::new().await?;
    for tenant in [&world.a, &world.b] {
        world.event(tenant, "member", "d").await;
    }
    let owner = world.token(&world.a, "owner").await;
    let port = free_port()?;
    let mut command = command(PROGRAM, &world.database, port);
    // Nobody reads its log here, and a pipe holds little of it.
    command.env("RUST_LOG", "off");
    let _program = Program::start(command, port).await?;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis");
    let mut run = Command::new(schemathesis);
    run.args(["--config-file", &format!("{folder}/schemathesis.toml"), "run"])
        .env("PYTHONPATH", folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(format!("http://127.0.0.1:{port}/openapi.json"))
        .args(["--checks", "all"])
        .args(["--header", &format!("Authorization: Bearer {owner}")])
        .args(options.split_whitespace())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // It may leave folders of its own where it runs.
    let leavings = tempfile::tempdir()?;
    let status = run.current_dir(&leavings).status().await?;
    ensure!(status.success(), "Schemathesis found something, see above: {status}");
    Ok(())
}
