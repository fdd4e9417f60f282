//! Guard and probe on every wall of the corpus: the mutant is told and the twin is not accused.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context;
use partywall::campaign::Interrupt;
use partywall::error::Error;
use partywall::guard::config::Config;
use partywall::guard::folder;
use partywall::guard::prove::prove;
use partywall::guard::review::review;
use partywall::migration::Folder;
use partywall::probe::{Asked, Mode, Probe};
use partywall::requirement::Severity;
use partywall::seed::Seed;
use partywall::target::database::{close, connect};
use partywall_tests::walls::{Ground, Side, Wall};

/// What guard leaves to the probe: what a document says, or a trigger.
const LEFT_TO_PROBE: [&str; 3] = ["queue-payload", "trigger-unique-over-tenants", "trigger-wrong-tenant"];

/// Parts that the corpus is tried in.
const PARTS: usize = 3;

/// What is said of one side: rule or requirement, object, sentence.
type Said = BTreeSet<(String, String, String)>;

fn role(wall: &Wall) -> anyhow::Result<String> {
    wall.role.clone().map_or_else(|| wall.base().map(|base| base.role), Ok)
}

/// What guard says where it is told the application's role.
async fn guarded(ground: &Ground, wall: &Wall, side: Side) -> anyhow::Result<Said> {
    let mut connection = connect(&ground.put(wall, side).await?).await?;
    let (catalog, tenancy, mut report) = review(&mut connection, &Config::default(), &[role(wall)?]).await?;
    prove(&mut connection, &catalog, &tenancy, &mut report).await?;
    close(connection).await?;
    let violations = report.findings.into_iter().filter(|finding| finding.severity != Severity::Info);
    let told = violations.map(|f| (f.rule, f.object.label(), format!("{} ({})", f.sentence, f.certainty.word())));
    Ok(told.collect())
}

/// What probe says, on a copy and as that role.
async fn probed(ground: &Ground, wall: &Wall, side: Side) -> anyhow::Result<Said> {
    let reports = tempfile::tempdir()?;
    let url = ground.put(wall, side).await?;
    let probe = Probe {
        asked: Asked { url, role: role(wall)?, as_url: None, mode: Mode::Auto, owned: None },
        contexts: Vec::new(),
        config: Config::default(),
        seed: Seed(1),
        cases: 20,
        reports: reports.path().into(),
        reproduce: String::new(),
    };
    let ended = match probe.run(Arc::new(|_| {}), Interrupt::default()).await {
        // It cannot tell whose rows these are, and says so: tenants in schemas of their own have no column.
        Err(Error::Usage(_)) => return Ok(Said::new()),
        ended => ended.with_context(|| format!("probe of the {side:?} side"))?,
    };
    let findings = ended.judgement.findings.into_iter();
    Ok(findings.map(|finding| (finding.requirement, finding.subject, finding.sentence)).collect())
}

/// Guard over everything; probe over every twin, and over the mutants that guard does not tell.
async fn each_mutant_is_told_and_no_twin_is_accused(part: usize) {
    let ground = Ground::start().await.expect("a Postgres");
    let (mut unread, mut missed, mut accused) = (Vec::new(), Vec::new(), Vec::new());
    let walls = ground.walls().expect("the corpus");
    assert!(walls.len() >= 60, "{} walls", walls.len());
    let of_part = || walls.iter().skip(part).step_by(PARTS);
    for wall in of_part() {
        let failed = |e: anyhow::Error| -> Said { panic!("{}: {e:#}", wall.id) };
        let sound = guarded(&ground, wall, Side::Sound).await.unwrap_or_else(failed);
        let acted = probed(&ground, wall, Side::Sound).await.unwrap_or_else(failed);
        let read = guarded(&ground, wall, Side::Mutant).await.unwrap_or_else(failed);
        if read.is_subset(&sound) {
            unread.push(wall.id.as_str());
            if probed(&ground, wall, Side::Mutant).await.unwrap_or_else(failed).is_subset(&acted) {
                missed.push(wall.id.as_str());
            }
        }
        let said = sound.union(&acted);
        accused.extend(said.map(|(rule, object, sentence)| format!("{}: {rule} {object}: {sentence}", wall.id)));
    }
    ground.clear().await.expect("cleared");
    assert!(accused.is_empty(), "accused, of {} walls:\n  {}", walls.len(), accused.join("\n  "));
    assert!(missed.is_empty(), "missed, of {} walls: {}", walls.len(), missed.join(", "));
    let left: Vec<&str> = of_part().map(|wall| wall.id.as_str()).filter(|id| LEFT_TO_PROBE.contains(id)).collect();
    assert_eq!(unread, left, "missed by guard, of {} walls", walls.len());
}

macro_rules! parts {
    ($($name:ident: $part:literal;)+) => {
        $(#[tokio::test]
        async fn $name() {
            each_mutant_is_told_and_no_twin_is_accused($part).await;
        })+

        #[test]
        fn no_part_of_the_corpus_is_left_out() {
            assert!((0..PARTS).eq([$($part),+]));
        }
    };
}

// Beside each other they take less than one after the other.
parts! {
    a_third_of_the_mutants_are_told_and_no_twin_is_accused: 0;
    another_third_of_the_mutants_are_told_and_no_twin_is_accused: 1;
    the_last_third_of_the_mutants_are_told_and_no_twin_is_accused: 2;
}

/// Every requirement of the probe names mutants, and is what the probe tells of each of them.
#[tokio::test]
async fn what_breaks_each_requirement_of_the_probe_is_told_as_that() {
    let ground = Ground::start().await.expect("a Postgres");
    let walls = ground.walls().expect("the corpus");
    for requirement in partywall::probe::requirements().expect("the catalogue") {
        assert!(!requirement.mutants.is_empty(), "{} names no mutant", requirement.id);
        for wall in walls.iter().filter(|wall| requirement.mutants.contains(&wall.id)) {
            let said = probed(&ground, wall, Side::Mutant).await.expect("a probe");
            assert!(said.iter().any(|(id, _, _)| *id == requirement.id), "{} on {}: {said:?}", requirement.id, wall.id);
        }
    }
    ground.clear().await.expect("cleared");
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
