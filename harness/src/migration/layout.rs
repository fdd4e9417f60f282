//! Whose folder it is: the order in which each tool applies its files, and what it leaves out.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A tool's way to name migrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `20260101120000_name/migration.sql`: a folder each.
    Prisma,
    /// `V1_2__name.sql`, then `R__name.sql`.
    Flyway,
    /// `20260101120000_name.sql` in `supabase/migrations`, on Supabase's own roles and schemas.
    Supabase,
    /// `0001_name.sql`, `1_name.up.sql`: sqlx, golang-migrate, dbmate, goose and plain numbered files.
    Numbered,
    /// Files without numbers, by name.
    Plain,
}

impl Layout {
    /// The layout of a folder with these files, each below it.
    pub(super) fn of(root: &Path, files: &[PathBuf]) -> Self {
        let named = |test: &dyn Fn(&str) -> bool| files.iter().filter_map(|f| f.file_name()?.to_str()).any(test);
        let whole = root.canonicalize().unwrap_or_else(|_| root.into());
        if !files.is_empty() && files.iter().all(|f| f.file_name().is_some_and(|name| name == "migration.sql")) {
            Self::Prisma
        } else if named(&|name| flyway(name).is_some()) {
            Self::Flyway
        } else if whole.parent().and_then(Path::file_name).is_some_and(|name| name == "supabase") {
            Self::Supabase
        } else if named(&|name| name.starts_with(|c: char| c.is_ascii_digit())) {
            Self::Numbered
        } else {
            Self::Plain
        }
    }

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Prisma => "Prisma",
            Self::Flyway => "Flyway",
            Self::Supabase => "Supabase",
            Self::Numbered => "numbered",
            Self::Plain => "plain",
        }
    }

    /// True where one session runs file after file, so that what one sets is there for the next.
    pub(super) fn keeps_session(self) -> bool {
        matches!(self, Self::Numbered | Self::Supabase | Self::Prisma)
    }

    /// The files that the tool applies, in its order.
    pub(super) fn order(self, mut files: Vec<PathBuf>) -> Vec<PathBuf> {
        let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        files.retain(|path| {
            let name = name(path);
            let back = [".down.sql", ".undo.sql", ".rollback.sql"].iter().any(|end| name.ends_with(end));
            !back && (self != Self::Flyway || flyway(&name).is_some())
        });
        let folder = |path: &Path| path.parent().map(Path::to_path_buf).unwrap_or_default();
        files.sort_by(|a, b| match self {
            Self::Prisma => a.cmp(b),
            // Flyway orders by version over all its folders.
            Self::Flyway => flyway(&name(a)).cmp(&flyway(&name(b))),
            _ => folder(a).cmp(&folder(b)).then_with(|| numbered(&name(a), &name(b))),
        });
        files
    }
}

/// The place of a Flyway file in its order: versions first, repeatables after all of them; none for other files.
fn flyway(name: &str) -> Option<(bool, Vec<u64>, String)> {
    let (head, rest) = name.strip_suffix(".sql")?.split_once("__")?;
    match head.strip_prefix('V') {
        Some(version) => {
            let parts: Result<Vec<u64>, _> = version.split(['.', '_']).map(str::parse).collect();
            Some((false, parts.ok()?, rest.into()))
        }
        None => (head == "R").then(|| (true, Vec::new(), rest.into())),
    }
}

/// By the number in front, however long, then by name; files without a number come last.
fn numbered(a: &str, b: &str) -> Ordering {
    let number = |name: &str| {
        let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
        let significant = digits.trim_start_matches('0').to_owned();
        (digits.is_empty(), significant.len(), significant)
    };
    number(a).cmp(&number(b)).then_with(|| a.cmp(b))
}

/// Every SQL file below `root`, hidden ones left out, as paths below it.
pub(super) fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut open = vec![PathBuf::new()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        let whole = root.join(&folder);
        for entry in std::fs::read_dir(&whole).map_err(|e| Error::read(&whole, e))? {
            let entry = entry.map_err(|e| Error::read(&whole, e))?;
            let path = folder.join(entry.file_name());
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            // Through links, too: a folder of migrations may be put together of them.
            if root.join(&path).is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "sql") {
                found.push(path);
            }
        }
    }
    Ok(found)
}
