//! What state the database is in, so that an answer can be given again while nothing has changed: at once old when
//! anything is committed anywhere, whoever wrote it and through whichever process.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::sync::{mpsc, oneshot};

/// Requests that wait for one answer at most.
const TOGETHER_MAX: usize = 1_024;
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
        tokio::spawn(answer(database, asked));
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
async fn answer(database: PgConnectOptions, mut asked: mpsc::Receiver<oneshot::Sender<Moment>>) {
    let (mut waiting, mut open) = (Vec::new(), None);
    while asked.recv_many(&mut waiting, TOGETHER_MAX).await > 0 {
        gather(&mut waiting, &mut asked).await;
        // Whoever asks from here on waits for the next: its moment may not be older than its question.
        let moment = tokio::time::timeout(ANSWER_MAX, moment(&database, &mut open)).await.ok().flatten();
        for tell in waiting.drain(..) {
            if let Some(moment) = &moment {
                // One that has gone away needs no answer.
                let _ = tell.send(moment.clone());
            }
        }
    }
}

/// Lets those ask who are about to: under load one question serves many, and none waits for what is not there yet.
async fn gather(waiting: &mut Vec<oneshot::Sender<Moment>>, asked: &mut mpsc::Receiver<oneshot::Sender<Moment>>) {
    let mut before = 0;
    while before < waiting.len() && waiting.len() < TOGETHER_MAX {
        before = waiting.len();
        tokio::task::yield_now().await;
        waiting.extend(std::iter::from_fn(|| asked.try_recv().ok()));
    }
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
