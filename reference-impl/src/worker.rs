//! Jobs: one path from the queue to a tenant's rows. A job names a kind, a tenant and a row, and nothing else; its tenant
//! is bound as a request's is. A job that names no tenant, an unknown one, or a row that its tenant does not show, is
//! refused and told to the operators. A worker that dies is missed by the others, who take its job up again.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::FutureExt;
use graphile_worker::{IntoTaskHandlerResult, TaskHandler, Worker, WorkerContext, WorkerOptions};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

use crate::courier::Courier;
use crate::delivery;
use crate::erasure;
use crate::export;
use crate::objects::Objects;
use crate::overdue;
use crate::problem::Problem;
use crate::restore;
use crate::retention;
use crate::scope::TenantScope;
use crate::sealing;
use crate::storage::Storage;
use crate::token;

/// The library's schema.
pub(crate) const SCHEMA: &str = "graphile_worker";
/// Jobs at a time.
const AT_A_TIME: usize = 4;
/// How often the queue is asked. No notification: those do not pass a pooler in transaction mode.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How often a worker says that it lives, and the others look.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// A worker that has been silent for so long is dead.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// How long jobs under way may take to end once we are asked to.
const GRACE: Duration = Duration::from_secs(15);
/// How long a worker waits after the queue was out of reach.
const PAUSE: Duration = Duration::from_secs(2);

/// What jobs work with.
#[derive(Clone)]
pub struct Workshop {
    /// The database, as `audit_worker`.
    pub storage: Storage,
    /// Where files are kept.
    pub objects: Objects,
    /// Sends to webhooks.
    pub courier: Courier,
    /// The pause between rounds of sealing.
    pub seal_every: Duration,
    /// The pause between looks for deliveries that wait without a job.
    pub look_every: Duration,
    /// Hashes a tenant's id for the log and for dead letters.
    pub log_key: Vec<u8>,
}

impl std::fmt::Debug for Workshop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Workshop")
    }
}

/// Work of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Export,
    Webhook,
    Retention,
    Restore,
    Erase,
}

impl Kind {
    fn of_word(word: &str) -> Option<Self> {
        let all = [Self::Export, Self::Webhook, Self::Retention, Self::Restore, Self::Erase];
        all.into_iter().find(|kind| kind.word() == word)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::Webhook => "webhook",
            Self::Retention => "retention",
            Self::Restore => "restore",
            Self::Erase => "erase",
        }
    }
}

/// What a job names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    kind: String,
    tenant: Uuid,
    id: Uuid,
}

/// A job as the queue has it; what it holds is read here, so that nonsense is refused and not tried again.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct TenantJob(Value);

impl TaskHandler for TenantJob {
    const IDENTIFIER: &'static str = "tenant_job";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let last = context.job().attempts() >= context.job().max_attempts();
        match context.get_ext::<Workshop>() {
            Some(workshop) => workshop.take(&self.0, last).await,
            None => Err("there is no workshop"),
        }
    }
}

impl Workshop {
    /// Works until `asked` to end; seals meanwhile, and looks for what is overdue.
    ///
    /// # Errors
    /// A queue that is not there, or that this database role must not work.
    pub async fn work(self, asked: watch::Receiver<bool>) -> anyhow::Result<()> {
        tokio::select! {
            worked = self.work_queue(asked) => worked,
            never = sealing::seal_every(self.seal_every, &self.storage) => match never {},
            never = overdue::look_every(self.look_every, &self.storage) => match never {},
        }
    }

    async fn work_queue(&self, asked: watch::Receiver<bool>) -> anyhow::Result<()> {
        // The first time whatever is wrong is wrong for good.
        let mut worker = Some(self.worker(asked.clone()).await.context("the queue cannot be worked")?);
        loop {
            if let Some(worker) = worker.take()
                && worker.run().await.is_ok()
                && *asked.borrow()
            {
                return Ok(());
            }
            tracing::warn!("the queue is out of reach");
            let mut ended = asked.clone();
            if tokio::time::timeout(PAUSE, ended.wait_for(|asked| *asked)).await.is_ok() {
                return Ok(());
            }
            worker = self.worker(asked.clone()).await.ok();
        }
    }

    async fn worker(&self, mut asked: watch::Receiver<bool>) -> anyhow::Result<Worker> {
        let ended = async move {
            let _ = asked.wait_for(|asked| *asked).await;
        };
        let options = WorkerOptions::default()
            .pg_pool(self.storage.directory().clone())
            .schema(SCHEMA)
            .concurrency(AT_A_TIME)
            .poll_interval(ASK_EVERY)
            .use_notification_delivery(false)
            .heartbeat_interval(BEAT_EVERY)
            .sweep_interval(BEAT_EVERY)
            .sweep_threshold(SILENT_MAX)
            .recovery_delay(Duration::ZERO)
            .listen_os_shutdown_signals(false)
            .shutdown_signal(ended)
            .shutdown_grace_period(GRACE)
            .shutdown_interrupted_job_retry_delay(Duration::ZERO)
            .add_extension(self.clone())
            .define_job::<TenantJob>();
        // The library's error may quote the database; its kind is all there is to tell.
        options.init().await.map_err(|_| anyhow::anyhow!("run `audit-api migrate`, and work as audit_worker"))
    }

    /// Does what a job asks for, or refuses it. A failure is tried again unless this was the `last` try.
    async fn take(&self, payload: &Value, last: bool) -> Result<(), &'static str> {
        let Ok(Named { kind, tenant, id }) = Named::deserialize(payload) else {
            return self.refuse(payload["kind"].as_str().and_then(Kind::of_word), "malformed", None).await;
        };
        let Some(kind) = Kind::of_word(&kind) else {
            return self.refuse(None, "unknown kind", Some(tenant)).await;
        };
        let began = Instant::now();
        let scope = match kind {
            Kind::Erase => TenantScope::erasing(self.storage.clone(), tenant),
            _ => TenantScope::of(self.storage.clone(), tenant),
        };
        match scope.run(|store| Box::pin(store.tenant())).await {
            Ok(_) => {}
            // What is left of it was taken away meanwhile.
            Err(Problem::NotFound) if kind == Kind::Erase => return Ok(()),
            Err(Problem::NotFound | Problem::Unauthenticated) => {
                return self.refuse(Some(kind), "unknown tenant", Some(tenant)).await;
            }
            Err(_) => return Err("the tenant cannot be read"),
        }
        let working = async {
            match kind {
                Kind::Export => export::write(&scope, &self.objects, tenant, id).await,
                Kind::Webhook => delivery::send(&scope, &self.courier, id).await,
                Kind::Retention => retention::run(&scope, &self.objects, tenant, id).await,
                Kind::Restore => restore::restore(&scope, &self.objects, tenant, id).await,
                Kind::Erase => erasure::finish(&scope, &self.objects, tenant).await,
            }
        };
        match AssertUnwindSafe(working).catch_unwind().await.unwrap_or(Err(Problem::Internal)) {
            Ok(()) => {
                let latency_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(kind = kind.word(), tenant = self.hash(tenant), latency_ms, "job done");
                Ok(())
            }
            Err(Problem::NotFound) => self.refuse(Some(kind), "no such row", Some(tenant)).await,
            Err(_) if last => {
                let given_up = match kind {
                    Kind::Export => scope.run(move |store| Box::pin(store.fail_export(id))).await,
                    // What waits there is the tenant's to have: it is tried again, later.
                    Kind::Webhook => scope.run(move |store| Box::pin(store.come_back(id))).await,
                    Kind::Retention => scope.run(move |store| Box::pin(store.fail_retention_run(id))).await,
                    Kind::Restore => scope.run(move |store| Box::pin(store.fail_restore(id, "it failed"))).await,
                    // It stays as far as it is.
                    Kind::Erase => Ok(()),
                };
                given_up.map_err(|_| "it could not be given up")?;
                self.refuse(Some(kind), "given up", Some(tenant)).await
            }
            Err(_) => Err("it failed, and will be tried again"),
        }
    }

    /// Tells the operators of a job that ends undone.
    async fn refuse(&self, kind: Option<Kind>, reason: &str, tenant: Option<Uuid>) -> Result<(), &'static str> {
        let (kind, tenant) = (kind.map_or("unknown", Kind::word), tenant.map(|tenant| self.hash(tenant)));
        tracing::error!(kind, reason, tenant, "job refused");
        let told = sqlx::query("INSERT INTO dead_jobs (kind, reason, tenant_hash) VALUES ($1, $2, $3)");
        let told = told.bind(kind).bind(reason).bind(tenant).execute(self.storage.directory()).await;
        told.map(drop).map_err(|_| "the operators could not be told")
    }

    fn hash(&self, tenant: Uuid) -> String {
        token::log_hash(&self.log_key, tenant)
    }
}
