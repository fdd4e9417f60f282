//! Configuration by flags and environment. Secrets and URLs are never printed.

use clap::{Parser, Subcommand};

/// The reference audit-log service.
#[derive(Parser)]
#[command(name = "audit-api", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Bring the database's schema up to date.
    Migrate {
        /// An administrator's URL: one that may make roles.
        #[arg(long, env = "AUDIT_ADMIN_DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
    /// Fill a fresh, migrated database with two tenants of made-up events, and say who may sign in.
    Demo {
        /// An administrator's URL: one that stands above row security.
        #[arg(long, env = "AUDIT_ADMIN_DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
    /// Serve the API and the page.
    Serve(Serve),
}

/// How to serve.
#[derive(clap::Args, Clone)]
pub struct Serve {
    /// Where to listen.
    #[arg(long, env = "AUDIT_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: std::net::SocketAddr,
    /// The database, as `audit_app`.
    #[arg(long, env = "AUDIT_DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// The database, as `audit_login`.
    #[arg(long, env = "AUDIT_LOGIN_DATABASE_URL", hide_env_values = true)]
    pub login_database_url: String,
    /// The database, as `audit_platform`.
    #[arg(long, env = "AUDIT_PLATFORM_DATABASE_URL", hide_env_values = true)]
    pub platform_database_url: String,
    /// Connections of the pool that serves tenants.
    #[arg(long, env = "AUDIT_POOL_SIZE", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub pool_size: u32,
    /// Let the page's cookies travel over plain http: only to try it on one machine.
    #[arg(long, env = "AUDIT_PLAIN_HTTP")]
    pub plain_http: bool,
    /// Key that signs tokens and cursors: 32 bytes as hex.
    #[arg(long, env = "AUDIT_TOKEN_KEY", hide_env_values = true)]
    pub token_key: String,
}
