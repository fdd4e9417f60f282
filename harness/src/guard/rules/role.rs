//! What database roles may do beside the wall.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::guard::catalog::{Command, Oid, PUBLIC, Privilege, Relation, Role};
use crate::guard::expression::{Bound, Whose};
use crate::guard::finding::Certainty;
use crate::guard::review::{Draft, Review, relation_object, role_object};
use crate::target::copy::quoted;

pub(super) fn check(review: &mut Review<'_>) -> Result<()> {
    for role in review.roles() {
        attributes(review, role)?;
        predefined(review, role)?;
        files(review, role)?;
        if !role.superuser {
            owned(review, role)?;
            reached(review, role)?;
            beside_rows(review, role)?;
            defaults(review, role)?;
        }
        settings(review, role)?;
    }
    Ok(())
}

fn attributes(review: &mut Review<'_>, role: &Role) -> Result<()> {
    let name = quoted(&role.name);
    for (holds, rule, what, remedy) in [
        (
            role.superuser,
            "role/superuser",
            "is a superuser: no wall stands before it",
            format!("ALTER ROLE {name} NOSUPERUSER;"),
        ),
        (
            role.bypass_rls && !role.superuser,
            "role/bypass-rls",
            "has BYPASSRLS: no policy is asked for it",
            format!("ALTER ROLE {name} NOBYPASSRLS;"),
        ),
        (
            role.replication && !role.superuser,
            "role/replication",
            "has REPLICATION: it may read every change of every tenant",
            format!("ALTER ROLE {name} NOREPLICATION;"),
        ),
    ] {
        if holds {
            review.keep(Draft {
                rule,
                object: role_object(role),
                certainty: Certainty::Inferred,
                sentence: format!("{}, a role of the application, {what}", role.name),
                evidence: because(review, role),
                remedy,
            })?;
        }
    }
    Ok(())
}

fn because(review: &Review<'_>, role: &Role) -> Vec<String> {
    let known = review.tenancy.application.iter().filter(|known| known.oid == role.oid);
    known.map(|known| format!("it is taken for the application's: {}", known.because)).collect()
}

/// Postgres's own roles that see past tenants.
const SEEING: [(&str, &str); 7] = [
    ("pg_monitor", "the statements of other sessions, with the values in them"),
    ("pg_read_all_stats", "the statements of other sessions, with the values in them"),
    ("pg_read_all_data", "every table that has no row security, also those made later"),
    ("pg_write_all_data", "every table that has no row security, also those made later"),
    ("pg_read_server_files", "the server's files, every tenant's rows among them"),
    ("pg_write_server_files", "the server's files"),
    ("pg_execute_server_program", "programs on the server"),
];

fn predefined(review: &mut Review<'_>, role: &Role) -> Result<()> {
    if role.superuser {
        return Ok(());
    }
    let reach: BTreeSet<Oid> =
        review.catalog.settable(role.oid).union(review.catalog.inherited(role.oid)).copied().collect();
    for (name, what) in SEEING {
        let Some(special) = review.catalog.role_named(name).filter(|special| reach.contains(&special.oid)) else {
            continue;
        };
        // A role that may only be handed on is reached by CREATEROLE alone, which has a rule of its own.
        if role.create_role
            && !review.catalog.memberships.iter().any(|m| m.role == special.oid && reach.contains(&m.member))
        {
            continue;
        }
        review.keep(Draft {
            rule: "role/sees-past-tenants",
            object: role_object(role),
            certainty: Certainty::Inferred,
            sentence: format!("{} is a member of {name}, which reaches {what}", role.name),
            evidence: vec![format!("member of {name}: {what}")],
            remedy: format!("REVOKE {name} FROM {};", quoted(&role.name)),
        })?;
    }
    Ok(())
}

/// Functions that read the server's files read every tenant's rows.
fn files(review: &mut Review<'_>, role: &Role) -> Result<()> {
    let held = review.catalog.inherited(role.oid);
    let granted = review.catalog.server_functions.iter().filter(|f| f.grantee == PUBLIC || held.contains(&f.grantee));
    let names: Vec<&str> = granted.map(|function| function.name.as_str()).collect();
    if names.is_empty() || role.superuser {
        return Ok(());
    }
    review.keep(Draft {
        rule: "role/server-files",
        object: role_object(role),
        certainty: Certainty::Inferred,
        sentence: format!("{} reaches the server's files, and in them every tenant's rows", role.name),
        evidence: names.iter().map(|name| format!("it may call {name}")).collect(),
        remedy: format!("-- revoke EXECUTE on each: {}", names.join(", ")),
    })
}

fn owned(review: &mut Review<'_>, role: &Role) -> Result<()> {
    for table in review.tables() {
        if !review.catalog.inherited(role.oid).contains(&table.owner) {
            continue;
        }
        let open = table.row_security && !table.force_row_security;
        let itself = table.owner == role.oid;
        let owner = review.catalog.role_name(table.owner).to_string();
        let how = if itself {
            format!("{} owns it", role.name)
        } else {
            format!("{} is a member of its owner {owner}", role.name)
        };
        let remedy = if itself {
            format!("ALTER TABLE {} OWNER TO migrations_owner; -- a role that never serves", table.sql())
        } else {
            format!("REVOKE {} FROM {};", quoted(&owner), quoted(&role.name))
        };
        let (rule, sentence) = if open {
            ("role/owner-not-forced", format!("row security on {} does not hold for {}", table.label(), role.name))
        } else {
            ("role/owns-table", format!("{} may take the wall of {} away, or empty it", role.name, table.label()))
        };
        let remedy =
            if open { format!("ALTER TABLE {} FORCE ROW LEVEL SECURITY;\n{remedy}", table.sql()) } else { remedy };
        let object = relation_object(table);
        review.keep(Draft { rule, object, certainty: Certainty::Inferred, sentence, evidence: vec![how], remedy })?;
    }
    Ok(())
}

/// What the role may become by `SET ROLE`, and sees there.
fn reached(review: &mut Review<'_>, role: &Role) -> Result<()> {
    let inherited = review.catalog.inherited(role.oid).clone();
    let others: Vec<Oid> =
        review.catalog.settable(role.oid).iter().copied().filter(|other| *other != role.oid).collect();
    let tables = review.tables();
    for other in others {
        let Some(reached) = review.catalog.roles.get(&other).filter(|reached| !reached.is_predefined()) else {
            continue;
        };
        let owned = tables.iter().find(|table| review.catalog.inherited(other).contains(&table.owner));
        let what = match () {
            () if reached.superuser => "is a superuser".into(),
            () if reached.bypass_rls => "has BYPASSRLS".into(),
            () if owned.is_some() && !inherited.contains(&other) => {
                format!("owns {}", owned.map(|table| table.label()).unwrap_or_default())
            }
            () if inherited.contains(&other) => continue,
            () => match wider(review, &tables, role.oid, other) {
                Some(table) => format!("sees other tenants' rows in {}", table.label()),
                None => continue,
            },
        };
        let how = if role.create_role && review.catalog.server.version < 160_000 {
            "it has CREATEROLE, which before 16 can grant itself any role"
        } else {
            "it is a member, or may make itself one"
        };
        review.keep(Draft {
            rule: "role/reaches-bypass",
            object: role_object(role),
            certainty: Certainty::Inferred,
            sentence: format!("{} may become {}, which {what}", role.name, reached.name),
            evidence: vec![format!("SET ROLE {}: {how}", quoted(&reached.name))],
            remedy: format!("REVOKE {} FROM {};", quoted(&reached.name), quoted(&role.name)),
        })?;
    }
    Ok(())
}

fn wider<'a>(review: &Review<'a>, tables: &[&'a Relation], role: Oid, other: Oid) -> Option<&'a Relation> {
    tables.iter().copied().find(|table| {
        let rights = review.rights(other, table);
        let sees = |role: Oid| {
            review.evaluator.turn(role, Bound::Tenant);
            review.evaluator.lets(table, Command::Select, &Whose::Foreign).is_true()
        };
        rights.contains(&Privilege::Select) && sees(other) && (review.rights(role, table).is_empty() || !sees(role))
    })
}

fn beside_rows(review: &mut Review<'_>, role: &Role) -> Result<()> {
    let creates =
        review.catalog.schemas.values().any(|schema| review.catalog.may(role.oid, Privilege::Create, schema.oid))
            || review.catalog.grants.iter().any(|grant| {
                grant.kind == crate::guard::catalog::ObjectKind::Database
                    && matches!(grant.privilege, Privilege::Temporary | Privilege::Create)
                    && (grant.grantee == PUBLIC || review.catalog.inherited(role.oid).contains(&grant.grantee))
            });
    for table in review.tables() {
        let owns = review.catalog.inherited(role.oid).contains(&table.owner);
        if owns || !review.catalog.may_use_schema(role.oid, table.schema_oid) {
            continue;
        }
        for (privilege, rule, what) in [
            (Privilege::Truncate, "role/truncate", "may empty it for every tenant: no policy is asked"),
            (Privilege::References, "role/references", "may ask it by a foreign key of its own which keys exist"),
            (Privilege::Trigger, "role/trigger", "may put a trigger on it that runs as whoever writes"),
        ] {
            let may = review.catalog.may_in_part(role.oid, privilege, table.oid);
            if !may || (privilege == Privilege::References && !creates) {
                continue;
            }
            review.keep(Draft {
                rule,
                object: relation_object(table),
                certainty: Certainty::Inferred,
                sentence: format!("{} {what}: {}", role.name, table.label()),
                evidence: vec![format!("{} holds {} on it", role.name, privilege.word())],
                remedy: format!("REVOKE {} ON {} FROM {};", privilege.word(), table.sql(), quoted(&role.name)),
            })?;
        }
    }
    Ok(())
}

fn defaults(review: &mut Review<'_>, role: &Role) -> Result<()> {
    let held = review.catalog.inherited(role.oid);
    let standing = review.catalog.default_grants.iter().filter(|grant| {
        grant.objects == "r"
            && grant.grantee != grant.maker
            && (grant.grantee == PUBLIC || held.contains(&grant.grantee))
    });
    let standing: Vec<_> = standing.collect();
    for grant in standing {
        let schema =
            grant.schema.and_then(|schema| review.catalog.schemas.get(&schema)).map(|schema| schema.name.as_str());
        let place = schema.map_or_else(String::new, |schema| format!(" IN SCHEMA {}", quoted(schema)));
        let (maker, grantee) = (review.catalog.role_name(grant.maker), review.catalog.role_name(grant.grantee));
        let to = if grant.grantee == PUBLIC { "PUBLIC".into() } else { quoted(grantee) };
        review.keep(Draft {
            rule: "role/default-privileges",
            object: role_object(role),
            certainty: Certainty::Inferred,
            sentence: format!("every table that {maker} makes is open to {} before it has a policy", role.name),
            evidence: vec![format!("default {} on tables of {maker}{} to {grantee}", grant.privilege.word(), place)],
            remedy: format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE {}{place} REVOKE ALL ON TABLES FROM {to};",
                quoted(maker)
            ),
        })?;
    }
    Ok(())
}

/// A tenant that is bound before anybody has bound one.
fn settings(review: &mut Review<'_>, role: &Role) -> Result<()> {
    let own = review.catalog.settings.iter().filter(|setting| setting.role.is_none_or(|of| of == role.oid));
    let own: Vec<_> = own.filter_map(|setting| Some((setting.role, setting.setting.split_once('=')?))).collect();
    for (of, (name, value)) in own {
        if value.trim_matches('"').is_empty() || !review.tenancy.carries(name) {
            continue;
        }
        let whose = if of.is_some() {
            format!("ROLE {}", quoted(&role.name))
        } else {
            format!("DATABASE {}", quoted(&review.catalog.server.database))
        };
        review.keep(Draft {
            rule: "role/context-preset",
            object: role_object(role),
            certainty: Certainty::Inferred,
            sentence: format!("a session of {} that binds no tenant has one bound", role.name),
            evidence: vec![format!("{name} starts with a value")],
            remedy: format!("ALTER {whose} RESET {name};"),
        })?;
    }
    Ok(())
}
