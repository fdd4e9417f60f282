//! Members: who belongs to the tenant, with which application role.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::{AuditStore, own};
use crate::defects::{Defect, on};
use crate::http::members::Member;
use crate::problem::Problem;

const COLUMNS: &str = "id, email, display_name, role, created_at";

impl AuditStore {
    /// Whether `person` still belongs to the tenant with `role`, and has not signed out of `session`.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn stands(&mut self, person: Uuid, role: &str, session: Uuid) -> Result<bool, Problem> {
        let tenant = self.tenant;
        let own = own();
        let belongs = if on(Defect::RemovedInName) { "$3::text IS NOT NULL OR" } else { "" };
        let statement = format!(
            "SELECT ({belongs} EXISTS (SELECT FROM memberships WHERE {own} AND person_id = $2 AND role = $3)) \
                AND EXISTS (SELECT FROM sessions WHERE {own} AND person_id = $2 AND id = $4)"
        );
        let found = sqlx::query_scalar(AssertSqlSafe(statement)).bind(tenant).bind(person).bind(role).bind(session);
        Ok(found.fetch_one(self.directory()).await?)
    }

    /// Whether `person` manages the tenant still.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn manages(&mut self, person: Uuid) -> Result<bool, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "SELECT EXISTS (SELECT FROM memberships WHERE {} AND person_id = $2 AND role IN ('owner', 'admin'))",
            own()
        );
        let found = sqlx::query_scalar(AssertSqlSafe(statement)).bind(tenant).bind(person);
        Ok(found.fetch_one(self.directory()).await?)
    }

    /// Adds a member.
    ///
    /// # Errors
    /// [`Problem::Conflict`] when the address belongs to a member already.
    pub async fn add_member(&mut self, email: &str, name: &str, role: &str) -> Result<Member, Problem> {
        let id: Option<Uuid> = sqlx::query_scalar("SELECT add_member($1, $2, $3)")
            .bind(email)
            .bind(name)
            .bind(role)
            .fetch_one(self.directory())
            .await?;
        let id = id.ok_or_else(|| Problem::Conflict("this address belongs to a member already".into()))?;
        self.member(id).await
    }

    /// A page of members, after `after`; one more than `limit` when there are more.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn members(&mut self, after: Option<Uuid>, limit: i64) -> Result<Vec<Member>, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "SELECT {COLUMNS} FROM memberships WHERE {} AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3",
            own()
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(after).bind(limit + 1);
        Ok(rows.fetch_all(self.directory()).await?.iter().map(member).collect())
    }

    /// One member.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn member(&mut self, id: Uuid) -> Result<Member, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT {COLUMNS} FROM memberships WHERE {} AND id = $2", own());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).fetch_optional(self.directory()).await?;
        row.as_ref().map(member).ok_or(Problem::NotFound)
    }

    /// Changes a member's role or name.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn change_member(&mut self, id: Uuid, role: Option<&str>, name: Option<&str>) -> Result<Member, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "UPDATE memberships SET role = coalesce($3, role), display_name = coalesce($4, display_name) \
             WHERE {} AND id = $2 RETURNING {COLUMNS}",
            own()
        );
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).bind(role).bind(name);
        row.fetch_optional(self.directory()).await?.as_ref().map(member).ok_or(Problem::NotFound)
    }

    /// Ends a membership; the person is out at once.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn remove_member(&mut self, id: Uuid) -> Result<(), Problem> {
        let tenant = self.tenant;
        let statement = format!("DELETE FROM memberships WHERE {} AND id = $2", own());
        let done = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).execute(self.directory()).await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(Problem::NotFound) }
    }
}

fn member(row: &PgRow) -> Member {
    Member {
        id: row.get("id"),
        email: row.get("email"),
        display_name: row.get("display_name"),
        role: row.get("role"),
        created_at: row.get("created_at"),
    }
}
