//! A connection that is not clean until it is said to be.

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};

use crate::defects::{Defect, on};

/// A pool's connection while its transaction is, or may be, open. Dropped in any way it is closed, and the server rolls
/// back; only [`Held::into_pool`] lets another request have it.
pub(crate) struct Held(Option<PoolConnection<Postgres>>);

impl Held {
    pub(crate) fn of(connection: PoolConnection<Postgres>) -> Self {
        Self(Some(connection))
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        // Only `into_pool` and `drop` empty it, and neither leaves a value behind to call this on.
        self.0.as_mut().unwrap_or_else(|| unreachable!("a held connection is there"))
    }

    /// Gives back a connection whose transaction has ended.
    pub(crate) fn into_pool(mut self) {
        self.give_back();
    }

    fn give_back(&mut self) {
        drop(self.0.take());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if on(Defect::ScopeCancelled) || on(Defect::FailedGivenBack) {
            return self.give_back();
        }
        if let Some(connection) = self.0.take() {
            // Detached, it no longer counts for the pool, and dropping it closes its socket.
            drop(connection.detach());
        }
    }
}
