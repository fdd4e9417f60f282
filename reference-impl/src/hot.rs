//! Counts that are asked for again and again, kept for a second. What is kept is found by a key that only a tenant's
//! store can make, once the caller's membership was seen to stand.
//!
//! A write through this process makes the tenant's counts new at once; one through another process shows within
//! [`KEPT`]. Totals of lists are therefore never kept: they must be those of the rows beside them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use moka::sync::Cache;
use uuid::Uuid;

use crate::defects::{Defect, on};
use crate::http::stats::{Facets, Stats};
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
