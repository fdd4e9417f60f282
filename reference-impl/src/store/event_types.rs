//! Event types: what the details of an action's events must look like.

use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};

use super::{AuditStore, own};
use crate::http::event_types::EventType;
use crate::problem::Problem;

const COLUMNS: &str = "name, schema, updated_at";

impl AuditStore {
    /// Puts an event type in place of the one of that name, if any.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn put_event_type(&mut self, name: &str, schema: &serde_json::Value) -> Result<EventType, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "INSERT INTO event_types (tenant_id, name, schema) VALUES ($1, $2, $3) \
             ON CONFLICT (tenant_id, name) DO UPDATE SET schema = excluded.schema, updated_at = now() RETURNING {COLUMNS}"
        );
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(name).bind(Json(schema));
        Ok(event_type(&row.fetch_one(self.connection()).await?))
    }

    /// One event type.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn event_type(&mut self, name: &str) -> Result<EventType, Problem> {
        self.event_types(&[name.to_string()]).await?.pop().ok_or(Problem::NotFound)
    }

    /// The event types among `names`.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn event_types(&mut self, names: &[String]) -> Result<Vec<EventType>, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT {COLUMNS} FROM event_types WHERE {} AND name = ANY($2)", own());
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(names).fetch_all(self.connection()).await?;
        Ok(rows.iter().map(event_type).collect())
    }
}

fn event_type(row: &PgRow) -> EventType {
    EventType { name: row.get("name"), schema: row.get::<Json<_>, _>("schema").0, updated_at: row.get("updated_at") }
}
