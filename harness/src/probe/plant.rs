//! Plants each tenant's rows in every table that tenants own: parents first, values by type, conditions met by trying.
//! What cannot be planted is told with the reason, never left out in silence.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::bind::Binding;
use super::filling::{Choice, choosable, document, insert, turn, typed};
use super::ground::{Ground, Row};
use super::session::{Answer, Session};
use super::subject::{Kind, Reference, Subject, literal};
use super::trial::Context;
use super::value::{candidates, certain};
use crate::canary::{Canary, Owner};
use crate::error::Result;
use crate::seed::Seed;

/// Rows a tenant has in each table: whole and sparse ones by turns, and a last one that nothing refers to.
pub const ROWS: u32 = 4;
/// Places for rows that one subject has in a canary's row number.
const PLACES: u32 = 64;
/// Times that one row is tried.
const TRIES: usize = 8;
/// Combinations of values that are tried for one condition at most.
const COMBINATIONS_MAX: usize = 60_000;

/// A table that could not be planted.
#[derive(Clone, Debug)]
pub struct Unplanted {
    /// The table.
    pub table: i64,
    /// Why.
    pub why: String,
    /// True where rows are there, and no further one could be made to insert.
    pub spare: bool,
}

/// Plants, and knows what was planted.
pub struct Planter<'s> {
    session: &'s mut Session,
    subjects: &'s [Subject],
    binding: &'s Binding,
    seed: Seed,
    /// Whether a value can be of a type, as the server said.
    castable: HashMap<(String, String), bool>,
    /// True where the privileged role may leave out triggers.
    pub may_replicate: bool,
}

impl<'s> Planter<'s> {
    /// A planter on the privileged connection.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn new(
        session: &'s mut Session,
        subjects: &'s [Subject],
        binding: &'s Binding,
        seed: Seed,
    ) -> Result<Self> {
        let mut planter = Self { session, subjects, binding, seed, castable: HashMap::new(), may_replicate: true };
        let allowed = planter.attempt("SET LOCAL session_replication_role = replica", false).await?;
        planter.may_replicate = allowed.error.is_none();
        Ok(planter)
    }

    /// Plants every table that is owned, for every tenant of `ground`.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn plant(&mut self, ground: &mut Ground) -> Result<Vec<Unplanted>> {
        let mut unplanted = Vec::new();
        for number in self.order() {
            let subject = &self.subjects[number];
            let tenants: Vec<Option<usize>> = match subject.owned {
                true => (0..ground.tenants.len()).map(Some).collect(),
                false => vec![None],
            };
            let mut why = None;
            for tenant in tenants {
                let rows = if subject.is_root() { 1 } else { ROWS };
                // Rows that belong to nobody are told apart all the same: what hangs on one is one tenant's.
                let rows = if tenant.is_none() { ROWS * ground.tenants.len() as u32 } else { rows };
                for row in 0..rows {
                    match self.row(ground, number, tenant, row, true).await? {
                        Ok(row) => ground.rows.push(row),
                        Err(reason) => why = Some(reason),
                    }
                }
            }
            if why.is_some() {
                self.found(ground, subject).await?;
            }
            // What a trial inserts has to be what the table takes, while all its parents are there.
            for tenant in (0..ground.tenants.len()).filter(|_| subject.owned && why.is_none()) {
                match self.row(ground, number, Some(tenant), ROWS, false).await? {
                    Ok(row) => ground.spares.push(row),
                    // Its one row is there already.
                    Err(_) if subject.is_root() => {}
                    Err(why) => unplanted.push(Unplanted { table: subject.oid, why, spare: true }),
                }
            }
            let planted = ground.rows.iter().any(|row| row.table == subject.oid);
            if let (Some(why), false) = (why, planted) {
                unplanted.push(Unplanted { table: subject.oid, why, spare: false });
            }
        }
        // What one tenant puts into a table of nobody's, another may come upon; where no row can be made, none is tried.
        for number in (0..self.subjects.len()).filter(|number| self.subjects[*number].is_shared()) {
            for tenant in 0..ground.tenants.len() {
                ground.spares.extend(self.row(ground, number, Some(tenant), ROWS, false).await?.ok());
            }
        }
        ground.learn();
        Ok(unplanted)
    }

    /// Takes in rows that are there already for the run's tenants: a trigger's, made when other rows were planted.
    async fn found(&mut self, ground: &mut Ground, subject: &Subject) -> Result<()> {
        let Some(column) = subject.tenant.as_ref().and_then(|name| subject.column(name)) else { return Ok(()) };
        let columns = subject.columns.iter().map(|c| format!("{}::text", c.sql())).collect::<Vec<_>>().join(", ");
        for tenant in 0..ground.tenants.len() {
            if ground.rows_of(subject.oid, tenant).next().is_some() {
                continue;
            }
            let id = typed(Some(&ground.tenants[tenant].id), &column.kind);
            let query = format!("SELECT {columns} FROM {} WHERE {} = {id} LIMIT {ROWS}", subject.sql(), column.sql());
            for (number, values) in (0..).zip(self.session.aside(&query).await?.rows) {
                let names = subject.columns.iter().map(|column| column.name.clone());
                let values = names.zip(values).collect();
                let row = Row {
                    table: subject.oid,
                    tenant: Some(tenant),
                    number,
                    values,
                    given: vec![],
                    statement: String::new(),
                };
                ground.rows.push(row);
            }
        }
        Ok(())
    }

    /// Numbers of the tables to plant: what is owned and what that refers to, parents first.
    fn order(&self) -> Vec<usize> {
        let leaf = |subject: &Subject| matches!(subject.kind, Kind::Table | Kind::Partition);
        let mut wanted: BTreeSet<usize> =
            (0..self.subjects.len()).filter(|n| self.subjects[*n].owned && leaf(&self.subjects[*n])).collect();
        let mut open: Vec<usize> = wanted.iter().copied().collect();
        while let Some(number) = open.pop() {
            for reference in &self.subjects[number].references {
                for target in self.family(reference.target).filter(|n| leaf(&self.subjects[*n])).collect::<Vec<_>>() {
                    if wanted.insert(target) {
                        open.push(target);
                    }
                }
            }
        }
        let mut ordered = Vec::new();
        while !wanted.is_empty() {
            let waits = |number: &usize, strictly: bool| {
                self.subjects[*number].references.iter().any(|reference| {
                    let column = |name: &String| self.subjects[*number].column(name).is_some_and(|c| c.not_null);
                    (strictly || reference.columns.iter().all(column))
                        && self.family(reference.target).any(|target| target != *number && wanted.contains(&target))
                })
            };
            let ready = wanted.iter().find(|n| !waits(n, true)).or_else(|| wanted.iter().find(|n| !waits(n, false)));
            // Those that refer to one another in a ring begin with any.
            let Some(next) = ready.or_else(|| wanted.iter().next()).copied() else { break };
            wanted.remove(&next);
            ordered.push(next);
        }
        ordered
    }

    /// Numbers of a table and of all that are kept below it.
    fn family(&self, oid: i64) -> impl Iterator<Item = usize> {
        let subjects = self.subjects;
        (0..subjects.len()).filter(move |number| {
            let mut at = Some(&subjects[*number]);
            while let Some(subject) = at {
                if subject.oid == oid {
                    return true;
                }
                at = subject.parent.and_then(|parent| subjects.iter().find(|s| s.oid == parent));
            }
            false
        })
    }

    async fn row(
        &mut self,
        ground: &Ground,
        number: usize,
        tenant: Option<usize>,
        row: u32,
        keep: bool,
    ) -> Result<Result<Row, String>> {
        let subject = &self.subjects[number];
        let mut choice = match self.choice(ground, number, tenant, row) {
            Ok(choice) => choice,
            Err(why) => return Ok(Err(why)),
        };
        if subject.kind == Kind::Partition {
            self.settle(subject, &mut choice).await?;
        }
        let mut last = String::new();
        for _ in 0..TRIES {
            let mut statement = insert(subject, &choice);
            let returning =
                subject.columns.iter().map(|c| format!("x.{}::text", c.sql())).collect::<Vec<_>>().join(", ");
            let mut answer = self.attempt(&format!("{statement} RETURNING {returning}"), keep).await?;
            // A trigger or a default may take the tenant from the context.
            let bound = tenant.map(|tenant| self.binding.sql(&Context::Tenant(tenant), &ground.tenants));
            if let (Some(bound), true, false) =
                (bound.filter(|sql| !sql.is_empty()), answer.error.is_some(), self.session.is_within())
            {
                let stamped = format!("{bound}; {statement}");
                let tried = self.attempt(&format!("{stamped} RETURNING {returning}"), keep).await?;
                // It may have come further, to a condition that other values meet.
                if tried.error != answer.error {
                    (answer, statement) = (tried, stamped);
                }
            }
            if answer.error.is_some() && self.may_replicate && !choosable(&answer) {
                // A trigger's refusal, or a ring of references.
                let quiet = format!("SET LOCAL session_replication_role = replica; {statement} RETURNING {returning}");
                answer = self.attempt(&quiet, keep).await?;
            }
            let Some((code, why)) = answer.error else {
                let Some(values) = answer.rows.pop() else {
                    return Ok(Err("the row was left out by a trigger".into()));
                };
                let names = subject.columns.iter().map(|column| column.name.clone());
                let values: BTreeMap<String, Option<String>> = names.zip(values).collect();
                let own = tenant.map(|t| &ground.tenants[t].id);
                let kept = subject.tenant.as_ref().and_then(|column| values.get(column).cloned().flatten());
                if own.is_some() && subject.tenant.is_some() && kept.as_ref() != own {
                    return Ok(Err("the row was put under another tenant by the database itself".into()));
                }
                let given =
                    choice.iter().filter_map(|(name, values)| Some((name.clone(), values.first()?.clone()))).collect();
                return Ok(Ok(Row { table: subject.oid, tenant, number: row, values, given, statement }));
            };
            last = format!("{} ({code})", why.lines().next().unwrap_or_default());
            match code.as_str() {
                "23514" => self.settle(subject, &mut choice).await?,
                "23505" | "23P01" => turn(&mut choice),
                code if code.starts_with("22") || code.starts_with("42") => self.cast(subject, &mut choice).await?,
                _ => break,
            }
        }
        Ok(Err(last))
    }

    /// What may stand in each column of a row.
    fn choice(&self, ground: &Ground, number: usize, tenant: Option<usize>, row: u32) -> Result<Choice, String> {
        let subject = &self.subjects[number];
        let owner = tenant.map_or(Owner::PLATFORM, |tenant| ground.tenants[tenant].owner);
        let sparse = row % 2 == 1 || subject.is_root();
        let mut choice = Choice::new();
        for (place, column) in subject.columns.iter().enumerate() {
            let keyed = subject.uniques.iter().any(|unique| unique.columns.contains(&column.name));
            let wordy =
                matches!(column.base.as_str(), "text" | "character varying" | "citext" | "uuid" | "jsonb" | "json");
            let left = !keyed && sparse && (column.has_default || (!column.not_null && !wordy));
            if column.generated || left {
                continue;
            }
            let code = (place as u16 + 1).min(1020);
            let canary = Canary { owner, row: number as u32 * PLACES + row, column: code };
            let conditions: Vec<&str> = subject
                .checks
                .iter()
                .filter(|check| check.columns.contains(&column.name))
                .map(|check| check.expression.as_str())
                .collect();
            let mut values = candidates(column, canary, &ground.mint, &conditions, self.seed);
            if let (true, Some(tenant)) = (column.base.starts_with("json"), tenant) {
                let id = &ground.tenants[tenant].id;
                // One row a tenant holds a word where a policy may look for the tenant.
                let word = ground.mint.text(canary);
                values.splice(
                    0..0,
                    document(subject, &ground.mint.json(canary), if row + 2 == ROWS { &word } else { id }),
                );
            }
            let mut values: Vec<Option<String>> = values.into_iter().map(Some).collect();
            if !column.not_null {
                values.push(None);
            }
            choice.insert(column.name.clone(), values);
        }
        for reference in &subject.references {
            let values = self.referred(ground, subject, reference, tenant, row)?;
            for (column, value) in reference.columns.iter().zip(values) {
                choice.insert(column.clone(), vec![value]);
            }
        }
        if let (Some(tenant), Some(column)) = (tenant, &subject.tenant) {
            choice.insert(column.clone(), vec![Some(ground.tenants[tenant].id.clone())]);
        }
        Ok(choice)
    }

    /// What a reference's columns hold: the key of a row of the same tenant.
    fn referred(
        &self,
        ground: &Ground,
        subject: &Subject,
        reference: &Reference,
        tenant: Option<usize>,
        row: u32,
    ) -> Result<Vec<Option<String>>, String> {
        let family: BTreeSet<i64> = self.family(reference.target).map(|number| self.subjects[number].oid).collect();
        let found: Vec<&Row> = ground.rows.iter().filter(|r| family.contains(&r.table)).collect();
        let own: Vec<&Row> = found.iter().copied().filter(|r| r.tenant == tenant).collect();
        let shared: Vec<&Row> = found.into_iter().filter(|r| r.tenant.is_none()).collect();
        let single = subject.uniques.iter().any(|unique| {
            unique.columns.iter().all(|c| reference.columns.contains(c) || Some(c) == subject.tenant.as_ref())
        });
        let chosen = if !own.is_empty() {
            let last = if single { own.len() } else { own.len().saturating_sub(1).max(1) };
            own.get(row as usize % last)
        } else {
            // A shared row serves one tenant alone.
            let first = tenant.unwrap_or(0) * ROWS as usize;
            shared.get((first + row as usize) % shared.len().max(1))
        };
        let Some(chosen) = chosen else {
            let optional = reference
                .columns
                .iter()
                .all(|name| subject.column(name).is_some_and(|c| !c.not_null) && subject.tenant.as_ref() != Some(name));
            return match optional || reference.target == subject.oid {
                true => Ok(vec![None; reference.columns.len()]),
                false => Err(format!("what {} refers to has no row", reference.name)),
            };
        };
        Ok(reference.target_columns.iter().map(|name| chosen.values.get(name).cloned().flatten()).collect())
    }

    /// Chooses values that meet each condition.
    async fn settle(&mut self, subject: &Subject, choice: &mut Choice) -> Result<()> {
        self.cast(subject, choice).await?;
        for check in &subject.checks {
            let columns: Vec<&String> = check.columns.iter().collect();
            if columns.is_empty() {
                continue;
            }
            let room = (COMBINATIONS_MAX as f64).powf(1.0 / columns.len() as f64) as usize;
            let (mut from, mut picked) = (Vec::new(), Vec::new());
            for (place, name) in columns.iter().enumerate() {
                let Some(column) = subject.column(name) else { continue };
                let none = vec![None];
                let values = choice.get(*name).unwrap_or(&none);
                let rows: Vec<String> = values
                    .iter()
                    .take(room.max(2))
                    .enumerate()
                    .map(|(number, value)| format!("({number}, {})", typed(value.as_deref(), &column.base)))
                    .collect();
                from.push(format!("(VALUES {}) v{place}(i{place}, {})", rows.join(", "), column.sql()));
                picked.push(format!("i{place}"));
            }
            let query = format!(
                "SELECT {} FROM {} WHERE ({}) IS NOT FALSE ORDER BY {} LIMIT 1",
                picked.join(", "),
                from.join(", "),
                check.expression,
                picked.join(" + ")
            );
            let answer = self.attempt(&query, false).await?;
            let Some(row) = answer.rows.first() else { continue };
            for (name, number) in columns.iter().zip(row) {
                let number = number.as_ref().and_then(|number| number.parse::<usize>().ok()).unwrap_or(0);
                if let Some(values) = choice.get_mut(*name)
                    && number < values.len()
                {
                    values.drain(..number);
                }
            }
        }
        Ok(())
    }

    /// Leaves out what the columns' types do not read.
    async fn cast(&mut self, subject: &Subject, choice: &mut Choice) -> Result<()> {
        for column in &subject.columns {
            let Some(values) = choice.get_mut(&column.name) else { continue };
            let mut kept = Vec::new();
            for value in std::mem::take(values) {
                let Some(text) = &value else {
                    kept.push(value);
                    continue;
                };
                let known = match certain(&column.base, text) {
                    Some(known) => known,
                    None => self.is_of(text, &column.base).await?,
                };
                if known {
                    kept.push(value);
                }
            }
            *values = kept;
        }
        Ok(())
    }

    /// Whether `text` can be of type `kind`.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn is_of(&mut self, text: &str, kind: &str) -> Result<bool> {
        let key = (kind.to_string(), text.to_string());
        if let Some(known) = self.castable.get(&key) {
            return Ok(*known);
        }
        let known = self.attempt(&format!("SELECT {}::{kind}", literal(text)), false).await?.error.is_none();
        self.castable.insert(key, known);
        Ok(known)
    }

    /// Runs a statement; what it did is undone where it failed, or is not to be kept.
    async fn attempt(&mut self, sql: &str, keep: bool) -> Result<Answer> {
        let within = self.session.is_within();
        let begin = if within { "SAVEPOINT planting" } else { "BEGIN" };
        let mut answer = self.session.run(&format!("{begin}; {sql}")).await?;
        let end = match (within, answer.error.is_none() && keep) {
            (false, true) => "COMMIT",
            (false, false) => "ROLLBACK",
            (true, true) => "SET LOCAL session_replication_role = DEFAULT; RELEASE SAVEPOINT planting",
            (true, false) => "ROLLBACK TO SAVEPOINT planting; RELEASE SAVEPOINT planting",
        };
        // What is deferred is decided at the end.
        let end = if within && !self.may_replicate {
            end.trim_start_matches("SET LOCAL session_replication_role = DEFAULT; ")
        } else {
            end
        };
        answer.error = answer.error.or(self.session.run(end).await?.error);
        Ok(answer)
    }
}
