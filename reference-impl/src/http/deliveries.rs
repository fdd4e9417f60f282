//! Deliveries: what was sent to a webhook, what will be, and how it went.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::extract::{Ids, Params};
use super::page::{List, Page};
use crate::caller::{Allowed, Manages, Oversees};
use crate::cursor::Position;
use crate::problem::{Problem, Refusals};

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It waits for its first attempt, or for the next.
    Waiting,
    /// The receiver took it.
    Delivered,
    /// It was given up.
    Failed,
    /// It came due while nothing was to be sent.
    Cancelled,
}

impl DeliveryState {
    /// The state of that word.
    pub(crate) fn of_word(word: &str) -> Self {
        match word {
            "waiting" => Self::Waiting,
            "delivered" => Self::Delivered,
            "cancelled" => Self::Cancelled,
            _ => Self::Failed,
        }
    }
}

/// One event's way to one webhook.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    /// Its id: the `webhook-id` of every attempt.
    pub id: Uuid,
    /// The webhook.
    pub webhook_id: Uuid,
    /// The event.
    pub event_id: Uuid,
    /// How far it is.
    pub state: DeliveryState,
    /// Attempts made.
    pub attempts: i32,
    /// The status that the last attempt was answered with.
    pub last_status: Option<i32>,
    /// Why the last attempt had no answer, or why it was not made.
    pub last_error: Option<String>,
    /// When the last attempt was made.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_attempt_at: Option<OffsetDateTime>,
    /// When the next is made, at the earliest.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_attempt_at: Option<OffsetDateTime>,
    /// When the event was written.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// Lists a webhook's deliveries, newest first.
#[utoipa::path(get, path = "/v1/webhooks/{id}/deliveries", operation_id = "list_deliveries", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The webhook"), Page),
    responses((status = 200, description = "A page", body = List<Delivery>),
        Refusals))]
pub async fn list_deliveries(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Oversees>,
    Ids([id]): Ids<1>,
    Params(page): Params<Page>,
) -> Result<Json<List<Delivery>>, Problem> {
    let position = |delivery: &Delivery| Position::of_id(delivery.id);
    page.answer(&app, &caller, format!("deliveries {id}"), position, move |store, asked| {
        Box::pin(async move {
            let items = store.deliveries(id, asked.after_id(), asked.limit).await?;
            Ok((items, if asked.count { Some(store.count_deliveries(id).await?) } else { None }))
        })
    })
    .await
}

/// Sends a delivery again, under the same id, however it ended.
#[utoipa::path(post, path = "/v1/webhooks/{id}/deliveries/{delivery}/redeliver", operation_id = "redeliver", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The webhook"), ("delivery" = Uuid, Path, description = "The delivery")),
    responses((status = 202, description = "It is sent as soon as may be", body = Delivery),
        Refusals))]
pub async fn redeliver(
    Allowed(caller, _): Allowed<Manages>,
    Ids([id, delivery]): Ids<2>,
) -> Result<(StatusCode, Json<Delivery>), Problem> {
    let again = caller.run(move |store| Box::pin(store.redeliver(id, delivery))).await?;
    Ok((StatusCode::ACCEPTED, Json(again)))
}
