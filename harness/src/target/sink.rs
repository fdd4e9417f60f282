//! Addresses on loopback that a target is told to send its news to, one a tenant: whatever arrives at one is read as that
//! tenant would read it.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use tokio::task::JoinHandle;

use crate::canary::{Owner, layers};
use crate::error::{Error, Result};

/// Bytes of one delivery that are taken; more is refused.
const DELIVERY_MAX: usize = 4 << 20;
/// Bytes that wait to be read; beyond them a target is told to come again.
const WAITING_MAX: usize = 64 << 20;
/// How long none may have come until the last ones have.
const QUIET: Duration = Duration::from_millis(1_500);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Something that was sent to a tenant's address: its headers, then its body.
pub struct Delivery {
    /// The tenant whose address it is.
    pub owner: Owner,
    /// What came, every encoding undone.
    pub bytes: Vec<u8>,
}

/// The addresses, listened to until dropped.
pub struct Sinks {
    address: SocketAddr,
    paths: HashMap<Owner, String>,
    kept: Arc<Kept>,
    listening: JoinHandle<()>,
}

struct Kept {
    owners: HashMap<String, Owner>,
    state: Mutex<Account>,
}

#[derive(Default)]
struct Account {
    waiting: Vec<Delivery>,
    waiting_bytes: usize,
    /// Whose address the target was told.
    told: BTreeSet<Owner>,
    /// Those of them that something was sent to since they were last told.
    reached: BTreeSet<Owner>,
    last: Option<Instant>,
}

impl Kept {
    fn state(&self) -> MutexGuard<'_, Account> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sinks {
    /// Listens for each of `owners`.
    ///
    /// # Errors
    /// No port on loopback.
    pub async fn open(owners: impl Iterator<Item = Owner>) -> Result<Self> {
        let failed = |e: std::io::Error| Error::Unreachable(format!("no port on loopback to listen for webhooks: {e}"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        // Nobody can guess where another tenant's news goes.
        let paths: HashMap<Owner, String> =
            owners.map(|owner| (owner, format!("/{}", crate::seed::secret(16)))).collect();
        let owners = paths.iter().map(|(owner, path)| (path.clone(), *owner)).collect();
        let kept = Arc::new(Kept { owners, state: Mutex::default() });
        let router = Router::new().fallback(taken).with_state(kept.clone());
        let listening = tokio::spawn(async move {
            // It ends when it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, paths, kept, listening })
    }

    /// The address of a tenant, which the target is told now.
    pub fn tell(&self, owner: Owner) -> Option<String> {
        let path = self.paths.get(&owner)?;
        let mut state = self.kept.state();
        state.told.insert(owner);
        state.reached.remove(&owner);
        Some(format!("http://{}{path}", self.address))
    }

    /// Tenants whose address the target was told.
    pub fn told(&self) -> BTreeSet<Owner> {
        self.kept.state().told.clone()
    }

    /// What arrived since this was last asked.
    pub fn taken(&self) -> Vec<Delivery> {
        let mut state = self.kept.state();
        state.waiting_bytes = 0;
        std::mem::take(&mut state.waiting)
    }

    /// Waits until something was sent to every address that was told, and no more comes; for `longest` at most.
    pub async fn settled(&self, longest: Duration) {
        let began = Instant::now();
        while began.elapsed() < longest {
            let (all, quiet) = {
                let state = self.kept.state();
                let since = state.last.unwrap_or(began).max(began);
                (state.told.is_subset(&state.reached), since.elapsed() >= QUIET)
            };
            if all && quiet {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn taken(State(kept): State<Arc<Kept>>, request: Request<Body>) -> StatusCode {
    let Some(owner) = kept.owners.get(request.uri().path()).copied() else { return StatusCode::NOT_FOUND };
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, DELIVERY_MAX).await else { return StatusCode::PAYLOAD_TOO_LARGE };
    let encoding = parts.headers.get("content-encoding").and_then(|value| value.to_str().ok());
    let mut bytes = parts.uri.query().unwrap_or_default().as_bytes().to_vec();
    for (name, value) in &parts.headers {
        bytes.extend_from_slice(b"\n");
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
    }
    bytes.extend_from_slice(b"\n\n");
    bytes.extend_from_slice(&layers(&body, encoding).0);
    let mut state = kept.state();
    if state.waiting_bytes + bytes.len() > WAITING_MAX {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    state.waiting_bytes += bytes.len();
    state.waiting.push(Delivery { owner, bytes });
    state.reached.insert(owner);
    state.last = Some(Instant::now());
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_to_an_address_is_its_tenants_and_elsewhere_nothing_is_taken() {
        let sinks = Sinks::open([0, 1].map(Owner::new).into_iter()).await.expect("a port");
        let address = sinks.tell(Owner::new(1)).expect("an address");
        let client = crate::target::http::client(Duration::from_secs(5)).expect("a client");
        let sent = client.post(&address).header("x-row", "in a header").body("in a body").send().await;
        assert_eq!(sent.expect("an answer").status(), 204);
        let astray = client.post(format!("http://{}/", sinks.address)).body("astray").send().await;
        assert_eq!(astray.expect("an answer").status(), 404);
        let huge = client.post(&address).body(vec![b' '; DELIVERY_MAX + 1]).send().await;
        // It is not read to its end: the sender may see that first.
        assert!(huge.is_err() || huge.is_ok_and(|answer| answer.status() == 413));
        let taken = sinks.taken();
        let text = String::from_utf8_lossy(&taken[0].bytes).into_owned();
        assert_eq!((taken.len(), taken[0].owner), (1, Owner::new(1)));
        assert!(text.contains("in a header") && text.ends_with("in a body"), "{text}");
        assert_eq!(sinks.told(), BTreeSet::from([Owner::new(1)]));
        assert!(sinks.tell(Owner::new(2)).is_none());
    }
}
