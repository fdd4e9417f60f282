//! What state the database is in, so that an answer can be given again while nothing has changed: at once old when
//! anything is committed anywhere, whoever wrote it and through whichever process.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Requests that wait for one answer at most.
const TOGETHER_MAX: usize = 1_024;
/// Questions under way at once: whoever asks during one need not wait for its end to have another asked.
const QUESTIONS: usize = 4;
/// A database that takes longer does not tell.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A state of the database. Two are the same only when nothing was committed between them: a snapshot names every
/// transaction that it does not see. A server that was started anew is never in a state of before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment(Arc<str>);

/// Asks for the present moment, once for all that ask meanwhile.
#[derive(Clone)]
pub struct Moments(mpsc::Sender<oneshot::Sender<Moment>>);

impl Moments {
    /// The moments of that database. Must be called on a runtime.
    pub fn of(database: PgConnectOptions) -> Self {
        let (ask, asked) = mpsc::channel(TOGETHER_MAX);
        let asked = Arc::new(Mutex::new(asked));
        for _ in 0..QUESTIONS {
            tokio::spawn(answer(database.clone(), asked.clone()));
        }
        Self(ask)
    }

    /// The present moment, no earlier than this call; none when the database does not tell.
    pub async fn now(&self) -> Option<Moment> {
        let (tell, told) = oneshot::channel();
        self.0.send(tell).await.ok()?;
        told.await.ok()
    }
}

/// Answers on a connection of its own, which no request can keep from it.
async fn answer(database: PgConnectOptions, asked: Arc<Mutex<mpsc::Receiver<oneshot::Sender<Moment>>>>) {
    let mut open = None;
    loop {
        // Whoever asks from here on waits for the next: its moment may not be older than its question.
        let waiting = together(&mut *asked.lock().await).await;
        if waiting.is_empty() {
            return;
        }
        let moment = tokio::time::timeout(ANSWER_MAX, moment(&database, &mut open)).await.ok().flatten();
        for tell in waiting {
            if let Some(moment) = &moment {
                // One that has gone away needs no answer.
                let _ = tell.send(moment.clone());
            }
        }
    }
}

/// Who asks, and who is about to: under load one question serves many, and none waits for what is not there yet. Nobody,
/// once nobody can ask any more.
async fn together(asked: &mut mpsc::Receiver<oneshot::Sender<Moment>>) -> Vec<oneshot::Sender<Moment>> {
    let mut waiting = Vec::new();
    asked.recv_many(&mut waiting, TOGETHER_MAX).await;
    let mut before = 0;
    while before < waiting.len() && waiting.len() < TOGETHER_MAX {
        before = waiting.len();
        tokio::task::yield_now().await;
        waiting.extend(std::iter::from_fn(|| asked.try_recv().ok()));
    }
    waiting
}

/// The moment; the connection is kept open for the next while it answers.
async fn moment(database: &PgConnectOptions, open: &mut Option<PgConnection>) -> Option<Moment> {
    let mut connection = match open.take() {
        Some(connection) => connection,
        None => PgConnection::connect_with(database).await.ok()?,
    };
    let statement = "SELECT pg_current_snapshot() || ' ' || pg_postmaster_start_time()";
    let told: String = sqlx::query_scalar(statement).fetch_one(&mut connection).await.ok()?;
    *open = Some(connection);
    Some(Moment(told.into()))
}
