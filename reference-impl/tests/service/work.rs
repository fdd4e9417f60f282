//! Those who work the queue: in this process, or in one of their own that can be killed.

use std::process::Stdio;
use std::time::Duration;

use partywall_reference::config::Work;
use partywall_reference::serve::workshop;
use sqlx::AssertSqlSafe;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::world::{TOKEN_KEY, World, url_of};

const PROGRAM: &str = env!("CARGO_BIN_EXE_audit-api");

/// A worker in this process.
pub struct Working {
    asked: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Working {
    pub async fn on(world: &World) -> anyhow::Result<Self> {
        Self::with(world, |_| {}).await
    }

    /// As [`Working::on`], with other settings.
    pub async fn with(world: &World, change: impl FnOnce(&mut Work)) -> anyhow::Result<Self> {
        let mut work = Work {
            worker_database_url: world.database.url("audit_worker"),
            objects: Some(url_of(&world.objects)),
            token_key: TOKEN_KEY.into(),
            webhook_private: true,
            seal_every_s: 86_400,
        };
        change(&mut work);
        let (asked, heard) = watch::channel(false);
        let task = tokio::spawn(workshop(&work).await?.work(heard));
        Ok(Self { asked, task })
    }

    pub async fn ended(self) -> anyhow::Result<()> {
        self.asked.send(true)?;
        tokio::time::timeout(Duration::from_secs(20), self.task).await??
    }
}

/// A worker of its own, as it is deployed.
pub fn program(world: &World) -> anyhow::Result<tokio::process::Child> {
    let mut command = tokio::process::Command::new(PROGRAM);
    command
        .arg("worker")
        .env_clear()
        .env("AUDIT_WORKER_DATABASE_URL", world.database.url("audit_worker"))
        .env("AUDIT_OBJECTS", url_of(&world.objects))
        .env("AUDIT_TOKEN_KEY", TOKEN_KEY)
        .env("AUDIT_WEBHOOK_PRIVATE", "true")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(command.spawn()?)
}

/// Asks again and again until `sought` answers something.
pub async fn until<T>(what: &str, mut sought: impl AsyncFnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    for _ in 0..600 {
        if let Some(found) = sought().await? {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("never: {what}")
}

/// What `statement` counts, past the service.
pub async fn count(world: &World, statement: &str) -> anyhow::Result<i64> {
    let mut admin = world.database.connect("postgres").await?;
    Ok(sqlx::query_scalar(AssertSqlSafe(statement.to_string())).fetch_one(&mut admin).await?)
}
