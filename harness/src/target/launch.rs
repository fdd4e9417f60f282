//! Starts the service as a separate process, waits until it is ready, and always ends it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::error::{Error, Result};
use crate::target::file::{Launch, TargetFile};
use crate::wiretap;

/// How long the service has to end by itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// What the placeholders of a target file stand for in this run.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// `{database}`: the administrator's URL.
    pub admin_url: Option<String>,
    /// `{database:ROLE}`.
    pub role_urls: BTreeMap<String, String>,
    /// `{secret:N}`: made once a run, one a length.
    pub secrets: BTreeMap<usize, String>,
    /// `{objects}`: the folder in which the target may keep its objects.
    pub objects: Option<PathBuf>,
    /// Overrides of `[launch.env]`.
    pub env: BTreeMap<String, String>,
    /// Database role to use wherever `{database:ROLE}` stands for another: old to new.
    pub instead: BTreeMap<String, String>,
}

impl Surroundings {
    /// Makes the secrets that `target` asks for.
    pub fn make_secrets(&mut self, target: &TargetFile) {
        let texts = target.launch.iter().flat_map(|l| l.env.values().chain(&l.args));
        for text in texts {
            for part in text.split("{secret:").skip(1) {
                if let Some(bytes) = part.split('}').next().and_then(|n| n.parse::<usize>().ok()) {
                    self.secrets.entry(bytes).or_insert_with(|| crate::seed::secret(bytes));
                }
            }
        }
    }

    /// The same, with whatever is launched led through `address` to its database, `encrypted` up to there or not.
    pub fn through(&self, address: SocketAddr, encrypted: bool) -> Self {
        let led = |url: &String| wiretap::through(url, address, encrypted).unwrap_or_else(|| url.clone());
        let role_urls = self.role_urls.iter().map(|(role, url)| (role.clone(), led(url))).collect();
        Self { admin_url: self.admin_url.as_ref().map(led), role_urls, ..self.clone() }
    }

    /// `text` with its placeholders filled in; `{{` and `}}` stand for braces.
    ///
    /// # Errors
    /// A placeholder that nothing here fills.
    pub fn fill(&self, text: &str, port: u16, pool_size: Option<u32>) -> Result<String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(['{', '}']) {
            let brace = &rest[before.len()..=before.len()];
            out.push_str(before);
            rest = if let Some(escaped) = after.strip_prefix(brace) {
                out.push_str(brace);
                escaped
            } else {
                let lone = || Error::Usage(format!("`{text}`: lone `{brace}`; write `{brace}{brace}` for the brace"));
                let (word, after) = after.split_once('}').filter(|_| brace == "{").ok_or_else(lone)?;
                out.push_str(&self.word(word, port, pool_size).ok_or_else(|| unfilled(word))?);
                after
            };
        }
        out.push_str(rest);
        Ok(out)
    }

    fn word(&self, word: &str, port: u16, pool_size: Option<u32>) -> Option<String> {
        match word.split_once(':') {
            None => match word {
                "address" => Some(format!("127.0.0.1:{port}")),
                "port" => Some(port.to_string()),
                "pool_size" => Some(pool_size.unwrap_or(10).to_string()),
                "database" => self.admin_url.clone(),
                "objects" => self.objects.as_ref().map(|folder| folder.display().to_string()),
                _ => None,
            },
            Some(("database", role)) => {
                let role = self.instead.get(role).map_or(role, String::as_str);
                self.role_urls.get(role).cloned()
            }
            Some(("env", name)) => std::env::var(name).ok().filter(|value| !value.is_empty()),
            Some(("secret", bytes)) => self.secrets.get(&bytes.parse().ok()?).cloned(),
            Some(_) => None,
        }
    }
}

/// Finds a program: a path; beside this executable; on PATH; built from the workspace package.
///
/// # Errors
/// It is nowhere and cannot be built.
pub async fn find_program(launch: &Launch, defects: bool) -> Result<PathBuf> {
    let (name, feature) = match (&launch.defects, defects) {
        (_, false) => (&launch.program, None),
        (Some(build), true) => (&build.program, Some(build.feature.as_str())),
        (None, true) => {
            return Err(Error::Usage("the target file has no [launch.defects]: it offers no mutants".into()));
        }
    };
    if name.contains('/') {
        let path = PathBuf::from(name);
        return path.exists().then_some(path).ok_or_else(|| Error::Usage(format!("no program at {name}")));
    }
    // In a workspace that has the package, cargo knows better than a file's presence whether the program is up to date.
    if launch.cargo_package.is_none() || workspace().is_none() {
        let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name)));
        let found = beside.filter(|path| path.is_file()).or_else(|| which::which(name).ok());
        if let Some(found) = found {
            return Ok(found);
        }
    }
    match &launch.cargo_package {
        Some(package) => build(package, name, feature).await,
        None => Err(Error::Usage(format!(
            "program `{name}` is neither beside partywall nor on PATH. Install it, or give its path in [launch] program"
        ))),
    }
}

/// The workspace that this executable was built in, while it is there.
fn workspace() -> Option<PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    home.join("Cargo.toml").is_file().then(|| home.to_path_buf())
}

async fn build(package: &str, program: &str, feature: Option<&str>) -> Result<PathBuf> {
    let home = workspace().ok_or_else(|| {
        Error::Usage(format!(
            "program `{program}` is neither beside partywall nor on PATH, and there is no workspace to build it in. \
             Install it with cargo install"
        ))
    })?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    // The whole workspace's features, so that what is built already for it serves here too.
    command.args(["build", "--quiet", "--workspace", "--bin", program]).current_dir(&home).stdin(Stdio::null());
    // Under `cargo run` and `cargo test` cargo's own variables would make build scripts run again, and all after them; how
    // somebody wants things built they do not say.
    const OF_CARGO: [&str; 6] = ["MANIFEST_", "PKG_", "BIN_", "CRATE_NAME", "PRIMARY_PACKAGE", "TARGET_TMPDIR"];
    for (name, _) in std::env::vars_os() {
        let word = name.to_string_lossy();
        if word.strip_prefix("CARGO_").is_some_and(|rest| OF_CARGO.iter().any(|own| rest.starts_with(own))) {
            command.env_remove(&name);
        }
    }
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    if profile == "release" {
        command.arg("--release");
    }
    if let Some(feature) = feature {
        command.args(["--features", &format!("{package}/{feature}")]);
    }
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| home.join("target"), PathBuf::from);
    let output =
        command.output().await.map_err(|e| Error::Usage(format!("cannot run cargo to build {package}: {e}")))?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = log.lines().rev().take(20).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        return Err(Error::Usage(format!("cannot build {package}:\n{}", tail.join("\n"))));
    }
    Ok(folder.join(profile).join(program))
}

/// A running service; dropping it kills it.
pub struct Service {
    child: Child,
    /// Where it answers, without a trailing slash.
    pub base_url: String,
    log: PathBuf,
}

impl Service {
    /// Starts `launch` and waits until its health path answers 2xx. Its output goes to `log`.
    ///
    /// # Errors
    /// It cannot be started, ends early, or is not healthy in time; the text holds the tail of its output.
    pub async fn start(
        program: &Path,
        launch: &Launch,
        surroundings: &Surroundings,
        pool_size: Option<u32>,
        log: &Path,
    ) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(program);
        for arg in &launch.args {
            command.arg(surroundings.fill(arg, port, pool_size)?);
        }
        command.env_clear();
        for name in ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "RUST_BACKTRACE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        for (name, value) in launch.env.iter().chain(&surroundings.env) {
            command.env(name, surroundings.fill(value, port, pool_size)?);
        }
        let open = || std::fs::File::options().create(true).append(true).open(log).map_err(|e| Error::write(log, e));
        command.stdin(Stdio::null()).stdout(open()?).stderr(open()?).kill_on_drop(true);
        let child = command.spawn().map_err(|e| {
            Error::Unreachable(format!(
                "cannot start {}: {e}. Check [launch] program in the target file",
                program.display()
            ))
        })?;
        let mut service = Self { child, base_url: format!("http://127.0.0.1:{port}"), log: log.into() };
        service.healthy(launch).await?;
        Ok(service)
    }

    async fn healthy(&mut self, launch: &Launch) -> Result<()> {
        let client = crate::target::http::client(Duration::from_secs(2))?;
        let url = format!("{}{}", self.base_url, launch.health);
        let deadline = Instant::now() + Duration::from_secs(launch.wait_s);
        let mut last = "no answer".to_string();
        while Instant::now() < deadline {
            if let Some(why) = self.ended_within(Duration::ZERO).await {
                return Err(Error::Unreachable(format!("the target ended before it was ready: {why}")));
            }
            match client.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => last = format!("status {}", answer.status()),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Err(Error::Unreachable(format!(
            "the target was not ready within {} s: GET {} gave {last}. Its output ends with:\n{}\n\
             Check [launch] health and wait_s in the target file",
            launch.wait_s,
            launch.health,
            self.tail()
        )))
    }

    /// Why the process has ended, if it has or does so within `time`: status and the tail of its output.
    pub async fn ended_within(&mut self, time: Duration) -> Option<String> {
        let status = tokio::time::timeout(time, self.child.wait()).await.ok()?.ok()?;
        Some(format!("{status}. Its output ends with:\n{}", self.tail()))
    }

    fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Asks it to end, and kills it when it does not.
    pub async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // The process may have ended meanwhile; then there is nothing to do.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0));
    let address = listener.and_then(|l| l.local_addr());
    address.map(|a| a.port()).map_err(|e| Error::Unreachable(format!("no free loopback port: {e}")))
}

/// Runs one of the target file's commands to its end.
///
/// # Errors
/// It cannot be started or fails; the text holds the tail of its output.
pub async fn run(words: &[String], program: &Path, surroundings: &Surroundings) -> Result<()> {
    let Some((first, rest)) = words.split_first() else { return Ok(()) };
    let mut command = if first == "{program}" { Command::new(program) } else { Command::new(first) };
    for word in rest {
        command.arg(surroundings.fill(word, 0, None)?);
    }
    let shown = format!("`{}`", words.join(" "));
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|e| Error::Unreachable(format!("cannot run {shown}: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    let log = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = log.lines().rev().take(8).collect();
    let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
    Err(Error::Unreachable(format!("{shown} failed ({}):\n{tail}", output.status)))
}

/// Why nothing stands for a placeholder: it is not known, or what it stands for is not there.
fn unfilled(word: &str) -> Error {
    const KNOWN: [&str; 8] =
        ["address", "port", "pool_size", "database", "database:ROLE", "objects", "secret:N", "env:NAME"];
    let missing = match word.split_once(':') {
        None if word == "database" => "the target file has no [database]",
        None if word == "objects" => "objects are kept by none but a target that is launched here",
        Some(("database", _)) => "its database role is not among [database] roles",
        Some(("env", _)) => "that environment variable is not set",
        Some(("secret", _)) => "it takes a number of bytes: {secret:32}",
        _ => return crate::error::unknown("placeholder", word, KNOWN),
    };
    Error::Usage(format!("nothing stands for the placeholder `{{{word}}}`: {missing}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_doubled_braces_are_braces() {
        let fill = |text: &str| Surroundings::default().fill(text, 80, Some(2)).map_err(|e| e.to_string());
        assert_eq!(fill("http://{address}/{pool_size}").as_deref(), Ok("http://127.0.0.1:80/2"));
        assert_eq!(fill("{{\"port\":{port}}}").as_deref(), Ok("{\"port\":80}"));
        assert!(fill("{prot}").is_err_and(|e| e.contains("did you mean `port`")));
        assert!(fill("{database:app}").is_err_and(|e| e.contains("[database] roles") && !e.contains("did you mean")));
        assert!(fill("{env:PARTYWALL_TEST_NEVER_SET}").is_err_and(|e| e.contains("is not set")));
        for lone in ["{port", "port}", "{"] {
            assert!(fill(lone).is_err_and(|e| e.contains("lone")), "{lone}");
        }
    }
}
