//! The corpus as a file: read before a run, written anew after it.

use std::path::Path;

use crate::error::{Error, Result};
use crate::plan::{CORPUS_VERSION, Corpus};

const FILE: &str = "corpus.json";

/// The corpus in `folder`; an empty one where there is none yet.
///
/// # Errors
/// Unreadable, not a corpus, or of another version.
pub(super) fn load(folder: &Path) -> Result<Corpus> {
    let path = folder.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Corpus::default()),
        Err(e) => return Err(Error::read(&path, e)),
    };
    let wrong = |why: String| Error::Usage(format!("{} is not a corpus: {why}", path.display()));
    let corpus: Corpus = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    if corpus.schema_version != CORPUS_VERSION {
        return Err(wrong(format!("its version is {}, this build reads {CORPUS_VERSION}", corpus.schema_version)));
    }
    Ok(corpus)
}

/// Writes `corpus` to `folder`, which is made if need be; a run that is killed meanwhile leaves the old one.
///
/// # Errors
/// The disk is full or gone.
pub(super) fn save(folder: &Path, corpus: &Corpus) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::write(folder, e))?;
    let text = serde_json::to_string_pretty(corpus).map_err(|e| Error::Defect(e.to_string()))?;
    let (path, part) = (folder.join(FILE), folder.join("corpus.json.part"));
    std::fs::write(&part, text).map_err(|e| Error::write(&part, e))?;
    std::fs::rename(&part, &path).map_err(|e| Error::write(&path, e))
}
