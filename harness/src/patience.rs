//! How long a target is waited for that asks to be left alone, or that has to recover.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Once, at most.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// In all, while one pool state is driven.
const PATIENCE: Duration = Duration::from_secs(300);

/// A budget of waiting, which all lanes share.
pub struct Patience {
    left_ms: AtomicU64,
    in_vain: AtomicBool,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left_ms: AtomicU64::new(PATIENCE.as_millis() as u64), in_vain: AtomicBool::new(false) }
    }
}

impl Patience {
    /// Takes `time` out of the budget; false when it is asked for too much, or too little is left.
    pub fn spend(&self, time: Duration) -> bool {
        let ms = time.as_millis() as u64;
        let rest = |left: u64| left.checked_sub(ms).filter(|_| time <= RETRY_AFTER_MAX);
        self.left_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).is_ok()
    }

    /// Waits no more for a recovery: one was waited for to its end, and did not come.
    pub fn give_up(&self) {
        self.in_vain.store(true, Ordering::Relaxed);
    }

    /// Whether a recovery is still worth waiting for.
    pub fn hopes(&self) -> bool {
        !self.in_vain.load(Ordering::Relaxed)
    }
}
