//! How long a target that answers 429 is waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Once, at most.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// In all, while one pool state is driven.
const PATIENCE: Duration = Duration::from_secs(300);

/// A budget of waiting, which all lanes share.
pub struct Patience(AtomicU64);

impl Default for Patience {
    fn default() -> Self {
        Self(AtomicU64::new(PATIENCE.as_millis() as u64))
    }
}

impl Patience {
    /// Takes `time` out of the budget; false when it is asked for too much, or too little is left.
    pub fn spend(&self, time: Duration) -> bool {
        let ms = time.as_millis() as u64;
        let rest = |left: u64| left.checked_sub(ms).filter(|_| time <= RETRY_AFTER_MAX);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).is_ok()
    }
}
