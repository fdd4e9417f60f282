//! A folder of migrations, guarded after each of its steps: what is wrong at the end, what was wrong in between, and the
//! statement that each comes from.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Catalog;
use super::config::Config;
use super::finding::{Finding, Object};
use super::report::Report;
use super::review::conclude;
use super::tenancy::Tenancy;
use crate::error::Result;
use crate::migration::{Folder, Origins, Place, Stage, windows};
use crate::requirement::Severity;
use crate::target::database::{close, connect};

/// A folder that has been applied.
struct Applied {
    /// What the catalogs say after each step.
    after: Vec<Catalog>,
    /// Where everything comes from.
    origins: Origins,
    /// What no migration makes and was made for them.
    presumed: Vec<String>,
}

/// What one finding is of: its rule and its object.
type Key = (String, Object);

/// Reviews what `folder` makes of the empty database at `url`, and what there is after each of its steps. `named` are the
/// application's roles, if they were told.
///
/// # Errors
/// A statement that the server refuses, with its file and line; a role that was told is not there.
pub async fn review(
    folder: &Folder,
    url: &str,
    config: &Config,
    named: &[String],
) -> Result<(Catalog, Tenancy, Report)> {
    let applied = apply(folder, url).await?;
    let mut connection = connect(url).await?;
    let (catalog, tenancy, mut report) = super::review::review(&mut connection, config, named).await?;
    super::prove::prove(&mut connection, &catalog, &tenancy, &mut report).await?;
    close(connection).await?;
    report.database = folder.root.display().to_string();
    let number = folder.migrations.len();
    report.notes.push(format!("{number} migrations were applied in the order of {} files", folder.layout.word()));
    if !applied.presumed.is_empty() {
        let made = applied.presumed.join(", ");
        report.notes.push(format!("no migration makes these, and they were made for them: {made}"));
    }
    add_steps(&mut report, folder, &applied, config)?;
    Ok((catalog, tenancy, report))
}

/// Takes the empty database at `url` through `folder`; what its catalogs say after each step, and where things come from.
async fn apply(folder: &Folder, url: &str) -> Result<Applied> {
    let mut stage = Stage::open(folder, url).await?;
    let mut after = Vec::new();
    while stage.step().await?.is_some() {
        let mut connection = connect(url).await?;
        after.push(Catalog::read(&mut connection).await?);
        close(connection).await?;
    }
    Ok(Applied { after, origins: stage.origins().clone(), presumed: stage.presumed() })
}

/// Adds to `report`, which is of the end, what the steps on the way say: the windows, and where everything comes from.
fn add_steps(report: &mut Report, folder: &Folder, applied: &Applied, config: &Config) -> Result<()> {
    // Who is the application is decided at the end: half-way there a role may lack what tells it from others.
    let application: Vec<String> = report.application_roles.iter().map(|role| role.name.clone()).collect();
    let mut steps: Vec<BTreeMap<Key, Finding>> = Vec::new();
    for catalog in &applied.after {
        let here: Vec<String> = application.iter().filter(|name| catalog.role_named(name).is_some()).cloned().collect();
        // What the configuration names may not be there yet: then nothing is there to guard.
        let tenancy = (!here.is_empty()).then(|| Tenancy::read(catalog, config, &here).ok()).flatten();
        let found = tenancy.map(|tenancy| conclude(catalog, &tenancy)).transpose()?;
        let found = found.into_iter().flat_map(|report| report.findings);
        steps.push(
            found.filter(|f| f.severity != Severity::Info).map(|f| ((f.rule.clone(), f.object.clone()), f)).collect(),
        );
    }
    for finding in &mut report.findings {
        finding.place = place(&applied.origins, finding).map(|place| below(folder, place));
    }
    let keys: Vec<BTreeSet<Key>> = steps.iter().map(|found| found.keys().cloned().collect()).collect();
    for window in windows(&keys) {
        let mut finding = steps[window.opened][&window.what].clone();
        let file = |at: usize| folder.root.join(&folder.migrations[at].path);
        finding.evidence.push(format!(
            "a window: so from {} until {}, and to be seen by whoever is served in between",
            file(window.opened).display(),
            file(window.closed).display()
        ));
        finding.place = Some(Place { file: file(window.opened), line: 1 });
        report.findings.push(finding);
    }
    report.sort();
    Ok(())
}

/// The statement that a finding comes from: of a policy's weakness the policy, of another's the object itself.
fn place<'o>(origins: &'o Origins, finding: &Finding) -> Option<&'o Place> {
    let (schema, label) = (finding.object.schema.as_deref(), finding.object.name.as_str());
    // Functions are labelled with their arguments.
    let name = label.split_once('(').map_or(label, |(name, _)| name);
    let told = |part: &str| {
        let mut lines = finding.evidence.iter().chain([&finding.sentence]);
        lines.any(|line| line.split([' ', ':', ',', ';']).any(|word| word == part))
    };
    let of_part = || origins.of_part(schema, name, told);
    let policies = || finding.rule.starts_with("policy/").then(|| origins.of_policies(schema, name)).flatten();
    of_part().or_else(policies).or_else(|| origins.of(schema, name)).or_else(|| origins.of(schema, label))
}

fn below(folder: &Folder, place: &Place) -> Place {
    Place { file: folder.root.join(&place.file), line: place.line }
}

#[cfg(test)]
mod tests;
