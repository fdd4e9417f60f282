//! Restores an archive: read, compared with its checksum, and only then put back.

use uuid::Uuid;

use crate::archive::unpacked;
use crate::objects::{Kind, Object, Objects};
use crate::problem::Problem;
use crate::scope::TenantScope;

/// Restores the archive `id` of `tenant`, unless that has ended before. One that is not what was written is refused.
///
/// # Errors
/// [`Problem::NotFound`] when the tenant has no such archive; what the database or the object store fails with.
pub(crate) async fn restore(scope: &TenantScope, objects: &Objects, tenant: Uuid, id: Uuid) -> Result<(), Problem> {
    let Some(sha256) = scope.run(move |store| Box::pin(store.take_restore(id))).await? else { return Ok(()) };
    let lines = match objects.bytes(Object { tenant, kind: Kind::Archive, id }).await {
        Ok(bytes) => unpacked(&bytes, &sha256).ok_or("the archive is not what was written"),
        Err(Problem::NotFound) => Err("the archive's object is not there"),
        Err(problem) => return Err(problem),
    };
    let refused = match lines {
        Ok(lines) => {
            if scope.run(move |store| Box::pin(async move { store.put_back(id, &lines).await })).await? {
                return Ok(());
            }
            "the archive holds events that are not what was sealed"
        }
        Err(told) => told,
    };
    tracing::error!(archive = %id, refused, "an archive was not restored");
    scope.run(move |store| Box::pin(store.fail_restore(id, refused))).await
}
