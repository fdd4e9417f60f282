//! Workers: one in this process, one of its own as it is deployed, and how the tests wait for them.

use std::process::Stdio;
use std::time::Duration;

use partywall_reference::config::Work;
use partywall_reference::serve::workshop;
use partywall_reference::worker::Workshop;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
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
        Self::made(world, change, |_| {}).await
    }

    /// As [`Working::with`], with other things to work with.
    pub async fn made(
        world: &World,
        change: impl FnOnce(&mut Work),
        equip: impl FnOnce(&mut Workshop),
    ) -> anyhow::Result<Self> {
        let mut work = Work {
            worker_database_url: world.database.url("audit_worker"),
            objects: Some(url_of(&world.objects)),
            token_key: TOKEN_KEY.into(),
            webhook_private: true,
            seal_every_s: 86_400,
        };
        change(&mut work);
        let (asked, heard) = watch::channel(false);
        let mut workshop = workshop(&work).await?;
        equip(&mut workshop);
        let task = tokio::spawn(workshop.work(heard));
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

/// What a statement counts, above the wall.
pub async fn count(world: &World, statement: &str) -> anyhow::Result<i64> {
    let mut admin = world.database.connect("postgres").await?;
    Ok(sqlx::query_scalar(AssertSqlSafe(statement.to_string())).fetch_one(&mut admin).await?)
}

/// Stops whoever does `what` (`INSERT ON events`, say) in the first tenant just before it is done, from now on until [`Halt::over`].
pub struct Halt {
    lock: PgConnection,
}

impl Halt {
    pub async fn at(world: &World, what: &str) -> anyhow::Result<Self> {
        let halt = format!(
            "CREATE FUNCTION public.halt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$; \
             CREATE TRIGGER halt BEFORE {what} FOR EACH STATEMENT EXECUTE FUNCTION public.halt()"
        );
        // A table of the directory's is used there, wherever the tenant's own are.
        let table = what.rsplit(' ').next().unwrap_or(what);
        let directory = format!("SELECT count(*) FROM pg_class WHERE oid = to_regclass('public.{table}')");
        let mut lock = if count(world, &directory).await? == 1 {
            world.database.connect("postgres").await?
        } else {
            world.at_home(&world.a, "postgres").await?
        };
        sqlx::raw_sql(AssertSqlSafe(halt)).execute(&mut lock).await?;
        sqlx::raw_sql("SELECT pg_advisory_lock(42)").execute(&mut lock).await?;
        Ok(Self { lock })
    }

    /// Stops whoever has put a job into the queue when it commits that.
    pub async fn at_commit_of_jobs(world: &World) -> anyhow::Result<Self> {
        let halt = "CREATE FUNCTION public.halt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$; \
                    CREATE CONSTRAINT TRIGGER halt AFTER INSERT ON graphile_worker._private_jobs DEFERRABLE INITIALLY DEFERRED \
                    FOR EACH ROW EXECUTE FUNCTION public.halt(); SELECT pg_advisory_lock(42)";
        let mut lock = world.database.connect("postgres").await?;
        sqlx::raw_sql(halt).execute(&mut lock).await?;
        Ok(Self { lock })
    }

    /// Ends the connections of those who are halted, as a crash would.
    pub async fn cut(&mut self) -> anyhow::Result<()> {
        let cut =
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted";
        Ok(self.lock.execute(cut).await.map(drop)?)
    }

    /// Waits until somebody has come so far.
    pub async fn reached(&mut self) -> anyhow::Result<()> {
        let waits = "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database d ON d.oid = database AND d.datname = current_database() \
                     WHERE locktype = 'advisory' AND objid = 42 AND NOT granted)";
        until("somebody who is halted", async || {
            let waits: bool = sqlx::query_scalar(waits).fetch_one(&mut self.lock).await?;
            Ok(waits.then_some(()))
        })
        .await
    }

    /// Lets everybody go on.
    pub async fn over(mut self) -> anyhow::Result<()> {
        Ok(self.lock.execute("SELECT pg_advisory_unlock(42); DROP FUNCTION public.halt() CASCADE").await.map(drop)?)
    }
}
