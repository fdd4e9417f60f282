//! What a run of retention leaves, in a copy of the target in which rows are old: of the tenant that it was for, nothing
//! that was due; of all else, everything. Seen in snapshots of the database before and after.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ground, Oracle, Suspicion};
use crate::ageing::Ageing;
use crate::canary::Owner;
use crate::finding::OracleId;
use crate::history::{Observation, Outcome};
use crate::plan::{RETENTION, RETENTION_REACH};
use crate::snapshot::{Held, Snapshot};
use crate::target::retention::Retention as Told;

/// References that are followed: a child of a child is deep enough.
const DEPTH_MAX: u8 = 6;

/// The oracle, with its account of whose retention has run.
#[derive(Default)]
pub struct Retention {
    before: Option<Snapshot>,
    /// Tenants that asked for a run.
    asked: BTreeSet<Owner>,
    /// What told the end of a tenant's run.
    ended: BTreeMap<Owner, Observation>,
    /// Rows that objects of their own tenant hold.
    archived: BTreeSet<(Owner, u32)>,
}

impl Oracle for Retention {
    fn id(&self) -> OracleId {
        OracleId::WriteContainment
    }

    fn observe(&mut self, ground: &Ground, observation: &Observation) -> Vec<Suspicion> {
        let (step, tenant) = (&observation.step, observation.step.actor.tenant);
        let sent = !matches!(observation.outcome, Outcome::NotSent { .. } | Outcome::Overheard { .. });
        self.asked.extend(tenant.filter(|_| sent && step.requirement == RETENTION));
        if let (Some(tenant), true) = (tenant, observation.answered().is_some_and(|answer| answer.ended)) {
            self.ended.insert(tenant, observation.clone());
        }
        let told = ground.plan.target.retention.as_ref().filter(|told| told.archived);
        // What was kept before was kept elsewhere: the copy begins with what it holds.
        if let (Some(told), Outcome::Overheard { sightings, .. }, "store/objects", Some(_)) =
            (told, &observation.outcome, step.requirement.as_str(), &self.before)
        {
            let own = sightings.iter().filter(|s| Some(s.owner) == tenant);
            let of_table = own.filter(|s| {
                s.column.and_then(|code| ground.holdings.column(code)).is_some_and(|c| c.table == told.table)
            });
            self.archived.extend(of_table.filter_map(|s| Some((s.owner, s.row?))));
        }
        Vec::new()
    }

    fn inspect(&mut self, ground: &Ground, snapshot: &Snapshot) -> Vec<(Suspicion, Observation)> {
        let Some(told) = ground.plan.target.retention.as_ref().filter(|_| snapshot.aged) else { return Vec::new() };
        let Some(before) = self.before.replace(snapshot.clone()) else { return Vec::new() };
        let none = Held::default();
        let mut found = Vec::new();
        for (table, was) in &before.tables {
            let is = snapshot.tables.get(table).unwrap_or(&none);
            for (owner, rows) in &was.planted {
                let now = |row: &u32| is.planted.get(owner).and_then(|rows| rows.get(row));
                let held = *owner == Ageing::HELD && !told.hold.is_empty();
                let due = |row: &u32| Ageing::is_due(*row) && !held && self.asked.contains(owner);
                let ended = self.ended.contains_key(owner);
                let of = |wanted: &dyn Fn(&u32, &String) -> bool| -> Vec<u32> {
                    rows.iter().filter(|(row, digest)| wanted(row, digest)).map(|(row, _)| *row).collect()
                };
                let hangs = below(ground, told, table, 0);
                let taken = of(&|row, digest| now(row) != Some(digest) && !(hangs && due(row)));
                found.extend(self.told(RETENTION_REACH, *owner, table, &taken, "gone or changed, and was not due"));
                if *table == told.table {
                    let left = of(&|row, _| ended && due(row) && now(row).is_some());
                    found.extend(self.told(RETENTION, *owner, table, &left, "due, and is still there"));
                    let lost = of(&|row, _| {
                        told.archived
                            && ended
                            && due(row)
                            && now(row).is_none()
                            && !self.archived.contains(&(*owner, *row))
                    });
                    found.extend(self.told(RETENTION, *owner, table, &lost, "gone, and is in no object of its tenant"));
                }
            }
        }
        found
    }

    fn doubt(&self, requirement: &str) -> Option<String> {
        let blind = [RETENTION, RETENTION_REACH].contains(&requirement) && !self.ended.contains_key(&Ageing::RUNS);
        blind.then(|| "no run of retention was seen to end".into())
    }
}

/// How much a snapshot says for each requirement: rows that are due, and all.
pub(super) fn spoken_for(ground: &Ground, snapshot: &Snapshot) -> [(&'static str, u64); 2] {
    let table = ground.plan.target.retention.as_ref().and_then(|told| snapshot.tables.get(&told.table));
    let rows = table.and_then(|held| held.planted.get(&Ageing::RUNS));
    let due = rows.map_or(0, |rows| rows.keys().filter(|row| Ageing::is_due(**row)).count());
    [(RETENTION, due as u64), (RETENTION_REACH, snapshot.planted())]
}

/// Whether rows of `table` are those that age, or hang below them.
fn below(ground: &Ground, told: &Told, table: &str, depth: u8) -> bool {
    let columns = ground.holdings.table(table).into_iter().flat_map(|table| table.columns.values());
    let mut parents = columns.filter_map(|generator| generator.strip_prefix("ref:"));
    table == told.table || (depth < DEPTH_MAX && parents.any(|parent| below(ground, told, parent, depth + 1)))
}

impl Retention {
    fn told(
        &self,
        requirement: &'static str,
        owner: Owner,
        table: &str,
        rows: &[u32],
        what: &str,
    ) -> Option<(Suspicion, Observation)> {
        rows.first()?;
        let run = self.ended.get(&owner).or_else(|| self.ended.values().max_by_key(|run| run.number))?;
        let whose = match run.step.actor.tenant {
            Some(tenant) if tenant == owner => "its own".to_string(),
            Some(tenant) => format!("{tenant}'s"),
            None => "the".to_string(),
        };
        let sentence =
            format!("After {whose} run of retention, {} planted rows of {table} of {owner}: {what}", rows.len());
        Some((Suspicion::of_rows(requirement, sentence, (owner, table), rows, what), run.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::simulated::{STATE, Told as Answer, ground, observed};
    use super::*;
    use crate::plan::Planner;

    const RETENTION_BLOCK: &str = r#"
table = "things"
column = "made_at"
days = 9
run = "make"
hold = { "homes.held" = "true" }
"#;

    fn aged() -> Ground {
        let mut plan = (*ground().plan).clone();
        plan.target.retention = Some(toml::from_str(RETENTION_BLOCK).expect("what goes by its age"));
        Ground::new(Arc::new(plan))
    }

    fn planted(ground: &Ground) -> Snapshot {
        let rows = |count| (0..count).map(|row| (row, format!("{row}"))).collect::<BTreeMap<u32, String>>();
        let held = |table| {
            let of = |owner| (owner, rows(ground.holdings.rows_of(table)));
            Held { planted: ground.holdings.owners().map(of).collect(), ..Held::default() }
        };
        let tables = ground.holdings.tables().iter().map(|table| (table.name.clone(), held(table)));
        Snapshot { aged: true, tables: tables.collect() }
    }

    /// What is suspected where the runs are answered with `status`, and left what `change` makes of what was due and taken.
    fn check(status: u16, change: impl Fn(&mut Snapshot)) -> BTreeSet<(&'static str, u32)> {
        let ground = aged();
        let mut oracle = Retention::default();
        let before = planted(&ground);
        assert!(oracle.inspect(&ground, &before).is_empty());
        let sequences = Planner::new(ground.plan.clone()).retention(STATE).expect("a plan");
        for step in sequences.iter().flat_map(|sequence| &sequence.steps) {
            let mut observation = observed(step, 0, (0, 0), Answer { status, ..Answer::default() });
            if let Outcome::Answered(answer) = &mut observation.outcome {
                answer.ended &= status < 300;
            }
            oracle.observe(&ground, &observation);
        }
        let mut after = before;
        for (table, part) in [("things", [0, 2, 4]), ("parts", [0, 2, 4])] {
            part.iter().for_each(|row| take(&mut after, table, 0, *row));
        }
        change(&mut after);
        let found = oracle.inspect(&ground, &after);
        let found = found.into_iter().filter_map(|(s, _)| Some((s.requirement?, s.owner?.index())));
        found.collect()
    }

    fn take(snapshot: &mut Snapshot, table: &str, owner: u32, row: u32) {
        let held = snapshot.tables.get_mut(table).expect("a table");
        held.planted.get_mut(&Owner::new(owner)).expect("a tenant").remove(&row);
    }

    fn back(snapshot: &mut Snapshot, table: &str, row: u32) {
        let held = snapshot.tables.get_mut(table).expect("a table");
        held.planted.get_mut(&Owner::new(0)).expect("a tenant").insert(row, format!("{row}"));
    }

    #[test]
    fn a_run_that_takes_what_is_due_and_no_more_is_sound() {
        assert_eq!(check(200, |_| ()), BTreeSet::new());
        // What hangs below may stay, and a run that has not ended may have begun.
        assert_eq!(check(200, |after| back(after, "parts", 2)), BTreeSet::new());
        assert_eq!(check(503, |after| back(after, "things", 2)), BTreeSet::new());
    }

    #[test]
    fn what_is_left_or_taken_too_much_is_seen() {
        assert_eq!(check(200, |after| back(after, "things", 2)), [(RETENTION, 0)].into());
        for (table, owner, row) in
            [("things", 0, 1), ("parts", 0, 3), ("things", 1, 0), ("things", 2, 0), ("homes", 2, 0)]
        {
            assert_eq!(check(200, |after| take(after, table, owner, row)), [(RETENTION_REACH, owner)].into());
        }
    }

    #[test]
    fn what_goes_is_to_be_kept_where_it_is_said_to_be() {
        let mut ground = aged();
        let mut plan = (*ground.plan).clone();
        plan.target.retention.iter_mut().for_each(|told| told.archived = true);
        ground.plan = Arc::new(plan);
        let mut oracle = Retention::default();
        oracle.inspect(&ground, &planted(&ground));
        let sequences = Planner::new(ground.plan.clone()).retention(STATE).expect("a plan");
        for step in sequences.iter().flat_map(|sequence| &sequence.steps) {
            oracle.observe(&ground, &observed(step, 0, (0, 0), Answer { status: 200, ..Answer::default() }));
        }
        let mut after = planted(&ground);
        [0, 2, 4].iter().for_each(|row| take(&mut after, "things", 0, *row));
        let found = oracle.inspect(&ground, &after);
        assert_eq!(found.iter().map(|(s, _)| s.requirement).collect::<Vec<_>>(), [Some(RETENTION)]);
        assert!(found[0].0.sentence.contains("in no object"), "{}", found[0].0.sentence);
    }
}
