//! The program as it is deployed: a process with an environment, spoken to over TCP.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::support::Database;
use crate::world::TOKEN_KEY;

/// The program, its environment set for `database`; what to do is still to be said.
pub fn command(program: &str, database: &Database, port: u16) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("AUDIT_LISTEN", format!("127.0.0.1:{port}"))
        .env("AUDIT_POOL_SIZE", "2")
        .env("AUDIT_TOKEN_KEY", TOKEN_KEY)
        .env("AUDIT_DATABASE_URL", database.url("audit_app"))
        .env("AUDIT_LOGIN_DATABASE_URL", database.url("audit_login"))
        .env("AUDIT_PLATFORM_DATABASE_URL", database.url("audit_platform"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A port that is free now.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A running service.
pub struct Program {
    child: Child,
}

impl Program {
    /// Starts it to serve, and waits until it answers.
    pub async fn start(mut command: Command, port: u16) -> anyhow::Result<Self> {
        let mut child = command.arg("serve").spawn()?;
        for _ in 0..300 {
            if let Some(status) = child.try_wait()? {
                let told = child.wait_with_output().await?;
                bail!("it ended with {status}: {}", String::from_utf8_lossy(&told.stderr));
            }
            if matches!(get(port, "/readyz", "").await, Ok((200, _))) {
                return Ok(Self { child });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("it does not answer")
    }

    /// Asks it to end.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let id = self.child.id().context("it runs")?;
        Ok(kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?)
    }

    /// Waits for its end: the exit code, and what it logged.
    pub async fn ended(self) -> anyhow::Result<(Option<i32>, String)> {
        let output = tokio::time::timeout(Duration::from_secs(30), self.child.wait_with_output()).await??;
        Ok((output.status.code(), String::from_utf8(output.stderr)?))
    }
}

/// One request on a connection of its own: status and body.
pub async fn get(port: u16, path: &str, token: &str) -> anyhow::Result<(u16, String)> {
    exchange(port, get_text(path, token)).await
}

/// The text of such a request.
pub fn get_text(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n")
}

/// A JSON body sent to `path`: status and body.
pub async fn post(port: u16, path: &str, token: &str, body: &str) -> anyhow::Result<(u16, String)> {
    exchange(port, post_text(path, token, body)).await
}

/// The text of such a request.
pub fn post_text(path: &str, token: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// A request as it is, on a connection of its own: status and body.
pub async fn exchange(port: u16, request: String) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(request.as_bytes()).await?;
    answer(&mut stream).await
}

/// Reads an answer to its end.
pub async fn answer(stream: &mut TcpStream) -> anyhow::Result<(u16, String)> {
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let status = text.split(' ').nth(1).context("a status line")?.parse()?;
    Ok((status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or_default()))
}
