//! A retention run: archive, verify, delete, a batch at a time. Whatever step it is cut off at, an event is in its table
//! or in an archive that was read again; whoever takes the run up goes on from there.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::archive::{packed, unpacked};
use crate::defects::{Defect, on};
use crate::http::job_state::JobState;
use crate::objects::{Kind, Object, Objects};
use crate::problem::Problem;
use crate::scope::TenantScope;
use crate::store::archiving::{Batch, Deletion, Written};
use crate::store::due::Due;
use crate::store::retention::{TakenRun, Try};

/// Events that one transaction looks at, to archive or to delete them.
const BATCH: i64 = 500;
/// What changes while it is archived is archived anew, so often in one run.
const ROUNDS: usize = 3;

/// One try at one run.
struct Running<'a> {
    scope: &'a TenantScope,
    objects: &'a Objects,
    tenant: Uuid,
    held: Try,
    taken: TakenRun,
}

/// Does the run `id` of `tenant`, unless it has ended before.
///
/// # Errors
/// [`Problem::NotFound`] when the tenant has no such run; what the database or the object store fails with.
pub(crate) async fn run(scope: &TenantScope, objects: &Objects, tenant: Uuid, id: Uuid) -> Result<(), Problem> {
    let held = Try { run: id, id: Uuid::now_v7() };
    let Some(taken) = scope.run(move |store| Box::pin(store.take_retention_run(held))).await? else { return Ok(()) };
    match (Running { scope, objects, tenant, held, taken }).go().await {
        // Another try has taken over, and ends what this one began.
        Err(Problem::Conflict(_)) => Ok(()),
        ended => ended,
    }
}

impl Running<'_> {
    async fn go(self) -> Result<(), Problem> {
        for id in &self.taken.left {
            self.objects.remove(self.object(*id)).await?;
        }
        let held = self.held;
        self.scope.run(move |store| Box::pin(store.objects_removed(held))).await?;
        if !self.taken.counted {
            let due = self.due().await?;
            self.scope.run(move |store| Box::pin(store.note_due(held, due))).await?;
        }
        let mut told = None;
        for _ in 0..ROUNDS {
            told = match self.archive().await? {
                0 => None,
                changed => Some(format!("{changed} events are not what was sealed, and were not archived")),
            };
            if !self.delete().await? {
                break;
            }
        }
        let left = self.due().await?;
        let state = self.scope.run(move |store| Box::pin(store.end_retention_run(held, left, told))).await?;
        if state == JobState::Failed {
            tracing::error!(run = %held.run, "a retention run did not find what was due");
        }
        Ok(())
    }

    /// What is due now.
    async fn due(&self) -> Result<Due, Problem> {
        let (run, mut due) = (self.held.run, Due::default());
        while !due.whole {
            due = self.scope.run(move |store| Box::pin(store.count_due(run, due))).await?;
        }
        Ok(due)
    }

    /// Archives what is due; how many events are not what was sealed.
    async fn archive(&self) -> Result<usize, Problem> {
        while let Some((id, sha256)) = self.scope.run(|store| Box::pin(store.unverified())).await? {
            self.verify(id, &sha256).await?;
        }
        let (before, mut after, mut changed) = (self.taken.archive_before, None, 0);
        loop {
            let batch = self.scope.run(move |store| Box::pin(store.to_archive(before, after, BATCH))).await?;
            let Some(batch) = batch else { return Ok(changed) };
            after = Some(batch.after);
            changed += batch.changed;
            if !batch.lines.is_empty() {
                self.write(batch).await?;
            }
        }
    }

    /// Writes an archive, records it once it is there, and verifies it.
    async fn write(&self, batch: Batch) -> Result<(), Problem> {
        let (held, id) = (self.held, Uuid::now_v7());
        self.scope.run(move |store| Box::pin(store.announce_object(held, id))).await?;
        let bytes = packed(&batch.lines)?;
        let sha256 = Sha256::digest(&bytes).to_vec();
        let written = Written { id, batch, size: bytes.len() as i64, sha256: sha256.clone() };
        self.objects.put(self.object(id), bytes).await?;
        let recording =
            self.scope.run(move |store| Box::pin(async move { store.record_archive(held, &written).await }));
        if let Err(problem) = recording.await {
            // Should it be recorded after all, it will not be verified.
            self.objects.remove(self.object(id)).await?;
            return Err(problem);
        }
        self.verify(id, &sha256).await
    }

    /// Reads an archive again; one that is not what was written is given up.
    async fn verify(&self, id: Uuid, sha256: &[u8]) -> Result<(), Problem> {
        let held = self.held;
        let lines = match self.objects.bytes(self.object(id)).await {
            Ok(bytes) => unpacked(&bytes, sha256),
            Err(Problem::NotFound) => None,
            Err(problem) => return Err(problem),
        };
        if let Some(lines) = lines
            && self
                .scope
                .run(move |store| Box::pin(async move { store.verify_archive(held, id, &lines).await }))
                .await?
        {
            return Ok(());
        }
        tracing::error!(archive = %id, "an archive is not what was written");
        self.scope.run(move |store| Box::pin(store.discard_archive(held, id))).await?;
        Err(Problem::Internal)
    }

    /// Deletes what is due and archived; whether some of it must be archived anew.
    async fn delete(&self) -> Result<bool, Problem> {
        if on(Defect::RetentionIdle) {
            return Ok(false);
        }
        let (held, before, mut after, mut anew) = (self.held, self.taken.delete_before, None, false);
        loop {
            let deleting = self.scope.run(move |store| Box::pin(store.delete_archived(held, before, after, BATCH)));
            match deleting.await? {
                Deletion::Held => return Ok(false),
                Deletion::Of { after: None, .. } => break,
                Deletion::Of { changed, after: next, .. } => (after, anew) = (next, anew || changed > 0),
            }
        }
        loop {
            let deleting = self.scope.run(move |store| Box::pin(store.delete_answers(held, before, BATCH)));
            match deleting.await? {
                Deletion::Held => return Ok(false),
                Deletion::Of { deleted: 0, .. } => return Ok(anew),
                Deletion::Of { .. } => {}
            }
        }
    }

    fn object(&self, id: Uuid) -> Object {
        Object { tenant: self.tenant, kind: Kind::Archive, id }
    }
}
