//! An event, as it is sent and as it is kept.

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, UtcOffset};
use utoipa::ToSchema;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, SchemaFormat, Type};
use uuid::Uuid;

use super::extract::{object, text};
use crate::problem::Problem;
use crate::store::events::id_of;

/// Who did it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// Its id.
    pub id: Uuid,
    /// Its address, as the sender knows it.
    #[schema(max_length = 320)]
    pub email: String,
    /// Its name.
    #[schema(max_length = 200)]
    pub name: String,
}

/// To what it was done.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its type.
    #[serde(rename = "type")]
    #[schema(max_length = 100)]
    pub kind: String,
    /// Its id.
    #[schema(max_length = 200)]
    pub id: String,
    /// Its name.
    #[schema(max_length = 200)]
    pub name: String,
}

/// How it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    #[default]
    Success,
    /// It was not.
    Failure,
}

impl Outcome {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// An event as it is sent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "actor": {"id": "0190a5d4-0000-7000-8000-000000000001", "email": "ada@example.org", "name": "Ada"},
    "action": "document.shared",
    "target": {"type": "document", "id": "d-17", "name": "Budget"},
    "details": {"with": "everyone"}
}))]
pub struct NewEvent {
    /// When it happened; now, when absent.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub occurred_at: Option<OffsetDateTime>,
    /// Who did it.
    #[serde(deserialize_with = "object")]
    pub actor: Actor,
    /// What was done.
    #[schema(max_length = 200)]
    pub action: String,
    /// To what.
    #[serde(deserialize_with = "object")]
    pub target: Target,
    /// How it ended.
    #[serde(default)]
    pub outcome: Outcome,
    /// From where.
    #[serde(default)]
    #[schema(schema_with = address)]
    pub source_ip: Option<std::net::IpAddr>,
    /// With what.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub user_agent: Option<String>,
    /// The sender's own id of it.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub external_id: Option<String>,
    /// What else is known.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub details: serde_json::Map<String, serde_json::Value>,
}

/// An event as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its id.
    pub id: Uuid,
    /// When it happened.
    #[serde(with = "time::serde::rfc3339")]
    pub occurred_at: OffsetDateTime,
    /// When it was written.
    #[serde(with = "time::serde::rfc3339")]
    pub recorded_at: OffsetDateTime,
    /// Who did it.
    pub actor: Actor,
    /// What was done.
    pub action: String,
    /// To what.
    pub target: Target,
    /// How it ended.
    pub outcome: Outcome,
    /// From where.
    #[schema(schema_with = address)]
    pub source_ip: Option<std::net::IpAddr>,
    /// With what.
    pub user_agent: Option<String>,
    /// The sender's own id of it.
    pub external_id: Option<String>,
    /// What else is known.
    #[schema(value_type = Object)]
    pub details: serde_json::Map<String, serde_json::Value>,
}

/// An IP address of either kind, or null.
fn address() -> Schema {
    let one = |format: &str| {
        ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::Custom(format.into()))).build()
    };
    let null = ObjectBuilder::new().schema_type(Type::Null).build();
    AnyOfBuilder::new().item(one("ipv4")).item(one("ipv6")).item(null).build().into()
}

impl NewEvent {
    /// Refuses what cannot be kept.
    pub(super) fn check(&self) -> Result<(), Problem> {
        text("actor.email", &self.actor.email, 320)?;
        text("actor.name", &self.actor.name, 200)?;
        text("action", &self.action, 200)?;
        text("target.type", &self.target.kind, 100)?;
        text("target.id", &self.target.id, 200)?;
        text("target.name", &self.target.name, 200)?;
        text("user_agent", self.user_agent.as_deref().unwrap_or_default(), 500)?;
        text("external_id", self.external_id.as_deref().unwrap_or_default(), 200)?;
        if let Some(at) = self.occurred_at
            && !(1900..=2200).contains(&at.year())
        {
            return Err(Problem::Unprocessable("occurred_at must lie between 1900 and 2200".into()));
        }
        if self.details.iter().any(|(key, value)| key.contains('\0') || has_nul(value)) {
            Err(Problem::Unprocessable("details must not contain NUL".into()))
        } else {
            Ok(())
        }
    }

    /// The event as it is kept from now on.
    pub fn recorded(self) -> Event {
        // Postgres keeps microseconds and the instant alone; what is answered is what is kept.
        let kept =
            |at: OffsetDateTime| at.replace_microsecond(at.microsecond()).unwrap_or(at).to_offset(UtcOffset::UTC);
        let now = kept(OffsetDateTime::now_utc());
        let at = self.occurred_at.map_or(now, kept);
        Event {
            id: id_of(at),
            occurred_at: at,
            recorded_at: now,
            actor: self.actor,
            action: self.action,
            target: self.target,
            outcome: self.outcome,
            source_ip: self.source_ip,
            user_agent: self.user_agent,
            external_id: self.external_id,
            details: self.details,
        }
    }
}

/// Postgres keeps every character but NUL.
pub(super) fn has_nul(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains('\0'),
        serde_json::Value::Array(values) => values.iter().any(has_nul),
        serde_json::Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        _ => false,
    }
}
