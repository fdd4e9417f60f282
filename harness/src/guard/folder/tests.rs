use super::*;
use crate::postgres::{Options, Postgres, Source};

const TABLE: &str = "CREATE ROLE web LOGIN;\nCREATE TABLE tenants (id uuid PRIMARY KEY);\n\
    CREATE TABLE notes (tenant_id uuid NOT NULL REFERENCES tenants, id int, PRIMARY KEY (tenant_id, id));\n";
const GRANT: &str = "GRANT SELECT ON notes TO web;\n";
const WALL: &str = "ALTER TABLE notes ENABLE ROW LEVEL SECURITY;\nALTER TABLE notes FORCE ROW LEVEL SECURITY;\n\
    CREATE POLICY own ON notes\n  USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);\n";

/// What is found in a folder of these files: rule, object and place; and all evidence.
async fn found(files: &[(&str, String)]) -> (Vec<(String, String, String)>, String) {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("written");
    }
    let postgres = Postgres::start(&Source::Auto, &Options::default()).await.expect("a Postgres");
    postgres.create_database("folder").await.expect("a database");
    let folder = Folder::read(dir.path()).expect("read");
    let url = postgres.admin_url_for("folder");
    let (_, _, report) = review(&folder, &url, &Config::default(), &["web".into()]).await.expect("reviewed");
    let violations = report.findings.iter().filter(|finding| finding.severity != Severity::Info);
    let told = violations.map(|finding| {
        let place = finding.place.as_ref().expect("a place");
        let file = place.file.strip_prefix(dir.path()).expect("below the folder").display();
        (finding.rule.clone(), finding.object.label(), format!("{file}:{}", place.line))
    });
    let evidence = report.findings.iter().flat_map(|finding| finding.evidence.clone());
    (told.collect(), evidence.collect::<Vec<_>>().join("\n"))
}

fn one(rule: &str, object: &str, place: &str) -> Vec<(String, String, String)> {
    vec![(rule.into(), object.into(), place.into())]
}

#[tokio::test]
async fn a_wall_in_the_same_step_is_no_finding() {
    let (told, _) = found(&[("1.sql", [TABLE, GRANT, WALL].concat())]).await;
    assert_eq!(told, []);
    let (told, _) = found(&[("1.sql", TABLE.into()), ("2.sql", WALL.into()), ("3.sql", GRANT.into())]).await;
    assert_eq!(told, [], "who may not read it sees nothing meanwhile");
}

#[tokio::test]
async fn a_wall_that_comes_a_step_later_leaves_a_window() {
    let (told, evidence) = found(&[("1.sql", [TABLE, GRANT].concat()), ("2.sql", WALL.into())]).await;
    assert_eq!(told, one("schema/row-security-off", "public.notes", "1.sql:1"));
    assert!(evidence.contains("a window") && evidence.contains("2.sql"), "{evidence}");
}

#[tokio::test]
async fn a_hole_names_the_statement_that_made_it() {
    let whole = [TABLE, GRANT, WALL].concat();
    let hole = "SELECT 1;\n\nALTER TABLE notes\n  DISABLE ROW LEVEL SECURITY;\n";
    let (told, _) = found(&[("1.sql", whole.clone()), ("2.sql", hole.into())]).await;
    assert_eq!(told, one("schema/row-security-off", "public.notes", "2.sql:3"));
    let wide = "CREATE POLICY wide ON notes USING (true);\nALTER TABLE notes ADD COLUMN body text;\n";
    let (told, _) = found(&[("1.sql", whole), ("2.sql", wide.into())]).await;
    let places: Vec<&str> = told.iter().map(|(_, _, place)| place.as_str()).collect();
    assert!(!told.is_empty() && places.iter().all(|place| *place == "2.sql:1"), "the policy, not the table: {told:?}");
}
