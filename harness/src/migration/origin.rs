//! Which statement made or last altered each object: the catalogs' rows are compared after every one of them.

use std::collections::BTreeMap;

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

/// Who and what a stamp is of. A policy, a constraint, a trigger, a rule or an index is a part of its relation; the rule
/// that a view is made of is the view.
const NAMED: &str = "
    SELECT coalesce(r.rolname, b.pubname, n.nspname)::text, coalesce(c.relname, f.proname)::text,
        coalesce(p.polname, k.conname, t.tgname, nullif(w.rulename, '_RETURN'), i.relname)::text,
        s.class = 'pg_policy'::regclass::oid::bigint
    FROM unnest($1::bigint[], $2::bigint[]) AS s(class, object)
    LEFT JOIN pg_catalog.pg_policy p ON s.class = 'pg_policy'::regclass::oid::bigint AND p.oid = s.object::oid
    LEFT JOIN pg_catalog.pg_constraint k ON s.class = 'pg_constraint'::regclass::oid::bigint AND k.oid = s.object::oid
    LEFT JOIN pg_catalog.pg_trigger t ON s.class = 'pg_trigger'::regclass::oid::bigint AND t.oid = s.object::oid
    LEFT JOIN pg_catalog.pg_rewrite w ON s.class = 'pg_rewrite'::regclass::oid::bigint AND w.oid = s.object::oid
    LEFT JOIN pg_catalog.pg_index x ON s.class = 'pg_class'::regclass::oid::bigint AND x.indexrelid = s.object::oid
    LEFT JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    LEFT JOIN pg_catalog.pg_class c ON c.oid = coalesce(p.polrelid, k.conrelid, t.tgrelid, w.ev_class, x.indrelid,
        CASE WHEN s.class = 'pg_class'::regclass::oid::bigint THEN s.object::oid END)
    LEFT JOIN pg_catalog.pg_proc f ON s.class = 'pg_proc'::regclass::oid::bigint AND f.oid = s.object::oid
    LEFT JOIN pg_catalog.pg_roles r ON s.class = 'pg_authid'::regclass::oid::bigint AND r.oid = s.object::oid
    LEFT JOIN pg_catalog.pg_publication b ON s.class = 'pg_publication'::regclass::oid::bigint AND b.oid = s.object::oid
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(c.relnamespace, f.pronamespace,
        CASE WHEN s.class = 'pg_namespace'::regclass::oid::bigint THEN s.object::oid END)
    WHERE coalesce(r.rolname, b.pubname, n.nspname) IS NOT NULL";

/// An object that a statement made or altered; names are as they are, without quotes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Touched {
    /// The schema; of what is in none, such as a role, its name.
    pub schema: String,
    /// The relation or function in the schema.
    pub name: Option<String>,
    /// The policy, constraint, trigger, rule or index of the relation.
    pub part: Option<String>,
    /// True for a policy.
    pub policy: bool,
}

/// Where each object was made or last altered.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    stamps: BTreeMap<(i64, i64), String>,
    /// With the number of the statement, which says what came last.
    places: BTreeMap<Touched, (u64, Place)>,
    statements: u64,
}

impl Origins {
    /// What is there already comes from no migration.
    pub(super) async fn overlook(&mut self, connection: &mut PgConnection) -> Result<()> {
        self.stamps = stamps(connection).await?;
        Ok(())
    }

    /// Notes that what has changed since the last call was changed at `place`.
    pub(super) async fn note(&mut self, connection: &mut PgConnection, place: &Place) -> Result<()> {
        self.statements += 1;
        let now = stamps(connection).await?;
        let changed = now.iter().filter(|(key, stamp)| self.stamps.get(key) != Some(stamp)).map(|(key, _)| *key);
        let (classes, objects): (Vec<i64>, Vec<i64>) = changed.unzip();
        self.stamps = now;
        if objects.is_empty() {
            return Ok(());
        }
        type Row = (String, Option<String>, Option<String>, bool);
        let named = sqlx::query_as(NAMED).bind(&classes).bind(&objects).fetch_all(connection).await;
        let named: Vec<Row> = named.map_err(unreadable)?;
        for (schema, name, part, policy) in named {
            self.places.insert(Touched { schema, name, part, policy }, (self.statements, place.clone()));
        }
        Ok(())
    }

    /// Where the relation or function `name` of `schema`, or what is in no schema and has that name, was made or last
    /// altered itself.
    pub fn of(&self, schema: Option<&str>, name: &str) -> Option<&Place> {
        self.last(schema, name, |touched| touched.part.is_none())
    }

    /// Where the last of its policies was made or altered.
    pub fn of_policies(&self, schema: Option<&str>, name: &str) -> Option<&Place> {
        self.last(schema, name, |touched| touched.policy)
    }

    /// Where the last of those of its policies, constraints, triggers, rules and indexes was made or altered that `fits`.
    pub fn of_part(&self, schema: Option<&str>, name: &str, fits: impl Fn(&str) -> bool) -> Option<&Place> {
        self.last(schema, name, |touched| touched.part.as_deref().is_some_and(&fits))
    }

    fn last(&self, schema: Option<&str>, name: &str, which: impl Fn(&Touched) -> bool) -> Option<&Place> {
        let is = |touched: &Touched| match schema {
            Some(schema) => touched.schema == schema && touched.name.as_deref() == Some(name),
            None => touched.schema == name && touched.name.is_none(),
        };
        let all = self.places.iter().filter(|(touched, _)| is(touched) && which(touched));
        all.map(|(_, place)| place).max_by_key(|(statement, _)| *statement).map(|(_, place)| place)
    }
}

async fn stamps(connection: &mut PgConnection) -> Result<BTreeMap<(i64, i64), String>> {
    let rows: Vec<(i64, i64, String)> = sqlx::query_as(STAMPS).fetch_all(connection).await.map_err(unreadable)?;
    Ok(rows.into_iter().map(|(class, object, stamp)| ((class, object), stamp)).collect())
}

fn unreadable(error: sqlx::Error) -> Error {
    Error::Unreachable(format!("the catalogs cannot be read: {}", database_words(&error)))
}
