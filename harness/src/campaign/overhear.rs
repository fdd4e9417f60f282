//! Listens where no request goes: to the target's own output, in the folder where it keeps its objects, and where it
//! sends its news.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::canary::{Form, Owner, Scanner, Sighting, layers};
use crate::cell::PoolState;
use crate::error::{Error, Result};
use crate::history::Observation;
use crate::plan::Step;
use crate::principal::{NOBODY, Principal};
use crate::target::sink::Sinks;

/// Bytes of one file that are read.
const READ_MAX: u64 = 256 << 20;

/// What the target has written since it was last listened to.
pub(super) struct Overhearing {
    log: PathBuf,
    read: u64,
    objects: Option<PathBuf>,
}

/// What was heard, of one who may know it.
#[derive(Default)]
struct Heard {
    bytes: u64,
    sightings: Vec<Sighting>,
    met: HashSet<(Owner, Option<u32>, Option<u16>)>,
}

impl Heard {
    fn scan(&mut self, scanner: &Scanner, bytes: &[u8], counts: impl Fn(&Sighting) -> bool) {
        self.bytes += bytes.len() as u64;
        scanner.scan(bytes, &mut |s| {
            if counts(&s) && self.met.insert((s.owner, s.row, s.column)) {
                self.sightings.push(s);
            }
        });
    }
}

impl Overhearing {
    /// Listens to the output in `log`, and in the folder `objects`.
    pub(super) fn new(log: PathBuf, objects: Option<PathBuf>) -> Self {
        Self { log, read: 0, objects }
    }

    /// Passes over what the log holds already.
    pub(super) fn passing_over(self) -> Self {
        let read = std::fs::metadata(&self.log).map_or(0, |log| log.len());
        Self { read, ..self }
    }

    /// What was written since, to the log by anyone and for nobody, and to objects of each tenant.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn listen(&mut self, scanner: &Scanner, state: PoolState) -> Result<Vec<Observation>> {
        let mut heard = vec![self.log(scanner, state)?];
        if let Some(folder) = self.objects.clone() {
            heard.extend(objects(&folder, scanner, state)?);
        }
        Ok(heard)
    }

    fn log(&mut self, scanner: &Scanner, state: PoolState) -> Result<Observation> {
        let failed = |e| Error::read(&self.log, e);
        let mut file = File::open(&self.log).map_err(failed)?;
        file.seek(SeekFrom::Start(self.read)).map_err(failed)?;
        let mut text = Vec::new();
        file.take(READ_MAX).read_to_end(&mut text).map_err(failed)?;
        self.read += text.len() as u64;
        let mut heard = Heard::default();
        // A log may name an object by its id; what the object holds does not belong there.
        heard.scan(scanner, &text, |s| matches!(s.form, Form::Text | Form::Inet));
        Ok(observation("the target's log", Principal::without_tenant(NOBODY), "store/logs", state, heard))
    }
}

/// Objects by the tenant whose id their path holds; one without is nobody's to read.
pub(super) fn objects(folder: &Path, scanner: &Scanner, state: PoolState) -> Result<Vec<Observation>> {
    let mut by_owner: BTreeMap<Option<Owner>, Heard> = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&path) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let mut owner = None;
            let key = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            scanner.scan(key.as_bytes(), &mut |s| owner = owner.or(Some(s.owner)));
            // One that the target has removed meanwhile tells nothing.
            let Ok(bytes) = std::fs::read(&path) else { continue };
            by_owner.entry(owner).or_default().scan(scanner, &layers(&bytes, None).0, |_| true);
        }
    }
    let observations = by_owner.into_iter().map(|(owner, heard)| {
        let whose = owner.map_or_else(|| Principal::without_tenant(NOBODY), |owner| Principal::of(owner, "object"));
        observation("the target's objects", whose, "store/objects", state, heard)
    });
    Ok(observations.collect())
}

/// What the target sent, by the tenant whose address it was sent to.
#[derive(Default)]
pub(super) struct News {
    heard: BTreeMap<Owner, Heard>,
}

impl News {
    /// Reads what arrived since it was last asked.
    pub(super) fn gather(&mut self, sinks: &Sinks, scanner: &Scanner) {
        for delivery in sinks.taken() {
            self.heard.entry(delivery.owner).or_default().scan(scanner, &delivery.bytes, |_| true);
        }
    }

    /// What was gathered, of every tenant that told where to send its news: of nobody, where none did.
    pub(super) fn listen(&mut self, sinks: &Sinks, state: PoolState) -> Vec<Observation> {
        let told = sinks.told();
        let mut whose: Vec<Principal> = told.iter().map(|owner| Principal::of(*owner, "webhook")).collect();
        if whose.is_empty() {
            whose.push(Principal::without_tenant(NOBODY));
        }
        let heard = whose.into_iter().map(|actor| {
            let heard = actor.tenant.and_then(|owner| self.heard.remove(&owner)).unwrap_or_default();
            observation("the target's webhooks", actor, "work/webhook", state, heard)
        });
        heard.collect()
    }
}

fn observation(place: &str, actor: Principal, requirement: &str, state: PoolState, heard: Heard) -> Observation {
    Observation::heard(Step::listening(place, actor, requirement, state), heard.bytes, heard.sightings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::{Canary, Mint, TimeWindow};
    use crate::cell::Lanes;

    const KEY: [u8; 16] = [7; 16];
    const WINDOW: TimeWindow =
        TimeWindow { start_unix_s: 1_700_000_000, seconds: 86_400, owners: 4, rows_per_owner: 4 };
    const STATE: PoolState = PoolState { pool_size: None, lanes: Lanes::One };

    fn canary(owner: u32) -> Canary {
        Canary { owner: Owner::new(owner), row: 1, column: 1 }
    }

    #[test]
    fn a_log_may_name_an_object_and_not_tell_what_it_holds_and_is_read_once() {
        let (mint, scanner) = (Mint::new(KEY, WINDOW), Scanner::new(KEY, WINDOW));
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        std::fs::write(&log, format!("{} {}\n", mint.uuid(canary(1)), mint.text(canary(2)))).expect("a log");
        let mut overhearing = Overhearing::new(log, None);
        let heard = overhearing.listen(&scanner, STATE).expect("it can be read");
        let owners: Vec<Owner> = heard[0].sightings().iter().map(|s| s.owner).collect();
        assert_eq!(owners, [Owner::new(2)]);
        let again = overhearing.listen(&scanner, STATE).expect("it can be read");
        assert!(again[0].sightings().is_empty());
    }

    #[test]
    fn an_object_is_its_key_s_tenants_and_one_without_is_nobodys() {
        let (mint, scanner) = (Mint::new(KEY, WINDOW), Scanner::new(KEY, WINDOW));
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().join(mint.uuid(canary(1)).to_string());
        std::fs::create_dir(&own).expect("a folder");
        std::fs::write(own.join("a"), mint.text(canary(3))).expect("an object");
        std::fs::write(folder.path().join("b"), mint.text(canary(2))).expect("an object");
        let heard = objects(folder.path(), &scanner, STATE).expect("it can be read");
        let seen: Vec<_> = heard.iter().map(|o| (o.step.actor.tenant, o.sightings()[0].owner)).collect();
        assert_eq!(seen, [(None, Owner::new(2)), (Some(Owner::new(1)), Owner::new(3))]);
    }
}
