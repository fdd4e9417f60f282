//! Sends what waits at a webhook: a batch at a time, each event read again behind its tenant's wall. A worker that dies
//! half-way has sent some of a batch without having noted it, and these are sent again under the same id: every event
//! arrives at least once, and in no particular order.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::careless;
use crate::courier::{Attempt, Courier};
use crate::defects::{Defect, on};
use crate::http::event::Event;
use crate::problem::Problem;
use crate::scope::TenantScope;
use crate::store::deliveries::{Due, Told};

/// Messages under way at a time, to one webhook.
const BATCH: i64 = 8;
/// No batch begins later than this after the first: others of the tenant wait.
const TURN: Duration = Duration::from_secs(4);
/// Pauses after the attempts that fail, seconds: the schedule that Standard Webhooks proposes. After as many it ends.
const PAUSES_S: [i64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// A message, as Standard Webhooks has it.
#[derive(Serialize)]
struct Message<'e> {
    /// The event's action.
    #[serde(rename = "type")]
    kind: &'e str,
    /// When it happened.
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
    /// The event.
    data: &'e Event,
}

/// Sends what is due at the webhook `id`, for one turn, and lets its job come back while something waits.
///
/// # Errors
/// [`Problem::NotFound`] when the tenant has no such webhook, or an event that was to be sent is not its own; what else
/// the database fails with.
pub(crate) async fn send(scope: &TenantScope, courier: &Courier, id: Uuid) -> Result<(), Problem> {
    let (began, mut unseen) = (Instant::now(), false);
    while began.elapsed() < TURN {
        let due = scope.run(move |store| Box::pin(store.take_due(id, BATCH))).await?;
        if due.deliveries.is_empty() {
            break;
        }
        let told = join_all(due.deliveries.iter().map(|delivery| {
            let (url, of, event) = (&due.url, due.secret, delivery.event.as_ref());
            async move {
                let attempt = match event.map(message) {
                    Some(body) => {
                        let body = body?;
                        if on(Defect::DeliveriesShared) {
                            for other in careless::addresses(url) {
                                courier.send(&other, of, delivery.id, body.clone()).await;
                            }
                        }
                        courier.send(url, of, delivery.id, body).await
                    }
                    None => Attempt::Refused("its event is gone"),
                };
                Ok::<_, Problem>(told(delivery, attempt))
            }
        }));
        let told = told.await.into_iter().collect::<Result<Vec<Told>, Problem>>()?;
        unseen |= due.deliveries.iter().any(|delivery| delivery.event.is_none());
        scope.run(move |store| Box::pin(async move { store.tell(&told).await })).await?;
    }
    let ending = scope.run(move |store| {
        Box::pin(async move {
            store.forget_deliveries(id).await?;
            store.come_back(id).await
        })
    });
    ending.await?;
    if unseen { Err(Problem::NotFound) } else { Ok(()) }
}

fn message(event: &Event) -> Result<String, Problem> {
    let message = Message { kind: &event.action, timestamp: event.occurred_at, data: event };
    serde_json::to_string(&message).map_err(|_| Problem::Internal)
}

/// What is noted of an attempt.
fn told(delivery: &Due, attempt: Attempt) -> Told {
    let pause_s = usize::try_from(delivery.attempts).ok().and_then(|made| PAUSES_S.get(made).copied());
    Told { id: delivery.id, pause_s: pause_s.filter(|_| !matches!(attempt, Attempt::Refused(_))), attempt }
}
