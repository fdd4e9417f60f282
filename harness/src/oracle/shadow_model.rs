//! Compares answers with our account of who owns and should see what: missing rows, extra rows, wrong totals, and
//! objects of others that are answered as if they were one's own.

use std::collections::{BTreeMap, BTreeSet};

use super::canary_sighting::actor_words;
use super::{Ground, Oracle, Suspicion};
use crate::canary::Owner;
use crate::finding::OracleId;
use crate::history::{Answered, Observation};
use crate::plan::{Answer, ByHand, Listing, PIPELINED};
use crate::target::file::PlantTable;

/// Rows that requests still in flight may have added: so many a connection.
const ROWS_IN_FLIGHT: u64 = 3;

/// The oracle, with its account of writes and of walks under way.
#[derive(Default)]
pub struct ShadowModel {
    /// Rows that may have been added, by tenant and planted table.
    added: BTreeMap<(Owner, String), u64>,
    /// Rows seen so far by walks under way, by connection; a connection walks one list at a time.
    walks: BTreeMap<u32, BTreeSet<u32>>,
    /// Rows that given tenants had besides, by tenant, planted table and narrowing: what a walk to the end counted.
    besides: BTreeMap<(Owner, String, Option<String>), u64>,
    /// Requests behind another on their connection: those that were answered, and those that were left there.
    behind: [u64; 2],
    /// Rows that walks under way have counted, by connection.
    counted: BTreeMap<u32, u64>,
}

impl Oracle for ShadowModel {
    fn id(&self) -> OracleId {
        OracleId::ShadowModel
    }

    fn observe(&mut self, ground: &Ground, observation: &Observation) -> Vec<Suspicion> {
        let step = &observation.step;
        let refused = observation.answered().is_some_and(|a| (400..500).contains(&a.status));
        if let (Some((table, rows)), Some(tenant), false) = (&step.expect.adds_to, step.actor.tenant, refused) {
            *self.added.entry((tenant, table.clone())).or_default() += u64::from(*rows);
        }
        if step.by_hand == Some(ByHand::Pipelined) && observation.position > 0 {
            self.behind[usize::from(observation.answered().is_none())] += 1;
        }
        let Some(answer) = observation.answered() else { return Vec::new() };
        let mut found = Vec::new();
        found.extend(taken_for_own(observation, answer));
        if (200..300).contains(&answer.status) && answer.cut.is_none() {
            found.extend(not_shown(ground, observation, answer));
            if let Some(listing) = &step.expect.lists {
                self.count(ground, observation, answer, listing);
                found.extend(self.missing(ground, observation, answer, listing));
                found.extend(self.total(ground, observation, answer, listing));
            }
        }
        found.extend(outside_narrowing(ground, observation, answer));
        found
    }

    fn remark(&self, requirement: &str) -> Option<String> {
        let left = requirement == PIPELINED && self.behind[0] == 0 && self.behind[1] > 0;
        left.then(|| "of several requests that are written at once it answers the first alone".into())
    }
}

/// A foreign or absent object answered with success.
fn taken_for_own(observation: &Observation, answer: &Answered) -> Option<Suspicion> {
    let step = &observation.step;
    if step.expect.answer != Answer::Denied || !matches!(answer.status, 200..300 | 304) {
        return None;
    }
    // Where each tenant counts its ids for itself, an id that another was given may be of one's own object: it then shows
    // what is written there, and nothing of the other.
    let mut owners = answer.sightings.iter().map(|sighting| Some(sighting.owner)).peekable();
    let foreign = step.subject.is_some() && step.subject != step.actor.tenant;
    if foreign && owners.peek().is_some() && owners.all(|o| o == step.actor.tenant || o == Some(Owner::ABSENT)) {
        return None;
    }
    let whose = match step.subject {
        Some(owner) if Some(owner) != step.actor.tenant => format!("an object of {owner}"),
        _ => "an object that does not exist".into(),
    };
    Some(Suspicion {
        requirement: None,
        sentence: format!(
            "{} answered {} to the {} for {whose}",
            step.cell.operation,
            answer.status,
            actor_words(observation)
        ),
        owner: step.subject,
        shows: vec![format!("status {} where 404 was due", answer.status)],
        beside: Vec::new(),
    })
}

/// Own rows that the answer had to show and did not.
fn not_shown(ground: &Ground, observation: &Observation, answer: &Answered) -> Vec<Suspicion> {
    let step = &observation.step;
    let mut found = Vec::new();
    for (table, row) in &step.expect.shows {
        let seen = answer.sightings.iter().chain(&answer.echoes).any(|sighting| {
            let column = sighting.column.and_then(|code| ground.holdings.column(code));
            column.is_some_and(|c| c.table == table) && sighting.row == Some(*row)
        });
        // A row without a canary of its own cannot be told.
        let tellable = ground.holdings.table(table).is_some_and(tellable);
        if !seen && tellable {
            found.push(Suspicion {
                requirement: None,
                sentence: format!(
                    "{} did not show the {} its own row {row} of {table}",
                    step.cell.operation,
                    actor_words(observation)
                ),
                owner: step.actor.tenant,
                shows: vec![format!("no canary of row {row} of {table} in the answer")],
                beside: Vec::new(),
            });
        }
    }
    found
}

fn tellable(table: &PlantTable) -> bool {
    if table.by.is_some() {
        // Planting has seen that its owner can tell.
        return true;
    }
    let kinds = ["uuid", "principal", "tenant", "text", "email", "inet"];
    table.columns.values().any(|generator| kinds.contains(&generator.as_str()))
}

/// Rows of the own tenant that the application role is narrowed away from.
fn outside_narrowing(ground: &Ground, observation: &Observation, answer: &Answered) -> Option<Suspicion> {
    let step = &observation.step;
    let role = ground.plan.target.role(&step.actor.role)?;
    let mut outside = answer.sightings.iter().filter(|sighting| {
        let column = sighting.column.and_then(|code| ground.holdings.column(code));
        let Some((column, row)) = column.zip(sighting.row) else { return false };
        let narrowed = role.narrowed.get(column.table);
        let table = ground.holdings.table(column.table);
        step.actor.tenant == Some(sighting.owner)
            && table.is_some_and(|table| !ground.holdings.visible(narrowed.map(String::as_str), table, row))
    });
    let first = outside.next()?;
    Some(Suspicion {
        requirement: Some("role/own-rows"),
        sentence: format!(
            "{} showed the {} rows of its tenant that this application role may not see",
            step.cell.operation,
            actor_words(observation)
        ),
        owner: step.actor.tenant,
        shows: std::iter::once(first).chain(outside.take(4)).map(|s| ground.describe(s)).collect(),
        beside: Vec::new(),
    })
}

impl ShadowModel {
    /// Counts the rows of complete walks where tenants are given: they may have more than what is planted.
    fn count(&mut self, ground: &Ground, observation: &Observation, answer: &Answered, listing: &Listing) {
        let step = &observation.step;
        let (Some(owner), Some(facts)) = (step.actor.tenant, answer.list.as_ref()) else { return };
        let given = !ground.plan.target.tenant.is_empty();
        let Some(table) = ground.holdings.table(&listing.table).filter(|_| given && step.walk && listing.complete)
        else {
            return;
        };
        if observation.page == 0 {
            self.counted.insert(observation.connection, 0);
        }
        let counted = self.counted.entry(observation.connection).or_default();
        *counted += facts.items;
        if facts.last {
            let added = self.added.get(&(owner, listing.table.clone())).copied().unwrap_or(0);
            let ours = due(ground, table, listing).count() as u64 + added;
            let besides = counted.saturating_sub(ours);
            let key = (owner, listing.table.clone(), listing.narrowed_to.clone());
            // Rows that were added and deleted again make later walks count fewer.
            let most = self.besides.entry(key).or_default();
            *most = besides.max(*most);
        }
    }

    /// At the end of a walk: planted rows that the principal may see and that no page showed.
    fn missing(
        &mut self,
        ground: &Ground,
        observation: &Observation,
        answer: &Answered,
        listing: &Listing,
    ) -> Option<Suspicion> {
        let step = &observation.step;
        let (owner, facts) = step.actor.tenant.zip(answer.list.as_ref())?;
        if !listing.complete {
            return None;
        }
        let table = ground.holdings.table(&listing.table).filter(|t| tellable(t))?;
        let seen = self.walks.entry(observation.connection).or_default();
        if observation.page == 0 {
            seen.clear();
        }
        for sighting in answer.sightings.iter().filter(|s| s.owner == owner) {
            let column = sighting.column.and_then(|code| ground.holdings.column(code));
            if let (Some(row), true) = (sighting.row, column.is_some_and(|c| c.table == listing.table)) {
                seen.insert(row);
            }
        }
        if !facts.last {
            return None;
        }
        let seen = self.walks.remove(&observation.connection)?;
        let due = due(ground, table, listing);
        let missing: Vec<u32> = due.filter(|row| !seen.contains(row)).collect();
        let first = missing.first()?;
        Some(Suspicion {
            requirement: None,
            sentence: format!(
                "{} kept {} planted rows of {} from the {}",
                step.cell.operation,
                missing.len(),
                listing.table,
                actor_words(observation)
            ),
            owner: Some(owner),
            shows: vec![format!("{} rows seen; row {first} is the first one missing", seen.len())],
            beside: Vec::new(),
        })
    }

    fn total(
        &self,
        ground: &Ground,
        observation: &Observation,
        answer: &Answered,
        listing: &Listing,
    ) -> Option<Suspicion> {
        let step = &observation.step;
        let owner = step.actor.tenant?;
        let total = answer.list.as_ref()?.total?;
        let table = ground.holdings.table(&listing.table)?;
        let planted = due(ground, table, listing).count() as i64;
        let added = self.added.get(&(owner, listing.table.clone())).copied().unwrap_or(0);
        let in_flight = u64::from(ground.plan.bounds.workers) * ROWS_IN_FLIGHT;
        let besides = match ground.plan.target.tenant.is_empty() {
            true => 0,
            // Until a walk has counted them, nothing can be said.
            false => *self.besides.get(&(owner, listing.table.clone(), listing.narrowed_to.clone()))?,
        };
        let most = planted + (added + in_flight + besides) as i64;
        let least = if listing.complete { planted } else { 0 };
        if (least..=most).contains(&total) {
            return None;
        }
        Some(Suspicion {
            requirement: Some("read/total"),
            sentence: format!(
                "{} told the {} a total of {total}, which is not a count of its own rows",
                step.cell.operation,
                actor_words(observation)
            ),
            owner: None,
            shows: vec![format!(
                "total {total}; {planted} planted and at most {added} written leave {least} to {most}"
            )],
            beside: Vec::new(),
        })
    }
}

/// Planted rows of the own tenant that the listing may show.
fn due<'g>(ground: &'g Ground, table: &'g PlantTable, listing: &'g Listing) -> impl Iterator<Item = u32> + 'g {
    let narrowed = listing.narrowed_to.as_deref();
    (0..ground.holdings.rows_of(table)).filter(move |row| ground.holdings.visible(narrowed, table, *row))
}
