//! Configuration by flags and environment. Secrets and URLs are never printed.

use clap::{Parser, Subcommand, ValueEnum};

/// Webhooks that one tenant may have, unless another number is set.
pub const WEBHOOKS: u32 = 20;

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
    /// Operate tenants.
    #[command(subcommand)]
    Tenants(Tenants),
    /// Seal every tenant's events into its chain.
    Seal {
        /// The database, as `audit_worker`.
        #[arg(long, env = "AUDIT_WORKER_DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
    /// Fill a fresh, migrated database with two tenants of made-up events, and say who may sign in.
    Demo {
        /// An administrator's URL: one that stands above row security.
        #[arg(long, env = "AUDIT_ADMIN_DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
    /// Serve the API and the page; refuses where `doctor` finds something.
    Serve(Serve),
    /// Work the queue (exports, retention, webhooks, erasure), and seal every tenant's events now and then.
    Worker(Work),
    /// Look for holes in the wall: database roles, policies, functions, schema.
    Doctor(Doctor),
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
    /// Where attachments and exports are kept: `file:///…` or `s3://…`; a temporary folder when absent.
    #[arg(long, env = "AUDIT_OBJECTS", hide_env_values = true)]
    pub objects: Option<String>,
    /// Requests a second that one tenant may make on average; ten seconds' worth at once.
    #[arg(long, env = "AUDIT_RATE_TENANT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate_tenant: u32,
    /// As `AUDIT_RATE_TENANT`, for one principal of it.
    #[arg(long, env = "AUDIT_RATE_PRINCIPAL", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate_principal: u32,
    /// Streams that one tenant may have open.
    #[arg(long, env = "AUDIT_STREAMS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub streams: u32,
    /// Webhooks that one tenant may have, enabled or not: each of its events may be told to as many.
    #[arg(long, env = "AUDIT_WEBHOOKS", default_value_t = WEBHOOKS, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub webhooks: u32,
    /// Let the page's cookies travel over plain http: only to try it on one machine.
    #[arg(long, env = "AUDIT_PLAIN_HTTP")]
    pub plain_http: bool,
    /// Key that signs tokens, cursors and links, and that webhooks' secrets are made of: 32 bytes as hex.
    #[arg(long, env = "AUDIT_TOKEN_KEY", hide_env_values = true)]
    pub token_key: String,
    /// Let webhooks send to private addresses, such as this machine's: only where every tenant is trusted.
    #[arg(long, env = "AUDIT_WEBHOOK_PRIVATE")]
    pub webhook_private: bool,
    /// Work the queue, too.
    #[arg(long, env = "AUDIT_WITH_WORKER")]
    pub with_worker: bool,
    /// The database, as `audit_worker`; needed only to work the queue.
    #[arg(long, env = "AUDIT_WORKER_DATABASE_URL", hide_env_values = true, required_if_eq("with_worker", "true"))]
    pub worker_database_url: Option<String>,
    /// Seconds between rounds in which a worker seals the events of all tenants into their chains.
    #[arg(long, env = "AUDIT_SEAL_EVERY_S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seal_every_s: u64,
}

/// How to work.
#[derive(clap::Args, Clone)]
pub struct Work {
    /// The database, as `audit_worker`.
    #[arg(long, env = "AUDIT_WORKER_DATABASE_URL", hide_env_values = true)]
    pub worker_database_url: String,
    /// Where attachments and exports are kept, as `audit-api serve` has it.
    #[arg(long, env = "AUDIT_OBJECTS", hide_env_values = true)]
    pub objects: Option<String>,
    /// The key that `audit-api serve` has: logs name a tenant by the same hash, webhooks sign with the secrets it showed.
    #[arg(long, env = "AUDIT_TOKEN_KEY", hide_env_values = true)]
    pub token_key: String,
    /// Let webhooks send to private addresses, as `audit-api serve` has it.
    #[arg(long, env = "AUDIT_WEBHOOK_PRIVATE")]
    pub webhook_private: bool,
    /// Seconds between rounds in which a worker seals the events of all tenants into their chains.
    #[arg(long, env = "AUDIT_SEAL_EVERY_S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seal_every_s: u64,
}

impl Serve {
    /// How to work beside serving, when that is asked for.
    pub(crate) fn work(&self) -> Option<Work> {
        let worker_database_url = self.worker_database_url.clone().filter(|_| self.with_worker)?;
        Some(Work {
            worker_database_url,
            objects: self.objects.clone(),
            token_key: self.token_key.clone(),
            webhook_private: self.webhook_private,
            seal_every_s: self.seal_every_s,
        })
    }
}

/// What to look at.
#[derive(clap::Args)]
pub struct Doctor {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become the whole command's help")]
    pub databases: Databases,
    /// The database, as `audit_worker`, where something works the queue or seals.
    #[arg(long, env = "AUDIT_WORKER_DATABASE_URL", hide_env_values = true)]
    pub worker_database_url: Option<String>,
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
    /// Move them to another storage model; their rows are compared one by one before they count as moved.
    Move(Move),
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

/// How to move tenants.
#[derive(clap::Args)]
pub struct Move {
    /// An administrator's URL: one that row security does not apply to, and that may make schemas and databases.
    #[arg(long, env = "AUDIT_ADMIN_DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// All that are stored so: shared (when nothing else is said), schema or database.
    #[arg(long, conflicts_with = "tenant")]
    pub from: Option<String>,
    /// One alone.
    #[arg(long)]
    pub tenant: Option<uuid::Uuid>,
    /// The storage model to move to: shared, schema or database.
    #[arg(long)]
    pub to: String,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines to read.
    Human,
    /// JSON, for programs.
    Json,
}
