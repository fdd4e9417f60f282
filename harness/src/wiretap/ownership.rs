//! Whose a row is where nothing is planted: what it says in a column that names its tenant, beside what the context says.
//! Columns are known by their name; one that was met under it is known under any other afterwards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::frame::{self, Body};
use crate::canary::{Encoding, Form, Owner, Post, Sighting};

/// Tenants that are told apart; the rest is taken for one more.
const TENANTS_MAX: usize = 500_000;
/// Characters of a tenant's name that are kept.
const NAME_MAX: usize = 64;

/// What is known of tenants and of the columns that name them.
pub struct Ownership {
    columns: Vec<String>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Tables' columns by table and number, and which of the names they have.
    places: HashMap<(u32, u16), u16>,
    tenants: HashMap<String, Owner>,
    fresh: Vec<(Owner, String)>,
}

/// A column of a result that names a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    index: usize,
    type_oid: u32,
    format: u16,
    code: u16,
}

/// Those of one result.
pub type Layout = Arc<[Field]>;

impl Ownership {
    /// Of rows that name their tenant in one of `columns`.
    pub fn new(columns: &[String]) -> Self {
        Self { columns: columns.iter().map(|name| name.to_lowercase()).collect(), known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tenants that were met since the last time.
    pub fn take(&self) -> Vec<(Owner, String)> {
        std::mem::take(&mut self.known().fresh)
    }

    /// The tenant that a context names.
    pub fn named(&self, value: &[u8]) -> Option<Owner> {
        let name = of_context(value)?;
        Some(self.known().owner(name))
    }

    /// Reads what the server says of a result's columns.
    pub fn layout(&self, body: &[u8]) -> Layout {
        let mut known = self.known();
        let mut rest = Body::new(body);
        let mut fields = Vec::new();
        for index in 0..usize::from(rest.int16().unwrap_or(0)) {
            let mut field = || {
                let name = String::from_utf8_lossy(rest.text()?).to_lowercase();
                let place = (rest.int32()? as u32, rest.int16()?);
                let type_oid = rest.int32()? as u32;
                let (_length, _modifier) = (rest.int16()?, rest.int32()?);
                Some((name, place, type_oid, rest.int16()?))
            };
            let Some((name, place, type_oid, format)) = field() else { break };
            let code = self.columns.iter().position(|column| *column == name).map(|code| code as u16);
            if let (Some(code), true) = (code, place.0 != 0) {
                known.places.insert(place, code);
            }
            if let Some(code) = code.or_else(|| known.places.get(&place).copied()) {
                fields.push(Field { index, type_oid, format, code });
            }
        }
        fields.into()
    }

    /// Reports whose a row is, whose message begins at `at`; `formats` are those that its values were asked for in.
    pub fn scan(
        &self,
        layout: &[Field],
        formats: Option<&[u16]>,
        body: &[u8],
        at: usize,
        report: &mut dyn FnMut(Sighting),
    ) {
        let Some(last) = layout.last() else { return };
        let mut rest = layout.iter().peekable();
        for (index, value) in frame::fields(body).take(last.index + 1).enumerate() {
            let Some(field) = rest.next_if(|field| field.index == index) else { continue };
            let format = match formats {
                None => field.format,
                Some([]) => 0,
                Some([only]) => *only,
                Some(all) => all.get(index).copied().unwrap_or(0),
            };
            let Some(name) = value.and_then(|value| of_column(field.type_oid, format, value)) else { continue };
            let owner = self.known().owner(name);
            report(Sighting {
                owner,
                row: None,
                column: Some(field.code),
                form: Form::Learnt,
                encoding: Encoding::Plain,
                offset: at,
                post: Post::default(),
            });
        }
    }
}

impl Known {
    fn owner(&mut self, name: String) -> Owner {
        if let Some(owner) = self.tenants.get(&name) {
            return *owner;
        }
        let owner = Owner::new(self.tenants.len().min(TENANTS_MAX) as u32);
        if self.tenants.len() < TENANTS_MAX {
            self.fresh.push((owner, name.chars().take(NAME_MAX).collect()));
            self.tenants.insert(name, owner);
        }
        owner
    }
}

/// A name as it is compared: a UUID in one of its spellings.
fn of_text(text: &str) -> Option<String> {
    let text = text.trim_end();
    let uuid = Uuid::parse_str(text).ok().map(|uuid| uuid.to_string());
    uuid.or_else(|| Some(text.to_string()).filter(|text| !text.is_empty()))
}

/// A number in as many bytes as it has.
fn of_number(bytes: &[u8]) -> Option<String> {
    Some(match *bytes {
        [a, b] => i16::from_be_bytes([a, b]).to_string(),
        [a, b, c, d] => i32::from_be_bytes([a, b, c, d]).to_string(),
        [a, b, c, d, e, f, g, h] => i64::from_be_bytes([a, b, c, d, e, f, g, h]).to_string(),
        _ => return None,
    })
}

/// What a value of a column says: in text, or in binary of the types that ids have.
fn of_column(type_oid: u32, format: u16, value: &[u8]) -> Option<String> {
    const UUID: u32 = 2950;
    const INTEGERS: [u32; 3] = [20, 21, 23];
    const TEXTS: [u32; 4] = [19, 25, 1042, 1043];
    match (format, type_oid) {
        (0, _) => of_text(std::str::from_utf8(value).ok()?),
        (_, UUID) => Some(Uuid::from_slice(value).ok()?.to_string()),
        (_, oid) if INTEGERS.contains(&oid) => of_number(value),
        (_, oid) if TEXTS.contains(&oid) => of_text(std::str::from_utf8(value).ok()?),
        _ => None,
    }
}

/// What a context says: text as a rule; in binary where it was bound as a function's argument.
fn of_context(value: &[u8]) -> Option<String> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains(char::is_control) => of_text(text),
        _ => Uuid::from_slice(value).map(|uuid| uuid.to_string()).ok().or_else(|| of_number(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server says of columns: name, table, number, type, format.
    fn described(columns: &[(&str, u32, u16, u32, u16)]) -> Vec<u8> {
        let mut body = (columns.len() as u16).to_be_bytes().to_vec();
        for (name, table, number, type_oid, format) in columns {
            body.extend([name.as_bytes(), &[0], &table.to_be_bytes(), &number.to_be_bytes()].concat());
            body.extend([&type_oid.to_be_bytes()[..], &[0; 6], &format.to_be_bytes()].concat());
        }
        body
    }

    fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut body = (values.len() as u16).to_be_bytes().to_vec();
        for value in values {
            body.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
            body.extend(value.unwrap_or_default());
        }
        body
    }

    fn owners(ownership: &Ownership, layout: &Layout, formats: Option<&[u16]>, values: &[Option<&[u8]>]) -> Vec<u32> {
        let mut seen = Vec::new();
        ownership.scan(layout, formats, &row(values), 0, &mut |sighting| seen.push(sighting.owner.index()));
        seen
    }

    #[test]
    fn a_row_is_the_context_s_however_its_tenant_is_written() {
        let ownership = Ownership::new(&["Org_Id".into()]);
        let uuid = Uuid::from_u128(0xa5a5);
        for (type_oid, written, text, binary) in [
            (2950, uuid.to_string().to_uppercase(), uuid.to_string(), uuid.as_bytes().to_vec()),
            (20, "42".to_string(), "42".into(), 42i64.to_be_bytes().to_vec()),
            (23, "-7".to_string(), "-7".into(), (-7i32).to_be_bytes().to_vec()),
            (1043, "acme".to_string(), "acme".into(), b"acme".to_vec()),
        ] {
            let bound = ownership.named(written.as_bytes()).expect("a tenant").index();
            let layout = ownership.layout(&described(&[("id", 9, 1, 23, 0), ("org_id", 9, 2, type_oid, 0)]));
            assert_eq!(owners(&ownership, &layout, None, &[None, Some(text.as_bytes())]), [bound], "{written}");
            assert_eq!(owners(&ownership, &layout, Some(&[1]), &[None, Some(&binary)]), [bound], "{written}");
            assert_eq!(owners(&ownership, &layout, Some(&[0, 1]), &[None, Some(&binary)]), [bound], "{written}");
            assert_eq!(owners(&ownership, &layout, Some(&[]), &[None, None]), [] as [u32; 0]);
        }
        assert_eq!(ownership.named(uuid.as_bytes()), ownership.named(uuid.to_string().as_bytes()));
        assert_eq!(ownership.take().len(), 4);
    }

    #[test]
    fn a_column_is_known_under_another_name_once_it_was_met() {
        let ownership = Ownership::new(&["org_id".into()]);
        let other = described(&[("o", 9, 2, 25, 0), ("org", 0, 0, 25, 0)]);
        assert!(ownership.layout(&other).is_empty());
        assert_eq!(ownership.layout(&described(&[("ORG_ID", 9, 2, 25, 0)])).len(), 1);
        assert_eq!(ownership.layout(&other).len(), 1);
        assert!(ownership.layout(&other[..7]).is_empty(), "what is cut short names nothing");
    }
}
