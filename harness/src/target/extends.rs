//! A target file that stands upon another one.

use std::path::Path;

use crate::error::{Error, Result};

/// Files that one may stand upon: more are a circle.
pub(super) const EXTENDS_MAX: u8 = 8;

/// The target file at `path` upon the one it `extends`, if it does: tables are merged, all else takes its place.
pub(super) fn whole(path: &Path, deeper: u8) -> Result<toml::Table> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
    let wrong = |e: toml::de::Error| Error::Usage(format!("target file {}: {e}", path.display()));
    let mut own: toml::Table = text.parse().map_err(wrong)?;
    let Some(base) = own.remove("extends") else { return Ok(own) };
    let base = base.as_str().map(|name| path.with_file_name(name)).filter(|_| deeper > 0);
    let base = base.ok_or_else(|| {
        Error::Usage(format!(
            "target file {}: `extends` names another target file beside it, and none in a circle",
            path.display()
        ))
    })?;
    let mut whole = whole(&base, deeper - 1)?;
    lay_over(&mut whole, own);
    Ok(whole)
}

fn lay_over(below: &mut toml::Table, above: toml::Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => lay_over(below, above),
            (_, value) => drop(below.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::target::file::{REFERENCE, TargetFile};

    #[test]
    fn a_file_that_extends_another_changes_only_what_it_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        write("base.toml", REFERENCE);
        write("own.toml", "extends = 'base.toml'\nname = 'own'\n[plant]\nafter = ['true']\n[launch.env]\nMORE = '1'\n");
        let (base, own) = (TargetFile::load(None), TargetFile::load(Some(&folder.path().join("own.toml"))));
        let (base, own) = (base.expect("the reference"), own.expect("upon it"));
        assert_eq!((own.name.as_str(), own.plant.after.as_slice()), ("own", &["true".to_string()][..]));
        assert_eq!(own.plant.table.len(), base.plant.table.len());
        let env = |file: &TargetFile| file.launch.as_ref().map_or(0, |launch| launch.env.len());
        assert_eq!(env(&own), env(&base) + 1);
        write("round.toml", "extends = 'self.toml'");
        for (text, says) in [
            ("extends = 'none.toml'", "none.toml"),
            ("extends = 'self.toml'", "beside it"),
            ("extends = 1", "beside it"),
            ("extends = 'round.toml'", "in a circle"),
            ("extends = 'base.toml'\nnmae = 'x'", "did you mean `name`"),
        ] {
            write("self.toml", text);
            let error = TargetFile::load(Some(&folder.path().join("self.toml"))).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
