//! Runs a command: migrates, or serves until asked to end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool, Row};

use crate::config::{Cli, Command, Serve};
use crate::cursor::Sealer;
use crate::defects::{self, Defect};
use crate::http::{self, App};
use crate::token::Signer;

/// The numbered migrations.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// How long requests under way may take to end once we are asked to.
const GRACE: Duration = Duration::from_secs(10);

/// Parses the command line, runs what was asked for, and says how it ended.
pub fn main() -> std::process::ExitCode {
    match run(Cli::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::from(2)
        }
    }
}

/// Runs what was asked for.
///
/// # Errors
/// Configuration that cannot work, no database, a port that is taken.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info,sqlx=off".into());
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            Command::Migrate { database_url } => migrate(&database_url).await,
            Command::Serve(serve) => serve_until_asked(serve).await,
        }
    })
}

/// Brings the schema up to date, partitions included.
///
/// # Errors
/// No database, or rights that do not suffice.
pub async fn migrate(url: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect_with(&options(url)?).await.context("cannot connect to migrate")?;
    MIGRATIONS.run(&mut connection).await.context("migration failed")?;
    sqlx::raw_sql(
        "SET ROLE audit_owner; \
         SELECT ensure_event_partitions((now() - interval '13 months')::date, (now() + interval '2 months')::date)",
    )
    .execute(&mut connection)
    .await
    .context("partitions could not be made")?;
    connection.close().await?;
    Ok(())
}

fn options(url: &str) -> anyhow::Result<PgConnectOptions> {
    // The parser's error may quote the URL, and the URL holds a password.
    let options: PgConnectOptions = url.parse().map_err(|_| anyhow::anyhow!("a database URL cannot be read"))?;
    Ok(options.application_name("audit-api").disable_statement_logging())
}

/// The service's shared state, its pools open.
///
/// # Errors
/// A key that is no key, no database, or a database role that must not serve.
pub async fn app(serve: &Serve) -> anyhow::Result<App> {
    let key = hex::decode(&serve.token_key).ok().filter(|key| key.len() >= 32);
    let key = key.context("AUDIT_TOKEN_KEY must be 32 bytes or more as hex")?;
    let pool = |size: u32| PgPoolOptions::new().max_connections(size).acquire_timeout(Duration::from_secs(10));
    let bounds = "SET statement_timeout = '15s'; SET idle_in_transaction_session_timeout = '30s'";
    let tenants = pool(serve.pool_size).after_connect(move |connection, _| {
        Box::pin(async move { sqlx::raw_sql(bounds).execute(connection).await.map(drop) })
    });
    let tenants =
        tenants.connect_with(options(&serve.database_url)?).await.context("no database for AUDIT_DATABASE_URL")?;
    refuse_bypass(&tenants).await?;
    let login = pool(4).connect_with(options(&serve.login_database_url)?).await;
    let platform = pool(2).connect_with(options(&serve.platform_database_url)?).await;
    Ok(App {
        pool: tenants,
        login: login.context("no database for AUDIT_LOGIN_DATABASE_URL")?,
        platform: platform.context("no database for AUDIT_PLATFORM_DATABASE_URL")?,
        signer: Signer::new(&key),
        sealer: Sealer::new(&key),
        metrics: Arc::default(),
    })
}

/// Refuses to serve as a database role that stands above the wall.
async fn refuse_bypass(pool: &PgPool) -> anyhow::Result<()> {
    let row = sqlx::query(
        "SELECT current_user::text AS name, r.rolsuper OR r.rolbypassrls AS bypasses, \
                EXISTS (SELECT FROM pg_class c WHERE c.relrowsecurity AND pg_has_role(c.relowner, 'USAGE')) AS owns \
           FROM pg_roles r WHERE r.rolname = current_user",
    )
    .fetch_one(pool)
    .await
    .context("the database does not tell which role serves")?;
    let name: String = row.get("name");
    if row.get("bypasses") {
        bail!("database role {name} bypasses row security: serve as audit_app");
    }
    if row.get("owns") && !defects::on(Defect::AsOwner) {
        bail!("database role {name} owns tables behind row security: serve as audit_app");
    }
    Ok(())
}

async fn serve_until_asked(serve: Serve) -> anyhow::Result<()> {
    defects::select(&std::env::var("AUDIT_DEFECTS").unwrap_or_default())?;
    let app = app(&serve).await?;
    let listener = tokio::net::TcpListener::bind(serve.listen).await;
    let listener =
        listener.with_context(|| format!("cannot listen on {}: choose another AUDIT_LISTEN", serve.listen))?;
    tracing::info!(address = %serve.listen, "serving");
    let (asked, heard) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        wait_for_signal().await;
        // Nobody listens any more only when serving has ended by itself.
        let _ = asked.send(true);
    });
    let ended = |mut heard: tokio::sync::watch::Receiver<bool>| async move {
        let _ = heard.wait_for(|asked| *asked).await;
    };
    let pools = [app.pool.clone(), app.login.clone(), app.platform.clone()];
    let served = axum::serve(listener, http::router(app)).with_graceful_shutdown(ended(heard.clone()));
    let too_long = async {
        ended(heard).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = served => served?,
        () = too_long => tracing::warn!("requests were cut off at the end"),
    }
    for pool in pools {
        pool.close().await;
    }
    Ok(())
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
