//! Judges what the server tells: rows, long messages as they come, and words.

use super::account::{Key, Seen};
use super::expected::Expected;
use super::frame;
use super::ownership::Layout;
use super::session::Session;
use crate::canary::{Owner, Sighting};
use crate::tenant::WRITTEN;
use crate::wire::{Means, What, Who};

/// Bytes that two parts of a long message share when they are searched: a canary may lie across.
const SHARED: usize = 256;

/// What a copy in binary begins with: a signature, flags, and the length of nothing more.
const COPIED: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

impl Session {
    /// Judges whole rows: one search for all of them, then each sighting is given to its row.
    pub(super) fn rows(&mut self, rows: &[u8]) {
        let mut sightings = std::mem::take(&mut self.sightings);
        self.lens.scan(rows, &mut |sighting| sightings.push(sighting));
        let planted_text = !sightings.is_empty();
        let layout = self.lens.ownership.is_some().then(|| self.layout()).flatten();
        let in_binary = self.in_binary();
        let mut ends = 0;
        for (tag, body, end) in frame::messages(rows) {
            if self.seen.rows == 0 {
                let first = frame::fields(body).next().flatten();
                self.seen.refused = tag == b'D' && matches!(first, Some([b'f' | 0]));
            }
            self.seen.rows += 1;
            if in_binary {
                let row = if tag == b'd' { body.strip_prefix(COPIED).unwrap_or(body) } else { body };
                self.lens.scan_fields(row, ends, &mut |sighting| sightings.push(sighting));
            }
            match (&self.lens.ownership, &layout) {
                (Some(ownership), Some((layout, formats))) if tag == b'D' => {
                    let formats = formats.as_deref();
                    ownership.scan(layout, formats, body, ends, &mut |sighting| sightings.push(sighting));
                }
                (Some(_), _) => self.account.backend.undescribed += 1,
                (None, _) => {}
            }
            ends = end;
        }
        if !sightings.is_empty() {
            if planted_text {
                sightings.sort_unstable_by_key(|sighting| sighting.offset);
            }
            let mut rest = sightings.as_slice();
            for (_, _, end) in frame::messages(rows) {
                let of_row = rest.partition_point(|sighting| sighting.offset < end);
                let (row, others) = rest.split_at(of_row);
                self.row(row);
                rest = others;
            }
            sightings.clear();
            // A result of canaries alone would keep as much memory as it has of them.
            sightings.shrink_to(64);
        }
        self.sightings = sightings;
    }

    /// Whether values of the result that comes may be in binary; where nobody told they may.
    fn in_binary(&self) -> bool {
        match self.expected.front() {
            Some(Expected::Execute(portal)) => portal.is_binary || self.in_binary,
            _ => self.in_binary,
        }
    }

    /// Which columns of the result that comes name a tenant, and the formats that were asked for.
    fn layout(&self) -> Option<(Layout, Option<Vec<u16>>)> {
        match self.expected.front()? {
            Expected::Execute(portal) => Some((portal.prepared.layout.get()?.clone(), Some(portal.formats.clone()))),
            _ => Some((self.described.clone()?, None)),
        }
    }

    /// Judges what was seen in one row.
    fn row(&mut self, sightings: &[Sighting]) {
        let echoes = match self.expected.front() {
            Some(Expected::Query(_, echoes)) => echoes.as_slice(),
            Some(Expected::Execute(portal)) => portal.echoes.as_slice(),
            _ => &[],
        };
        let (mut own, mut others) = (false, false);
        for sighting in sightings.iter().filter(|s| of_tenant(s)) {
            if rightful(self.context.bound(), sighting.owner) {
                own = true;
            } else if !echoes.contains(&key(sighting)) {
                others = true;
                self.seen.note(sighting.owner, sighting.column.unwrap_or(WRITTEN));
            }
        }
        self.seen.own_rows += u64::from(own && !others);
    }

    /// Searches a long message as it comes.
    pub(super) fn part(&mut self, tag: u8, part: &[u8], last: bool) {
        let mut sightings = std::mem::take(&mut self.in_parts);
        self.shared.extend_from_slice(&part[..part.len().min(SHARED)]);
        self.lens.scan(&self.shared, &mut |sighting| sightings.push(sighting));
        self.lens.scan(part, &mut |sighting| sightings.push(sighting));
        self.shared.clear();
        self.shared.extend_from_slice(&part[part.len().saturating_sub(SHARED)..]);
        // Of a long message it matters whose, not how often.
        sightings.sort_unstable_by_key(|s| (s.owner, s.column, s.row));
        sightings.dedup_by_key(|s| key(s));
        if last {
            self.shared.clear();
            if matches!(tag, b'D' | b'd') {
                self.seen.rows += 1;
                self.account.backend.undescribed += u64::from(self.lens.ownership.is_some());
                self.row(&sightings);
            }
            sightings = Vec::new();
        }
        self.in_parts = sightings;
    }

    /// Judges words that are no row.
    pub(super) fn said(&mut self, body: &[u8], means: Means) {
        let mut sightings = Vec::new();
        self.lens.scan(body, &mut |sighting| sightings.push(sighting));
        let before = std::mem::take(&mut self.seen);
        self.row(&sightings);
        let Seen { owners, columns, .. } = std::mem::replace(&mut self.seen, before);
        if !owners.is_empty() {
            let (statement, trace) = self.front();
            let statement = if means == Means::Notification { "a notification".into() } else { statement };
            let what = What::Seen { means, owners, columns };
            self.account.tell(what, &statement, self.context.bound(), trace.as_deref());
        }
    }

    /// The statement that is answered.
    fn front(&self) -> (String, Option<String>) {
        let statement = match self.expected.front() {
            Some(Expected::Query(left, _)) => left.front(),
            Some(Expected::Execute(portal)) => Some(&portal.prepared.statement),
            _ => None,
        };
        statement.map_or_else(|| ("no statement".into(), None), |s| (s.shape.clone(), s.trace.clone()))
    }
}

/// What tells one planted value from another.
pub(super) fn key(sighting: &Sighting) -> Key {
    (sighting.owner, sighting.row, sighting.column)
}

fn of_tenant(sighting: &Sighting) -> bool {
    sighting.owner != Owner::ABSENT && sighting.owner != Owner::PLATFORM
}

/// Whether a row of `owner` may come while those are bound.
fn rightful(bound: &[Who], owner: Owner) -> bool {
    !bound.is_empty() && bound.iter().all(|who| *who == Who::Tenant(owner))
}
