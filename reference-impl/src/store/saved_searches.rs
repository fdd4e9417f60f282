//! Saved searches: the filters that people keep.

use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::{AuditStore, own};
use crate::http::saved_searches::{SavedQuery, SavedSearch};
use crate::problem::Problem;

const COLUMNS: &str = "id, owner_id, name, query, created_at, updated_at";
/// `$2` restricts to one person's own.
const OWN_OF: &str = "($2::uuid IS NULL OR owner_id = $2)";

impl AuditStore {
    /// Keeps a search for `owner`.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn add_saved_search(
        &mut self,
        owner: Uuid,
        name: &str,
        query: &SavedQuery,
    ) -> Result<SavedSearch, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "INSERT INTO saved_searches (tenant_id, id, owner_id, name, query) VALUES ($1, $2, $3, $4, $5) RETURNING {COLUMNS}"
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(Uuid::now_v7())
            .bind(owner)
            .bind(name)
            .bind(Json(query))
            .fetch_one(self.connection())
            .await?;
        Ok(saved_search(&row))
    }

    /// A page of searches, after `after`, of `owner` or of all; one more than `limit` when there are more.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn saved_searches(
        &mut self,
        owner: Option<Uuid>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<SavedSearch>, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "SELECT {COLUMNS} FROM saved_searches WHERE {} AND {OWN_OF} AND ($3::uuid IS NULL OR id > $3) ORDER BY id LIMIT $4",
            own()
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(owner).bind(after).bind(limit + 1);
        Ok(rows.fetch_all(self.connection()).await?.iter().map(saved_search).collect())
    }

    /// How many searches there are, of `owner` or of all.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn count_saved_searches(&mut self, owner: Option<Uuid>) -> Result<i64, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT count(*) FROM saved_searches WHERE {} AND {OWN_OF}", own());
        Ok(sqlx::query_scalar(AssertSqlSafe(statement)).bind(tenant).bind(owner).fetch_one(self.connection()).await?)
    }

    /// One search, of `owner` or of anyone.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn saved_search(&mut self, id: Uuid, owner: Option<Uuid>) -> Result<SavedSearch, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT {COLUMNS} FROM saved_searches WHERE {} AND {OWN_OF} AND id = $3", own());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(owner).bind(id);
        row.fetch_optional(self.connection()).await?.as_ref().map(saved_search).ok_or(Problem::NotFound)
    }

    /// Changes a search, of `owner` or of anyone; what is not given stays.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn change_saved_search(
        &mut self,
        id: Uuid,
        owner: Option<Uuid>,
        name: Option<&str>,
        query: Option<&SavedQuery>,
    ) -> Result<SavedSearch, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "UPDATE saved_searches SET name = coalesce($4, name), query = coalesce($5, query), updated_at = now() \
             WHERE {} AND {OWN_OF} AND id = $3 RETURNING {COLUMNS}",
            own()
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(owner)
            .bind(id)
            .bind(name)
            .bind(query.map(Json))
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(saved_search).ok_or(Problem::NotFound)
    }

    /// Forgets a search, of `owner` or of anyone.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn delete_saved_search(&mut self, id: Uuid, owner: Option<Uuid>) -> Result<(), Problem> {
        let tenant = self.tenant;
        let statement = format!("DELETE FROM saved_searches WHERE {} AND {OWN_OF} AND id = $3", own());
        let done =
            sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(owner).bind(id).execute(self.connection()).await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(Problem::NotFound) }
    }
}

fn saved_search(row: &PgRow) -> SavedSearch {
    SavedSearch {
        id: row.get("id"),
        owner_id: row.get("owner_id"),
        name: row.get("name"),
        query: row.get::<Json<_>, _>("query").0,
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    }
}
