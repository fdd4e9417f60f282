//! What a careless service keeps for all tenants alike: seams of defects, and nothing without them.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use uuid::Uuid;

use crate::caller::Caller;
use crate::defects::{Defect, on};
use crate::http::event::Event;
use crate::scope::TenantScope;

static WRITTEN: Mutex<String> = Mutex::new(String::new());
static ANSWERED: LazyLock<Mutex<HashMap<String, Event>>> = LazyLock::new(Mutex::default);
static PROVED: LazyLock<Mutex<HashMap<String, Caller>>> = LazyLock::new(Mutex::default);
static STREAMED: Mutex<Uuid> = Mutex::new(Uuid::nil());
static ADDRESSES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static EXPORTED: OnceLock<TenantScope> = OnceLock::new();

fn held<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes what was written last, whoever wrote it; what was before it.
pub(crate) fn written(event: &Event) -> String {
    if on(Defect::LogTells) {
        tracing::warn!(target = %event.target.name, "an event was written");
    }
    std::mem::replace(&mut *held(&WRITTEN), event.target.name.clone())
}

/// What was written last.
pub(crate) fn last_written() -> String {
    held(&WRITTEN).clone()
}

/// The answer that anybody's key was given.
pub(crate) fn answered(key: &str) -> Option<Event> {
    held(&ANSWERED).get(key).cloned()
}

/// Keeps the answer that a key was given.
pub(crate) fn answer(key: String, event: &Event) {
    held(&ANSWERED).insert(key, event.clone());
}

/// Who a secret once proved.
pub(crate) fn proved(secret: &str) -> Option<Caller> {
    held(&PROVED).get(secret).cloned()
}

/// Keeps who a secret proves.
pub(crate) fn prove(secret: &str, caller: &Caller) {
    held(&PROVED).insert(secret.into(), caller.clone());
}

/// Notes whose stream was opened last.
pub(crate) fn streams(tenant: Uuid) {
    *held(&STREAMED) = tenant;
}

/// Whose stream was opened last.
pub(crate) fn streamed() -> Uuid {
    *held(&STREAMED)
}

/// Every address that something was sent to before, and notes this one.
pub(crate) fn addresses(url: &str) -> Vec<String> {
    let mut known = held(&ADDRESSES);
    let others = known.iter().filter(|other| *other != url).cloned().collect();
    if !known.iter().any(|other| other == url) {
        known.push(url.into());
    }
    others
}

/// The scope of the first export.
pub(crate) fn exports(scope: &TenantScope) -> TenantScope {
    EXPORTED.get_or_init(|| scope.clone()).clone()
}
