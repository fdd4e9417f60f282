//! Database roles, and what follows from being a member.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{FromRow, PgConnection};

use super::{Oid, Privilege, read};
use crate::error::Result;

/// A database role.
#[derive(Clone, Debug, FromRow)]
pub struct Role {
    /// Its number.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// `SUPERUSER`.
    pub superuser: bool,
    /// `BYPASSRLS`.
    pub bypass_rls: bool,
    /// `LOGIN`.
    pub login: bool,
    /// `CREATEROLE`.
    pub create_role: bool,
    /// `CREATEDB`.
    pub create_database: bool,
    /// `REPLICATION`.
    pub replication: bool,
    /// `INHERIT`.
    pub inherit: bool,
}

impl Role {
    /// True for one that Postgres itself brings.
    pub fn is_predefined(&self) -> bool {
        self.name.starts_with("pg_")
    }
}

/// One role in another.
#[derive(Clone, Debug, FromRow)]
pub struct Membership {
    /// Who is a member.
    pub member: Oid,
    /// Of what.
    pub role: Oid,
    /// True when the member has the role's privileges without doing anything.
    pub inherits: bool,
    /// True when the member may `SET ROLE` to it.
    pub sets: bool,
    /// True when the member may grant it.
    pub admin: bool,
}

/// What each role inherits and may become, through memberships of memberships.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    inherited: BTreeMap<Oid, BTreeSet<Oid>>,
    settable: BTreeMap<Oid, BTreeSet<Oid>>,
    predefined: BTreeMap<Privilege, Oid>,
    everything: BTreeSet<Oid>,
}

impl Reach {
    pub(super) fn new(roles: &BTreeMap<Oid, Role>, members: &[Membership], version: i32, database_owner: Oid) -> Self {
        let named = |name: &str| roles.values().find(|role| role.name == name).map(|role| role.oid);
        let (mut inherits, mut sets) = (BTreeMap::<Oid, Vec<Oid>>::new(), BTreeMap::<Oid, Vec<Oid>>::new());
        for membership in members {
            if membership.inherits {
                inherits.entry(membership.member).or_default().push(membership.role);
            }
            // Whoever may grant a role may grant it to itself with the option to become it.
            if membership.sets || membership.admin {
                sets.entry(membership.member).or_default().push(membership.role);
            }
        }
        // The database's owner is a member of this one without a row that says so.
        if let Some(owner) = named("pg_database_owner") {
            inherits.entry(database_owner).or_default().push(owner);
        }
        let all: BTreeSet<Oid> = roles.keys().copied().collect();
        let superusers: Vec<Oid> = roles.values().filter(|role| role.superuser).map(|role| role.oid).collect();
        let closures = |edges: &BTreeMap<Oid, Vec<Oid>>| -> BTreeMap<Oid, BTreeSet<Oid>> {
            roles.keys().map(|role| (*role, closure(*role, edges))).collect()
        };
        let (inherited, mut settable) = (closures(&inherits), closures(&sets));
        // Before 16, CREATEROLE could grant itself any role but a superuser's.
        for role in roles.values().filter(|role| role.create_role && version < 160_000) {
            let others = all.iter().filter(|other| !superusers.contains(other));
            settable.entry(role.oid).or_default().extend(others);
        }
        for role in &superusers {
            settable.insert(*role, all.clone());
        }
        let predefined = [
            (Privilege::Select, "pg_read_all_data"),
            (Privilege::Insert, "pg_write_all_data"),
            (Privilege::Update, "pg_write_all_data"),
            (Privilege::Delete, "pg_write_all_data"),
        ];
        let predefined = predefined.into_iter().filter_map(|(privilege, name)| Some((privilege, named(name)?)));
        Self { inherited, settable, predefined: predefined.collect(), everything: BTreeSet::new() }
    }

    pub(super) fn inherited(&self, role: Oid) -> &BTreeSet<Oid> {
        self.inherited.get(&role).unwrap_or(&self.everything)
    }

    pub(super) fn settable(&self, role: Oid) -> &BTreeSet<Oid> {
        self.settable.get(&role).unwrap_or(&self.everything)
    }

    /// True when a role of Postgres's own gives `role` the privilege on every relation.
    pub(super) fn holds_predefined(&self, role: Oid, privilege: Privilege) -> bool {
        self.predefined.get(&privilege).is_some_and(|predefined| self.inherited(role).contains(predefined))
    }
}

fn closure(start: Oid, edges: &BTreeMap<Oid, Vec<Oid>>) -> BTreeSet<Oid> {
    let mut reached = BTreeSet::from([start]);
    let mut open = vec![start];
    while let Some(role) = open.pop() {
        for next in edges.get(&role).into_iter().flatten() {
            if reached.insert(*next) {
                open.push(*next);
            }
        }
    }
    reached
}

pub(super) async fn roles(connection: &mut PgConnection) -> Result<BTreeMap<Oid, Role>> {
    let query = "SELECT oid::int8, rolname::text AS name, rolsuper AS superuser, rolbypassrls AS bypass_rls, \
         rolcanlogin AS login, rolcreaterole AS create_role, rolcreatedb AS create_database, \
         rolreplication AS replication, rolinherit AS inherit FROM pg_roles";
    let found: Vec<Role> = read::all(connection, "roles", query).await?;
    Ok(found.into_iter().map(|role| (role.oid, role)).collect())
}

pub(super) async fn memberships(connection: &mut PgConnection) -> Result<Vec<Membership>> {
    // Up to 15 a member inherits as its own attribute says, and may always become what it is a member of.
    let query = "SELECT m.member::int8, m.roleid::int8 AS role, bool_or(m.admin_option) AS admin, \
         bool_or(coalesce((to_jsonb(m) ->> 'inherit_option')::bool, r.rolinherit)) AS inherits, \
         bool_or(coalesce((to_jsonb(m) ->> 'set_option')::bool, true)) AS sets \
         FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member GROUP BY m.member, m.roleid";
    read::all(connection, "memberships", query).await
}
