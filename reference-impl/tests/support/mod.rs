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
    _guardian: Child,
}

static CLUSTER: OnceLock<Cluster> = OnceLock::new();

/// A database of its own.
pub struct Database {
    name: String,
    port: u16,
}

impl Database {
    /// A new, migrated database.
    pub async fn migrated() -> anyhow::Result<Self> {
        let database = Self::empty().await?;
        partywall_reference::serve::migrate(&database.url("postgres")).await?;
        Ok(database)
    }

    /// A new database with nothing in it.
    pub async fn empty() -> anyhow::Result<Self> {
        let port = CLUSTER.get_or_init(|| Cluster::start().expect("the tests need a Postgres")).port;
        let database = Self { name: format!("t{}", Uuid::now_v7().simple()), port };
        let server = Self { name: "postgres".into(), port };
        let create = format!("CREATE DATABASE {}", database.name);
        server.sql(&create).await?;
        Ok(database)
    }

    /// A copy of this one, which nobody may be connected to.
    pub async fn copied(&self) -> anyhow::Result<Self> {
        let copy = Self { name: format!("t{}", Uuid::now_v7().simple()), port: self.port };
        let server = Self { name: "postgres".into(), port: self.port };
        server.sql(&format!("CREATE DATABASE {} TEMPLATE {}", copy.name, self.name)).await?;
        Ok(copy)
    }

    /// The URL as `role`.
    pub fn url(&self, role: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// As [`Database::url`], by way of another port.
    pub fn url_through(&self, port: u16, role: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{port}/{}", self.name)
    }

    /// Where the server listens.
    pub fn port(&self) -> u16 {
        self.port
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
    fn start() -> anyhow::Result<Self> {
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
        let run = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
        };
        let data = folder.join("data");
        let mut init = run(&bin.join("initdb"));
        init.args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N", "-D"]).arg(&data);
        ensure!(init.status()?.success(), "initdb failed");
        for _ in 0..TRIES {
            let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let options = format!(
                "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c max_connections=300"
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
                return Ok(Self { port, _guardian: guardian });
            }
        }
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        anyhow::bail!("Postgres does not start: {log}")
    }
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
