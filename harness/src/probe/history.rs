//! The probe's history: what a judge needs to conclude again, offline. NDJSON under zstd, written as trials are done.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::judge::{Gap, Record};
use crate::error::{Error, Result};

/// Version of the shape.
pub const SCHEMA_VERSION: u32 = 1;
/// Records in one zstd frame: what a kill may cost.
const RECORDS_PER_FRAME: u64 = 500;

/// The first line; its first field tells it from a history of HTTP traffic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Version of the shape.
    pub probe_schema_version: u32,
    /// The run's name.
    pub run_id: String,
    /// The database.
    pub database: String,
    /// The application's database role.
    pub role: String,
    /// The seed.
    pub seed: u64,
    /// What no trial is made of.
    pub gaps: Vec<Gap>,
}

/// Writes records as they come.
pub struct Writer {
    file: zstd::Encoder<'static, File>,
    records: u64,
}

impl Writer {
    /// A new history.
    ///
    /// # Errors
    /// The folder is not writable.
    pub fn create(path: &Path, header: &Header) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::write(path, e))?;
        let file = zstd::Encoder::new(file, 1).map_err(|e| Error::write(path, e))?;
        let mut writer = Self { file, records: 0 };
        writer.line(header)?;
        Ok(writer)
    }

    /// Appends a record.
    ///
    /// # Errors
    /// The disk is full.
    pub fn append(mut self, record: &Record) -> Result<Self> {
        self.line(record)?;
        self.records += 1;
        if self.records.is_multiple_of(RECORDS_PER_FRAME) {
            let file = self.file.finish().map_err(lost)?;
            self.file = zstd::Encoder::new(file, 1).map_err(lost)?;
        }
        Ok(self)
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(value).map_err(|e| Error::Defect(e.to_string()))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(lost)
    }

    /// Ends it.
    ///
    /// # Errors
    /// The disk is full.
    pub fn finish(self) -> Result<()> {
        self.file.finish().map(drop).map_err(lost)
    }
}

fn lost(error: std::io::Error) -> Error {
    Error::write(Path::new("the probe's history"), error)
}

/// Reads one back; none where the file is the history of something else.
///
/// # Errors
/// It cannot be read, or breaks off within a line.
pub fn read(path: &Path) -> Result<Option<(Header, Vec<Record>)>> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    let reader: Box<dyn std::io::Read> = match path.extension().is_some_and(|e| e == "zst") {
        true => Box::new(zstd::Decoder::new(file).map_err(|e| Error::read(path, e))?),
        false => Box::new(file),
    };
    let mut lines = BufReader::new(reader).lines();
    let Some(Ok(first)) = lines.next() else { return Ok(None) };
    let Ok(header) = serde_json::from_str::<Header>(&first) else { return Ok(None) };
    if header.probe_schema_version != SCHEMA_VERSION {
        return Err(Error::Usage(format!(
            "{} is of version {}, and this reads {SCHEMA_VERSION}",
            path.display(),
            header.probe_schema_version
        )));
    }
    let mut records = Vec::new();
    for line in lines {
        let line = line.map_err(|e| Error::read(path, e))?;
        records.push(serde_json::from_str(&line).map_err(|e| Error::Usage(format!("{}: {e}", path.display())))?);
    }
    Ok(Some((header, records)))
}
