//! What a tenant's writes change in what others own: planted rows that changed or went although no request of their own
//! tenant named them, and rows that lie under one tenant's name and hold what another wrote. Seen in snapshots of the
//! database, and, where there are none, in what owners read before and after a foreign write.

use std::collections::{BTreeMap, BTreeSet};

use super::canary_sighting::actor_words;
use super::namesakes::Namesakes;
use super::{Ground, Oracle, Suspicion, witness};
use crate::canary::{Owner, Scanner};
use crate::cell::{Lanes, Relation};
use crate::finding::{OracleId, Witness};
use crate::history::{Observation, Outcome};
use crate::plan::NAMESAKE;
use crate::snapshot::{Held, Snapshot, Stray};
use crate::target::file::Per;

/// References that are followed: a child of a child is deep enough.
const DEPTH_MAX: u8 = 6;

const TAMPERING: &str = "write/tampering";
const OVERREACH: &str = "write/overreach";
const MISATTRIBUTION: &str = "write/misattribution";

/// A planted row: owner, table, row.
type Planted = (Owner, String, u32);

/// The oracle, with its account of who asked for what.
#[derive(Default)]
pub struct WriteContainment {
    before: Option<Snapshot>,
    /// Planted rows that their own tenant named in a write.
    named: BTreeSet<Planted>,
    /// Tables that a tenant wrote to without naming a row.
    whole: BTreeSet<(Owner, String)>,
    /// Tenants that removed a planted principal of theirs: anything may have gone with it.
    principals: BTreeSet<Owner>,
    /// The last write that named a planted row of another tenant, by that tenant and table.
    reached_for: BTreeMap<(Owner, String), Observation>,
    /// The last write of each tenant to each table.
    last: BTreeMap<(Owner, String), Observation>,
    /// The last write of all, or the first step while there was none.
    latest: Option<Observation>,
    /// By connection: what the owner read before a foreign write, and that write.
    reading: BTreeMap<u32, Reading>,
    namesakes: Namesakes,
    scanner: Option<Scanner>,
}

/// A row as its owner read it.
struct Reading {
    sequence: u64,
    /// Codes of the columns whose canaries were shown.
    columns: BTreeSet<u16>,
    read: Witness,
    write: Option<Witness>,
}

impl Oracle for WriteContainment {
    fn id(&self) -> OracleId {
        OracleId::WriteContainment
    }

    fn observe(&mut self, ground: &Ground, observation: &Observation) -> Vec<Suspicion> {
        if self.latest.is_none() {
            self.latest = Some(observation.clone());
        }
        if observation.step.requirement == TAMPERING {
            return self.read_again(ground, observation).into_iter().collect();
        }
        if observation.step.requirement == NAMESAKE && observation.step.request.method == "GET" {
            return self.namesakes.read(observation).into_iter().collect();
        }
        // A list is read, by whatever method.
        let access = ground.plan.target.access(&observation.step.cell.operation);
        let lists = access.is_some_and(|access| access.list.is_some() && access.creates.is_none());
        if !lists && !matches!(observation.step.request.method.as_str(), "GET" | "HEAD" | "OPTIONS") {
            self.wrote(ground, observation);
        }
        Vec::new()
    }

    fn inspect(&mut self, ground: &Ground, snapshot: &Snapshot) -> Vec<(Suspicion, Observation)> {
        if snapshot.aged {
            return Vec::new();
        }
        let before = self.before.replace(snapshot.clone());
        let Some(before) = before else { return Vec::new() };
        let none = Held::default();
        let mut found = Vec::new();
        for (table, was) in &before.tables {
            let is = snapshot.tables.get(table).unwrap_or(&none);
            for (owner, rows) in &was.planted {
                let now = is.planted.get(owner);
                let (mut changed, mut gone) = (Vec::new(), Vec::new());
                for (row, digest) in rows {
                    let now = now.and_then(|now| now.get(row));
                    if now != Some(digest) && !self.asked_for(ground, *owner, table, *row, 0) {
                        (if now.is_some() { &mut changed } else { &mut gone }).push(*row);
                    }
                }
                found.extend(self.tampered(table, *owner, &changed, TAMPERING));
                found.extend(self.tampered(table, *owner, &gone, OVERREACH));
            }
            let known = |stray: &Stray| was.strays.contains(stray);
            found.extend(is.strays.iter().filter(|stray| !known(stray)).filter_map(|stray| self.astray(table, stray)));
        }
        found
    }

    fn remark(&self, requirement: &str) -> Option<String> {
        let blind = requirement == MISATTRIBUTION && self.before.is_none();
        blind.then(|| "its database is not open to Partywall".into())
    }
}

/// How much a snapshot that follows another says for each requirement: rows judged.
pub(super) fn spoken_for(snapshot: &Snapshot) -> [(&'static str, u64); 3] {
    [(TAMPERING, snapshot.planted()), (OVERREACH, snapshot.planted()), (MISATTRIBUTION, snapshot.written())]
}

impl WriteContainment {
    /// Takes down what a write named, and whose.
    fn wrote(&mut self, ground: &Ground, observation: &Observation) {
        let step = &observation.step;
        let refused = observation.answered().is_some_and(|answer| answer.status >= 400);
        if matches!(observation.outcome, Outcome::NotSent { .. }) {
            return;
        }
        self.latest = Some(observation.clone());
        if observation.step.requirement == NAMESAKE {
            self.namesakes.wrote(observation);
        }
        if let Some(reading) = self.reading.get_mut(&observation.connection) {
            reading.write = Some(witness::of(observation, "write", Vec::new()));
        }
        let Some(tenant) = step.actor.tenant else { return };
        let operation = ground.plan.operations.iter().find(|operation| operation.id == step.cell.operation);
        let access = ground.plan.target.access(&step.cell.operation);
        let (Some(operation), Some(access)) = (operation, access) else { return };
        let target = &ground.plan.target;
        let object = target.rows_in_path(operation, access).last();
        // Those above it in the path are only where it is, and what is made hangs below them.
        let place =
            object.and_then(|(name, _)| operation.path.split('/').position(|part| part == format!("{{{name}}}")));
        let (path, query) = observation.sent.url.split_once('?').unwrap_or((&observation.sent.url, ""));
        let object = place.and_then(|place| path.split('/').nth(place)).filter(|_| access.creates.is_none());
        let body = observation.sent.body.as_deref().filter(|_| access.creates.is_none()).unwrap_or_default();
        let references = access.params.values().map(String::as_str).chain(target.rows_in_body(access));
        let mut about: Vec<&str> = references.filter_map(|reference| reference.split('.').next()).collect();
        about.extend(access.table.as_deref());
        for (text, is_object) in [(object.unwrap_or_default(), true), (query, false), (body, false)] {
            for (owner, table, row) in self.planted_in(ground, text, &about) {
                if owner != tenant {
                    self.reached_for.insert((owner, table), observation.clone());
                } else if !refused {
                    let principal = ground.holdings.table(&table).is_some_and(|t| t.per == Per::Principal);
                    if principal && is_object && step.request.method == "DELETE" {
                        self.principals.insert(tenant);
                    }
                    self.named.insert((tenant, table, row));
                }
            }
        }
        let (Some(table), false) = (access.table.as_deref(), refused) else { return };
        if place.is_none() && access.creates.is_none() && target.rows_in_body(access).is_empty() {
            self.whole.insert((tenant, table.into()));
        }
        self.last.insert((tenant, table.into()), observation.clone());
    }

    /// The planted rows whose values stand in `text`; of a number, which names no column, the row of each of `about`.
    fn planted_in(&mut self, ground: &Ground, text: &str, about: &[&str]) -> Vec<Planted> {
        let scanner = self.scanner.get_or_insert_with(|| Scanner::new(ground.plan.canary_key(), ground.plan.window()));
        let mut found = Vec::new();
        scanner.scan(text.as_bytes(), &mut |sighting| {
            let Some(row) = sighting.row else { return };
            let column = sighting.column.and_then(|code| ground.holdings.column(code)).map(|column| column.table);
            let tables = match (sighting.column, column) {
                (None, _) => about,
                (_, Some(table)) => &[table][..],
                _ => &[],
            };
            found.extend(tables.iter().map(|table| (sighting.owner, (*table).to_string(), row)));
        });
        found
    }

    /// Whether a write of its own tenant explains a change of a planted row, or of one that it hangs below.
    fn asked_for(&self, ground: &Ground, owner: Owner, table: &str, row: u32, depth: u8) -> bool {
        if self.principals.contains(&owner)
            || self.whole.contains(&(owner, table.into()))
            || self.named.contains(&(owner, table.into(), row))
        {
            return true;
        }
        let columns = ground.holdings.table(table).into_iter().flat_map(|table| table.columns.values());
        let mut parents = columns.filter_map(|generator| generator.strip_prefix("ref:"));
        depth < DEPTH_MAX && parents.any(|parent| self.asked_for(ground, owner, parent, row, depth + 1))
    }

    fn tampered(
        &self,
        table: &str,
        owner: Owner,
        rows: &[u32],
        requirement: &'static str,
    ) -> Option<(Suspicion, Observation)> {
        rows.first()?;
        let what = if requirement == OVERREACH { "gone" } else { "changed" };
        let by_another = self.last.iter().filter(|((writer, name), _)| name == table && *writer != owner);
        let by_another = by_another.map(|(_, write)| write).max_by_key(|write| write.number);
        let write = self.reached_for.get(&(owner, table.into())).or(by_another).or(self.latest.as_ref())?;
        let sentence = format!(
            "{} planted rows of {table} of {owner} are {what}, which no write of its own asked for",
            rows.len()
        );
        Some((Suspicion::of_rows(requirement, sentence, (owner, table), rows, what), write.clone()))
    }

    fn astray(&self, table: &str, stray: &Stray) -> Option<(Suspicion, Observation)> {
        let Stray { under, writer, rows } = stray;
        let write = self.last.get(&(*writer, table.into())).or(self.latest.as_ref())?;
        let suspicion = Suspicion {
            requirement: Some(MISATTRIBUTION),
            sentence: format!("What {writer} wrote to {table} lies under {under}"),
            owner: Some(*under),
            shows: vec![format!("{rows} rows of {table} under {under} hold what {writer} wrote")],
            beside: Vec::new(),
        };
        Some((suspicion, write.clone()))
    }

    /// The owner reads a row before and after a foreign write. On one connection only: there nobody else can have
    /// written in between.
    fn read_again(&mut self, ground: &Ground, observation: &Observation) -> Option<Suspicion> {
        let step = &observation.step;
        if step.cell.relation != Relation::Own || step.cell.pool_state.lanes != Lanes::One {
            return None;
        }
        let (answer, (table, row)) = observation.answered().zip(step.expect.shows.first())?;
        let shown = answer.sightings.iter().chain(&answer.echoes).filter(|sighting| {
            let column = sighting.column.and_then(|code| ground.holdings.column(code));
            Some(sighting.owner) == step.actor.tenant
                && sighting.row == Some(*row)
                && column.is_some_and(|column| column.table == table)
        });
        let columns: BTreeSet<u16> = shown.filter_map(|sighting| sighting.column).collect();
        let before = self.reading.remove(&observation.connection).filter(|r| r.sequence == observation.sequence);
        let Some(before) = before else {
            if (200..300).contains(&answer.status) {
                let read = witness::of(observation, "read before", Vec::new());
                let reading = Reading { sequence: observation.sequence, columns, read, write: None };
                self.reading.insert(observation.connection, reading);
            }
            return None;
        };
        let gone = matches!(answer.status, 404 | 410);
        let lost: Vec<String> = before
            .columns
            .iter()
            .filter(|code| (200..300).contains(&answer.status) && !columns.contains(code))
            .filter_map(|code| ground.holdings.column(*code))
            .map(|column| format!("the planted value of {column} in row {row} is no longer there"))
            .collect();
        if !gone && lost.is_empty() {
            return None;
        }
        Some(Suspicion {
            requirement: Some(if gone { OVERREACH } else { TAMPERING }),
            sentence: format!(
                "The {} no longer finds row {row} of {table} as it was before another tenant's write",
                actor_words(observation)
            ),
            owner: step.actor.tenant,
            shows: if gone { vec![format!("status {} where it was there before", answer.status)] } else { lost },
            beside: [Some(before.read), before.write].into_iter().flatten().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{Told, ground, history, observed, sighting, suspected};
    use super::*;

    /// What the tables held once planted: every row, and nothing written.
    fn planted(ground: &Ground) -> Snapshot {
        let rows = |count| (0..count).map(|row| (row, format!("{row}"))).collect::<BTreeMap<u32, String>>();
        let held = |table| {
            let of = |owner| (owner, rows(ground.holdings.rows_of(table)));
            Held { planted: ground.holdings.owners().map(of).collect(), ..Held::default() }
        };
        Snapshot {
            aged: false,
            tables: ground.holdings.tables().iter().map(|table| (table.name.clone(), held(table))).collect(),
        }
    }

    /// What is suspected when tenant 0 has sent a `change` of its own row 2, and the tables were changed as `change` says.
    fn check(change: impl Fn(&mut BTreeMap<String, Held>)) -> Vec<(&'static str, Option<Owner>)> {
        let ground = ground();
        let mut oracle = WriteContainment::default();
        let before = planted(&ground);
        assert!(oracle.inspect(&ground, &before).is_empty(), "the first snapshot is what later ones are compared with");
        let id = |row| ground.holdings.value(Owner::new(0), row, "things", "id").ok().and_then(|id| id.text());
        let own = history(&ground, |_, _| Told { status: 404, ..Told::default() });
        let write =
            own.iter().find(|o| o.step.cell.operation == "change" && o.step.actor.tenant == Some(Owner::new(0)));
        let mut write = write.expect("a write").clone();
        write.sent.url = format!("/things/{}", id(2).expect("an id"));
        write = Observation {
            outcome: observed(&write.step, 0, (0, 0), Told { status: 200, ..Told::default() }).outcome,
            ..write
        };
        oracle.observe(&ground, &write);
        let mut after = before;
        change(&mut after.tables);
        let found = oracle.inspect(&ground, &after);
        found.into_iter().filter_map(|(suspicion, _)| Some((suspicion.requirement?, suspicion.owner))).collect()
    }

    fn rows<'t>(tables: &'t mut BTreeMap<String, Held>, table: &str, owner: u32) -> &'t mut BTreeMap<u32, String> {
        let held = tables.get_mut(table).expect("a table");
        held.planted.get_mut(&Owner::new(owner)).expect("an owner")
    }

    #[test]
    fn what_nobody_touched_and_what_its_owner_changed_are_not_suspected() {
        assert_eq!(check(|_| {}), []);
        let own = |tables: &mut BTreeMap<String, Held>| {
            rows(tables, "things", 0).insert(2, "changed".into());
            // What hangs below it may go with it.
            rows(tables, "parts", 0).remove(&2);
            tables.get_mut("things").expect("a table").written.insert(Owner::new(0), 3);
        };
        assert_eq!(check(own), []);
    }

    #[test]
    fn what_changes_or_goes_unasked_or_lies_under_another_name_is_suspected() {
        let anothers =
            |tables: &mut BTreeMap<String, Held>| drop(rows(tables, "things", 1).insert(2, "changed".into()));
        assert_eq!(check(anothers), [(TAMPERING, Some(Owner::new(1)))]);
        // A row of one's own that one did not name, too.
        let unnamed = |tables: &mut BTreeMap<String, Held>| drop(rows(tables, "things", 0).insert(3, "changed".into()));
        assert_eq!(check(unnamed), [(TAMPERING, Some(Owner::new(0)))]);
        let gone = |tables: &mut BTreeMap<String, Held>| drop(rows(tables, "parts", 2).remove(&2));
        assert_eq!(check(gone), [(OVERREACH, Some(Owner::new(2)))]);
        let all_gone = |tables: &mut BTreeMap<String, Held>| drop(tables.remove("homes"));
        assert_eq!(check(all_gone).len(), 3);
        let astray = |tables: &mut BTreeMap<String, Held>| {
            let stray = Stray { under: Owner::new(2), writer: Owner::new(0), rows: 1 };
            tables.get_mut("things").expect("a table").strays.push(stray);
        };
        assert_eq!(check(astray), [(MISATTRIBUTION, Some(Owner::new(2)))]);
    }

    #[test]
    fn to_ask_for_rows_by_a_body_explains_no_change_of_them() {
        let ground = ground();
        let id = ground.holdings.value(Owner::new(0), 4, "things", "id").ok().and_then(|id| id.text()).expect("an id");
        let own = history(&ground, |_, _| Told { status: 200, ..Told::default() });
        let asks = |operation: &str| {
            let asked = own.iter().find(|o| {
                o.step.cell.operation == operation && o.step.actor.tenant == Some(Owner::new(0)) && o.world.is_none()
            });
            let mut asked = asked.expect("a step").clone();
            asked.step.request.method = "POST".into();
            asked.sent.body = Some(format!(r#"{{"ids":["{id}"]}}"#));
            let mut oracle = WriteContainment::default();
            let before = planted(&ground);
            oracle.inspect(&ground, &before);
            oracle.observe(&ground, &asked);
            let mut after = before;
            rows(&mut after.tables, "things", 0).insert(4, "changed".into());
            oracle.inspect(&ground, &after).len()
        };
        assert_eq!((asks("list"), asks("change")), (1, 0));
    }

    /// What is suspected of what owners read, where the second reading is as `again` makes it.
    fn read(again: impl Fn(&mut Observation)) -> BTreeSet<String> {
        let ground = ground();
        let mut history = history(&ground, |step, _| {
            let status = if step.cell.relation == Relation::Own { 200 } else { 404 };
            Told { status, ..Told::default() }
        });
        let wanted =
            |code: &u16| ground.holdings.column(*code).is_some_and(|c| c.table == "things" && c.column == "name");
        let code = (0..64).find(wanted).expect("a column");
        let mut readings = 0;
        for observation in history.iter_mut().filter(|o| o.step.requirement == TAMPERING) {
            let (owner, row) = (observation.step.actor.tenant.expect("a tenant"), observation.step.expect.shows[0].1);
            let shown = sighting(owner, Some(row), Some(code));
            if let Outcome::Answered(answer) = &mut observation.outcome {
                answer.sightings.push(shown);
            }
            readings += 1;
            if readings % 2 == 0 {
                again(observation);
            }
        }
        assert!(readings >= 2, "the plan has the owner read before and after");
        let oracle = &mut WriteContainment::default();
        suspected(&ground, oracle, &history).into_iter().map(|(requirement, _)| requirement).collect()
    }

    #[test]
    fn without_a_database_the_owners_readings_tell() {
        let answer = |observation: &mut Observation, status: u16| {
            if let Outcome::Answered(answer) = &mut observation.outcome {
                answer.status = status;
                answer.sightings.clear();
            }
        };
        assert_eq!(read(|_| {}), BTreeSet::new());
        assert_eq!(read(|observation| answer(observation, 503)), BTreeSet::new());
        assert_eq!(read(|observation| answer(observation, 404)), [OVERREACH.to_string()].into());
        assert_eq!(read(|observation| answer(observation, 200)), [TAMPERING.to_string()].into());
    }
}
