//! The tenants of a run: made for it, or two that are there already; and what is bound for each.

use std::collections::BTreeMap;

use super::bind::Binding;
use super::engine::Engine;
use super::ground::{Ground, Tenant};
use super::plant::Planter;
use super::subject::{Kind, Subject};
use super::trial::{Act, Command, Expect, Lane, Relation, Trial};
use super::value::{certain, literals, tenant_id};
use crate::canary::Owner;
use crate::error::Result;
use crate::seed::Seed;
use crate::target::copy::quoted;

use super::session::Session;

/// Rows of a table that are looked at to find tenants.
const LOOKED_AT: u32 = 20_000;
/// Values of a tenant's rows that are tried as its context.
const CONTEXTS_MAX: usize = 60;

/// Tenants that are not there yet, with ids that every tenant column takes.
///
/// # Errors
/// The server does not answer.
pub async fn made(
    planter: &mut Planter<'_>,
    subjects: &[Subject],
    ground: &Ground,
    count: u32,
    seed: Seed,
) -> Result<Vec<Tenant>> {
    let columns = || subjects.iter().filter(|s| s.owned).filter_map(|s| Some((s, s.column(s.tenant.as_deref()?)?)));
    // What fits the narrowest column fits all that can hold the same.
    let narrow = |kind: &str| match kind.split('(').next().unwrap_or(kind) {
        "smallint" => 0,
        "integer" => 1,
        "bigint" => 2,
        "uuid" => 3,
        "numeric" => 4,
        _ => 5,
    };
    let size =
        |kind: &str| kind.split(['(', ')']).nth(1).and_then(|size| size.parse::<usize>().ok()).unwrap_or(usize::MAX);
    let Some((_, column)) = columns().min_by_key(|(_, c)| (narrow(&c.base), size(&c.base))) else {
        return Ok(Vec::new());
    };
    let name_of = |subject: &Subject| subject.tenant.clone().unwrap_or_default();
    let conditions: Vec<String> = columns()
        .flat_map(|(s, _)| s.checks.iter().filter(move |c| c.columns == [name_of(s)]).map(|c| c.expression.clone()))
        .collect();
    let conditions: Vec<&str> = conditions.iter().map(String::as_str).collect();
    // Tables kept by lists of tenants take the tenants that the lists name.
    let lists: Vec<&Subject> = subjects.iter().filter(|s| s.kind == Kind::Partition && s.owned).collect();
    let listed: Vec<Vec<String>> = lists
        .iter()
        .filter_map(|s| s.checks.iter().find(|c| c.columns == [name_of(s)]))
        .map(|c| literals(&c.expression))
        .collect();
    let mut tenants = Vec::new();
    for number in 0..count {
        let owner = Owner::new(number);
        let mut tried: Vec<String> = Vec::new();
        tried.extend(
            listed
                .get(number as usize)
                .into_iter()
                .flatten()
                .filter(|id| certain(&column.base, id) != Some(false))
                .cloned(),
        );
        tried.extend(tenant_id(column, owner, &ground.mint, &conditions, seed));
        for id in tried {
            let mut fits = tenants.iter().all(|tenant: &Tenant| tenant.id != id);
            if fits && certain(&column.base, &id).is_none() {
                fits = planter.is_of(&id, &column.base).await?;
            }
            if fits {
                tenants.push(Tenant { owner, context: vec![], id, planted: true });
                break;
            }
        }
    }
    Ok(tenants)
}

/// Two tenants that are there: those with rows in the most of `tables`. Owners are numbered from `first`.
///
/// # Errors
/// The server does not answer.
pub async fn found(session: &mut Session, tables: &[&Subject], first: u32) -> Result<Vec<Tenant>> {
    let tenants = ids(session, tables).await?.into_iter().take(2).zip(first..);
    Ok(tenants.map(|(id, number)| Tenant { owner: Owner::new(number), context: vec![], id, planted: false }).collect())
}

/// Ids of the tenants that are there, those with rows in the most of `tables` first.
///
/// # Errors
/// The server does not answer.
pub async fn ids(session: &mut Session, tables: &[&Subject]) -> Result<Vec<String>> {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for subject in tables {
        let Some(column) = &subject.tenant else { continue };
        let sql = format!(
            "SELECT {0}::text FROM (SELECT {0} FROM {1} WHERE {0} IS NOT NULL LIMIT {LOOKED_AT}) x GROUP BY 1 ORDER BY count(*) DESC LIMIT 50",
            quoted(column),
            subject.sql()
        );
        let answer = session.aside(&sql).await?;
        for id in answer.rows.into_iter().filter_map(|mut row| row.pop().flatten()) {
            *seen.entry(id).or_default() += 1;
        }
    }
    let mut seen: Vec<(u64, String)> = seen.into_iter().map(|(id, tables)| (tables, id)).collect();
    seen.sort_by(|a, b| b.cmp(a));
    Ok(seen.into_iter().map(|(_, id)| id).collect())
}

/// Finds, for each tenant, what has to be bound so that it sees rows of its own: its id, or where that shows nothing, a
/// value of one of its rows, such as the id of a user. What was tried is tried for every place of the binding.
///
/// # Errors
/// The server does not answer.
pub async fn contexts(
    engine: &mut Engine<'_>,
    binding: &Binding,
    ground: &Ground,
    subjects: &[Subject],
) -> Result<BTreeMap<usize, Vec<String>>> {
    let mut chosen = BTreeMap::new();
    let readable: Vec<&Subject> =
        subjects.iter().filter(|s| s.owned && s.rights.select && s.rights.usage && s.kind != Kind::Partition).collect();
    for (number, tenant) in ground.tenants.iter().enumerate() {
        let plain = vec![tenant.id.clone(); binding.width()];
        if readable.is_empty() || binding.is_empty() || shows(engine, binding, &plain, number, &readable).await? {
            continue;
        }
        let mut values: Vec<String> = Vec::new();
        for row in ground.rows.iter().filter(|row| row.tenant == Some(number) && row.number == 0) {
            let subject = subjects.iter().find(|s| s.oid == row.table);
            for column in subject.into_iter().flat_map(|s| &s.columns) {
                let keyed =
                    matches!(column.base.as_str(), "uuid" | "bigint" | "integer" | "text" | "character varying");
                if let (true, Some(Some(value))) = (keyed, row.values.get(&column.name))
                    && !values.contains(value)
                {
                    values.push(value.clone());
                }
            }
        }
        'tried: for value in values.into_iter().take(CONTEXTS_MAX) {
            let mut sets = vec![vec![value.clone(); binding.width()]];
            if binding.width() > 1 {
                sets.extend((0..binding.width()).map(|place| {
                    let mut set = plain.clone();
                    set[place] = value.clone();
                    set
                }));
            }
            for set in sets {
                if shows(engine, binding, &set, number, &readable).await? {
                    chosen.insert(number, set);
                    break 'tried;
                }
            }
        }
    }
    Ok(chosen)
}

/// True where, with `values` bound, `tenant` sees rows of its own in one table.
async fn shows(
    engine: &mut Engine<'_>,
    binding: &Binding,
    values: &[String],
    tenant: usize,
    tables: &[&Subject],
) -> Result<bool> {
    let bind = binding.of(values);
    for table in tables {
        let columns: Vec<String> = table.columns.iter().filter(|c| c.may_select).map(|c| c.sql()).collect();
        let sql = format!("SELECT {} FROM {} LIMIT 5000", columns.join(", "), table.sql());
        let acts = [Act::Begin, Act::Run(bind.clone()), Act::Run(sql), Act::Rollback];
        let trial = Trial {
            subject: table.title(),
            kind: table.kind,
            owned: true,
            command: Command::Select,
            relation: Relation::Own,
            what: String::new(),
            acts: acts.into_iter().map(|act| (Lane::First, act)).collect(),
            expect: Expect::Own,
            group: String::new(),
        };
        let outcomes = engine.perform(&trial).await?;
        if outcomes.last().is_some_and(|last| last.succeeded() && last.of.contains_key(&tenant)) {
            return Ok(true);
        }
    }
    Ok(false)
}
