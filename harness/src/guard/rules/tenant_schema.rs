//! Where a schema is a tenant: who and what reaches from one into another.

use std::collections::BTreeSet;

use sqlparser::ast::visit_relations;

use crate::error::Result;
use crate::guard::catalog::{Catalog, ConstraintKind, Function, Oid, PUBLIC, Role};
use crate::guard::expression::Body;
use crate::guard::finding::{Certainty, Object};
use crate::guard::review::{Draft, ROWS, Review, function_object, relation_object, role_object};
use crate::target::copy::quoted;

pub(super) fn check(review: &mut Review<'_>) -> Result<()> {
    for group in &review.tenancy.schemas {
        let tenants = Tenants { catalog: review.catalog, group };
        roles(review, &tenants)?;
        defaults(review, &tenants)?;
        settings(review, &tenants)?;
        views(review, &tenants)?;
        keys(review, &tenants)?;
        functions(review, &tenants)?;
    }
    Ok(())
}

/// Schemas of a tenant each.
struct Tenants<'a> {
    catalog: &'a Catalog,
    group: &'a [Oid],
}

impl<'a> Tenants<'a> {
    /// The tenants' schemas of which a role may use some table.
    fn reached(&self, role: Oid) -> BTreeSet<Oid> {
        let reaches = |schema: &Oid| {
            let mut own = self.catalog.relations.values().filter(|relation| relation.schema_oid == *schema);
            self.catalog.may_use_schema(role, *schema)
                && own.any(|relation| ROWS.into_iter().any(|p| self.catalog.may_in_part(role, p, relation.oid)))
        };
        self.group.iter().copied().filter(reaches).collect()
    }

    /// True where the role owns what is in one of the schemas.
    fn owns(&self, role: Oid, schemas: &BTreeSet<Oid>) -> bool {
        let held = self.catalog.inherited(role);
        self.catalog.relations.values().any(|r| schemas.contains(&r.schema_oid) && held.contains(&r.owner))
    }

    /// Roles that a session may have, and the schemas that each reaches: those of tenants, and none that owns them.
    fn roles(&self) -> Vec<(&'a Role, BTreeSet<Oid>)> {
        let catalog = self.catalog;
        let used = |role: &&Role| {
            catalog.roles.values().filter(|other| other.login && !other.superuser).any(|other| {
                catalog.settable(other.oid).contains(&role.oid) || catalog.inherited(other.oid).contains(&role.oid)
            })
        };
        let roles = catalog.roles.values().filter(|role| !role.superuser && !role.is_predefined()).filter(used);
        let reached = roles.map(|role| (role, self.reached(role.oid)));
        reached.filter(|(role, schemas)| !schemas.is_empty() && !self.owns(role.oid, schemas)).collect()
    }

    fn names(&self, schemas: &BTreeSet<Oid>) -> String {
        let names = schemas.iter().filter_map(|oid| Some(self.catalog.schemas.get(oid)?.name.as_str()));
        names.collect::<Vec<_>>().join(", ")
    }

    /// The tenants' schemas that stand on a search path.
    fn on_path(&self, path: &str) -> BTreeSet<Oid> {
        let names: Vec<&str> = path.split(',').map(|name| name.trim().trim_matches('"')).collect();
        let named = |oid: &&Oid| self.catalog.schemas.get(oid).is_some_and(|s| names.contains(&s.name.as_str()));
        self.group.iter().filter(named).copied().collect()
    }
}

fn roles(review: &mut Review<'_>, tenants: &Tenants<'_>) -> Result<()> {
    for (role, reached) in tenants.roles().into_iter().filter(|(_, reached)| reached.len() > 1) {
        review.keep(Draft {
            rule: "role/spans-tenants",
            object: role_object(role),
            certainty: Certainty::Inferred,
            sentence: format!("{} reaches the schemas of several tenants without becoming another role", role.name),
            evidence: vec![format!("it has rights on tables in {}", tenants.names(&reached))],
            remedy: format!("-- grant {} one tenant's schema, and PUBLIC none", quoted(&role.name)),
        })?;
    }
    Ok(())
}

/// Tables that are yet to be made, in a schema that the role may use beside its own.
fn defaults(review: &mut Review<'_>, tenants: &Tenants<'_>) -> Result<()> {
    let catalog = tenants.catalog;
    for (role, reached) in tenants.roles() {
        let held = catalog.inherited(role.oid);
        let standing = catalog.default_grants.iter().filter(|grant| {
            grant.objects == "r"
                && grant.grantee != grant.maker
                && (grant.grantee == PUBLIC || held.contains(&grant.grantee))
        });
        let open: BTreeSet<Oid> = standing
            .flat_map(|grant| tenants.group.iter().filter(move |schema| grant.schema.is_none_or(|of| of == **schema)))
            .filter(|schema| !reached.contains(schema) && catalog.may_use_schema(role.oid, **schema))
            .copied()
            .collect();
        if open.is_empty() {
            continue;
        }
        review.keep(Draft {
            rule: "role/spans-tenants",
            object: role_object(role),
            certainty: Certainty::Inferred,
            sentence: format!("{} will reach the tables that are made next in another tenant's schema", role.name),
            evidence: vec![format!("default privileges, and USAGE on {}", tenants.names(&open))],
            remedy: "-- ALTER DEFAULT PRIVILEGES .. IN SCHEMA, one for each tenant; and REVOKE USAGE on the others'"
                .into(),
        })?;
    }
    Ok(())
}

/// A session of one tenant's role that begins in another's schema.
fn settings(review: &mut Review<'_>, tenants: &Tenants<'_>) -> Result<()> {
    for (role, reached) in tenants.roles() {
        let own = tenants.catalog.settings.iter().filter(|setting| setting.role == Some(role.oid));
        let paths = own.filter_map(|setting| setting.setting.strip_prefix("search_path="));
        let strange: BTreeSet<Oid> =
            paths.flat_map(|path| tenants.on_path(path)).filter(|s| !reached.contains(s)).collect();
        if strange.is_empty() {
            continue;
        }
        review.keep(Draft {
            rule: "role/context-preset",
            object: role_object(role),
            certainty: Certainty::Inferred,
            sentence: format!("a session of {} begins on the search path of another tenant", role.name),
            evidence: vec![format!(
                "its search_path names {}, and it has rights in {}",
                tenants.names(&strange),
                tenants.names(&reached)
            )],
            remedy: format!("ALTER ROLE {} RESET search_path;", quoted(&role.name)),
        })?;
    }
    Ok(())
}

/// A finding on what reaches from one tenant's schema into another's.
fn reaches(object: Object, sentence: String, evidence: String, remedy: &str) -> Draft {
    let certainty = Certainty::Inferred;
    Draft { rule: "schema/spans-tenants", object, certainty, sentence, evidence: vec![evidence], remedy: remedy.into() }
}

/// Views that show a role rows of schemas beside its own: whoever asks, they are read with the owner's rights.
fn views(review: &mut Review<'_>, tenants: &Tenants<'_>) -> Result<()> {
    let catalog = tenants.catalog;
    let roles = tenants.roles();
    let views =
        catalog.relations.values().filter(|view| !view.kind.is_table() && catalog.reads.contains_key(&view.oid));
    for view in views.filter(|view| view.extension.is_none() && !view.has_option("security_invoker")) {
        let (mut open, mut read) = (vec![view.oid], BTreeSet::new());
        while let Some(one) = open.pop() {
            open.extend(catalog.reads.get(&one).into_iter().flatten().filter(|source| read.insert(**source)));
        }
        let schema =
            |oid: &Oid| catalog.relations.get(oid).filter(|source| source.kind.is_table()).map(|r| r.schema_oid);
        let read: BTreeSet<Oid> =
            read.iter().filter_map(schema).filter(|schema| tenants.group.contains(schema)).collect();
        let seen = roles.iter().find(|(role, reached)| {
            let may = ROWS.into_iter().any(|p| catalog.may_in_part(role.oid, p, view.oid));
            // The view's own schema is what makes it one tenant's.
            let own =
                if reached.contains(&view.schema_oid) { BTreeSet::from([view.schema_oid]) } else { reached.clone() };
            may && catalog.may_use_schema(role.oid, view.schema_oid) && !read.is_subset(&own)
        });
        let Some((role, _)) = seen else { continue };
        let sentence = format!("{} shows {} rows of another tenant's schema", view.label(), role.name);
        let evidence = format!("it reads tables in {}", tenants.names(&read));
        review.keep(reaches(
            relation_object(view),
            sentence,
            evidence,
            "-- a view for each tenant, in its schema and over its tables",
        ))?;
    }
    Ok(())
}

/// Foreign keys into another tenant's tables: what refers, learns what is there.
fn keys(review: &mut Review<'_>, tenants: &Tenants<'_>) -> Result<()> {
    let catalog = tenants.catalog;
    for key in catalog.constraints.iter().filter(|key| key.kind == ConstraintKind::Foreign) {
        let to = key.references.and_then(|to| catalog.relations.get(&to));
        let (Some(from), Some(to)) = (catalog.relations.get(&key.relation), to) else { continue };
        let tenant = |schema: &Oid| tenants.group.contains(schema);
        if from.schema_oid == to.schema_oid || !tenant(&from.schema_oid) || !tenant(&to.schema_oid) {
            continue;
        }
        let sentence = format!("a row of {} refers to another tenant's row of {}", from.label(), to.label());
        let remedy = format!("ALTER TABLE {} DROP CONSTRAINT {};", from.sql(), quoted(&key.name));
        review.keep(reaches(relation_object(from), sentence, format!("{}: {}", key.name, key.definition), &remedy))?;
    }
    Ok(())
}

/// Functions that reach with their owner's rights where who calls them has none.
fn functions(review: &mut Review<'_>, tenants: &Tenants<'_>) -> Result<()> {
    let catalog = tenants.catalog;
    let roles = tenants.roles();
    for function in catalog.functions.values().filter(|f| f.definer && f.extension.is_none()) {
        let touched = touched(tenants, function);
        let triggers = || catalog.triggers.iter().filter(|trigger| trigger.function == function.oid);
        let called = roles.iter().find(|(role, reached)| {
            let calls = match function.is_trigger() {
                false => {
                    catalog.may_use_schema(role.oid, function.schema_oid)
                        && catalog.may(role.oid, crate::guard::catalog::Privilege::Execute, function.oid)
                }
                true => triggers()
                    .any(|trigger| ROWS.into_iter().any(|p| catalog.may_in_part(role.oid, p, trigger.relation))),
            };
            calls && !touched.is_subset(reached)
        });
        let Some((role, _)) = called else { continue };
        let sentence = format!("{} works for {} in another tenant's schema", function.label(), role.name);
        let evidence = format!("it runs as {}, in {}", catalog.role_name(function.owner), tenants.names(&touched));
        let remedy = format!("ALTER FUNCTION {} SECURITY INVOKER;", function.sql());
        review.keep(reaches(function_object(function), sentence, evidence, &remedy))?;
    }
    Ok(())
}

/// The tenants' schemas that a function finds its tables in.
fn touched(tenants: &Tenants<'_>, function: &Function) -> BTreeSet<Oid> {
    let mut found = function.setting("search_path").map_or_else(BTreeSet::new, |path| tenants.on_path(path));
    for statement in Body::of(function).iter().flat_map(Body::statements) {
        let _ = visit_relations(&statement, |name| {
            let parts: Vec<&str> = name.0.iter().filter_map(|part| Some(part.as_ident()?.value.as_str())).collect();
            if let [.., schema, _] = parts[..] {
                found.extend(tenants.on_path(schema));
            }
            std::ops::ControlFlow::<()>::Continue(())
        });
    }
    found
}
