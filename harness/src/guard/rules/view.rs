//! Views, and what else shows a table's rows with another role's eyes.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::error::Result;
use crate::guard::catalog::{Command, Kind, Privilege, Relation, Role};
use crate::guard::expression::{Bound, Whose};
use crate::guard::finding::Certainty;
use crate::guard::review::{Draft, Review, listed, relation_object};
use crate::target::copy::quoted;

pub(super) fn check(review: &mut Review<'_>) -> Result<()> {
    let relations: Vec<&Relation> =
        review.catalog.relations.values().filter(|relation| relation.extension.is_none()).collect();
    for relation in relations {
        for role in review.roles() {
            match relation.kind {
                Kind::View => view(review, relation, role)?,
                Kind::MaterialisedView => materialised(review, relation, role)?,
                _ => {}
            }
        }
    }
    rules(review)
}

/// True when what the view shows of others, the role sees in the tables themselves: it is their wall that is open.
fn open_anyway(review: &Review<'_>, role: &Role, tables: &[String]) -> bool {
    let open = |label: &String| {
        let table = review.catalog.relations.values().find(|relation| relation.label() == *label);
        table.is_some_and(|table| {
            review.evaluator.turn(role.oid, Bound::Tenant);
            review.rights(role.oid, table).contains(&Privilege::Select)
                && review.evaluator.lets(table, Command::Select, &Whose::Foreign).may_be_true()
        })
    };
    !tables.is_empty() && tables.iter().all(open)
}

fn view(review: &mut Review<'_>, view: &Relation, role: &Role) -> Result<()> {
    let rights = review.rights(role.oid, view);
    let sources = review.sources(view.oid);
    let Some(view) = review.catalog.relations.get(&view.oid) else { return Ok(()) };
    if rights.is_empty() || sources.is_empty() {
        return Ok(());
    }
    let invoker = view.has_option("security_invoker");
    let owner = review.catalog.role_name(view.owner).to_string();
    let remedy = format!("ALTER VIEW {} SET (security_invoker = true);", view.sql());
    let mut evidence = vec![format!("{} holds {} on it", role.name, listed(&rights))];
    evidence.push(if invoker { "it runs as who asks".into() } else { format!("it runs as its owner {owner}") });
    let mut leaks: Option<(Certainty, String)> = None;
    let mut unread = false;
    for bound in [Bound::Tenant, Bound::Unset, Bound::Empty] {
        review.evaluator.turn(role.oid, bound);
        let Some(shown) = review.evaluator.shown(view) else {
            unread = true;
            break;
        };
        for row in shown.iter().filter(|row| !row.foreign.is_empty() && row.when.may_be_true()) {
            // In a connection that nobody has bound, only what is shown for certain is its fault.
            if bound != Bound::Tenant && !row.when.is_true() || open_anyway(review, role, &row.foreign) {
                continue;
            }
            let certainty = if row.when.is_true() { Certainty::Inferred } else { Certainty::Suspected };
            let when = match bound {
                Bound::Tenant => "while another tenant is bound",
                _ => "while nothing is bound",
            };
            let line = format!("it shows other tenants' rows of {} {when}", row.foreign.join(", "));
            if leaks.as_ref().is_none_or(|(known, _)| certainty < *known) {
                leaks = Some((certainty, line));
            }
        }
    }
    // Behind whose eyes no policy is asked for, the view's own condition is the wall.
    let filters = sources.iter().filter_map(|source| review.catalog.relations.get(source)).find(|source| {
        let eyes = if invoker { role.oid } else { view.owner };
        source.kind.is_table() && review.catalog.bypasses(eyes, source) && !open_anyway(review, role, &[source.label()])
    });
    if let Some((certainty, line)) = leaks {
        evidence.push(line);
        let sentence = format!("{} shows rows of other tenants to {}", view.label(), role.name);
        let object = relation_object(view);
        return review.keep(Draft { rule: "view/shows-others", object, certainty, sentence, evidence, remedy });
    }
    let Some(source) = filters else { return Ok(()) };
    evidence.push(format!("no policy of {} is asked there", source.label()));
    if unread {
        return review.keep(Draft {
            rule: "view/undecided",
            object: relation_object(view),
            certainty: Certainty::Suspected,
            sentence: format!(
                "{} has a form that is not followed, and reads {} past its wall",
                view.label(),
                source.label()
            ),
            evidence,
            remedy,
        });
    }
    if !view.has_option("security_barrier") {
        review.keep(Draft {
            rule: "view/no-barrier",
            object: relation_object(view),
            certainty: Certainty::Inferred,
            sentence: format!(
                "a condition of the asker's own is evaluated on other tenants' rows behind {}",
                view.label()
            ),
            evidence: evidence.clone(),
            remedy: format!("ALTER VIEW {} SET (security_barrier = true);", view.sql()),
        })?;
    }
    let writes = rights.contains(&Privilege::Insert) || rights.contains(&Privilege::Update);
    let replaced = review.catalog.triggers.iter().any(|trigger| trigger.relation == view.oid && trigger.instead);
    if writes && !view.has_option("check_option") && !replaced {
        review.keep(Draft {
            rule: "view/no-check-option",
            object: relation_object(view),
            certainty: Certainty::Inferred,
            sentence: format!("through {} a row may be written that its tenant does not see", view.label()),
            evidence,
            remedy: format!("ALTER VIEW {} SET (check_option = cascaded);", view.sql()),
        })?;
    }
    Ok(())
}

fn materialised(review: &mut Review<'_>, view: &Relation, role: &Role) -> Result<()> {
    let rights = review.rights(role.oid, view);
    let sources = review.sources(view.oid);
    let Some(source) = sources.first().and_then(|source| review.catalog.relations.get(source)) else { return Ok(()) };
    if !rights.contains(&Privilege::Select) {
        return Ok(());
    }
    review.keep(Draft {
        rule: "view/materialised",
        object: relation_object(view),
        certainty: Certainty::Inferred,
        sentence: format!(
            "{} keeps what its owner saw of {} when it was refreshed, and can have no row security",
            view.label(),
            source.label()
        ),
        evidence: vec![format!("{} holds SELECT on it", role.name)],
        remedy: format!("REVOKE ALL ON {} FROM {};", view.sql(), quoted(&role.name)),
    })
}

/// Rules act with their table's owner's rights.
fn rules(review: &mut Review<'_>) -> Result<()> {
    let all: Vec<_> = review.catalog.rules.iter().collect();
    for rule in all {
        let Some(relation) = review.catalog.relations.get(&rule.relation) else { continue };
        let sources = review.sources(relation.oid);
        let beside = sources.iter().filter_map(|source| review.catalog.relations.get(source)).find(|source| {
            source.oid != relation.oid && source.kind.is_table() && review.catalog.bypasses(relation.owner, source)
        });
        let Some(beside) = beside else { continue };
        let action = rule.definition.split_once(" DO ").map_or("", |(_, action)| action);
        let action = action.trim_start().trim_start_matches("INSTEAD").trim_start_matches("ALSO");
        let statements = Parser::parse_sql(&PostgreSqlDialect {}, action).unwrap_or_default();
        if !statements.is_empty() && statements.iter().all(|statement| super::function::consults(review, statement)) {
            continue;
        }
        for role in review.roles() {
            let privilege = match rule.command {
                Command::Select => Privilege::Select,
                Command::Insert => Privilege::Insert,
                Command::Update => Privilege::Update,
                Command::Delete => Privilege::Delete,
            };
            if !review.rights(role.oid, relation).contains(&privilege) {
                continue;
            }
            review.keep(Draft {
                rule: "view/rule",
                object: relation_object(relation),
                certainty: Certainty::Inferred,
                sentence: format!(
                    "rule {} turns {} into work on {} past its wall",
                    rule.name,
                    rule.command.word(),
                    beside.label()
                ),
                evidence: vec![
                    rule.definition.clone(),
                    format!("{} holds {} on {}", role.name, privilege.word(), relation.label()),
                ],
                remedy: format!("DROP RULE {} ON {};", quoted(&rule.name), relation.sql()),
            })?;
        }
    }
    Ok(())
}
