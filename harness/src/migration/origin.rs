//! Which statement made or last altered each object: the catalogs' rows are compared after every one of them.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::Place;
use crate::error::{Error, Result};
use crate::target::copy::database_words;

/// Every catalog row of ours and what changes with it. `cmin` tells apart the statements of one transaction. A column's
/// privileges count for its relation, and memberships for the role that has them. `pg_roles`, since the session's role
/// may not read `pg_authid`.
const STAMPS: &str = "
    SELECT 'pg_class'::regclass::oid::bigint, c.oid::bigint, concat_ws(' ', c.xmin, c.cmin,
        (SELECT string_agg(concat_ws(' ', a.attnum, a.xmin, a.cmin), ',' ORDER BY a.attnum)
         FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0))
    FROM pg_catalog.pg_class c WHERE c.oid >= 16384 AND c.relkind <> 't' AND c.relnamespace <> 'pg_toast'::regnamespace
    UNION ALL SELECT 'pg_policy'::regclass::oid::bigint, oid::bigint, concat_ws(' ', xmin, cmin) FROM pg_catalog.pg_policy
    UNION ALL SELECT 'pg_proc'::regclass::oid::bigint, oid::bigint, concat_ws(' ', xmin, cmin)
        FROM pg_catalog.pg_proc WHERE oid >= 16384
    UNION ALL SELECT 'pg_constraint'::regclass::oid::bigint, oid::bigint, concat_ws(' ', xmin, cmin)
        FROM pg_catalog.pg_constraint WHERE oid >= 16384
    UNION ALL SELECT 'pg_trigger'::regclass::oid::bigint, oid::bigint, concat_ws(' ', xmin, cmin)
        FROM pg_catalog.pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'pg_rewrite'::regclass::oid::bigint, oid::bigint, concat_ws(' ', xmin, cmin)
        FROM pg_catalog.pg_rewrite WHERE oid >= 16384
    UNION ALL SELECT 'pg_namespace'::regclass::oid::bigint, oid::bigint, concat_ws(' ', xmin, cmin)
        FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL SELECT 'pg_default_acl'::regclass::oid::bigint, oid::bigint, concat_ws(' ', xmin, cmin)
        FROM pg_catalog.pg_default_acl
    UNION ALL SELECT 'pg_publication'::regclass::oid::bigint, oid::bigint, concat_ws(' ', xmin, cmin)
        FROM pg_catalog.pg_publication
    UNION ALL SELECT 'pg_authid'::regclass::oid::bigint, r.oid::bigint, md5(concat_ws(' ', r::text,
        (SELECT string_agg(m.roleid::text, ',' ORDER BY m.roleid) FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid)))
    FROM pg_catalog.pg_roles r WHERE r.oid >= 16384";

/// An object that a statement made or altered, as Postgres spells its identity: `public.invoices`, `own on public.orders`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Touched {
    /// Its kind: `table`, `policy`, `role`.
    pub kind: String,
    /// Its identity, qualified and quoted.
    pub identity: String,
}

/// Where each object was made or last altered.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    stamps: BTreeMap<(i64, i64), String>,
    places: BTreeMap<Touched, Place>,
}

impl Origins {
    /// What is there already has no place.
    pub(super) async fn begin(connection: &mut PgConnection) -> Result<Self> {
        Ok(Self { stamps: stamps(connection).await?, places: BTreeMap::new() })
    }

    /// Notes that what has changed since the last call was changed at `place`.
    pub(super) async fn note(&mut self, connection: &mut PgConnection, place: &Place) -> Result<()> {
        let now = stamps(connection).await?;
        let changed: BTreeSet<(i64, i64)> =
            now.iter().filter(|(key, stamp)| self.stamps.get(key) != Some(stamp)).map(|(key, _)| *key).collect();
        self.stamps = now;
        let (classes, objects): (Vec<i64>, Vec<i64>) = changed.into_iter().unzip();
        if objects.is_empty() {
            return Ok(());
        }
        let named: Vec<(String, String)> = sqlx::query_as(
            "SELECT i.type, i.identity FROM unnest($1::bigint[], $2::bigint[]) AS o(class, object), \
             LATERAL pg_catalog.pg_identify_object(o.class::oid, o.object::oid, 0) AS i WHERE i.identity IS NOT NULL",
        )
        .bind(&classes)
        .bind(&objects)
        .fetch_all(connection)
        .await
        .map_err(unreadable)?;
        for (kind, identity) in named {
            self.places.insert(Touched { kind, identity }, place.clone());
        }
        Ok(())
    }

    /// Where the object of this identity was made or last altered, whatever its kind.
    pub fn of(&self, identity: &str) -> Option<&Place> {
        self.places.iter().filter(|(touched, _)| touched.identity == identity).map(|(_, place)| place).max()
    }

    /// Everything that has a place.
    pub fn all(&self) -> &BTreeMap<Touched, Place> {
        &self.places
    }
}

async fn stamps(connection: &mut PgConnection) -> Result<BTreeMap<(i64, i64), String>> {
    let rows: Vec<(i64, i64, String)> = sqlx::query_as(STAMPS).fetch_all(connection).await.map_err(unreadable)?;
    Ok(rows.into_iter().map(|(class, object, stamp)| ((class, object), stamp)).collect())
}

fn unreadable(error: sqlx::Error) -> Error {
    Error::Unreachable(format!("the catalogs cannot be read: {}", database_words(&error)))
}
