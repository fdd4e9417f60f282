//! A proxy between a service and its database that judges every row that any query returns, whatever the service does with
//! it afterwards. It speaks the Postgres protocol, 3.0 and 3.2; it changes nothing of what passes.

mod account;
mod act;
mod binding;
mod context;
mod expected;
mod fault;
mod frame;
mod hop;
mod lens;
mod nested;
mod ownership;
mod relay;
mod rows;
mod session;
mod startup;
mod statement;
mod stream;
mod through;
mod tls;
mod token;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

pub use binding::Binding;
pub use fault::Faults;
pub use hop::Hop;
pub use lens::Lens;
pub use through::through;
pub use tls::{Identity, Trust};

use self::fault::Wounds;
use self::ownership::Ownership;
use self::relay::Broken;
use self::session::Session;
use self::startup::Opening;
use self::stream::Stream;
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
    /// The place that a database's URL names.
    pub fn of_url(url: &str) -> Option<Self> {
        let (_, rest) = url.split_once("://")?;
        let place = rest.split('?').next().unwrap_or(rest);
        let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
        let host = place.split('/').next().filter(|host| !host.is_empty())?;
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if has_port { host.parse().ok() } else { Some(Self::Tcp(host.into(), 5432)) }
    }
}

/// How a wiretap speaks, either way: by default in the open.
#[derive(Clone, Default)]
pub struct Encryption {
    /// What clients are shown that ask for encryption; without it they are told that there is none.
    pub identity: Option<Identity>,
    /// How the database is known, where it is spoken to under encryption.
    pub trust: Option<Trust>,
}

/// The database, and how it is spoken to.
struct Server {
    place: Upstream,
    trust: Option<Trust>,
}

impl Server {
    async fn connect(&self) -> io::Result<Stream> {
        let (host, port) = match &self.place {
            Upstream::Tcp(host, port) => (host, *port),
            // What never leaves the machine is not encrypted, as with libpq.
            Upstream::Unix(path) => return UnixStream::connect(path).await.map(Stream::Unix),
        };
        let server = TcpStream::connect((host.as_str(), port)).await?;
        // Without it an answer in two writes may wait for an acknowledgement.
        let _ = server.set_nodelay(true);
        match &self.trust {
            Some(trust) => trust.ask(server, host).await.map(Box::new).map(Stream::Tls),
            None => Ok(Stream::Tcp(server)),
        }
    }

    fn is_encrypted(&self) -> bool {
        self.trust.is_some() && matches!(self.place, Upstream::Tcp(..))
    }
}

/// What all connections of a wiretap share.
struct Tapped {
    upstream: Server,
    identity: Option<Identity>,
    lens: Arc<Lens>,
    sessions: Mutex<Vec<Arc<Mutex<Session>>>>,
    faults: Arc<Faults>,
}

/// A wiretap that listens; dropping it ends all its connections.
pub struct Wiretap {
    address: SocketAddr,
    tapped: Arc<Tapped>,
    accepting: JoinHandle<()>,
}

impl Wiretap {
    /// Listens at `address` for clients of `upstream`.
    ///
    /// # Errors
    /// The address is taken, or not ours.
    pub async fn listen(address: SocketAddr, upstream: Upstream, lens: Lens) -> Result<Self> {
        Self::listen_with(address, upstream, Encryption::default(), lens).await
    }

    /// As [`Wiretap::listen`], with encryption.
    ///
    /// # Errors
    /// As [`Wiretap::listen`].
    pub async fn listen_with(
        address: SocketAddr,
        upstream: Upstream,
        encryption: Encryption,
        lens: Lens,
    ) -> Result<Self> {
        let failed =
            |e| Error::Unreachable(format!("the wiretap cannot listen at {address}: {e}. Choose another --listen"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let upstream = Server { place: upstream, trust: encryption.trust };
        let (identity, lens) = (encryption.identity, Arc::new(lens));
        let tapped = Arc::new(Tapped { upstream, identity, lens, sessions: Mutex::default(), faults: Arc::default() });
        let accepting = tokio::spawn(accept(listener, tapped.clone()));
        Ok(Self { address, tapped, accepting })
    }

    /// What strikes its connections, when it is told to.
    pub fn faults(&self) -> Arc<Faults> {
        self.tapped.faults.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was seen since the last time.
    pub fn take(&self) -> Wire {
        let mut wire = Wire::default();
        let mut sessions = self.tapped.sessions.lock().unwrap_or_else(PoisonError::into_inner);
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
        wire.tenants = self.tapped.lens.ownership.as_ref().map(Ownership::take).unwrap_or_default();
        wire
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, tapped: Arc<Tapped>) {
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
                connections.spawn(serve(client, tapped.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One client's connection, from its beginning to its end.
async fn serve(client: TcpStream, tapped: Arc<Tapped>) {
    // Without it an answer in two writes may wait for an acknowledgement.
    let _ = client.set_nodelay(true);
    let mut client = Stream::Tcp(client);
    let refusal = match opened(&mut client, tapped.identity.as_ref()).await {
        Ok(None) => return,
        Err(refusal) => Some(refusal),
        Ok(Some(opening)) => connect(&mut client, opening, &tapped).await.err(),
    };
    if let Some((code, why)) = refusal {
        let (_, mut client) = client.split();
        // The client may be gone.
        let _ = client.write_all(&frame::fatal(code, &format!("wiretap: {why}"))).await;
        let _ = client.shutdown().await;
    }
}

/// Reads how a client begins, and shows it `identity` when it asks for encryption; nothing when it goes away.
async fn opened(client: &mut Stream, identity: Option<&Identity>) -> Result<Option<Opening>, startup::Refusal> {
    let mut identity = identity;
    loop {
        // Newer clients may begin encrypted at once.
        let at_once = identity.is_some() && client.begins_with(startup::TLS).await;
        if !at_once {
            let (read, write) = client.split();
            match startup::open(&mut tokio::io::join(read, write), identity.is_some()).await? {
                Some(Opening::Encrypted) => {}
                opening => return Ok(opening),
            }
        }
        let (Some(shown), Stream::Tcp(plain)) = (identity.take(), std::mem::replace(client, Stream::Gone)) else {
            return Ok(None);
        };
        // One that does not trust what it is shown leaves.
        let Ok(Ok(encrypted)) = tokio::time::timeout(startup::TIME_MAX, shown.meet(plain)).await else {
            return Ok(None);
        };
        *client = Stream::Tls(Box::new(encrypted));
    }
}

async fn connect(client: &mut Stream, opening: Opening, tapped: &Tapped) -> Result<(), startup::Refusal> {
    let unreachable = |e: io::Error| ("08001", format!("the database cannot be reached: {e}"));
    let failed = |e: io::Error| ("08006", format!("the database went away: {e}"));
    let mut server = tapped.upstream.connect().await.map_err(unreachable)?;
    let (mut server_read, mut server_write) = server.split();
    let (start, parameters) = match opening {
        Opening::Cancel(message) => {
            server_write.write_all(&message).await.map_err(failed)?;
            // The server closes once it has acted on it; only then the client may take it as done.
            let _ = server_read.read(&mut [0; 1]).await;
            return Ok(());
        }
        Opening::Session(start, parameters) => (start, parameters),
        Opening::Encrypted => return Ok(()),
    };
    server_write.write_all(&start).await.map_err(failed)?;
    let session = Arc::new(Mutex::new(Session::new(tapped.lens.clone(), &parameters)));
    tapped.sessions.lock().unwrap_or_else(PoisonError::into_inner).push(session.clone());
    let (mut client_read, mut client_write) = client.split();
    if tapped.upstream.is_encrypted() {
        tls::without_binding(&mut server_read, &mut client_write).await.map_err(failed)?;
    }
    let wounds = Wounds::of(&session, &tapped.faults, &tapped.upstream);
    let (asking, answering) = ((&mut client_read, &mut client_write), (&mut server_read, &mut server_write));
    match relay::both(asking, answering, &wounds).await {
        Ok(()) | Err(Broken::Io | Broken::Struck) => Ok(()),
        Err(Broken::Wrong(refusal)) => Err(refusal),
    }
}

#[cfg(test)]
mod tests;
