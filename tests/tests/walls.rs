//! Guard on every wall of the corpus: the mutant is told and the twin is not accused.

use std::collections::BTreeSet;

use partywall::guard::config::Config;
use partywall::guard::review::review;
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
        accused.extend(sound.iter().map(|(rule, object, sentence)| format!("{}: {rule} {object}: {sentence}", wall.id)));
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
