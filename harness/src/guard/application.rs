//! Which database roles are the application's: those that it is told, else those that only an application's would be.

use std::collections::BTreeSet;

use super::catalog::{Catalog, Kind, Oid, PUBLIC, Privilege, Relation, Role};
use super::config::Config;
use super::tenancy::Tenancy;
use crate::error::{Result, unknown};

/// A database role of the application.
#[derive(Clone, Debug)]
pub struct ApplicationRole {
    /// Its number.
    pub oid: Oid,
    /// How that is known.
    pub because: String,
}

/// What an application does with rows.
const ROWS: [Privilege; 4] = [Privilege::Select, Privilege::Insert, Privilege::Update, Privilege::Delete];

/// They, each with how that is known: the first tier in which there is anybody.
///
/// # Errors
/// A role that is told and does not exist names the nearest that does.
pub(super) fn roles(
    catalog: &Catalog,
    tenancy: &Tenancy,
    config: &Config,
    named: &[String],
) -> Result<Vec<ApplicationRole>> {
    for (told, because) in
        [(named, "it was named by --as"), (&config.application_roles[..], "the configuration names it")]
    {
        if !told.is_empty() {
            let role = |name: &String| {
                let names = catalog.roles.values().filter(|role| !role.is_predefined()).map(|role| role.name.as_str());
                let role = catalog.role_named(name).ok_or_else(|| unknown("database role", name, names))?;
                Ok(ApplicationRole { oid: role.oid, because: because.into() })
            };
            return told.iter().map(role).collect();
        }
    }
    let tables: Vec<&Relation> = tenancy.tables().filter_map(|(oid, _)| catalog.relations.get(&oid)).collect();
    let owners: BTreeSet<Oid> = tables.iter().map(|relation| relation.owner).collect();
    let shown = catalog.relations.values().filter(|view| {
        view.kind == Kind::View
            && catalog.reads.get(&view.oid).is_some_and(|read| read.iter().any(|oid| tenancy.is_tenant_table(*oid)))
    });
    let granted: BTreeSet<Oid> = tables
        .iter()
        .copied()
        .chain(shown)
        .flat_map(|relation| catalog.grants_on(relation.oid).filter(|grant| grant.grantee != relation.owner))
        .filter(|grant| ROWS.contains(&grant.privilege))
        .map(|grant| grant.grantee)
        .collect();
    let holds = |role: &&Role| catalog.inherited(role.oid).iter().any(|held| granted.contains(held));
    let ours = |role: &&Role| !role.superuser && !role.is_predefined();
    let owns = |role: &Role| owners.contains(&role.oid);
    let becomes = |role: &Role| {
        let reach = catalog.settable(role.oid).union(catalog.inherited(role.oid));
        reach
            .into_iter()
            .filter_map(|other| catalog.roles.get(other))
            .any(|other| owns(other) || other.bypass_rls || other.superuser)
    };
    let plain = |role: &&Role| ours(role) && role.login && !role.bypass_rls && !role.replication && !owns(role);
    let clean = |role: &&Role| plain(role) && !becomes(role);
    let leaf = |role: &&Role| !catalog.memberships.iter().any(|membership| membership.role == role.oid);
    // Who signs in for everybody and holds nothing itself, as in front of PostgREST, becomes one of these for each request.
    let lent = |role: &&Role| {
        let becomes = |login: &Role| login.login && catalog.settable(login.oid).contains(&role.oid);
        catalog.roles.values().any(|login| login.oid != role.oid && ours(&login) && becomes(login))
    };
    type Tier<'t> = (&'static str, Box<dyn Fn(&&Role) -> bool + 't>);
    let tiers: [Tier<'_>; 7] = [
        (
            "it may log in, owns no tenant's table, becomes no owner and holds privileges on one",
            Box::new(|role| clean(role) && holds(role)),
        ),
        (
            "it may log in, owns no tenant's table and holds privileges on one",
            Box::new(move |role| plain(role) && holds(role)),
        ),
        (
            "it may log in and holds privileges on a tenant's table",
            Box::new(move |role| ours(role) && role.login && !owns(role) && holds(role)),
        ),
        (
            "one that may log in becomes it, and it holds privileges on a tenant's table",
            Box::new(move |role| ours(role) && !role.bypass_rls && !owns(role) && lent(role) && holds(role)),
        ),
        (
            "it holds privileges on a tenant's table",
            Box::new(move |role| ours(role) && !owns(role) && leaf(role) && holds(role)),
        ),
        ("everybody holds privileges on a tenant's table", Box::new(|role| plain(role) && granted.contains(&PUBLIC))),
        (
            "it may log in and owns a tenant's table, and nobody else holds privileges on one",
            Box::new(|role| {
                ours(role) && role.login && catalog.inherited(role.oid).iter().any(|held| owners.contains(held))
            }),
        ),
    ];
    for (because, fits) in &tiers {
        let found: Vec<ApplicationRole> = catalog
            .roles
            .values()
            .filter(|role| fits(role))
            .map(|role| ApplicationRole { oid: role.oid, because: (*because).to_string() })
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}
