//! A folder of migrations: in which order its tool applies them, what each statement of them made or altered, and a
//! database that has gone through the first so many of them.

mod apply;
mod layout;
mod origin;
mod presumed;
mod statement;
mod window;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use apply::Stage;
pub use layout::Layout;
pub use origin::{Origins, Touched};
pub use statement::Statement;
pub use window::{Window, windows};

use crate::error::{Error, Result};

/// One file of a folder of migrations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The file, below the folder.
    pub path: PathBuf,
    /// Its statements, in their order.
    pub statements: Vec<Statement>,
    /// False where the file says that it takes no transaction, as sqlx and Flyway spell it.
    pub transactional: bool,
}

/// A folder's migrations in the order of their tool; those of its subfolders after its own.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The folder.
    pub root: PathBuf,
    /// Whose order and habits it follows.
    pub layout: Layout,
    /// The migrations.
    pub migrations: Vec<Migration>,
    /// The `search_path` under which a subfolder's migrations run, by its path below the folder.
    pub search_paths: BTreeMap<PathBuf, String>,
}

/// Where something stands in a folder of migrations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Place {
    /// The file, below the folder.
    pub file: PathBuf,
    /// The line on which the statement begins, from 1.
    pub line: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl Folder {
    /// Reads `root`.
    ///
    /// # Errors
    /// The folder or a file cannot be read, or there is no migration in it.
    pub fn read(root: &Path) -> Result<Self> {
        let files = layout::files(root)?;
        let layout = Layout::of(root, &files);
        let mut migrations = Vec::new();
        for path in layout.order(files) {
            let whole = root.join(&path);
            let text = std::fs::read_to_string(&whole).map_err(|e| Error::read(&whole, e))?;
            let forward = statement::forward(&text);
            let statements = statement::split(forward).map_err(|(line, word)| {
                let known = "only SQL runs here, not commands of psql";
                Error::Usage(format!(
                    "{}:{line}: `{word}`: {known}; leave it out or put SQL in its place",
                    whole.display()
                ))
            })?;
            migrations.push(Migration { path, statements, transactional: !statement::refuses_transaction(forward) });
        }
        if migrations.is_empty() {
            return Err(Error::Usage(format!("{} holds no migration: no file ending in .sql", root.display())));
        }
        Ok(Self { root: root.into(), layout, migrations, search_paths: BTreeMap::new() })
    }
}

#[cfg(test)]
mod tests;
