//! A proxy between a service and its database that judges every row that any query returns, whatever the service does with
//! it afterwards. It speaks the Postgres protocol, 3.0 and 3.2; it changes nothing of what passes.

mod account;
mod context;
mod expected;
mod frame;
mod hop;
mod lens;
mod ownership;
mod relay;
mod rows;
mod session;
mod startup;
mod statement;
mod token;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

pub use hop::Hop;
pub use lens::Lens;
pub use statement::Binding;

use self::ownership::Ownership;
use self::relay::Broken;
use self::session::Session;
use self::startup::Opening;
use crate::error::{Error, Result};
use crate::wire::Wire;

/// Where the database answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// Host and port.
    Tcp(String, u16),
    /// A socket's path.
    Unix(PathBuf),
}

impl FromStr for Upstream {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let wrong = || Error::Usage(format!("`{text}` is no place of a database: give HOST:PORT, or a socket's path"));
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self::Tcp(host.into(), port.parse().map_err(|_| wrong())?))
    }
}

impl Upstream {
    /// The place that a database's URL names; none where it asks for encryption, which is not spoken here.
    pub fn of_url(url: &str) -> Option<Self> {
        let (_, rest) = url.split_once("://")?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let encrypted = query.split('&').any(|word| {
            word.split_once('=')
                .is_some_and(|(name, mode)| name == "sslmode" && !["disable", "allow", "prefer"].contains(&mode))
        });
        let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
        let host = place.split('/').next().filter(|host| !host.is_empty() && !encrypted)?;
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if has_port { host.parse().ok() } else { Some(Self::Tcp(host.into(), 5432)) }
    }
}

/// `url` with another address in it.
pub fn through(url: &str, address: SocketAddr) -> Option<String> {
    let start = url.find("://")? + 3;
    let end = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
    let user = url[start..end].rfind('@').map_or(start, |at| start + at + 1);
    Some(format!("{}{address}{}", &url[..user], &url[end..]))
}

type Sessions = Arc<Mutex<Vec<Arc<Mutex<Session>>>>>;

/// A wiretap that listens; dropping it ends all its connections.
pub struct Wiretap {
    address: SocketAddr,
    lens: Arc<Lens>,
    sessions: Sessions,
    accepting: JoinHandle<()>,
}

impl Wiretap {
    /// Listens at `address` for clients of `upstream`.
    ///
    /// # Errors
    /// The address is taken, or not ours.
    pub async fn listen(address: SocketAddr, upstream: Upstream, lens: Lens) -> Result<Self> {
        let failed =
            |e| Error::Unreachable(format!("the wiretap cannot listen at {address}: {e}. Choose another --listen"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (lens, sessions) = (Arc::new(lens), Sessions::default());
        let accepting = tokio::spawn(accept(listener, upstream, lens.clone(), sessions.clone()));
        Ok(Self { address, lens, sessions, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was seen since the last time.
    pub fn take(&self) -> Wire {
        let mut wire = Wire::default();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| {
            // Asked before its account is taken: what comes in between is told the next time.
            let open = Arc::strong_count(session) > 1;
            let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
            let (backend, facts, left_out) = session.account.take();
            wire.backends.extend(backend);
            wire.facts.extend(facts);
            wire.left_out += left_out;
            open
        });
        wire.tenants = self.lens.ownership.as_ref().map(Ownership::take).unwrap_or_default();
        wire
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, upstream: Upstream, lens: Arc<Lens>, sessions: Sessions) {
    // Dropped with this task, it ends them all.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Out of files: what is open goes on.
                let Ok((client, _)) = accepted else {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                };
                connections.spawn(serve(client, upstream.clone(), lens.clone(), sessions.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One client's connection, from its beginning to its end.
async fn serve(mut client: TcpStream, upstream: Upstream, lens: Arc<Lens>, sessions: Sessions) {
    // Without it an answer in two writes may wait for an acknowledgement.
    let _ = client.set_nodelay(true);
    let refusal = match startup::open(&mut client).await {
        Ok(None) => return,
        Err(refusal) => Some(refusal),
        Ok(Some(opening)) => connect(&mut client, &upstream, opening, lens, sessions).await.err(),
    };
    if let Some((code, why)) = refusal {
        // The client may be gone.
        let _ = client.write_all(&frame::fatal(code, &format!("wiretap: {why}"))).await;
        let _ = client.shutdown().await;
    }
}

async fn connect(
    client: &mut TcpStream,
    upstream: &Upstream,
    opening: Opening,
    lens: Arc<Lens>,
    sessions: Sessions,
) -> Result<(), startup::Refusal> {
    let unreachable = |e: std::io::Error| ("08001", format!("the database cannot be reached: {e}"));
    match upstream {
        Upstream::Tcp(host, port) => {
            let mut server = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
            let _ = server.set_nodelay(true);
            let (mut read, mut write) = server.split();
            converse(client, (&mut read, &mut write), opening, lens, sessions).await
        }
        Upstream::Unix(path) => {
            let mut server = UnixStream::connect(path).await.map_err(unreachable)?;
            let (mut read, mut write) = server.split();
            converse(client, (&mut read, &mut write), opening, lens, sessions).await
        }
    }
}

async fn converse(
    client: &mut TcpStream,
    (server_read, server_write): (&mut (impl AsyncReadExt + Unpin), &mut (impl AsyncWriteExt + Unpin)),
    opening: Opening,
    lens: Arc<Lens>,
    sessions: Sessions,
) -> Result<(), startup::Refusal> {
    let failed = |e: std::io::Error| ("08006", format!("the database went away: {e}"));
    let (start, parameters) = match opening {
        Opening::Cancel(message) => {
            server_write.write_all(&message).await.map_err(failed)?;
            // The server closes once it has acted on it; only then the client may take it as done.
            let _ = server_read.read(&mut [0; 1]).await;
            return Ok(());
        }
        Opening::Session(start, parameters) => (start, parameters),
    };
    server_write.write_all(&start).await.map_err(failed)?;
    let session = Arc::new(Mutex::new(Session::new(lens, &parameters)));
    sessions.lock().unwrap_or_else(PoisonError::into_inner).push(session.clone());
    let (mut client_read, mut client_write) = client.split();
    let ended = relay::both((&mut client_read, &mut client_write), (server_read, server_write), &session).await;
    match ended {
        Ok(()) | Err(Broken::Io) => Ok(()),
        Err(Broken::Wrong(refusal)) => Err(refusal),
    }
}

#[cfg(test)]
mod tests;
