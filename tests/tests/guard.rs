//! Guard on the corpus of walls, and on the reference: every defect that a catalog shows is told, and nothing else.

use partywall::exit_code::ExitCode;
use partywall::guard::Report;
use partywall::guard::config::Config;
use partywall::guard::prove::prove;
use partywall::guard::review::review;
use partywall::postgres::{Options, Postgres, Source};
use partywall::requirement::Severity;
use partywall::target::database::{close, connect};
use partywall_tests::walls::{Ground, Side};

/// What guard leaves to the probe: what a document says, or a trigger.
const LEFT_TO_PROBE: [&str; 3] = ["queue-payload", "trigger-unique-over-tenants", "trigger-wrong-tenant"];

async fn guard(url: &str, roles: &[String]) -> Report {
    let mut connection = connect(url).await.expect("a connection");
    let (catalog, tenancy, mut report) = review(&mut connection, &Config::default(), roles).await.expect("a review");
    prove(&mut connection, &catalog, &tenancy, &mut report).await.expect("answers");
    close(connection).await.expect("closed");
    report
}

fn told(report: &Report) -> Vec<String> {
    let findings = report.findings.iter().filter(|finding| finding.severity != Severity::Info);
    findings.map(|finding| format!("{} {}", finding.rule, finding.object.label())).collect()
}

#[tokio::test]
async fn every_wall_with_a_defect_is_told_from_its_sound_twin() {
    let ground = Ground::start().await.expect("a Postgres");
    let (mut missed, mut alarms, mut tried) = (Vec::new(), Vec::new(), 0);
    for wall in ground.walls().expect("the corpus") {
        let roles = [wall.role.clone().unwrap_or(wall.base().expect("a base").role)];
        for side in [Side::Sound, Side::Mutant] {
            let url = ground.put(&wall, side).await.expect("the wall");
            let found = told(&guard(&url, &roles).await);
            match side {
                Side::Sound if !found.is_empty() => alarms.push(format!("{}: {}", wall.id, found.join(", "))),
                Side::Mutant if found.is_empty() => missed.push(wall.id.clone()),
                _ => {}
            }
        }
        tried += 1;
    }
    ground.clear().await.expect("cleared");
    ground.postgres.stop().await;
    assert!(tried >= 60, "{tried} walls");
    assert!(alarms.is_empty(), "false alarms:\n{}", alarms.join("\n"));
    assert_eq!(missed, LEFT_TO_PROBE, "of {tried} walls");
}

#[tokio::test]
async fn the_reference_has_no_findings() {
    let postgres = Postgres::start(&Source::Auto, &Options::default()).await.expect("a Postgres");
    postgres.create_database("reference").await.expect("a database");
    let url = postgres.admin_url_for("reference");
    partywall_reference::serve::migrate(&url).await.expect("migrated");
    let report = guard(&url, &[]).await;
    let roles: Vec<&str> = report.application_roles.iter().map(|role| role.name.as_str()).collect();
    assert_eq!(roles, ["audit_app", "audit_worker"]);
    assert_eq!(told(&report), Vec::<String>::new());
    assert_eq!((report.exit_code(), report.tenant_tables.len() > 20), (ExitCode::Upheld, true));
    postgres.stop().await;
}
