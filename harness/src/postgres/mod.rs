//! Where a Postgres comes from: a URL, installed binaries, Docker, a download. Each rung that is passed over says why.

mod docker;
mod download;
mod installed;
pub mod pgbouncer;
mod version;

pub(crate) use version::warnings;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use sqlx::Connection;
use tokio::sync::Mutex;

use crate::error::{Error, Result};
use crate::target::copy::{database_words, execute, quoted};
use crate::target::database::connect;

/// Which rung of the ladder is asked for.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// The first rung that works: installed, docker, download.
    Auto,
    /// A running server.
    Url(String),
    /// Server binaries found on this machine; of this major version or in this folder, when told.
    Installed,
    /// A container, through testcontainers.
    Docker,
    /// Binaries fetched from the releases of postgresql_embedded.
    Download,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

impl Source {
    /// The word; a URL is not shown, it may hold a password.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Url(_) => "url",
            Self::Installed => "installed",
            Self::Docker => "docker",
            Self::Download => "download",
        }
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(word: &str) -> std::result::Result<Self, String> {
        Ok(match word {
            "auto" => Self::Auto,
            "installed" => Self::Installed,
            "docker" => Self::Docker,
            "download" => Self::Download,
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => Self::Url(url.into()),
            other => {
                let known = ["auto", "installed", "docker", "download", "postgres://…"];
                return Err(crate::error::unknown("source of Postgres", other, known).to_string());
            }
        })
    }
}

/// What a rung may be told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Folder of server binaries to use instead of the newest found (`PARTYWALL_PG_BIN`).
    pub bin_dir: Option<PathBuf>,
    /// Docker image to use instead of the default (`PARTYWALL_DOCKER_IMAGE`).
    pub image: Option<String>,
}

impl Options {
    fn bin_dir(&self) -> Option<PathBuf> {
        self.bin_dir.clone().or_else(|| std::env::var_os("PARTYWALL_PG_BIN").map(PathBuf::from))
    }

    fn image(&self) -> String {
        let named = self.image.clone().or_else(|| std::env::var("PARTYWALL_DOCKER_IMAGE").ok());
        named.unwrap_or_else(|| docker::IMAGE.into())
    }
}

/// A rung that did not work.
#[derive(Clone, Debug)]
pub struct PassedOver {
    /// Its name.
    pub rung: &'static str,
    /// Why.
    pub why: String,
}

/// What keeps a server running; dropping it ends and removes the server.
enum Keeper {
    Elsewhere,
    /// Of binaries found or fetched.
    Installed(Restart),
    Docker(Box<docker::Container>),
}

/// Restarts a server of ours, whose place stays as it is.
#[derive(Clone)]
pub struct Restart(Arc<Mutex<installed::Cluster>>);

impl Restart {
    fn of(cluster: installed::Cluster) -> Self {
        Self(Arc::new(Mutex::new(cluster)))
    }

    /// Ends the server and starts it again; ends once it answers.
    ///
    /// # Errors
    /// It does not come up again.
    pub async fn now(&self) -> Result<()> {
        let failed = |why| Error::Unreachable(format!("the database was to be restarted: {why}"));
        self.0.lock().await.restart().await.map_err(failed)
    }
}

/// A Postgres that answers.
pub struct Postgres {
    keeper: Keeper,
    address: Address,
    rung: &'static str,
    passed_over: Vec<PassedOver>,
    server_version: String,
    warnings: Vec<String>,
}

/// Where a server answers and who administers it. Its password is shown nowhere.
#[derive(Clone)]
struct Address {
    host: String,
    port: u16,
    user: String,
    password: String,
    url: Option<String>,
}

impl Address {
    fn local(port: u16, user: &str, password: &str) -> Self {
        Self { host: "127.0.0.1".into(), port, user: user.into(), password: password.into(), url: None }
    }

    fn url(&self, database: &str) -> String {
        match &self.url {
            Some(url) => with_database(url, database),
            None => format!("postgres://{}:{}@{}:{}/{database}", self.user, self.password, self.host, self.port),
        }
    }
}

/// `url` with another database.
pub(crate) fn with_database(url: &str, database: &str) -> String {
    let (head, query) = url.split_once('?').map_or((url, None), |(h, q)| (h, Some(q)));
    let start = head.find("://").map_or(0, |at| at + 3);
    let end = head[start..].find('/').map_or(head.len(), |at| start + at);
    let query = query.map_or_else(String::new, |q| format!("?{q}"));
    format!("{}/{database}{query}", &head[..end])
}

impl Postgres {
    /// Starts, or connects to, what `source` asks for.
    ///
    /// # Errors
    /// No rung works: the text names each with its reason.
    pub async fn start(source: &Source, options: &Options) -> Result<Self> {
        let rungs = match source {
            Source::Auto => vec![Source::Installed, Source::Docker, Source::Download],
            other => vec![other.clone()],
        };
        let mut passed_over = Vec::new();
        for rung in rungs {
            let started = match &rung {
                Source::Url(url) => Ok((Keeper::Elsewhere, elsewhere(url))),
                Source::Installed => {
                    installed::start(options).await.map(|(c, a)| (Keeper::Installed(Restart::of(c)), a))
                }
                Source::Docker => docker::start(&options.image()).await.map(|(c, a)| (Keeper::Docker(Box::new(c)), a)),
                _ => download::start().await.map(|(c, a)| (Keeper::Installed(Restart::of(c)), a)),
            };
            match started {
                Ok((keeper, address)) => return Self::greet(keeper, address, rung.word(), passed_over).await,
                Err(why) => passed_over.push(PassedOver { rung: rung.word(), why }),
            }
        }
        let tried: Vec<String> = passed_over.iter().map(|p| format!("  {}: {}", p.rung, p.why)).collect();
        Err(Error::Unreachable(format!(
            "no Postgres to be had:\n{}\nInstall PostgreSQL's server binaries, start Docker, or give a URL with --postgres",
            tried.join("\n")
        )))
    }

    async fn greet(keeper: Keeper, address: Address, rung: &'static str, passed_over: Vec<PassedOver>) -> Result<Self> {
        let url = address.url.clone().unwrap_or_else(|| address.url("postgres"));
        let mut connection = connect(&url).await?;
        let number: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
            .fetch_one(&mut connection)
            .await
            .map_err(|e| Error::Unreachable(format!("the server does not tell its version: {}", database_words(&e))))?;
        // The server has answered; how the farewell goes does not matter.
        let _ = connection.close().await;
        let (major, minor) = (number / 10_000, number % 10_000);
        let warnings = version::warnings(major, minor);
        Ok(Self { keeper, address, rung, passed_over, server_version: format!("{major}.{minor}"), warnings })
    }

    /// URL of the `postgres` database, as administrator. It holds a password.
    pub fn admin_url(&self) -> String {
        self.address.url.clone().unwrap_or_else(|| self.address.url("postgres"))
    }

    /// URL of `database`, as administrator. It holds a password.
    pub fn admin_url_for(&self, database: &str) -> String {
        self.address.url(database)
    }

    /// URL of `database` for another database role. It holds a password.
    pub fn url_for(&self, database: &str, role: &str, password: &str) -> String {
        format!("postgres://{role}:{password}@{}:{}/{database}", self.address.host, self.address.port)
    }

    /// `15.18`.
    pub fn server_version(&self) -> &str {
        &self.server_version
    }

    /// The rung taken.
    pub fn rung(&self) -> &'static str {
        self.rung
    }

    /// The rungs passed over, and why.
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }

    /// What is worth knowing about this server.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// True when Partywall made this server and will remove it.
    pub fn is_ours(&self) -> bool {
        !matches!(self.keeper, Keeper::Elsewhere)
    }

    /// What restarts the server, where it is ours and keeps its place.
    pub fn restart(&self) -> Option<Restart> {
        match &self.keeper {
            Keeper::Installed(cluster) => Some(cluster.clone()),
            Keeper::Elsewhere | Keeper::Docker(_) => None,
        }
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// What the server says.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        self.administer(&format!("CREATE DATABASE {}", quoted(name))).await
    }

    /// Makes a database as a copy of `template`, which nobody may be connected to.
    ///
    /// # Errors
    /// What the server says.
    pub async fn create_database_from(&self, name: &str, template: &str) -> Result<()> {
        self.administer(&format!("CREATE DATABASE {} TEMPLATE {}", quoted(name), quoted(template))).await
    }

    /// Removes a database, whoever is connected to it.
    ///
    /// # Errors
    /// What the server says.
    pub async fn drop_database(&self, name: &str) -> Result<()> {
        self.administer(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name))).await
    }

    async fn administer(&self, statement: &str) -> Result<()> {
        let mut connection = connect(&self.admin_url()).await?;
        let done = execute(&mut connection, statement).await;
        let _ = connection.close().await;
        done
    }

    /// Ends and removes a server of ours.
    pub async fn stop(self) {
        match self.keeper {
            Keeper::Elsewhere => {}
            Keeper::Installed(cluster) => drop(cluster),
            Keeper::Docker(container) => container.stop().await,
        }
    }
}

fn elsewhere(url: &str) -> Address {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let place = place.split(['/', '?']).next().unwrap_or(place);
    let (host, port) = place.rsplit_once(':').unwrap_or((place, "5432"));
    Address {
        host: host.into(),
        port: port.parse().unwrap_or(5432),
        user: String::new(),
        password: String::new(),
        url: Some(url.into()),
    }
}
