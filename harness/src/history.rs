//! The ordered evidence of a run, and the judge's only input: NDJSON, one observation or snapshot a line, written
//! before it is judged. A zstd frame is ended regularly, so that a killed run leaves what it knew.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::canary::Sighting;
use crate::error::{Error, Result};
use crate::fault::Struck;
use crate::likeness::Likeness;
use crate::plan::Step;
use crate::snapshot::Snapshot;
use crate::wire::Wire;
use crate::world::World;

/// Version of the history's shape.
pub const SCHEMA_VERSION: u32 = 1;

/// Lines in one zstd frame: what a kill may cost at most.
const LINES_PER_FRAME: u64 = 2_000;

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Version of the shape.
    pub schema_version: u32,
    /// The run's name.
    pub run_id: String,
    /// SHA-256 of `plan.json`, hex.
    pub plan_sha256: String,
}

/// One line after the first.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Entry {
    /// What the database held, while nothing was driven.
    Snapshot {
        /// What it held.
        snapshot: Snapshot,
    },
    /// What came between the target and its database.
    Wire {
        /// What came.
        wire: Wire,
    },
    /// What came of a step.
    Observation(Box<Observation>),
}

impl Entry {
    /// The entry of one line. What it is shows at its beginning: to try one after the other would read maps of numbers as
    /// maps of text.
    fn parse(line: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Taken {
            snapshot: Snapshot,
        }
        if line.starts_with(r#"{"snapshot":"#) {
            return serde_json::from_str(line).map(|Taken { snapshot }| Self::Snapshot { snapshot });
        }
        #[derive(Deserialize)]
        struct Overheard {
            wire: Wire,
        }
        if line.starts_with(r#"{"wire":"#) {
            return serde_json::from_str(line).map(|Overheard { wire }| Self::Wire { wire });
        }
        serde_json::from_str(line).map(Self::Observation)
    }
}

/// The recorded outcome of one step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observation {
    /// Its number in the run.
    pub number: u64,
    /// Number of its sequence in its pool state.
    pub sequence: u64,
    /// Number of its step in the sequence.
    pub position: u32,
    /// Number of the page, when the step walks a list.
    pub page: u32,
    /// The step.
    pub step: Step,
    /// The world it was observed in, if it belongs to a transcript.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub world: Option<World>,
    /// Which of the driver's connections.
    pub connection: u32,
    /// Microseconds since driving began, when the request was sent.
    pub sent_at_us: u64,
    /// Microseconds until the answer was whole, or given up.
    pub took_us: u64,
    /// The request line as it was sent, captured values filled in.
    pub sent: Sent,
    /// Where the step's fault struck, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub struck: Option<Struck>,
    /// What came.
    pub outcome: Outcome,
}

/// The request as it was sent, its credential left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Path and query.
    pub url: String,
    /// Body, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// What came of a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Outcome {
    /// An answer.
    Answered(Answered),
    /// None in time.
    TimedOut,
    /// The connection failed.
    Failed {
        /// The reason, in the transport's words.
        why: String,
    },
    /// The client went away, as planned.
    Abandoned,
    /// No request, but what was heard where the target writes by itself.
    Overheard {
        /// Bytes scanned.
        bytes: u64,
        /// Canaries in them, each once.
        sightings: Vec<Sighting>,
    },
    /// The request could not be made: an earlier step did not yield what it needs.
    NotSent {
        /// What was missing.
        why: String,
    },
}

/// The facts of an answer that oracles need.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answered {
    /// The status code.
    pub status: u16,
    /// Headers that carry content: type, ETag, location and the like; no cookies.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Canaries in headers and body, each once, that the request itself did not contain.
    pub sightings: Vec<Sighting>,
    /// Those that it did: an echo shows its sender nothing new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub echoes: Vec<Sighting>,
    /// The list's facts, when the step lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<ListFacts>,
    /// Whether it tells the end that the step waits for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// What it must share with others to be alike, when the step is compared with others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub likeness: Option<Box<Likeness>>,
    /// Why the body is not whole: what came is searched, and what is missing proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
    /// A digest of the body's shape, when it is JSON and the step belongs to a case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<u64>,
    /// The body, when a finding may need it as witness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// A list's facts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ListFacts {
    /// Rows on this page.
    pub items: u64,
    /// The total it claims.
    pub total: Option<i64>,
    /// True when there is no further page, or the walk was ended.
    pub last: bool,
}

impl Observation {
    /// What was heard without asking: no request, no time, no place in a sequence.
    pub(crate) fn heard(step: Step, bytes: u64, sightings: Vec<Sighting>) -> Self {
        Self {
            number: 0,
            sequence: 0,
            position: 0,
            page: 0,
            world: None,
            step,
            connection: 0,
            sent_at_us: 0,
            took_us: 0,
            sent: Sent { url: String::new(), body: None },
            struck: None,
            outcome: Outcome::Overheard { bytes, sightings },
        }
    }

    /// The answer, if there was one.
    pub fn answered(&self) -> Option<&Answered> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    /// The canaries in what came, each once.
    pub fn sightings(&self) -> &[Sighting] {
        match &self.outcome {
            Outcome::Answered(Answered { sightings, .. }) | Outcome::Overheard { sightings, .. } => sightings,
            _ => &[],
        }
    }
}

/// Writes a history.
pub struct Writer {
    path: PathBuf,
    encoder: Option<zstd::Encoder<'static, File>>,
    lines: u64,
}

impl Writer {
    /// Starts the history at `path`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, header: &Header) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::write(path, e))?;
        let encoder = zstd::Encoder::new(file, 3).map_err(|e| Error::write(path, e))?;
        let mut writer = Self { path: path.into(), encoder: Some(encoder), lines: 0 };
        writer.line(header)?;
        Ok(writer)
    }

    /// Appends one entry.
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        self.line(entry)?;
        if self.lines.is_multiple_of(LINES_PER_FRAME) {
            self.end_frame()?;
        }
        Ok(())
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value).map_err(|e| Error::Defect(e.to_string()))?;
        line.push(b'\n');
        if let Some(encoder) = &mut self.encoder {
            encoder.write_all(&line).map_err(|e| Error::write(&self.path, e))?;
        }
        self.lines += 1;
        Ok(())
    }

    fn end_frame(&mut self) -> Result<()> {
        let failed = |e| Error::write(&self.path, e);
        if let Some(encoder) = self.encoder.take() {
            let mut file = encoder.finish().map_err(failed)?;
            file.flush().map_err(failed)?;
            self.encoder = Some(zstd::Encoder::new(file, 3).map_err(failed)?);
        }
        Ok(())
    }

    /// Ends the history.
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn finish(mut self) -> Result<()> {
        match self.encoder.take() {
            Some(encoder) => encoder.finish().map(drop).map_err(|e| Error::write(&self.path, e)),
            None => Ok(()),
        }
    }
}

/// Reads a history again, line by line.
///
/// # Errors
/// Unreadable, of another version, or a broken line; a cut-off last line ends the history quietly.
pub fn read(path: &Path) -> Result<(Header, impl Iterator<Item = Result<Entry>> + use<>)> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    let decoder = zstd::Decoder::new(file).map_err(|e| Error::read(path, e))?;
    let mut lines = BufReader::new(decoder).lines();
    let wrong = |why: String| Error::Usage(format!("{} is not a history: {why}", path.display()));
    let first = lines.next().ok_or_else(|| wrong("it is empty".into()))?.map_err(|e| Error::read(path, e))?;
    let header: Header = serde_json::from_str(&first).map_err(|e| wrong(e.to_string()))?;
    if header.schema_version != SCHEMA_VERSION {
        return Err(wrong(format!("its version is {}, this build reads {SCHEMA_VERSION}", header.schema_version)));
    }
    let entries = lines
        .map_while(std::result::Result::ok)
        .map(|line| Entry::parse(&line).map_err(|e| Error::Usage(format!("broken line in the history: {e}"))));
    Ok((header, entries))
}
