//! A throw-away Postgres for one test program, from installed binaries, and a database for each test. Without a
//! Postgres the tests fail: none is skipped.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

/// Another process may take the port between our choice and the server's: so many tries.
const TRIES: u32 = 3;

/// A cluster that ends, its folder removed, once this program has: the guardian waits for its input to close.
struct Cluster {
    port: u16,
    bin: PathBuf,
    folder: PathBuf,
    user: Option<(u32, u32)>,
    _guardian: Child,
}

/// Whether a cluster waits for its disk: only where a server is ended at once must it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disk {
    Waits,
    Trusts,
}

static CLUSTER: OnceLock<Cluster> = OnceLock::new();
static DURABLE: OnceLock<Cluster> = OnceLock::new();

/// A database of its own.
pub struct Database {
    name: String,
    cluster: &'static Cluster,
}

impl Database {
    /// A new, migrated database.
    pub async fn migrated() -> anyhow::Result<Self> {
        let database = Self::empty().await?;
        partywall_reference::serve::migrate(&database.url("postgres")).await?;
        Ok(database)
    }

    /// A new, migrated database on a server that keeps what it acknowledged, and that may be restarted.
    pub async fn durable() -> anyhow::Result<Self> {
        let cluster = DURABLE.get_or_init(|| Cluster::start(Disk::Waits).expect("the tests need a Postgres"));
        let database = Self::made(cluster).await?;
        partywall_reference::serve::migrate(&database.url("postgres")).await?;
        Ok(database)
    }

    /// A new database with nothing in it.
    pub async fn empty() -> anyhow::Result<Self> {
        Self::made(CLUSTER.get_or_init(|| Cluster::start(Disk::Trusts).expect("the tests need a Postgres"))).await
    }

    async fn made(cluster: &'static Cluster) -> anyhow::Result<Self> {
        let database = Self { name: format!("t{}", Uuid::now_v7().simple()), cluster };
        let server = Self { name: "postgres".into(), cluster };
        let create = format!("CREATE DATABASE {}", database.name);
        server.sql(&create).await?;
        Ok(database)
    }

    /// Ends the server at once, as a crash would, and starts it again.
    pub async fn restart(&self) -> anyhow::Result<()> {
        let cluster = self.cluster;
        let restarted = tokio::task::spawn_blocking(move || {
            let mut command = cluster.program(&cluster.bin.join("pg_ctl"));
            command.arg("-D").arg(cluster.folder.join("data")).args(["-w", "-s", "-m", "immediate", "-l"]);
            command.arg(cluster.folder.join("log")).arg("restart").status()
        });
        ensure!(restarted.await??.success(), "the server does not restart");
        Ok(())
    }

    /// A copy of this one, which nobody may be connected to.
    pub async fn copied(&self) -> anyhow::Result<Self> {
        let copy = Self { name: format!("t{}", Uuid::now_v7().simple()), cluster: self.cluster };
        let server = Self { name: "postgres".into(), cluster: self.cluster };
        server.sql(&format!("CREATE DATABASE {} TEMPLATE {}", copy.name, self.name)).await?;
        // A template gives its contents, not its settings.
        server.sql(&format!("ALTER DATABASE {} SET search_path = public, shared, pg_temp", copy.name)).await?;
        Ok(copy)
    }

    /// The URL as `role`.
    pub fn url(&self, role: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{}", self.cluster.port, self.name)
    }

    /// As [`Database::url`], by way of another port.
    pub fn url_through(&self, port: u16, role: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{port}/{}", self.name)
    }

    /// Where the server listens.
    pub fn port(&self) -> u16 {
        self.cluster.port
    }

    /// A connection as `role`.
    pub async fn connect(&self, role: &str) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.url(role)).await?)
    }

    /// Runs statements as administrator.
    pub async fn sql(&self, statements: &str) -> anyhow::Result<()> {
        let mut admin = self.connect("postgres").await?;
        sqlx::raw_sql(AssertSqlSafe(statements.to_string())).execute(&mut admin).await?;
        Ok(admin.close().await?)
    }
}

impl Cluster {
    /// A program in the cluster's folder, as its user.
    fn program(&self, program: &Path) -> Command {
        run(program, &self.folder, self.user)
    }

    fn start(disk: Disk) -> anyhow::Result<Self> {
        let bin = binaries()?;
        // A server refuses to run as root.
        let user = if nix::unistd::geteuid().is_root() {
            let user =
                nix::unistd::User::from_name("postgres")?.context("root, and no user postgres to start it as")?;
            Some((user.uid.as_raw(), user.gid.as_raw()))
        } else {
            None
        };
        let folder = tempfile::Builder::new().prefix("audit-api-test-").tempdir()?.keep();
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid))?;
        }
        let run = |program: &Path| run(program, &folder, user);
        let data = folder.join("data");
        let mut init = run(&bin.join("initdb"));
        init.args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N", "-D"]).arg(&data);
        ensure!(init.status()?.success(), "initdb failed");
        for _ in 0..TRIES {
            let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let fsync = if disk == Disk::Waits { "on" } else { "off" };
            let options = format!(
                "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync={fsync} -c max_connections=300"
            );
            let mut start = run(&bin.join("pg_ctl"));
            start.arg("-D").arg(&data).args(["-w", "-s", "-l"]).arg(folder.join("log")).arg("-o").arg(options);
            if start.arg("start").status()?.success() {
                let mut guardian = run(Path::new("/bin/sh"));
                guardian
                    .arg("-c")
                    .arg("trap '' INT TERM HUP; cat >/dev/null; \"$1\" -D \"$2\" -m immediate -s stop; rm -rf \"$3\"");
                guardian.arg("guardian").arg(bin.join("pg_ctl")).arg(&data).arg(&folder);
                let guardian = guardian.current_dir("/").stdin(Stdio::piped()).process_group(0).spawn()?;
                return Ok(Self { port, bin, folder, user, _guardian: guardian });
            }
        }
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        anyhow::bail!("Postgres does not start: {log}")
    }
}

fn run(program: &Path, folder: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// Where `initdb` and `pg_ctl` are: the newest of Debian's, else where `pg_config` says.
fn binaries() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin): &(u32, PathBuf)| bin.join("initdb").is_file())
        .collect();
    folders.sort();
    if let Some((_, bin)) = folders.pop() {
        return Ok(bin);
    }
    let told = Command::new("pg_config").arg("--bindir").output().context("no PostgreSQL is installed")?;
    let bin = PathBuf::from(String::from_utf8(told.stdout)?.trim());
    ensure!(bin.join("initdb").is_file(), "no server binaries in {}", bin.display());
    Ok(bin)
}
