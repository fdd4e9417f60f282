//! Guard on every wall of the corpus: the mutant is told and the twin is not accused.

use std::collections::BTreeSet;

use partywall::guard::config::Config;
use partywall::guard::folder;
use partywall::guard::review::review;
use partywall::migration::Folder;
use partywall::requirement::Severity;
use partywall::target::database::{close, connect};
use partywall_tests::walls::{Ground, Side, Wall, all};

/// What guard says of one side, as an application role's owner would ask it: rule, object, sentence.
async fn said(ground: &Ground, wall: &Wall, side: Side) -> anyhow::Result<BTreeSet<(String, String, String)>> {
    let url = ground.put(wall, side).await?;
    let role = wall.role.clone().map_or_else(|| wall.base().map(|base| base.role), Ok)?;
    let mut connection = connect(&url).await?;
    let (_, _, report) = review(&mut connection, &Config::default(), &[role]).await?;
    close(connection).await?;
    let violations = report.findings.into_iter().filter(|finding| finding.severity != Severity::Info);
    let told = violations.map(|f| (f.rule, f.object.label(), format!("{} ({})", f.sentence, f.certainty.word())));
    Ok(told.collect())
}

#[tokio::test]
async fn every_mutant_is_told_and_no_twin_is_accused() {
    let ground = Ground::start().await.expect("a Postgres");
    let (mut missed, mut accused, mut told) = (Vec::new(), Vec::new(), 0);
    let walls = all().expect("the corpus");
    for wall in &walls {
        let of = async |side| said(&ground, wall, side).await.unwrap_or_else(|e| panic!("{}: {e:#}", wall.id));
        let (mutant, sound) = (of(Side::Mutant).await, of(Side::Sound).await);
        accused
            .extend(sound.iter().map(|(rule, object, sentence)| format!("{}: {rule} {object}: {sentence}", wall.id)));
        match mutant.difference(&sound).next() {
            Some(_) => told += 1,
            None => missed.push(format!("{}: {}", wall.id, wall.sentence)),
        }
    }
    ground.clear().await.expect("cleared");
    assert!(walls.len() >= 60, "{} walls", walls.len());
    assert!(
        missed.is_empty() && accused.is_empty(),
        "{told} of {} told\nmissed:\n  {}\naccused:\n  {}",
        walls.len(),
        missed.join("\n  "),
        accused.join("\n  ")
    );
}

/// The reference's own migrations, with one more file of these statements.
async fn migrated(more: Option<&str>) -> anyhow::Result<Vec<String>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let config = Config::load(Some(&root.join("partywall.toml")))?;
    let mut folder = Folder::read(&root.join("migrations"))?;
    folder.search_paths = config.migrations.search_path.clone();
    if let Some(sql) = more {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("9999_more.sql"), sql)?;
        folder.migrations.extend(Folder::read(dir.path())?.migrations);
    }
    let ground = Ground::start().await?;
    ground.postgres.create_database("reference").await?;
    let url = ground.postgres.admin_url_for("reference");
    let (_, _, report) = folder::review(&folder, &url, &config, &[]).await?;
    let violations = report.findings.iter().filter(|finding| finding.severity != Severity::Info);
    let told = violations.map(|f| (f, f.place.as_ref().map(ToString::to_string).unwrap_or_default()));
    Ok(told.map(|(f, place)| format!("{} {} {place}", f.rule, f.object.label())).collect())
}

#[tokio::test]
async fn the_migrations_of_the_reference_are_sound_and_a_hole_in_them_is_told() {
    assert_eq!(migrated(None).await.expect("reviewed"), Vec::<String>::new());
    let hole = "SET ROLE audit_owner;\nALTER TABLE shared.events DISABLE ROW LEVEL SECURITY;\n";
    let told = migrated(Some(hole)).await.expect("reviewed");
    assert!(told.iter().any(|one| one.contains(" shared.events ") && one.ends_with("9999_more.sql:2")), "{told:?}");
}
