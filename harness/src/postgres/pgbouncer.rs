//! PgBouncer, found on this machine and run before a database for as long as a run needs it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::installed::unprivileged;
use crate::error::{Error, Result};

/// How long it may take to listen.
const START: Duration = Duration::from_secs(10);
/// Where packages put it, besides PATH.
const PLACES: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"];
/// The first version that follows the prepared statements of a client's from one backend to another.
const FOLLOWS: (u32, u32) = (1, 21);

/// For how long a client has a backend to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For one transaction.
    Transaction,
    /// Until it goes.
    Session,
}

impl Mode {
    /// As PgBouncer calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Session => "session",
        }
    }
}

/// That a pooler stands between the target and its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Through {
    /// How it pools.
    pub mode: Mode,
    /// Its program, where it is not to be looked for.
    pub program: Option<PathBuf>,
}

impl FromStr for Through {
    type Err = String;

    fn from_str(word: &str) -> std::result::Result<Self, String> {
        let mode = match word {
            "pgbouncer" | "pgbouncer=transaction" => Mode::Transaction,
            "pgbouncer=session" => Mode::Session,
            other => {
                let known = ["pgbouncer", "pgbouncer=transaction", "pgbouncer=session"];
                return Err(crate::error::unknown("pooler", other, known).to_string());
            }
        };
        Ok(Self { mode, program: None })
    }
}

/// One that runs; dropping it ends it.
pub struct PgBouncer {
    child: Child,
    address: SocketAddr,
    version: (u32, u32),
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    /// Runs it before the database at `upstream`, for those who log in as `urls` say.
    ///
    /// # Errors
    /// There is none on this machine, or it does not start.
    pub async fn start(through: &Through, upstream: SocketAddr, urls: &[&String]) -> Result<Self> {
        let program = find(through.program.as_deref())?;
        let version = version(&program).await?;
        let folder = tempfile::tempdir().map_err(|e| Error::write(&std::env::temp_dir(), e))?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = free.map_err(|e| Error::Unreachable(format!("no free loopback port: {e}")))?;
        let (users, config) = (folder.path().join("users.txt"), folder.path().join("pgbouncer.ini"));
        let logins: String =
            urls.iter().filter_map(|url| login(url)).map(|(n, p)| format!("\"{n}\" \"{p}\"\n")).collect();
        write(&users, &logins)?;
        write(&config, &configuration(through.mode, version, upstream, address, &users))?;
        let mut command = Command::new(&program);
        if let Some((uid, gid)) = unprivileged().map_err(Error::Unreachable)? {
            for path in [folder.path(), &users, &config] {
                std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(|e| Error::write(path, e))?;
            }
            command.uid(uid).gid(gid);
        }
        let log = folder.path().join("log");
        let output =
            || std::fs::File::options().create(true).append(true).open(&log).map_err(|e| Error::write(&log, e));
        command.arg(&config).current_dir(folder.path()).stdin(Stdio::null()).stdout(output()?).stderr(output()?);
        // A group of its own: Ctrl-C at the terminal must reach us, not what the target still needs.
        let child = command.process_group(0).kill_on_drop(true).spawn();
        let child = child.map_err(|e| Error::Unreachable(format!("cannot run {}: {e}", program.display())))?;
        let mut bouncer = Self { child, address, version, _folder: folder };
        let deadline = Instant::now() + START;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            let ended = bouncer.child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > deadline {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let last = text.lines().rev().take(6).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>();
                return Err(Error::Unreachable(format!("PgBouncer did not come up: {}", last.join(" | "))));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(bouncer)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its version, major and minor.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Whether it follows prepared statements where clients share backends.
    pub fn follows(&self) -> bool {
        self.version >= FOLLOWS
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // At once; it may have ended already.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

fn find(told: Option<&Path>) -> Result<PathBuf> {
    if let Some(program) = told {
        let there = program.is_file().then(|| program.to_path_buf());
        return there.ok_or_else(|| Error::Usage(format!("no program at {} (--pgbouncer)", program.display())));
    }
    let places = PLACES.iter().map(|place| Path::new(place).join("pgbouncer")).find(|path| path.is_file());
    which::which("pgbouncer").ok().or(places).ok_or_else(|| {
        Error::Unreachable(
            "no pgbouncer on PATH or in /usr/sbin: install it (on Debian: apt-get install pgbouncer), or give its path \
             with --pgbouncer"
                .into(),
        )
    })
}

/// What `pgbouncer --version` tells on its first line.
async fn version(program: &Path) -> Result<(u32, u32)> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().await;
    let output = output.map_err(|e| Error::Unreachable(format!("cannot run {}: {e}", program.display())))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.lines().next().and_then(|line| line.strip_prefix("PgBouncer "));
    let mut parts = number.into_iter().flat_map(|number| number.split('.')).map(|part| part.parse().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => Err(Error::Usage(format!("{} is no PgBouncer: it does not tell its version", program.display()))),
    }
}

fn configuration(mode: Mode, version: (u32, u32), upstream: SocketAddr, address: SocketAddr, users: &Path) -> String {
    let (host, port) = (upstream.ip(), upstream.port());
    let mut text = format!(
        "[databases]\n* = host={host} port={port}\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\n\
         auth_type = scram-sha-256\nauth_file = {}\npool_mode = {}\nmax_client_conn = 1000\n\
         server_login_retry = 1\nignore_startup_parameters = extra_float_digits\n",
        address.ip(),
        address.port(),
        users.display(),
        mode.word(),
    );
    match mode {
        // Few, so that each serves many; beside them those that somebody keeps to itself.
        Mode::Transaction => text.push_str("default_pool_size = 8\n"),
        Mode::Session => text.push_str("default_pool_size = 60\n"),
    }
    match mode {
        Mode::Transaction if version >= FOLLOWS => text.push_str("max_prepared_statements = 200\n"),
        // One that follows none must at least keep clients' names apart; nothing else is taken back between clients.
        Mode::Transaction => text.push_str("server_reset_query = DEALLOCATE ALL\nserver_reset_query_always = 1\n"),
        Mode::Session => {}
    }
    text
}

/// Name and password in a database's URL.
fn login(url: &str) -> Option<(String, String)> {
    let (user, _) = url.split_once("://")?.1.rsplit_once('@')?;
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let plain = |text: &str| {
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
        decoded.replace('"', "\"\"")
    };
    Some((plain(name), plain(password)))
}

/// Writes a file that nobody else may read.
fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| Error::write(path, e))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(|e| Error::write(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_read_and_slips_are_named() {
        let told = |url: &str| login(url).map(|(name, password)| format!("{name} {password}"));
        assert_eq!(told("postgres://a:b%40%22@h:1/d?x=y").as_deref(), Some("a b@\"\""));
        assert_eq!(told("postgres://h/d"), None);
        assert_eq!("pgbouncer=session".parse::<Through>().map(|through| through.mode), Ok(Mode::Session));
        assert!("pgbuncer".parse::<Through>().is_err_and(|why| why.contains("did you mean `pgbouncer`")));
    }

    #[tokio::test]
    async fn what_is_no_pgbouncer_is_named() {
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        for (program, says) in [("/nowhere/pgbouncer", "no program at"), ("/bin/true", "is no PgBouncer")] {
            let through = Through { mode: Mode::Session, program: Some(program.into()) };
            let error = PgBouncer::start(&through, upstream, &[]).await.err().map(|e| e.to_string());
            assert!(error.as_ref().is_some_and(|error| error.contains(says)), "{error:?}");
        }
    }
}
