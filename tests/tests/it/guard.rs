//! Guard on the reference: nothing is told of it.

use partywall::exit_code::ExitCode;
use partywall::guard::Report;
use partywall::guard::config::Config;
use partywall::guard::prove::prove;
use partywall::guard::review::review;
use partywall::postgres::{Options, Postgres, Source};
use partywall::requirement::Severity;
use partywall::target::database::{close, connect};

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
