//! Faults at the wall: while one is armed, the first connection that comes to its moment is struck. The database itself
//! says what it would say: a statement fails, or is cancelled, since another one is asked in its stead, which does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::frame::{self, Piece, Reader};
use super::relay::Broken;
use super::session::Session;
use super::{Server, startup};
use crate::canary::Owner;
use crate::fault::{Fault, Kind, Moment, Struck};

/// What is delayed comes so much later.
const DELAY: Duration = Duration::from_millis(150);
/// All connections are held for so long.
const HELD: Duration = Duration::from_millis(600);
/// Bytes of both directions that pass one by one.
const SINGLY: usize = 6_000;
/// A statement that is asked in another's stead is answered within so long, or the connection is dropped.
const ANSWERED: Duration = Duration::from_secs(10);
/// Fails as what meets another transaction does.
const FAILING: &str = "DO $$BEGIN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END$$";
/// The server may take a request to cancel for one of before: it is sent again after so long.
const AGAIN: Duration = Duration::from_millis(10);

/// The fault that is armed, and what it has struck.
#[derive(Default)]
pub struct Faults {
    armed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whose connection is to be struck, and until when all are held.
    wanted: Option<(Fault, Owner, Instant)>,
    struck: Vec<u32>,
}

impl Faults {
    /// Strikes the next connection that `owner` is bound to, at the fault's moment.
    pub fn arm(&self, fault: Fault, owner: Owner) {
        *self.state() = State { wanted: Some((fault, owner, Instant::now() + HELD)), struck: Vec::new() };
        self.armed.store(true, Ordering::Release);
    }

    /// Strikes no more; where it struck, if it did.
    pub fn disarm(&self) -> Option<Struck> {
        self.armed.store(false, Ordering::Release);
        let State { struck, .. } = std::mem::take(&mut *self.state());
        (!struck.is_empty()).then_some(Struck { backends: struck })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What befalls the connection of `session` as the client has sent `batch`, and until when all are held.
    fn strike(&self, session: &Session, batch: Option<&[u8]>) -> Option<(Fault, Instant)> {
        let mut state = self.state();
        let (fault, owner, until) = state.wanted?;
        let backend = session.account.backend.pid;
        if fault.kind == Kind::Exhaust {
            let held = Instant::now() < until;
            if held && !state.struck.contains(&backend) {
                state.struck.push(backend);
            }
            return held.then_some((fault, until));
        }
        let moment = session.moment(owner, batch?)?;
        // Single bytes are the same at any moment; not every service has transactions.
        if moment != fault.moment && fault.kind != Kind::Fragment {
            return None;
        }
        state.wanted = None;
        state.struck.push(backend);
        self.armed.store(false, Ordering::Release);
        Some((fault, until))
    }
}

/// What is known of one connection on both its ways.
pub struct Wounds<'a> {
    /// What was seen on it.
    pub session: &'a Mutex<Session>,
    faults: &'a Faults,
    upstream: &'a Server,
    /// Bytes that are still to pass one by one.
    singly: AtomicUsize,
    /// Whether the answer that comes is to what was asked in the client's stead.
    instead: AtomicBool,
}

impl<'a> Wounds<'a> {
    /// None yet.
    pub fn of(session: &'a Mutex<Session>, faults: &'a Faults, upstream: &'a Server) -> Self {
        Self { session, faults, upstream, singly: AtomicUsize::new(0), instead: AtomicBool::new(false) }
    }

    /// How many of so many bytes may pass at once.
    pub fn at_once(&self, bytes: usize) -> usize {
        let fewer = |left: usize| left.checked_sub(1);
        match self.singly.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer) {
            Ok(_) => bytes.min(1),
            Err(_) => bytes,
        }
    }

    /// Has the armed fault befall what the client has just sent, if it is its turn.
    pub async fn befall(&self, reader: &mut Reader, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Broken> {
        if !self.faults.armed.load(Ordering::Acquire) {
            return Ok(());
        }
        let (struck, key) = {
            let session = self.session();
            (self.faults.strike(&session, reader.batch()), session.key.clone())
        };
        let Some((Fault { kind, moment }, until)) = struck else { return Ok(()) };
        match kind {
            Kind::Drop => {
                if let (Moment::Running, Some(batch)) = (moment, reader.batch()) {
                    to.write_all(batch).await?;
                }
                return Err(Broken::Struck);
            }
            Kind::Delay => tokio::time::sleep(DELAY).await,
            Kind::Exhaust => tokio::time::sleep_until(until).await,
            Kind::Fragment => self.singly.store(SINGLY, Ordering::Relaxed),
            Kind::Error => return self.ask_instead(FAILING, moment, None, reader, to).await,
            Kind::Cancel => {
                let long = format!("SELECT pg_sleep({})", ANSWERED.as_secs() * 2);
                return self.ask_instead(&long, moment, Some(&key), reader, to).await;
            }
            // Of the server's, not of a connection's.
            Kind::Restart => {}
        }
        Ok(())
    }

    /// Asks `statement`, which fails, and has the client take its failure for its own; with a key it is cancelled.
    async fn ask_instead(
        &self,
        statement: &str,
        moment: Moment,
        key: Option<&[u8]>,
        reader: &mut Reader,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Broken> {
        // To fail to commit is to roll back.
        let before = if moment == Moment::Ending { "ROLLBACK;" } else { "" };
        self.instead.store(true, Ordering::Release);
        to.write_all(&frame::query(&format!("{before}{statement}"))).await?;
        to.flush().await?;
        reader.skip_batch();
        let until = Instant::now() + ANSWERED;
        while self.instead.load(Ordering::Acquire) {
            if Instant::now() > until {
                return Err(Broken::Struck);
            }
            tokio::time::sleep(AGAIN).await;
            if let (Some(key), true) = (key, self.instead.load(Ordering::Acquire)) {
                // One that does not get through is sent again.
                let _ = cancel(self.upstream, key).await;
            }
        }
        Ok(())
    }

    /// Passes on, of the answer to what was asked in the client's stead, what it is to hear: that it failed.
    pub async fn answer(&self, reader: &mut Reader, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Broken> {
        if !self.instead.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut heard = Vec::new();
        let mut over = false;
        while let (false, Some(piece)) = (over, reader.next_piece()) {
            if let Piece::Whole(tag @ (b'E' | b'Z' | b'N' | b'A' | b'S'), body) = piece {
                heard.extend(frame::message(tag, body));
                self.session().answered(piece);
                over = tag == b'Z';
            }
        }
        reader.pass_judged();
        to.write_all(&heard).await?;
        if over {
            self.instead.store(false, Ordering::Release);
        }
        Ok(())
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the server to cancel what runs on the connection of `key`, and waits until it has heard.
async fn cancel(upstream: &Server, key: &[u8]) -> std::io::Result<()> {
    let mut server = upstream.connect().await?;
    let (mut read, mut write) = server.split();
    write.write_all(&startup::cancel(key)).await?;
    read.read(&mut [0; 1]).await.map(drop)
}
