//! Configuration by flags and environment. Secrets and URLs are never printed.

use clap::{Parser, Subcommand, ValueEnum};

/// The reference audit-log service.
#[derive(Parser)]
#[command(name = "audit-api", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What to log, as `tracing` filters it.
    #[arg(long, env = "RUST_LOG", global = true, default_value = "info,sqlx=off")]
    pub log: String,
    /// Collector of traces, by OTLP over HTTP; without one none are sent.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", global = true, hide_env_values = true)]
    pub otlp_endpoint: Option<String>,
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
    /// Serve the API; refuses where `doctor` finds something.
    Serve(Serve),
    /// Look for holes in the wall: database roles, policies, functions, schema.
    Doctor(Doctor),
    /// Operate tenants.
    #[command(subcommand)]
    Tenants(Tenants),
}

/// The database, once for each database role that serves.
#[derive(clap::Args, Clone)]
pub struct Databases {
    /// The database, as `audit_app`.
    #[arg(long, env = "AUDIT_DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// The database, as `audit_login`.
    #[arg(long, env = "AUDIT_LOGIN_DATABASE_URL", hide_env_values = true)]
    pub login_database_url: String,
    /// The database, as `audit_platform`.
    #[arg(long, env = "AUDIT_PLATFORM_DATABASE_URL", hide_env_values = true)]
    pub platform_database_url: String,
}

/// How to serve.
#[derive(clap::Args, Clone)]
pub struct Serve {
    /// Where to listen.
    #[arg(long, env = "AUDIT_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: std::net::SocketAddr,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become the whole command's help")]
    pub databases: Databases,
    /// Connections of the pool that serves tenants.
    #[arg(long, env = "AUDIT_POOL_SIZE", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub pool_size: u32,
    /// Key that signs tokens and cursors: 32 bytes as hex.
    #[arg(long, env = "AUDIT_TOKEN_KEY", hide_env_values = true)]
    pub token_key: String,
}

/// What to look at.
#[derive(clap::Args)]
pub struct Doctor {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become the whole command's help")]
    pub databases: Databases,
    /// How to print what was found.
    #[arg(long, env = "AUDIT_FORMAT", value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// What to do with tenants.
#[derive(Subcommand)]
pub enum Tenants {
    /// List tenants with their sizes.
    List {
        /// The database, as `audit_platform`.
        #[arg(long, env = "AUDIT_PLATFORM_DATABASE_URL", hide_env_values = true)]
        platform_database_url: String,
        /// How to print them.
        #[arg(long, env = "AUDIT_FORMAT", value_enum, default_value_t = Format::Human)]
        format: Format,
    },
    /// Make a tenant.
    Create {
        /// The database, as `audit_platform`.
        #[arg(long, env = "AUDIT_PLATFORM_DATABASE_URL", hide_env_values = true)]
        platform_database_url: String,
        /// Its short name.
        #[arg(long, env = "AUDIT_TENANT_SLUG")]
        slug: String,
        /// Its name.
        #[arg(long, env = "AUDIT_TENANT_NAME")]
        name: String,
        /// How to print it.
        #[arg(long, env = "AUDIT_FORMAT", value_enum, default_value_t = Format::Human)]
        format: Format,
    },
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines to read.
    Human,
    /// JSON, for programs.
    Json,
}
