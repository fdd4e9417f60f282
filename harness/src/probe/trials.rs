//! All trials of a run, subject by subject, and the subjects of which none can be made.

use std::collections::BTreeMap;

use super::calls::{binding_left, calls, influence, left, without};
use super::cast::Cast;
use super::ground::Ground;
use super::judge::Gap;
use super::keys::{keys, sequence};
use super::place::Mode;
use super::plant::Unplanted;
use super::reads::reads;
use super::schema::Schema;
use super::subject::{Kind, Subject};
use super::trial::Trial;
use super::triggered::{handed_on, triggered};
use super::writes::writes;

/// Tables that are read for what is left on a connection.
const LEFT_TABLES: usize = 6;

/// What trials are made from.
pub struct Made<'a> {
    /// The database.
    pub schema: &'a Schema,
    /// Whose is what.
    pub ground: &'a Ground,
    /// What could not be planted.
    pub unplanted: &'a [Unplanted],
    /// Tables with rows of tenants that were there, and their numbers.
    pub adopted: &'a BTreeMap<i64, [usize; 2]>,
    /// How much may be done.
    pub mode: Mode,
    /// True where the privileged role may leave out triggers.
    pub may_replicate: bool,
}

impl Made<'_> {
    /// The trials, and what none was made of.
    pub fn trials(&self) -> (Vec<Trial>, Vec<Gap>) {
        let (mut trials, mut gaps) = (Vec::new(), Vec::new());
        let planted = self.mode != Mode::ReadOnly;
        for (number, subject) in self.schema.subjects.iter().enumerate() {
            let cast = self.cast(subject);
            let touches = subject.rights.usage
                && [
                    subject.rights.select,
                    subject.rights.insert,
                    subject.rights.update,
                    subject.rights.delete,
                    subject.rights.truncate,
                ]
                .contains(&true);
            if !touches {
                continue;
            }
            let gap = |why: String| Gap { subject: subject.title(), kind: subject.kind, why };
            if let Some(why) = self.gap(subject) {
                // Rows that were there before are read, and nothing more.
                if self.adopted.contains_key(&subject.oid) {
                    trials.extend(reads(&cast, &self.schema.roles, number, false));
                    gaps.push(gap(format!("rows that were there are read, and it is not written to: {why}")));
                } else {
                    gaps.push(gap(why));
                }
                continue;
            }
            let spare = self.unplanted.iter().find(|unplanted| unplanted.table == subject.oid && unplanted.spare);
            if let (Some(unplanted), true) = (spare, subject.rights.insert) {
                gaps.push(gap(format!("no row could be made to insert: {}", unplanted.why)));
            }
            if subject.kind == Kind::Sequence {
                trials.extend(sequence(&cast, self.mode == Mode::Copy));
                continue;
            }
            trials.extend(reads(&cast, &self.schema.roles, number, planted));
            if planted && (subject.owned || !subject.kind.is_table()) {
                trials.extend(writes(&cast));
                trials.extend(keys(&cast, &self.schema.subjects));
                trials.extend(triggered(&cast));
            }
            if planted && subject.is_shared() {
                trials.extend(handed_on(&cast));
            }
            let answers = matches!(subject.kind, Kind::View | Kind::Materialised | Kind::Foreign);
            if planted && answers && subject.rights.select {
                let statement = format!("SELECT {} FROM {}", cast.readable(), subject.sql());
                let without = without(&self.schema.subjects, &cast, cast.victim);
                trials.push(influence(&cast, &statement, &subject.title(), subject.kind, &without));
            }
        }
        if planted {
            trials.extend(self.routines());
        }
        // What commits, or needs a connection on which nothing was bound, is not to be had within one transaction.
        if self.mode != Mode::Copy {
            trials.retain(|trial| !trial.commits());
            trials.sort_by_key(|trial| trial.relation != super::trial::Relation::None);
        }
        (trials, gaps)
    }

    fn routines(&self) -> Vec<Trial> {
        let mut trials = Vec::new();
        let Some(first) = self.schema.subjects.first() else { return trials };
        let cast = self.cast(first);
        let subjects = &self.schema.subjects;
        let readable = |s: &&Subject| s.owned && s.rights.select && s.rights.usage && s.kind != Kind::Partition;
        let tables: Vec<&Subject> = subjects.iter().filter(readable).take(LEFT_TABLES).collect();
        for routine in &self.schema.routines {
            trials.extend(calls(&cast, routine, subjects));
            if routine.binds && !tables.is_empty() {
                trials.extend(left(&cast, routine, &tables, subjects));
            }
            if routine.types.is_empty() && !routine.procedure {
                let without = without(subjects, &cast, cast.victim);
                trials.push(influence(&cast, &routine.call(&[]), &routine.title(), Kind::Routine, &without));
            }
        }
        if !tables.is_empty() {
            trials.push(binding_left(&cast, &tables));
        }
        trials
    }

    /// Why nothing can be tried of a subject that the role may touch.
    fn gap(&self, subject: &Subject) -> Option<String> {
        if !subject.owned {
            return None;
        }
        let unplanted = self.unplanted.iter().find(|unplanted| unplanted.table == subject.oid && !unplanted.spare)?;
        Some(format!("nothing could be planted in it: {}", unplanted.why))
    }

    /// Two tenants with rows in `subject`, where there are such.
    fn cast<'a>(&'a self, subject: &'a Subject) -> Cast<'a> {
        if let Some([victim, caller]) = self.adopted.get(&subject.oid).copied() {
            let (version, may_replicate) = (self.schema.version, self.may_replicate);
            return Cast { subject, ground: self.ground, victim, caller, version, may_replicate };
        }
        let has = |tenant: &usize| self.ground.rows_of(subject.oid, *tenant).next().is_some();
        let all = 0..self.ground.tenants.len();
        let mut parts: Vec<usize> = all.clone().filter(has).collect();
        parts.extend(all.filter(|tenant| !has(tenant)));
        Cast {
            subject,
            ground: self.ground,
            victim: parts.first().copied().unwrap_or(0),
            caller: parts.get(1).copied().unwrap_or(1),
            version: self.schema.version,
            may_replicate: self.may_replicate,
        }
    }
}
