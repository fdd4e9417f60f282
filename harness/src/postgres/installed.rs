//! A throw-away cluster from installed server binaries. A guardian process ends it and removes its folder once this
//! process is gone, however it went: normally, by a panic, SIGINT, SIGTERM or SIGKILL.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Address, Options};
use crate::target::database::connect;

const USER: &str = "partywall_admin";
/// How long a cluster may take to answer.
const START: Duration = Duration::from_secs(60);
/// Another process may take the port between our choice and the server's: so many tries.
const TRIES: u32 = 3;

/// Waits for its standard input to close, then ends the server whose pid it read last and removes the folder `$1`.
const GUARDIAN: &str = r#"
trap '' INT TERM HUP
while read -r next; do pid=$next; done
kill -INT "$pid" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
  kill -0 "$pid" 2>/dev/null || break
  sleep 0.1
done
kill -KILL "$pid" 2>/dev/null
rm -rf "$1"
"#;

/// A running cluster; dropping it ends and removes it.
pub(super) struct Cluster {
    guardian: Child,
    pipe: Option<ChildStdin>,
    server: Child,
    place: Place,
    address: Address,
}

/// What a server is started with.
struct Place {
    bin: PathBuf,
    user: Option<(u32, u32)>,
    home: PathBuf,
    port: u16,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // The server is our child: without this it would stay a zombie that the guardian still sees.
        let _ = self.server.wait();
        let _ = self.guardian.wait();
    }
}

impl Cluster {
    /// Ends the server as an administrator would, without waiting for those who are connected, and starts it again.
    ///
    /// # Errors
    /// It does not end, or does not come up again.
    pub(super) async fn restart(&mut self) -> Result<(), String> {
        let pid = i32::try_from(self.server.id()).map_err(|e| e.to_string())?;
        kill(Pid::from_raw(pid), Signal::SIGINT).map_err(|e| format!("the server cannot be ended: {e}"))?;
        let deadline = Instant::now() + START;
        while self.server.try_wait().map_err(|e| e.to_string())?.is_none() {
            if Instant::now() > deadline {
                return Err(format!("the server did not end within {} s", START.as_secs()));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.server = self.place.serve()?;
        self.guard()?;
        self.answers().await
    }

    /// Tells the guardian which server it is to end.
    fn guard(&mut self) -> Result<(), String> {
        let pipe = self.pipe.as_mut().ok_or("the guardian has no ear")?;
        writeln!(pipe, "{}", self.server.id()).map_err(|e| format!("the guardian is gone: {e}"))
    }

    /// Waits until the server answers.
    async fn answers(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START;
        while connect(&self.address.url("postgres")).await.is_err() {
            let ended = self.server.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > deadline {
                let text = std::fs::read_to_string(self.place.log()).unwrap_or_default();
                return Err(format!("the server did not come up: {}", tail(&text)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Place {
    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn log(&self) -> PathBuf {
        self.home.join("log")
    }

    fn serve(&self) -> Result<Child, String> {
        let output = || std::fs::File::options().create(true).append(true).open(self.log()).map_err(|e| e.to_string());
        let mut command = as_user(Command::new(self.bin.join("postgres")), self.user, &self.home);
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        // Fit for a cluster that nobody will miss.
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "wal_level=minimal",
            "max_wal_senders=0",
            "max_connections=300",
            "shared_buffers=128MB",
            "max_wal_size=2GB",
            "jit=off",
            "logging_collector=off",
            "max_locks_per_transaction=256",
        ] {
            command.args(["-c", setting]);
        }
        // A group of its own: Ctrl-C at the terminal must reach us, not the server before us.
        let server = command.stdout(output()?).stderr(output()?).process_group(0).spawn();
        server.map_err(|e| format!("cannot run {}: {e}", self.bin.join("postgres").display()))
    }
}

/// Starts a cluster from the binaries told, or the newest found.
pub(super) async fn start(options: &Options) -> Result<(Cluster, Address), String> {
    let bin = match options.bin_dir() {
        Some(bin) if has_server(&bin) => bin,
        Some(bin) => return Err(format!("{} has no initdb and postgres", bin.display())),
        None => newest()?,
    };
    let user = unprivileged()?;
    let mut last = String::new();
    for _ in 0..TRIES {
        match try_start(&bin, user).await {
            Ok(started) => return Ok(started),
            Err(why) if why.contains("could not bind") || why.contains("in use") => last = why,
            Err(why) => return Err(why),
        }
    }
    Err(last)
}

async fn try_start(bin: &Path, user: Option<(u32, u32)>) -> Result<(Cluster, Address), String> {
    let home = tempfile::Builder::new().prefix("partywall-postgres-").tempdir().map_err(|e| e.to_string())?;
    let home_path = home.path().to_path_buf();
    let data = home_path.join("data");
    let password = crate::seed::secret(16);
    let password_file = home_path.join("password");
    std::fs::write(&password_file, &password).map_err(|e| e.to_string())?;
    if let Some((uid, gid)) = user {
        for path in [&home_path, &password_file] {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(|e| e.to_string())?;
        }
    }
    let made = as_user(Command::new(bin.join("initdb")), user, &home_path)
        .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"])
        .args(["--username", USER])
        .arg("--pwfile")
        .arg(&password_file)
        .arg("--pgdata")
        .arg(&data)
        .output()
        .map_err(|e| format!("cannot run {}: {e}", bin.join("initdb").display()))?;
    if !made.status.success() {
        return Err(format!("initdb failed: {}", tail(&String::from_utf8_lossy(&made.stderr))));
    }
    std::fs::remove_file(&password_file).map_err(|e| e.to_string())?;
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).map_err(|e| e.to_string())?;
    let port = port.port();
    let place = Place { bin: bin.into(), user, home: home_path, port };
    let server = place.serve()?;
    let mut guardian = Command::new("/bin/sh")
        .args(["-c", GUARDIAN, "partywall-guardian"])
        .arg(&place.home)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|e| format!("cannot run the guardian: {e}"))?;
    let pipe = guardian.stdin.take();
    // From here on the guardian removes the folder.
    let _ = home.keep();
    let address = Address::local(port, USER, &password);
    let mut cluster = Cluster { guardian, pipe, server, place, address: address.clone() };
    cluster.guard()?;
    cluster.answers().await?;
    Ok((cluster, address))
}

/// A command that runs as `user` in the cluster's folder, with nothing of our environment but the path.
fn as_user(mut command: Command, user: Option<(u32, u32)>, home: &Path) -> Command {
    command
        .current_dir(home)
        .stdin(Stdio::null())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("LC_ALL", "C").env("HOME", home);
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// The user to run as: none when we are not root; `postgres`, else `nobody`, when we are, since it refuses root.
pub(super) fn unprivileged() -> Result<Option<(u32, u32)>, String> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    let found = ["postgres", "nobody"].iter().find_map(|name| nix::unistd::User::from_name(name).ok().flatten());
    let found = found.ok_or("started as root, and there is no user `postgres` or `nobody` to run it as")?;
    Ok(Some((found.uid.as_raw(), found.gid.as_raw())))
}

fn has_server(bin: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|name| bin.join(name).is_file())
}

/// The folder of the newest server binaries on this machine.
fn newest() -> Result<PathBuf, String> {
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(which::which("postgres").ok().and_then(|p| Some(p.parent()?.to_path_buf())));
    let told = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).stderr(Stdio::null()).output();
    folders.extend(told.ok().map(|o| PathBuf::from(String::from_utf8_lossy(&o.stdout).trim())));
    for (parent, below) in [
        ("/usr/lib/postgresql", "bin"),
        ("/usr", "bin"),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "bin"),
    ] {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let named = entries.filter(|e| {
            let name = e.file_name().to_string_lossy().into_owned();
            parent != "/usr" && !parent.ends_with("/opt")
                || name.starts_with("pgsql-")
                || name.starts_with("postgresql")
        });
        folders.extend(named.map(|e| e.path().join(below)));
    }
    newest_of(folders).ok_or_else(|| {
        "no server binaries (initdb, postgres) on PATH, by pg_config, or where packages put them; \
         on Debian: apt-get install postgresql"
            .into()
    })
}

/// The one of `folders` that holds the newest server.
pub(super) fn newest_of(mut folders: Vec<PathBuf>) -> Option<PathBuf> {
    folders.retain(|folder| has_server(folder));
    folders.sort();
    folders.dedup();
    let best = folders.into_iter().filter_map(|folder| Some((version(&folder)?, folder))).max();
    best.map(|(_, folder)| folder)
}

/// Major and minor version of the server in `bin`.
fn version(bin: &Path) -> Option<(u32, u32)> {
    let told = Command::new(bin.join("postgres")).arg("--version").stdin(Stdio::null()).output().ok()?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let number = told.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = number.split('.');
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((digits(parts.next()?)?, parts.next().and_then(digits).unwrap_or(0)))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().rev().take(6).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
