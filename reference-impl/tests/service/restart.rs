//! The database is restarted, at once and under load: the service comes back by itself, what it acknowledged is there,
//! and nobody is shown another tenant's rows meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::program::{Program, command, free_port, get, post};
use crate::support::Database;
use crate::world::{World, event};

const PROGRAM: &str = env!("CARGO_BIN_EXE_audit-api");
const WRITERS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_a_database_that_is_restarted_under_load() -> anyhow::Result<()> {
    let world = World::on(Database::durable().await?).await?;
    let port = free_port()?;
    let mut command = command(PROGRAM, &world.database, port);
    // Nobody reads its log here, and a pipe holds little of it.
    command.env("RUST_LOG", "off");
    let _program = Program::start(command, port).await?;
    let ended = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for index in 0..WRITERS {
        let (tenant, target) = if index % 2 == 0 { (&world.a, "ours") } else { (&world.b, "theirs") };
        let (key, reader, ended) = (tenant.api_key.clone(), tenant.viewer_token.clone(), ended.clone());
        let body = event(tenant.people["member"], target).to_string();
        let foreign = if index % 2 == 0 { "theirs" } else { "ours" };
        writers.push(tokio::spawn(async move {
            let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
            while !ended.load(Ordering::Relaxed) {
                let (status, answer) = post(port, "/v1/events", &key, &body).await?;
                match status {
                    201 => acknowledged.push(serde_json::from_str::<serde_json::Value>(&answer)?["id"].clone()),
                    status => refused.push((status, answer)),
                }
                let (_, listed) = get(port, "/v1/events?limit=20", &reader).await?;
                anyhow::ensure!(!listed.contains(&format!("document {foreign}")), "a foreign row: {listed}");
            }
            anyhow::Ok((acknowledged, refused))
        }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..2 {
        world.database.restart().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let began = Instant::now();
    while get(port, "/readyz", "").await?.0 != 200 {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    ended.store(true, Ordering::Relaxed);
    let mut acknowledged_total = 0;
    for (index, writer) in writers.into_iter().enumerate() {
        let (acknowledged, refused) = writer.await??;
        acknowledged_total += acknowledged.len();
        let mut home = world.at_home(if index % 2 == 0 { &world.a } else { &world.b }, "postgres").await?;
        let kept: Vec<String> = sqlx::query_scalar("SELECT id::text FROM events").fetch_all(&mut home).await?;
        for id in acknowledged {
            assert!(kept.iter().any(|one| id == one.as_str()), "{id} was acknowledged and is lost");
        }
        for (status, answer) in refused {
            assert_eq!(status, 503, "{answer}");
        }
    }
    assert!(acknowledged_total > WRITERS, "something was written: {acknowledged_total}");
    Ok(())
}
