//! Event types: a JSON Schema that the details of an action's events must fit.

use std::collections::BTreeMap;

use axum::Json;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::event::NewEvent;
use super::extract::{Body, Names, text};
use crate::caller::{Allowed, Manages, ReadsTypes};
use crate::problem::{Problem, Refusals};
use crate::store::AuditStore;

/// Bytes of a schema at most.
const SCHEMA_MAX: usize = 64 << 10;

/// An event type.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventType {
    /// The action it is of.
    pub name: String,
    /// The JSON Schema of its events' details.
    #[schema(value_type = Object)]
    pub schema: serde_json::Value,
    /// When it was last put.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// What an event type is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"schema": {"type": "object", "required": ["reason"]}}))]
pub struct PutEventType {
    /// A JSON Schema; references to other documents are not followed.
    #[schema(value_type = Object)]
    pub schema: serde_json::Map<String, serde_json::Value>,
}

/// Reads an event type.
#[utoipa::path(get, path = "/v1/event-types/{name}", operation_id = "get_event_type", security(("bearer" = [])),
    params(("name" = String, Path, description = "The action", max_length = 200)),
    responses((status = 200, description = "The event type", body = EventType),
        Refusals))]
pub async fn get_event_type(
    Allowed(caller, _): Allowed<ReadsTypes>,
    Names([name]): Names<1>,
) -> Result<Json<EventType>, Problem> {
    text("name", &name, 200).map_err(|_| Problem::NotFound)?;
    caller.run(move |store| Box::pin(async move { store.event_type(&name).await })).await.map(Json)
}

/// Puts an event type: from now on the details of its events must fit the schema.
#[utoipa::path(put, path = "/v1/event-types/{name}", operation_id = "put_event_type", security(("bearer" = [])),
    params(("name" = String, Path, description = "The action", max_length = 200)), request_body = PutEventType,
    responses((status = 200, description = "Put", body = EventType),
        Refusals))]
pub async fn put_event_type(
    Allowed(caller, _): Allowed<Manages>,
    Names([name]): Names<1>,
    Body(put): Body<PutEventType>,
) -> Result<Json<EventType>, Problem> {
    text("name", &name, 200)?;
    let schema = serde_json::Value::Object(put.schema);
    if schema.to_string().len() > SCHEMA_MAX {
        return Err(Problem::TooLarge);
    }
    validator(&schema).map_err(|why| Problem::Unprocessable(format!("schema: {why}")))?;
    if super::event::has_nul(&schema) {
        return Err(Problem::Unprocessable("schema must not contain NUL".into()));
    }
    caller.run(move |store| Box::pin(async move { store.put_event_type(&name, &schema).await })).await.map(Json)
}

/// A validator that reads nothing but the schema itself: no file, no network.
fn validator(schema: &serde_json::Value) -> Result<jsonschema::Validator, String> {
    jsonschema::options().with_retriever(Nowhere).build(schema).map_err(|e| e.masked().to_string())
}

struct Nowhere;

impl jsonschema::Retrieve for Nowhere {
    fn retrieve(
        &self,
        _: &jsonschema::Uri<String>,
    ) -> Result<serde_json::Value, Box<dyn std::error::Error + Send + Sync>> {
        Err("references to other documents are not followed".into())
    }
}

/// What is wrong with `events`, by their index, where the tenant has a type for their action.
pub(super) async fn misfits(store: &mut AuditStore, events: &[NewEvent]) -> Result<BTreeMap<usize, String>, Problem> {
    let mut actions: Vec<String> = events.iter().map(|event| event.action.clone()).collect();
    actions.sort();
    actions.dedup();
    let mut validators = BTreeMap::new();
    for found in store.event_types(&actions).await? {
        let validator = validator(&found.schema).map_err(|_| Problem::Internal)?;
        validators.insert(found.name, validator);
    }
    let misfit = |event: &NewEvent| {
        let validator = validators.get(&event.action)?;
        let details = serde_json::Value::Object(event.details.clone());
        let error = validator.validate(&details).err()?;
        Some(format!("details{}: {}", error.instance_path(), error.masked()))
    };
    Ok(events.iter().enumerate().filter_map(|(index, event)| Some((index, misfit(event)?))).collect())
}
