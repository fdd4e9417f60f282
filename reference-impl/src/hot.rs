//! What is asked for again and again. No key can be made without a tenant.
//!
//! Counts are kept for a second, once the caller's membership was seen to stand. A write through this process makes the
//! tenant's counts new at once; one through another process shows within [`KEPT`].
//!
//! Lists are answered again only while nothing at all was committed since, by whichever process: neither the rows and
//! their totals nor the caller's membership and session can then be others than they were.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use moka::sync::Cache;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use crate::caller::Proved;
use crate::defects::{Defect, on};
use crate::http::stats::{Facets, Stats};
use crate::moment::{Moment, Moments};
use crate::problem::Problem;
use crate::store::{AuditStore, Sight};

/// How long a count is kept.
pub const KEPT: Duration = Duration::from_secs(1);
/// Counts that are kept of each kind, of all tenants.
const KEPT_MAX: u64 = 1_000;
/// Tenants whose writes are remembered; one that is forgotten begins anew with a number that no key has.
const TENANTS_MAX: u64 = 100_000;

/// Counts.
pub static STATS: LazyLock<Hot<Stats>> = LazyLock::new(Hot::new);
/// Commonest values.
pub static FACETS: LazyLock<Hot<Facets>> = LazyLock::new(Hot::new);

static WRITES: LazyLock<Cache<Uuid, Arc<AtomicU64>>> = LazyLock::new(|| Cache::new(TENANTS_MAX));
static NEXT: AtomicU64 = AtomicU64::new(0);

/// What was asked, in which tenant, by one who sees what, after which of the tenant's writes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    tenant: Uuid,
    sight: Sight,
    question: String,
    written: u64,
}

impl Key {
    /// The key of a question to `store`, which names the operation and its filters.
    pub fn of(store: &AuditStore, sight: &Sight, question: String) -> Self {
        if on(Defect::CountsShared) {
            return Self { tenant: Uuid::nil(), sight: Sight::All, question, written: 0 };
        }
        let tenant = store.tenant_id();
        let writes = WRITES.get_with(tenant, || Arc::new(AtomicU64::new(NEXT.fetch_add(1, Ordering::Relaxed))));
        Self { tenant, sight: sight.clone(), question, written: writes.load(Ordering::Acquire) }
    }
}

/// Answers of one kind.
pub struct Hot<T>(Cache<Key, T>);

impl<T: Clone + Send + Sync + 'static> Hot<T> {
    fn new() -> Self {
        Self(Cache::builder().max_capacity(KEPT_MAX).time_to_live(KEPT).build())
    }

    /// The answer that is kept; else what `read` answers, kept from now on. The key must be older than the reading.
    ///
    /// # Errors
    /// What `read` fails with.
    pub async fn or(&self, key: Key, read: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        if let Some(kept) = self.0.get(&key) {
            return Ok(kept);
        }
        let answer = read.await?;
        self.0.insert(key, answer.clone());
        Ok(answer)
    }
}

/// Makes a tenant's counts new when it is dropped.
pub(crate) struct Changed(Uuid);

impl Changed {
    pub(crate) fn of(tenant: Uuid) -> Self {
        Self(tenant)
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        if let Some(writes) = WRITES.get(&self.0) {
            writes.store(NEXT.fetch_add(1, Ordering::Relaxed), Ordering::Release);
        }
    }
}

/// Lists that are kept take so many bytes at most, of all tenants.
const LISTS_MAX: u64 = 64 << 20;
/// A list that nobody asks for is forgotten after so long.
const LISTS_IDLE: Duration = Duration::from_secs(60);

/// Lists, as their bytes were answered.
#[derive(Clone)]
pub struct Lists {
    kept: Cache<(Proved, String), Option<(Moment, Bytes)>>,
    moments: Moments,
}

impl Lists {
    /// No lists yet, of that database. Must be called on a runtime.
    pub fn of(database: PgConnectOptions) -> Self {
        type Kept = Option<(Moment, Bytes)>;
        let weight = |(_, question): &(Proved, String), kept: &Kept| {
            let bytes = question.len() + kept.as_ref().map_or(0, |(_, bytes)| bytes.len());
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let kept = Cache::builder().max_capacity(LISTS_MAX).weigher(weight).time_to_idle(LISTS_IDLE).build();
        Self { kept, moments: Moments::of(database) }
    }

    /// What `asker` was answered to `question`, if nothing was committed since; else what `read` answers.
    ///
    /// # Errors
    /// What `read` fails with, which is not kept.
    pub async fn or<'r>(
        &self,
        asker: Proved,
        question: String,
        // Boxed: what is seldom polled is large, and would be moved with every request.
        read: impl FnOnce() -> BoxFuture<'r, Result<Bytes, Problem>>,
    ) -> Result<Bytes, Problem> {
        let key = (if on(Defect::ListsKept) { asker.of_nobody() } else { asker }, question);
        let Some(kept) = self.kept.get(&key) else {
            // Most are never asked for again: the moment of the first answer is not worth a question.
            let answer = read().await?;
            self.kept.insert(key, None);
            return Ok(answer);
        };
        let before = self.moments.now().await;
        if let Some((moment, answer)) = kept
            && (before.as_ref() == Some(&moment) || on(Defect::ListsKept))
        {
            return Ok(answer);
        }
        let answer = read().await?;
        // What is committed while it is read may show in it, or may not.
        if let Some(moment) = before
            && self.moments.now().await.as_ref() == Some(&moment)
        {
            self.kept.insert(key, Some((moment, answer.clone())));
        }
        Ok(answer)
    }
}
