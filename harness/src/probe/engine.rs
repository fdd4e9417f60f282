//! Does trials, one after another, and records what came of each act; nothing is judged here.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::bind::Binding;
use super::ground::Ground;
use super::outcome::{Change, Outcome};
use super::session::{Answer, Identity, Session};
use super::subject::{Subject, literal};
use super::trial::{Act, Lane, Trial};
use crate::canary::Sighting;
use crate::error::Result;

/// Rows shown of an answer.
const EXCERPT_ROWS: usize = 4;
/// Characters shown of a row.
const EXCERPT_CHARS: usize = 400;

/// Where connections come from.
#[derive(Clone)]
pub struct Door {
    /// Of the privileged role; it holds a password.
    pub url: String,
    /// Of the application's role, where it can sign in.
    pub as_url: Option<String>,
    /// How the privileged connection takes the application's role.
    pub identity: Identity,
    /// Settings that a connection as the role begins with.
    pub settings: Vec<(String, String)>,
}

/// Rows of a table by tenant: how many, what they hash to, and what those hash to who wrote them.
type Held = BTreeMap<(String, usize), (i64, String, String)>;

/// Does trials.
pub struct Engine<'g> {
    door: Door,
    ground: &'g Ground,
    binding: Binding,
    subjects: &'g [Subject],
    lanes: BTreeMap<(Lane, bool), Session>,
    looking: String,
    tables: Vec<String>,
    held: Held,
}

impl<'g> Engine<'g> {
    /// An engine; `within` is the one connection that all has to happen on, if it has to.
    pub fn new(
        door: Door,
        ground: &'g Ground,
        binding: Binding,
        subjects: &'g [Subject],
        within: Option<Session>,
    ) -> Self {
        let (looking, tables) = looking(ground, subjects);
        let lanes = within.into_iter().map(|session| ((Lane::First, false), session)).collect();
        Self { door, ground, binding, subjects, lanes, looking, tables, held: Held::new() }
    }

    /// The connection of that lane; `own` asks for one that signed in as the application's role.
    async fn session(&mut self, lane: Lane, own: bool) -> Result<&mut Session> {
        let whole = self.lanes.get(&(Lane::First, false)).is_some_and(Session::is_within);
        let key = if whole { (Lane::First, false) } else { (lane, own) };
        if self.lanes.get(&key).is_none_or(Session::is_lost) {
            let (url, identity) = match (&self.door.as_url, own) {
                (Some(url), true) => (url.clone(), Identity::Real),
                _ => (self.door.url.clone(), self.door.identity.clone()),
            };
            let session = Session::open(&url, identity, &self.door.settings).await?;
            self.lanes.insert(key, session);
        }
        self.lanes.get_mut(&key).ok_or_else(|| crate::error::Error::Defect("a connection that was just opened".into()))
    }

    /// Notes what every tenant has, for looks to compare with.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn note(&mut self) -> Result<()> {
        let looking = self.looking.clone();
        let session = self.session(Lane::First, false).await?;
        let answer = session.run(&looking).await?;
        self.held = self.held_of(&answer);
        Ok(())
    }

    /// The one connection that everything happens on, if there is such.
    pub fn into_whole(mut self) -> Option<Session> {
        self.lanes.remove(&(Lane::First, false)).filter(Session::is_within)
    }

    /// Forgets the connections on which something was left on purpose.
    pub fn forget(&mut self) {
        self.lanes.retain(|_, session| session.is_within());
    }

    /// Does `trial`.
    ///
    /// # Errors
    /// A connection is gone, or a statement of ours was refused.
    pub async fn perform(&mut self, trial: &Trial) -> Result<Vec<Outcome>> {
        let own = trial.is_callers_own() && self.door.as_url.is_some();
        let tenant = self.subjects.iter().find(|subject| subject.title() == trial.subject);
        let nobodys = tenant.is_some_and(|subject| subject.kind.is_table() && !subject.owned && !subject.platform);
        use super::trial::Command::{Delete, Insert, Merge, OnConflict, Update};
        let counted = matches!(trial.command, Insert | Update | Delete | Merge | OnConflict);
        let plain = counted && tenant.is_some_and(|subject| self.is_plain(subject));
        let tenant = tenant.and_then(|subject| subject.tenant.clone());
        let mut said: Vec<Sighting> = Vec::new();
        let mut outcomes = Vec::new();
        let mut failed: BTreeMap<Lane, bool> = BTreeMap::new();
        // A savepoint that was to be made after a failure is not there.
        let mut saved: BTreeSet<Lane> = BTreeSet::new();
        let ground = self.ground;
        for (number, (lane, act)) in trial.acts.iter().enumerate() {
            let binding = match act {
                Act::Bind(context) => self.binding.sql(context, &ground.tenants),
                _ => String::new(),
            };
            let looking = self.looking.clone();
            let session = self.session(*lane, own).await?;
            if session.is_lost() {
                continue;
            }
            let broken = failed.entry(*lane).or_default();
            let answer = match act {
                Act::Begin => {
                    *broken = false;
                    saved.remove(lane);
                    session.begin().await?;
                    continue;
                }
                Act::Rollback => {
                    *broken = false;
                    saved.remove(lane);
                    session.rollback().await?;
                    continue;
                }
                Act::Commit => {
                    *broken = false;
                    saved.remove(lane);
                    session.must("COMMIT").await?;
                    continue;
                }
                Act::Savepoint if !*broken => {
                    session.must("SAVEPOINT a").await?;
                    saved.insert(*lane);
                    continue;
                }
                Act::RollBackTo if !saved.contains(lane) => continue,
                Act::RollBackTo => {
                    *broken = false;
                    session.must("ROLLBACK TO SAVEPOINT a").await?;
                    continue;
                }
                // What a failed transaction is told is ignored.
                _ if *broken => continue,
                Act::Savepoint => continue,
                Act::Bind(_) if binding.is_empty() => continue,
                Act::Bind(_) => {
                    // What one tenant said is no excuse for what another is shown.
                    said.clear();
                    session.run(&binding).await?
                }
                Act::Become(role) => {
                    session.run(&format!("SET LOCAL ROLE {}", crate::target::copy::quoted(role))).await?
                }
                Act::Run(sql) => {
                    said.extend(ground.sightings(sql));
                    session.run(sql).await?
                }
                Act::CopyOut(sql, columns) => {
                    let answer = session.copy_out(sql).await?;
                    Answer { columns: columns.clone(), ..answer }
                }
                Act::CopyIn(sql, lines) => {
                    said.extend(ground.sightings(lines));
                    session.copy_in(sql, lines).await?
                }
                // Where no row was touched and nothing happens of itself, all is as it was.
                Act::Look if plain && outcomes.last().is_some_and(|last: &Outcome| last.affected == 0) => continue,
                Act::Look => {
                    session.privileged().await?;
                    let answer = session.run(&looking).await?;
                    session.resume().await?;
                    answer
                }
                Act::Privileged(sql) => {
                    session.privileged().await?;
                    let answer = session.run(sql).await?;
                    if answer.error.is_none() {
                        session.resume().await?;
                    }
                    answer
                }
            };
            *broken = answer.error.is_some();
            if *act == Act::Look {
                let changes = self.changes(&answer);
                outcomes.push(Outcome { act: number, changes, ..Outcome::default() });
            } else if answer.error.is_some() || !matches!(act, Act::Bind(_) | Act::Become(_) | Act::Privileged(_)) {
                let mut outcome = self.outcome(number, &answer, tenant.as_deref(), &said);
                outcome.of_others += if nobodys { self.of_strangers(&answer) } else { 0 };
                outcomes.push(outcome);
            }
        }
        Ok(outcomes)
    }

    /// True for a table whose rows change by statements alone, its partitions' among them.
    fn is_plain(&self, subject: &Subject) -> bool {
        let below = |other: &&Subject| other.oid == subject.oid || other.parent == Some(subject.oid);
        subject.kind.is_table() && !self.subjects.iter().filter(below).any(|other| other.triggers)
    }

    fn outcome(&self, act: usize, answer: &Answer, tenant: Option<&str>, said: &[Sighting]) -> Outcome {
        let named =
            |name: &String| tenant == Some(name) || (tenant.is_none() && self.ground.tenant_columns.contains(name));
        let place = answer.columns.iter().position(named);
        let mut outcome = Outcome {
            act,
            affected: answer.affected,
            rows: answer.rows.len() as u64 + answer.more,
            ..Outcome::default()
        };
        let mut hashes: Vec<[u8; 32]> = Vec::new();
        for row in &answer.rows {
            let told = self.ground.told(row, place, said);
            for tenant in &told.tenants {
                *outcome.of.entry(*tenant).or_default() += 1;
            }
            outcome.of_others += u64::from(told.other);
            let shown = shown(&answer.columns, row);
            hashes.push(Sha256::digest(&shown).into());
            // A row is shown where it was planted: what was there before is nobody's to read in a report.
            let planted =
                !told.other && !told.tenants.is_empty() && told.tenants.iter().all(|t| self.ground.tenants[*t].planted);
            if planted && outcome.excerpt.len() < EXCERPT_ROWS {
                outcome.excerpt.push(shown.chars().take(EXCERPT_CHARS).collect());
            }
        }
        hashes.sort_unstable();
        outcome.digest = hex::encode(&Sha256::digest(hashes.concat())[..8]);
        if let Some((code, text)) = &answer.error {
            outcome.error_of = self.ground.shown(text, said);
            // An error of this class holds the value that it is about: shown where it is a planted one alone.
            let hidden = code.starts_with("22") && outcome.error_of.is_empty();
            let first = text.lines().next().unwrap_or_default();
            let shown = if hidden { first.split(':').next().unwrap_or_default() } else { first };
            (outcome.sqlstate, outcome.message) = (Some(code.clone()), Some(shown.to_string()));
            if outcome.error_of.iter().any(|tenant| self.ground.tenants[*tenant].planted) {
                outcome.message = Some(text.clone());
            }
        }
        outcome
    }

    /// Rows of nobody's table that name tenants who were there before; one that is named alone may be everybody's.
    fn of_strangers(&self, answer: &Answer) -> u64 {
        let named: Vec<BTreeSet<&str>> =
            answer.rows.iter().map(|row| self.ground.strangers_in(row).collect()).collect();
        let all: BTreeSet<&str> = named.iter().flatten().copied().collect();
        if all.len() > 1 { named.iter().filter(|row| !row.is_empty()).count() as u64 } else { 0 }
    }

    fn held_of(&self, answer: &Answer) -> Held {
        let rows = answer.rows.iter().filter_map(|row| {
            let [Some(table), Some(tenant), Some(count), hash, writers] = &row[..] else { return None };
            let tenant = self
                .ground
                .tenants
                .iter()
                .position(|known| known.id == *tenant || known.owner.to_string() == *tenant)?;
            let table = self.tables.get(table.parse::<usize>().ok()?)?.clone();
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            Some(((table, tenant), (count.parse().ok()?, text(hash), text(writers))))
        });
        rows.collect()
    }

    fn changes(&self, answer: &Answer) -> Vec<Change> {
        let now = self.held_of(answer);
        let none = (0, String::new(), String::new());
        let mut keys: Vec<&(String, usize)> = self.held.keys().chain(now.keys()).collect();
        keys.sort();
        keys.dedup();
        let changed = keys.into_iter().filter_map(|key| {
            let (before, after) = (self.held.get(key).unwrap_or(&none), now.get(key).unwrap_or(&none));
            let rewritten = (before.0, &before.1) == (after.0, &after.1);
            (before != after).then(|| Change {
                table: key.0.clone(),
                tenant: key.1,
                before: before.0,
                after: after.0,
                rewritten,
            })
        });
        changed.collect()
    }
}

fn shown(columns: &[String], row: &[Option<String>]) -> String {
    let name = |place: usize| columns.get(place).map_or_else(String::new, |name| format!("{name}="));
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "∅".into());
    row.iter().enumerate().map(|(place, held)| name(place) + &value(held)).collect::<Vec<_>>().join(" | ")
}

/// The query that tells every tenant's rows: table, tenant, count, hash of rows, hash of who wrote them last.
fn looking(ground: &Ground, subjects: &[Subject]) -> (String, Vec<String>) {
    let mut tables = Vec::new();
    let mut parts = Vec::new();
    let roots = subjects
        .iter()
        .filter(|s| s.owned && s.kind.is_table() && s.parent.is_none_or(|p| subjects.iter().all(|s| s.oid != p)));
    for subject in roots {
        let number = tables.len();
        let hash = "sum(hashtextextended(x::text, 0)::numeric), sum(hashtextextended(x.xmin::text, 0)::numeric)";
        if let Some(tenant) = &subject.tenant {
            let tenant = crate::target::copy::quoted(tenant);
            let kind = subject.column(&subject.tenant.clone().unwrap_or_default()).map_or("text", |c| c.kind.as_str());
            let ids: Vec<String> = ground.tenants.iter().map(|t| format!("{}::{kind}", literal(&t.id))).collect();
            if ids.is_empty() {
                continue;
            }
            parts.push(format!(
                "SELECT {number}, x.{tenant}::text, count(*), {hash} FROM {} x WHERE x.{tenant} IN ({}) GROUP BY 2",
                subject.sql(),
                ids.join(", ")
            ));
        } else {
            for (tenant, known) in ground.tenants.iter().enumerate() {
                let keys = keys_of(ground, subjects, subject, tenant);
                if !keys.is_empty() {
                    parts.push(format!(
                        "SELECT {number}, {}, count(*), {hash} FROM {} x WHERE {}",
                        literal(&known.owner.to_string()),
                        subject.sql(),
                        keys.join(" OR ")
                    ));
                }
            }
        }
        tables.push(subject.title());
    }
    if parts.is_empty() {
        return ("SELECT 0, ''::text, 0, ''::text, ''::text WHERE false".into(), tables);
    }
    (parts.join(" UNION ALL "), tables)
}

/// Conditions that find the rows planted for `tenant` in `subject` and its partitions.
fn keys_of(ground: &Ground, subjects: &[Subject], subject: &Subject, tenant: usize) -> Vec<String> {
    let family =
        |oid: i64| oid == subject.oid || subjects.iter().any(|s| s.oid == oid && s.parent == Some(subject.oid));
    let rows = ground.rows.iter().filter(|row| row.tenant == Some(tenant) && family(row.table));
    rows.map(|row| by_key(subject, &row.values, "x.")).collect()
}

/// The condition that a row is the one with those values, by its key.
pub fn by_key(subject: &Subject, values: &BTreeMap<String, Option<String>>, prefix: &str) -> String {
    let parts = subject.key().into_iter().filter_map(|name| {
        let column = subject.column(name)?;
        Some(match values.get(name)? {
            // Types without equality have a text.
            Some(value) if matches!(column.base.as_str(), "json" | "xml" | "point" | "box" | "polygon") => {
                format!("{prefix}{}::text = {}", column.sql(), literal(value))
            }
            Some(value) => format!("{prefix}{} = {}::{}", column.sql(), literal(value), column.kind),
            None => format!("{prefix}{} IS NULL", column.sql()),
        })
    });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "false".into() } else { format!("({})", parts.join(" AND ")) }
}
