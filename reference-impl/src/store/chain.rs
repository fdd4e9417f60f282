//! The tenant's chain of hashes: sealing what is not in it yet, and proving what is.
//!
//! Sealing is lazy. Events are written without a look at the chain; whoever asks for a proof, the command `seal`, and a
//! worker now and then add the links. Links follow each other in the order of sealing, about that of recording. What the links hold is told
//! in `http/proofs.rs`.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::events::{COLUMNS, event};
use super::{AuditStore, Sight, own};
use crate::http::event::Event;
use crate::http::proofs::{Head, Link, Proof};
use crate::problem::Problem;

/// Longer than any transaction, and than clocks of servers lie apart: an event may be seen so much later than recorded.
const MARGIN: &str = "interval '10 minutes'";
/// The hash before the first link.
const GENESIS: [u8; 32] = [0; 32];

/// The head, taken for adding links.
struct Taken {
    position: i64,
    hash: Vec<u8>,
}

impl AuditStore {
    /// Adds links for events that have none, `limit` at most, and says for how many. Fewer than `limit`: none is left.
    ///
    /// # Errors
    /// [`Problem::Busy`] while another seals for too long.
    pub async fn seal(&mut self, limit: i64) -> Result<usize, Problem> {
        let head = self.take_head().await?;
        let own = own();
        let statement = format!(
            "SELECT {COLUMNS} FROM events \
              WHERE {own} AND recorded_at >= (SELECT sealed_to - {MARGIN} FROM chain_heads WHERE {own}) \
                AND NOT EXISTS (SELECT FROM chain_links WHERE {own} AND event_id = events.id) \
              ORDER BY recorded_at, id LIMIT $2"
        );
        let tenant = self.tenant;
        let query = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(limit);
        let events: Vec<Event> = query.fetch_all(self.connection()).await?.iter().map(event).collect();
        self.link(head, &events).await?;
        if let Some(last) = events.last() {
            // A clock that goes ahead must not carry the mark past events that are still to come.
            let statement =
                format!("UPDATE chain_heads SET sealed_to = least(greatest(sealed_to, $2), now()) WHERE {own}");
            let update = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(last.recorded_at);
            update.execute(self.connection()).await?;
        }
        Ok(events.len())
    }

    /// Where the chain ends.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn head(&mut self) -> Result<Head, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT position, hash FROM chain_heads WHERE {}", own());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).fetch_optional(self.connection()).await?;
        Ok(row.map_or(Head { position: 0, hash: hex::encode(GENESIS) }, |row| Head {
            position: row.get("position"),
            hash: hex(&row, "hash"),
        }))
    }

    /// The proof of an event, which is sealed now if it was not yet, with the digests of up to `most` links after it.
    ///
    /// # Errors
    /// [`Problem::NotFound`] without such an event.
    pub async fn proof(&mut self, id: Uuid, most: i64) -> Result<Proof, Problem> {
        let (position, digest, hash) = match self.linked(id).await? {
            Some(link) => link,
            None => {
                self.seal_one(id).await?;
                self.linked(id).await?.ok_or(Problem::NotFound)?
            }
        };
        let head = self.head().await?;
        let tenant = self.tenant;
        let own = own();
        let statement = format!("SELECT hash FROM chain_links WHERE {own} AND position = $2");
        let before = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(position - 1);
        let before = before.fetch_optional(self.connection()).await?;
        let statement = format!(
            "SELECT position, event_id, digest, hash FROM chain_links \
              WHERE {own} AND position > $2 AND position <= $3 ORDER BY position LIMIT $4"
        );
        let later = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(position).bind(head.position).bind(most);
        let later = later.fetch_all(self.connection()).await?;
        let end = later.last().map(|row| Link {
            position: row.get("position"),
            event_id: row.get("event_id"),
            hash: hex(row, "hash"),
        });
        Ok(Proof {
            event_id: id,
            position,
            previous: before.map_or(hex::encode(GENESIS), |row| hex(&row, "hash")),
            digest,
            hash: hash.clone(),
            path: later.iter().map(|row| hex(row, "digest")).collect(),
            path_end: end.unwrap_or(Link { position, event_id: id, hash }),
            head,
        })
    }

    /// Adds links for those of `events` that have none, and answers which of the others are not what was sealed.
    ///
    /// # Errors
    /// As [`AuditStore::seal`].
    pub async fn seal_these(&mut self, events: &[Event]) -> Result<Vec<Uuid>, Problem> {
        let mut digests = self.digests(events).await?;
        if digests.len() < events.len() {
            let head = self.take_head().await?;
            // Another may have sealed some while this one waited for the head.
            digests = self.digests(events).await?;
            let unsealed: Vec<&Event> = events.iter().filter(|event| !digests.contains_key(&event.id)).collect();
            self.link(head, unsealed).await?;
        }
        let changed = |event: &&Event| {
            digests.get(&event.id).is_some_and(|sealed| digest(event).is_ok_and(|digest| digest != *sealed))
        };
        Ok(events.iter().filter(changed).map(|event| event.id).collect())
    }

    /// Whether all of `events` are sealed, and what was sealed.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn are_sealed(&mut self, events: &[Event]) -> Result<bool, Problem> {
        let digests = self.digests(events).await?;
        let same = |event: &Event| {
            digests.get(&event.id).is_some_and(|sealed| digest(event).is_ok_and(|digest| digest == *sealed))
        };
        Ok(events.iter().all(same))
    }

    /// What those of `events` that are sealed were then, by their ids.
    async fn digests(&mut self, events: &[Event]) -> Result<BTreeMap<Uuid, Vec<u8>>, Problem> {
        let tenant = self.tenant;
        let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
        let statement = format!("SELECT event_id, digest FROM chain_links WHERE {} AND event_id = ANY ($2)", own());
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(ids).fetch_all(self.connection()).await?;
        Ok(rows.iter().map(|row| (row.get("event_id"), row.get("digest"))).collect())
    }

    /// An event's position, digest and hash.
    async fn linked(&mut self, id: Uuid) -> Result<Option<(i64, String, String)>, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT position, digest, hash FROM chain_links WHERE {} AND event_id = $2", own());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).fetch_optional(self.connection()).await?;
        Ok(row.map(|row| (row.get("position"), hex(&row, "digest"), hex(&row, "hash"))))
    }

    /// Seals one event ahead of those that wait.
    async fn seal_one(&mut self, id: Uuid) -> Result<(), Problem> {
        let event = self.event(id, &Sight::All).await?;
        let head = self.take_head().await?;
        // Another may have sealed it while this one waited for the head.
        if self.linked(id).await?.is_some() { Ok(()) } else { self.link(head, &[event]).await }
    }

    /// Adds links for `events` after the head that was taken.
    async fn link(&mut self, head: Taken, events: impl IntoIterator<Item = &Event>) -> Result<(), Problem> {
        let Taken { mut position, mut hash } = head;
        let (mut positions, mut ids, mut digests, mut hashes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for event in events {
            let digest = digest(event)?;
            position += 1;
            hash = Sha256::new().chain_update(&hash).chain_update(&digest).finalize().to_vec();
            positions.push(position);
            ids.push(event.id);
            digests.push(digest);
            hashes.push(hash.clone());
        }
        let tenant = self.tenant;
        sqlx::query(
            "INSERT INTO chain_links (tenant_id, position, event_id, digest, hash) \
             SELECT $1, * FROM unnest($2::bigint[], $3::uuid[], $4::bytea[], $5::bytea[])",
        )
        .bind(tenant)
        .bind(positions)
        .bind(ids)
        .bind(digests)
        .bind(hashes)
        .execute(self.connection())
        .await?;
        let statement = format!("UPDATE chain_heads SET position = $2, hash = $3 WHERE {}", own());
        let update = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(position).bind(hash);
        update.execute(self.connection()).await?;
        Ok(())
    }

    /// Takes the head until the transaction ends: links are added by one at a time.
    async fn take_head(&mut self) -> Result<Taken, Problem> {
        let tenant = self.tenant;
        sqlx::query("SET LOCAL lock_timeout = '5s'").execute(self.connection()).await?;
        sqlx::query(
            "INSERT INTO chain_heads (tenant_id, position, hash, sealed_to) VALUES ($1, 0, $2, '-infinity') \
             ON CONFLICT DO NOTHING",
        )
        .bind(tenant)
        .bind(GENESIS.as_slice())
        .execute(self.connection())
        .await?;
        let statement = format!("SELECT position, hash FROM chain_heads WHERE {} FOR UPDATE", own());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).fetch_one(self.connection()).await?;
        Ok(Taken { position: row.get("position"), hash: row.get("hash") })
    }
}

/// What a link holds of its event.
fn digest(event: &Event) -> Result<Vec<u8>, Problem> {
    Ok(Sha256::digest(serde_json::to_vec(event).map_err(|_| Problem::Internal)?).to_vec())
}

fn hex(row: &PgRow, column: &str) -> String {
    hex::encode(row.get::<&[u8], _>(column))
}
