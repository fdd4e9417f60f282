//! Runs a command: migrates, looks for holes, operates tenants, or serves until asked to end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use graphile_worker::WorkerUtils;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use tokio::sync::{Semaphore, watch};

use crate::config::{Cli, Command, Databases, Doctor, Format, Move, Serve, Tenants, Work};
use crate::courier::Courier;
use crate::cursor::Sealer;
use crate::defects;
use crate::demo;
use crate::doctor::{self, Connected};
use crate::hot::Lists;
use crate::http::stream::Streams;
use crate::http::{self, App, Metrics, Shared};
use crate::limits::Limits;
use crate::objects::Objects;
use crate::platform;
use crate::problem::Problem;
use crate::reach::Reach;
use crate::sealing;
use crate::signing::WebhookKeys;
use crate::storage::{self, Storage};
use crate::telemetry;
use crate::token::{Signer, derived};
use crate::worker::{self, Workshop};

/// How long requests under way may take to end once we are asked to: longer than any request may take.
const GRACE: Duration = Duration::from_secs(25);
/// Connections of a worker: its jobs, its sealing, its heartbeat, its looks at the queue.
const WORKER_POOL: u32 = 8;
/// How often a worker looks for deliveries that wait without a job.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long a database may take to answer at start-up.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Tenants that are asked for at a time.
const TENANTS_MAX: i32 = 500;
/// A connection that was idle for less is taken to stand.
const UNTRIED: Duration = Duration::from_millis(200);
/// The variables that hold the URLs of those who work the queue and of those who operate.
const WORKER_URL: &str = "AUDIT_WORKER_DATABASE_URL";
const PLATFORM_URL: &str = "AUDIT_PLATFORM_DATABASE_URL";

/// Something outside, a database or a port, cannot be had; a configuration that says nonsense is another matter.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreachable(String);

/// Parses the command line, runs what was asked for, and says how it ended: 0, 2 for usage and configuration, 4 for a
/// database or a port that cannot be had.
pub fn main() -> std::process::ExitCode {
    match run(Cli::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::from(if error.downcast_ref::<Unreachable>().is_some() { 4 } else { 2 })
        }
    }
}

/// Runs what was asked for.
///
/// # Errors
/// Configuration that cannot work, no database, a port that is taken.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let traces = telemetry::begin(&cli.log, cli.otlp_endpoint.as_deref())?;
    // The default hook prints what the panic says, which may quote a row.
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        tracing::error!(at, "panic");
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Migrate { database_url } => migrate(&database_url).await,
            Command::Seal { database_url } => sealing::seal_all(&database_url).await,
            Command::Demo { database_url } => demo::fill(&database_url).await.map(|told| print!("{told}")),
            Command::Serve(serve) => serve_until_asked(serve).await,
            Command::Worker(work) => work_until_asked(&work).await,
            Command::Doctor(asked) => examine(&asked).await,
            Command::Tenants(asked) => tenants(asked).await,
        }
    });
    telemetry::end(traces);
    ended
}

/// Brings every place up to date, partitions included.
///
/// # Errors
/// No database, or rights that do not suffice.
pub async fn migrate(url: &str) -> anyhow::Result<()> {
    storage::migrating::everything(&admin(url).await?).await?;
    migrate_queue(url).await
}

/// Brings the queue's schema up to date, which is a library's, and gives each role its part of it.
async fn migrate_queue(url: &str) -> anyhow::Result<()> {
    let pool = PgPoolOptions::new().max_connections(1).after_connect(|connection, _| {
        Box::pin(async move { sqlx::raw_sql("SET ROLE audit_owner").execute(connection).await.map(drop) })
    });
    let pool = pool.connect_with(options(url)?).await.context("the queue's migration failed")?;
    let migrating = WorkerUtils::new(pool.clone(), worker::SCHEMA);
    migrating.migrate().await.context("the queue's migration failed")?;
    sqlx::raw_sql("SELECT wall_queue()").execute(&pool).await.context("the queue could not be walled")?;
    pool.close().await;
    Ok(())
}

/// Moves tenants from one storage model to another, and says how many.
async fn move_tenants(how: Move) -> anyhow::Result<()> {
    let admin = admin(&how.database_url).await?;
    let (tenants, rows) = match how.tenant {
        Some(tenant) => (1, storage::moving::tenant(&admin, tenant, &how.to).await?),
        None => storage::moving::all(&admin, how.from.as_deref().unwrap_or(storage::model::SHARED), &how.to).await?,
    };
    println!("{tenants} tenants moved to {}, {rows} rows, each compared", how.to);
    Ok(())
}

/// An administrator's database that was seen to answer.
async fn admin(url: &str) -> anyhow::Result<PgConnectOptions> {
    let options = options(url)?;
    connect(&options, "AUDIT_ADMIN_DATABASE_URL").await?.close().await?;
    Ok(options)
}

pub(crate) fn options(url: &str) -> anyhow::Result<PgConnectOptions> {
    // The parser's error may quote the URL, and the URL holds a password.
    let unreadable = "a database URL cannot be read: it begins with postgres://";
    // sqlx reads any scheme, and then looks for a database on this machine.
    ensure!(url.starts_with("postgres://") || url.starts_with("postgresql://"), unreadable);
    let options: PgConnectOptions = url.parse().map_err(|_| anyhow::anyhow!(unreadable))?;
    Ok(options.application_name("audit-api").disable_statement_logging())
}

/// A connection, or a plain word about why there is none.
async fn connect(options: &PgConnectOptions, variable: &str) -> anyhow::Result<PgConnection> {
    let unreachable = || Unreachable(format!("no database for {variable}"));
    match tokio::time::timeout(CONNECT_MAX, PgConnection::connect_with(options)).await {
        Ok(connected) => connected.with_context(unreachable),
        Err(_) => Err(anyhow::anyhow!("no answer within {} s", CONNECT_MAX.as_secs())).with_context(unreachable),
    }
}

/// A pool on a database that was seen to answer.
pub(crate) async fn pool(pool: PgPoolOptions, url: &str, variable: &str) -> anyhow::Result<PgPool> {
    let options = options(url).with_context(|| variable.to_string())?;
    connect(&options, variable).await?.close().await.with_context(|| variable.to_string())?;
    Ok(pool.acquire_timeout(Duration::from_secs(10)).connect_lazy_with(options))
}

fn key(hex: &str) -> anyhow::Result<Vec<u8>> {
    let key = hex::decode(hex).ok().filter(|key| key.len() >= 32);
    key.context("AUDIT_TOKEN_KEY must be 32 bytes or more as hex")
}

/// A pool whose statements take no longer than requests may. A connection that was in use a moment ago is not tried
/// before it is used again.
pub fn bounded(size: u32) -> PgPoolOptions {
    // A plan is kept: making it anew, for every month and its policy, takes longer than a get. What goes by the values
    // that it is given asks for a plan of its own.
    let settings = "SET statement_timeout = '15s'; SET idle_in_transaction_session_timeout = '30s'; \
                    SET plan_cache_mode = force_generic_plan";
    PgPoolOptions::new()
        .max_connections(size)
        .after_connect(move |connection, _| {
            Box::pin(async move { sqlx::raw_sql(settings).execute(connection).await.map(drop) })
        })
        .test_before_acquire(false)
        .before_acquire(|connection, is| {
            Box::pin(async move {
                // Refused, it is closed, and another is taken or made.
                Ok(is.idle_for < UNTRIED || connection.ping().await.is_ok())
            })
        })
}

/// What jobs work with, the pool open.
///
/// # Errors
/// As [`app`].
pub async fn workshop(work: &Work) -> anyhow::Result<Workshop> {
    let key = key(&work.token_key)?;
    let pool = worker_pool(WORKER_POOL, &work.worker_database_url).await?;
    let objects = Objects::open(work.objects.as_deref(), &derived(&key, "objects"))?;
    let courier = Courier::new(Reach::of(work.webhook_private), WebhookKeys::new(&derived(&key, "webhooks")))?;
    Ok(Workshop {
        storage: Storage::new(pool),
        objects,
        courier,
        seal_every: Duration::from_secs(work.seal_every_s),
        look_every: LOOK_EVERY,
        log_key: derived(&key, "log"),
    })
}

/// The service's shared state, its pools open.
///
/// # Errors
/// A key that is no key, no database, or a database role that must not serve.
pub async fn app(serve: &Serve) -> anyhow::Result<App> {
    let key = key(&serve.token_key)?;
    let pools = Pools::open(&serve.databases, serve.pool_size).await?;
    refuse_holes(&pools.connected()).await?;
    let hashing = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(App::of(Shared {
        lists: Lists::of((*pools.tenants.connect_options()).clone()),
        storage: Storage::new(pools.tenants),
        login: pools.login,
        platform: pools.platform,
        signer: Signer::new(&derived(&key, "access tokens")),
        choices: Signer::new(&derived(&key, "choices of a tenant")),
        plain_http: serve.plain_http,
        sealer: Sealer::new(&derived(&key, "cursors")),
        objects: Objects::open(serve.objects.as_deref(), &derived(&key, "objects"))?,
        metrics: Metrics::default(),
        log_key: derived(&key, "log"),
        hashing: Arc::new(Semaphore::new(hashing)),
        limits: Limits::of(serve.rate_tenant, serve.rate_principal),
        streams: Streams::of(serve.streams),
        webhooks_max: serve.webhooks.into(),
        reach: Reach::of(serve.webhook_private),
        webhook_keys: WebhookKeys::new(&derived(&key, "webhooks")),
    }))
}

/// The pools of every database role that serves.
struct Pools {
    tenants: PgPool,
    login: PgPool,
    platform: PgPool,
}

impl Pools {
    async fn open(databases: &Databases, size: u32) -> anyhow::Result<Self> {
        Ok(Self {
            tenants: pool(bounded(size), &databases.database_url, "AUDIT_DATABASE_URL").await?,
            login: pool(bounded(4), &databases.login_database_url, "AUDIT_LOGIN_DATABASE_URL").await?,
            platform: pool(bounded(2), &databases.platform_database_url, PLATFORM_URL).await?,
        })
    }

    fn connected(&self) -> Vec<Connected<'_>> {
        let of = |variable, expected, pool| Connected { variable, expected, pool };
        vec![
            of("AUDIT_DATABASE_URL", "audit_app", &self.tenants),
            of("AUDIT_LOGIN_DATABASE_URL", "audit_login", &self.login),
            of(PLATFORM_URL, "audit_platform", &self.platform),
        ]
    }
}

/// A worker's pool, behind a wall without holes.
pub(crate) async fn worker_pool(size: u32, url: &str) -> anyhow::Result<PgPool> {
    let pool = pool(bounded(size), url, WORKER_URL).await?;
    refuse_holes(&[works(&pool)]).await?;
    Ok(pool)
}

fn works(pool: &PgPool) -> Connected<'_> {
    Connected { variable: WORKER_URL, expected: "audit_worker", pool }
}

/// Refuses to begin behind a wall with holes.
async fn refuse_holes(connected: &[Connected<'_>]) -> anyhow::Result<()> {
    let findings = doctor::examine(connected).await?;
    let Some(first) = findings.first() else { return Ok(()) };
    let more = match findings.len() - 1 {
        0 => String::new(),
        more => format!(" ({more} more: run `audit-api doctor`)"),
    };
    bail!("{first}{more}")
}

/// Prints every hole; an error when there is one.
async fn examine(asked: &Doctor) -> anyhow::Result<()> {
    let pools = Pools::open(&asked.databases, 1).await?;
    let worker = match &asked.worker_database_url {
        Some(url) => Some(pool(bounded(1), url, WORKER_URL).await?),
        None => None,
    };
    let mut connected = pools.connected();
    connected.extend(worker.as_ref().map(works));
    let findings = doctor::examine(&connected).await?;
    match asked.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&serde_json::json!({ "findings": findings }))?),
        Format::Human if findings.is_empty() => println!("the wall is whole"),
        Format::Human => findings.iter().for_each(|finding| println!("{finding}")),
    }
    ensure!(findings.is_empty(), "the wall has holes: {} found", findings.len());
    Ok(())
}

/// Operates tenants.
async fn tenants(asked: Tenants) -> anyhow::Result<()> {
    let open = async |url: String| pool(PgPoolOptions::new().max_connections(1), &url, PLATFORM_URL).await;
    match asked {
        Tenants::Create { platform_database_url, slug, name, format } => {
            let pool = open(platform_database_url).await?;
            let made = platform::create_tenant(&pool, slug, name).await.map_err(told)?;
            match format {
                Format::Json => println!("{}", serde_json::to_string(&made)?),
                Format::Human => println!("{} {}", made.id, made.slug),
            }
        }
        Tenants::Move(how) => move_tenants(how).await?,
        Tenants::List { platform_database_url, format } => {
            let pool = open(platform_database_url).await?;
            let mut after = None;
            loop {
                let page = platform::usage(&pool, after, TENANTS_MAX).await.map_err(told)?;
                for usage in &page {
                    match format {
                        Format::Json => println!("{}", serde_json::to_string(usage)?),
                        Format::Human => {
                            println!(
                                "{} {} events={} bytes={} storage={}",
                                usage.tenant_id, usage.slug, usage.events, usage.bytes, usage.storage
                            );
                        }
                    }
                }
                let Some(last) = page.last() else { return Ok(()) };
                after = Some(last.tenant_id);
            }
        }
    }
    Ok(())
}

/// What a command that operates fails with.
fn told(problem: Problem) -> anyhow::Error {
    match problem {
        Problem::Internal => {
            anyhow::anyhow!("the database refuses; is {PLATFORM_URL} audit_platform's, and `audit-api migrate` run?")
        }
        Problem::Busy => Unreachable(format!("no database for {PLATFORM_URL}")).into(),
        problem => problem.into(),
    }
}

async fn serve_until_asked(serve: Serve) -> anyhow::Result<()> {
    defects::select(&std::env::var("AUDIT_DEFECTS").unwrap_or_default())?;
    let app = app(&serve).await?;
    let taken = || Unreachable(format!("cannot listen on {}: choose another AUDIT_LISTEN", serve.listen));
    let listener = tokio::net::TcpListener::bind(serve.listen).await.with_context(taken)?;
    let heard = asked_to_end();
    let working = match serve.work() {
        Some(work) => Some(tokio::spawn(workshop(&work).await?.work(heard.clone()))),
        None => None,
    };
    tracing::info!(address = %serve.listen, "serving");
    let streams = app.streams.clone();
    let mut ending = heard.clone();
    tokio::spawn(async move {
        let _ = ending.wait_for(|asked| *asked).await;
        streams.end();
    });
    let ended = |mut heard: watch::Receiver<bool>| async move {
        let _ = heard.wait_for(|asked| *asked).await;
    };
    let pools = [app.storage.directory().clone(), app.login.clone(), app.platform.clone()];
    let served = axum::serve(listener, http::router(app)).with_graceful_shutdown(ended(heard.clone()));
    let too_long = async {
        ended(heard).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = served => served?,
        () = too_long => tracing::warn!("requests were cut off at the end"),
    }
    if let Some(working) = working {
        working.await??;
    }
    for pool in pools {
        pool.close().await;
    }
    Ok(())
}

async fn work_until_asked(work: &Work) -> anyhow::Result<()> {
    let workshop = workshop(work).await?;
    tracing::info!("working");
    workshop.work(asked_to_end()).await
}

/// Becomes true once the process is asked to end.
fn asked_to_end() -> watch::Receiver<bool> {
    let (asked, heard) = watch::channel(false);
    tokio::spawn(async move {
        wait_for_signal().await;
        // Nobody listens any more only when all has ended by itself.
        let _ = asked.send(true);
    });
    heard
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut int)) => {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        }
        _ => std::future::pending().await,
    }
}
