//! What an archive holds, and how: a line an event, with what hangs on it. The digest of a line tells whether what is
//! known of an event is still what its archive holds.

use std::collections::BTreeMap;
use std::io::Read;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::http::annotations::Annotation;
use crate::http::attachments::Attachment;
use crate::http::event::Event;
use crate::problem::Problem;

/// The compression level: zstd's own default.
const LEVEL: i32 = 0;

/// An event with what hangs on it. Of attachments it is what is known of them: their bytes are objects already, and stay.
#[derive(Debug, Serialize)]
pub struct Whole {
    /// The event.
    pub event: Event,
    /// Its annotations, in the order of their ids.
    pub annotations: Vec<Annotation>,
    /// Its attachments, in the order of their ids.
    pub attachments: Vec<Attachment>,
}

/// A line of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its event.
    pub event: Uuid,
    /// The SHA-256 of its text.
    pub digest: Vec<u8>,
    /// Its text, without the end of the line.
    pub text: Vec<u8>,
}

/// What is put back of a line.
#[derive(Debug, Deserialize)]
pub struct Restorable {
    /// The event.
    pub event: Event,
    /// Its annotations.
    pub annotations: Vec<Annotation>,
    /// Its attachments.
    pub attachments: Vec<Attachment>,
}

impl Whole {
    /// Puts each event together with what hangs on it.
    pub fn of(events: Vec<Event>, annotations: Vec<Annotation>, attachments: Vec<Attachment>) -> Vec<Self> {
        let (mut noted, mut attached) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        annotations.into_iter().for_each(|one| noted.entry(one.event_id).or_default().push(one));
        attachments.into_iter().for_each(|one| attached.entry(one.event_id).or_default().push(one));
        let whole = |event: Event| {
            let mut annotations = noted.remove(&event.id).unwrap_or_default();
            let mut attachments = attached.remove(&event.id).unwrap_or_default();
            annotations.sort_by_key(|one| one.id);
            attachments.sort_by_key(|one| one.id);
            Self { event, annotations, attachments }
        };
        events.into_iter().map(whole).collect()
    }

    /// Its line.
    ///
    /// # Errors
    /// None that is known: what is kept can be written as JSON.
    pub fn line(&self) -> Result<Line, Problem> {
        let text = serde_json::to_vec(self).map_err(|_| Problem::Internal)?;
        Ok(Line { event: self.event.id, digest: Sha256::digest(&text).to_vec(), text })
    }
}

/// The bytes of an archive of these lines.
///
/// # Errors
/// None that is known: memory takes what is written to it.
pub fn packed(lines: &[Line]) -> Result<Bytes, Problem> {
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(&line.text);
        text.push(b'\n');
    }
    zstd::encode_all(text.as_slice(), LEVEL).map(Bytes::from).map_err(|_| Problem::Internal)
}

/// The lines in an archive whose bytes have the checksum `sha256`; none when they have not, or are no archive.
pub fn unpacked(bytes: &[u8], sha256: &[u8]) -> Option<Vec<Line>> {
    #[derive(Deserialize)]
    struct Named {
        event: Id,
    }
    #[derive(Deserialize)]
    struct Id {
        id: Uuid,
    }
    // What was altered is not even unpacked: it may unpack to more than memory holds.
    if Sha256::digest(bytes)[..] != *sha256 {
        return None;
    }
    let mut text = Vec::new();
    zstd::Decoder::new(bytes).ok()?.read_to_end(&mut text).ok()?;
    let lines = text.strip_suffix(b"\n")?.split(|byte| *byte == b'\n');
    let line = |text: &[u8]| {
        let event = serde_json::from_slice::<Named>(text).ok()?.event.id;
        Some(Line { event, digest: Sha256::digest(text).to_vec(), text: text.to_vec() })
    };
    lines.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        let id = Uuid::new_v4();
        let text = format!("{{\"event\":{{\"id\":\"{id}\",\"action\":\"{text}\"}},\"annotations\":[]}}").into_bytes();
        Line { event: id, digest: Sha256::digest(&text).to_vec(), text }
    }

    #[test]
    fn what_is_packed_is_unpacked_and_one_altered_byte_is_told() {
        let lines = [line("a"), line("b\\nc")];
        let bytes = packed(&lines).expect("bytes");
        let sha256 = Sha256::digest(&bytes).to_vec();
        assert_eq!(unpacked(&bytes, &sha256), Some(lines.to_vec()));
        for place in 0..bytes.len() {
            let mut altered = bytes.to_vec();
            altered[place] ^= 1;
            assert_eq!(unpacked(&altered, &sha256), None, "byte {place}");
        }
        assert_eq!(unpacked(&bytes[..bytes.len() - 1], &sha256), None);
    }
}
