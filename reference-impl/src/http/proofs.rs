//! Proofs that events are what they were when sealed: one chain of SHA-256 hashes per tenant.
//!
//! Every event has one link, at a position counted from 1. All hashes are lower-case hex here and 32 raw bytes where they
//! are hashed; `||` joins bytes.
//!
//! - `digest` is SHA-256 of the event's JSON text, byte by byte as `GET /v1/events/{id}` answers it. That text is part
//!   of the format: a field that is added to events must be left out of those that were sealed without it.
//! - `hash` is SHA-256 of `previous || digest`; `previous` is the hash of the link before, 32 zero bytes for the first.
//! - `path` holds the digests of the links that follow, in order, 1,000 at most. Each in turn, `hash` becomes SHA-256 of
//!   `hash || digest`; what comes out is the hash of `path_end`, whose position is as many further on.
//! - Where `path_end` lies before `head`, the proof of the event at `path_end` goes on from there, and its `hash` is that
//!   of `path_end`.
//!
//! Links stay when retention deletes their events: the archive holds an event's text as it was sealed, and the proof of
//! the event holds for that text. What is restored is sealed already.
//!
//! One who keeps a head can thus tell later whether anything before it was changed, removed or put in between: the
//! proof of any event must lead to the head that was kept. A head that nobody kept proves nothing.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::extract::Ids;
use crate::caller::{Allowed, Caller, Oversees};
use crate::problem::{Problem, Refusals};

/// Events that are sealed in one transaction.
pub const BATCH: i64 = 500;
/// Batches that one request seals at most.
const BATCHES_MAX: usize = 10;
/// Later links in one proof.
const PATH_MAX: i64 = 1_000;

/// A place in the chain.
#[derive(Debug, Serialize, ToSchema)]
pub struct Head {
    /// The position, 0 before the first link.
    #[schema(minimum = 0)]
    pub position: i64,
    /// The hash there, as hex.
    pub hash: String,
}

/// The end of the chain.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChainHead {
    /// Where it is.
    #[serde(flatten)]
    pub head: Head,
    /// Whether all events that were there are sealed; ask again when they are not.
    pub complete: bool,
}

/// One link.
#[derive(Debug, Serialize, ToSchema)]
pub struct Link {
    /// Its position.
    pub position: i64,
    /// Its event.
    pub event_id: Uuid,
    /// Its hash, as hex.
    pub hash: String,
}

/// The proof of one event.
#[derive(Debug, Serialize, ToSchema)]
pub struct Proof {
    /// The event.
    pub event_id: Uuid,
    /// Its position in the chain.
    pub position: i64,
    /// The hash before it, as hex.
    pub previous: String,
    /// The event's digest, as hex.
    pub digest: String,
    /// The hash after it, as hex.
    pub hash: String,
    /// The digests of the links that follow, 1,000 at most.
    pub path: Vec<String>,
    /// The last of them; the event's own link when none follows.
    pub path_end: Link,
    /// The end of the chain.
    pub head: Head,
}

/// Tells where the chain ends.
#[utoipa::path(get, path = "/v1/proofs/head", operation_id = "get_chain_head", security(("bearer" = [])),
    responses((status = 200, description = "The end of the chain", body = ChainHead),
        Refusals))]
pub async fn get_chain_head(Allowed(caller, _): Allowed<Oversees>) -> Result<Json<ChainHead>, Problem> {
    let complete = sealed(&caller).await?;
    let head = caller.run(|store| Box::pin(store.head())).await?;
    Ok(Json(ChainHead { head, complete }))
}

/// Proves an event.
#[utoipa::path(get, path = "/v1/proofs/{id}", operation_id = "get_proof", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event")),
    responses((status = 200, description = "Its proof", body = Proof),
        Refusals))]
pub async fn get_proof(Allowed(caller, _): Allowed<Oversees>, Ids([id]): Ids<1>) -> Result<Json<Proof>, Problem> {
    sealed(&caller).await?;
    caller.run(move |store| Box::pin(store.proof(id, PATH_MAX))).await.map(Json)
}

/// Seals what waits, in batches of a transaction each; whether nothing is left.
async fn sealed(caller: &Caller) -> Result<bool, Problem> {
    for _ in 0..BATCHES_MAX {
        let count = caller.run(|store| Box::pin(store.seal(BATCH))).await?;
        if i64::try_from(count).is_ok_and(|count| count < BATCH) {
            return Ok(true);
        }
    }
    Ok(false)
}
