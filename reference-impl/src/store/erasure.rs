//! Erasing the tenant, row after row, wherever its tables are. What deletes is in the database, and deletes nothing of a
//! tenant that is not being erased.

use sqlx::AssertSqlSafe;

use super::AuditStore;
use crate::http::tenant::Tenant;
use crate::problem::Problem;
use crate::storage::lock_of;

impl AuditStore {
    /// The tenant, when it may be erased: no legal hold is put on it until the transaction ends.
    ///
    /// # Errors
    /// [`Problem::Conflict`] while a legal hold is on.
    pub async fn erasable_tenant(&mut self) -> Result<Tenant, Problem> {
        if self.held().await? {
            return Err(Problem::Conflict("a legal hold is on".into()));
        }
        self.tenant().await
    }

    /// Begins to erase the tenant, and adds the job that goes on: both or neither.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn begin_erasure(&mut self) -> Result<(), Problem> {
        let tenant = self.tenant;
        self.events_changed = true;
        for connection in self.opened.connections() {
            sqlx::query("SELECT begin_erasure()").execute(connection).await?;
        }
        sqlx::query("SELECT enqueue_job('erase', $1)").bind(tenant).execute(self.directory()).await?;
        Ok(())
    }

    /// Whether nobody who came in before the erasure began is still at work. Asked again and again rather than waited
    /// for: behind one who waits everybody else would.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn deserted(&mut self) -> Result<bool, Problem> {
        let statement = format!("SELECT pg_try_advisory_xact_lock({})", lock_of(self.tenant));
        Ok(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(self.directory()).await?)
    }

    /// Erases up to `most` people who belonged to the tenant and belong nowhere else; 0 once none is left.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn erase_people(&mut self, most: i32) -> Result<i64, Problem> {
        Ok(sqlx::query_scalar("SELECT erase_people($1)").bind(most).fetch_one(self.directory()).await?)
    }

    /// Erases up to `most` rows of the tenant in each of its places; 0 once none is left.
    ///
    /// # Errors
    /// A tenant that is not being erased.
    pub async fn erase_rows(&mut self, most: i32) -> Result<i64, Problem> {
        let mut erased = 0;
        for connection in self.opened.connections() {
            erased += sqlx::query_scalar::<_, i64>("SELECT erase_rows($1)").bind(most).fetch_one(connection).await?;
        }
        Ok(erased)
    }

    /// Takes the tenant's names away, once its rows are gone.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn end_erasure(&mut self) -> Result<(), Problem> {
        for connection in self.opened.connections() {
            sqlx::query("SELECT end_erasure()").execute(connection).await?;
        }
        Ok(())
    }
}
