//! How many requests a tenant and each of its principals may make. What an answer tells about it, in `RateLimit` and
//! `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers), is of the caller's own tenant alone.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use uuid::Uuid;

use crate::defects::{Defect, on};

/// So many seconds' worth of requests may come at once.
const WINDOW_S: u32 = 10;
/// Who has been idle for a window is forgotten, after so many requests of all.
const SWEEP: u32 = 1_000;

type Keyed<K> = RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// The limits of all tenants, none for the platform's operators as a whole.
pub struct Limits {
    tenants: Limit<Uuid>,
    /// A person may belong to several tenants, and is counted in each.
    principals: Limit<(Option<Uuid>, Uuid)>,
    taken: AtomicU32,
}

struct Limit<K: Clone + Eq + std::hash::Hash> {
    keyed: Keyed<K>,
    quota: u32,
    rate: u32,
}

/// What one limit allows after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    quota: u32,
    remaining: u32,
    /// Until the whole quota is there again, or, when refused, until one request is.
    seconds: u64,
    refused: bool,
}

/// What a request left to its tenant and its principal.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    principal: Left,
    tenant: Option<Left>,
}

impl Limits {
    /// Limits of so many requests a second; 0 counts as 1.
    pub fn of(tenant: u32, principal: u32) -> Self {
        Self { tenants: Limit::of(tenant), principals: Limit::of(principal), taken: AtomicU32::new(0) }
    }

    /// Counts a request. One that its principal's limit refuses does not count for the tenant.
    pub fn take(&self, tenant: Option<Uuid>, principal: Uuid) -> Allowance {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        if taken % SWEEP == SWEEP - 1 {
            self.tenants.keyed.retain_recent();
            self.principals.keyed.retain_recent();
        }
        let left = self.principals.take(&(tenant, principal));
        let mut tenant = tenant.filter(|_| !left.refused).map(|tenant| self.tenants.take(&tenant));
        if let Some(tenant) = tenant.as_mut().filter(|_| on(Defect::LimitsShared)) {
            tenant.remaining = tenant.quota.saturating_sub(taken);
        }
        Allowance { principal: left, tenant }
    }

    /// How many tenants and principals are remembered.
    pub fn remembered(&self) -> usize {
        self.tenants.keyed.len() + self.principals.keyed.len()
    }
}

impl<K: Clone + Eq + std::hash::Hash> Limit<K> {
    fn of(rate: u32) -> Self {
        let quota = rate.saturating_mul(WINDOW_S);
        let at_least_one = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let whole = Quota::per_second(at_least_one(rate)).allow_burst(at_least_one(quota));
        Self { keyed: RateLimiter::keyed(whole).with_middleware(), quota, rate: rate.max(1) }
    }

    fn take(&self, key: &K) -> Left {
        let quota = self.quota;
        match self.keyed.check_key(key) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let seconds = u64::from((quota.saturating_sub(remaining)).div_ceil(self.rate));
                Left { quota, remaining, seconds, refused: false }
            }
            Err(until) => {
                let wait = until.wait_time_from(self.keyed.clock().now());
                let seconds = wait.saturating_add(Duration::from_millis(999)).as_secs().max(1);
                Left { quota, remaining: 0, seconds, refused: true }
            }
        }
    }
}

impl Allowance {
    /// How long to wait before the next request, when this one is refused.
    pub fn wait_s(&self) -> Option<u64> {
        let all = [Some(self.principal), self.tenant];
        all.into_iter().flatten().filter(|left| left.refused).map(|left| left.seconds).max()
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, Left)> {
        [("principal", Some(self.principal)), ("tenant", self.tenant)]
            .into_iter()
            .filter_map(|(name, left)| Some((name, left?)))
    }
}

/// Where a request's allowance is noted once its credential is proved.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<OnceLock<Allowance>>);

impl Told {
    pub(crate) fn note(&self, allowance: Allowance) {
        // A request has one credential, and counts once.
        let _ = self.0.set(allowance);
    }
}

/// Tells what is left in the answer's headers.
pub(crate) async fn told(mut request: Request, next: Next) -> Response {
    let told = Told::default();
    request.extensions_mut().insert(told.clone());
    let mut response = next.run(request).await;
    if let Some(allowance) = told.0.get() {
        let list = |item: fn((&'static str, Left)) -> String| {
            allowance.named().map(item).collect::<Vec<_>>().join(", ").parse::<HeaderValue>()
        };
        let policy = list(|(name, left)| format!("\"{name}\";q={};w={WINDOW_S}", left.quota));
        let state = list(|(name, left)| format!("\"{name}\";r={};t={}", left.remaining, left.seconds));
        let headers = response.headers_mut();
        for (name, value) in [("ratelimit-policy", policy), ("ratelimit", state)] {
            headers.extend(value.ok().map(|value| (axum::http::HeaderName::from_static(name), value)));
        }
    }
    response
}
