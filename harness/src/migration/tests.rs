use std::path::Path;

use super::*;
use crate::postgres::{Options, Postgres, Source};
use crate::target::database::connect;

fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    let read = Folder::read(dir.path()).expect("read");
    (dir, read)
}

#[track_caller]
fn check(layout: Layout, files: &[&str], order: &[&str]) {
    let files: Vec<(&str, &str)> = files.iter().map(|name| (*name, "SELECT 1;")).collect();
    let (_dir, read) = folder(&files);
    assert_eq!(read.layout, layout);
    let names: Vec<String> = read.migrations.iter().map(|m| m.path.display().to_string()).collect();
    assert_eq!(names, order);
}

#[test]
fn every_tool_has_its_order() {
    check(Layout::Numbered, &["10_c.sql", "9_b.sql", "0001_a.sql"], &["0001_a.sql", "9_b.sql", "10_c.sql"]);
    check(
        Layout::Numbered,
        &["000002_b.up.sql", "000002_b.down.sql", "000001_a.up.sql", "000001_a.down.sql"],
        &["000001_a.up.sql", "000002_b.up.sql"],
    );
    check(
        Layout::Flyway,
        &["V2__b.sql", "V10__d.sql", "V2.1__c.sql", "R__view.sql", "U2__b.sql", "V1__a.sql", "beforeMigrate.sql"],
        &["V1__a.sql", "V2__b.sql", "V2.1__c.sql", "V10__d.sql", "R__view.sql"],
    );
    check(
        Layout::Prisma,
        &["20260202_b/migration.sql", "20260101_a/migration.sql"],
        &["20260101_a/migration.sql", "20260202_b/migration.sql"],
    );
    check(Layout::Plain, &["views.sql", "tables.sql"], &["tables.sql", "views.sql"]);
}

#[test]
fn a_subfolder_comes_after_its_folder() {
    check(
        Layout::Numbered,
        &["tenant/0001_rows.sql", "0002_later.sql", "0001_first.sql"],
        &["0001_first.sql", "0002_later.sql", "tenant/0001_rows.sql"],
    );
}

#[test]
fn supabase_is_known_by_where_its_folder_lies() {
    let dir = tempfile::tempdir().expect("a folder");
    let place = dir.path().join("supabase/migrations");
    std::fs::create_dir_all(&place).expect("made");
    std::fs::write(place.join("20260101000000_a.sql"), "SELECT 1").expect("written");
    assert_eq!(Folder::read(&place).expect("read").layout, Layout::Supabase);
}

#[test]
fn statements_end_where_postgres_ends_them() {
    let text = "-- why; a semicolon\nCREATE TABLE a (x text DEFAULT ';');\n\nCREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $é$\nBEGIN\n  RETURN 1;\nEND $é$;\n/* ; */ CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 'é'; SELECT 3";
    let (_dir, read) = folder(&[("1.sql", text)]);
    let found: Vec<(u64, &str)> =
        read.migrations[0].statements.iter().map(|s| (s.line, s.sql.split('(').next().unwrap_or_default())).collect();
    assert_eq!(
        found,
        [
            (2, "CREATE TABLE a "),
            (4, "CREATE FUNCTION f"),
            (8, "CREATE FUNCTION g"),
            (8, "SELECT 'é'"),
            (8, "SELECT 3")
        ]
    );
}

#[test]
fn only_the_way_forward_is_read() {
    for back in ["-- migrate:down", "-- +goose Down"] {
        let (_dir, read) = folder(&[("1.sql", &format!("CREATE TABLE a ();\n{back}\nDROP TABLE a;\n"))]);
        assert_eq!(read.migrations[0].statements.len(), 1, "{back}");
    }
}

#[test]
fn a_file_may_refuse_a_transaction() {
    let (_dir, read) = folder(&[
        ("1.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY i ON t (a);"),
        ("2.sql", "SELECT '-- no-transaction';"),
    ]);
    let taken: Vec<bool> = read.migrations.iter().map(|m| m.transactional).collect();
    assert_eq!(taken, [false, true]);
}

#[test]
fn what_is_not_sql_is_named_with_its_line() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("1.sql"), "SELECT 1;\n\\i other.sql\n").expect("written");
    let why = Folder::read(dir.path()).expect_err("no SQL").to_string();
    assert!(why.contains("1.sql:2: `\\i other.sql`"), "{why}");
    let empty = tempfile::tempdir().expect("a folder");
    let why = Folder::read(empty.path()).expect_err("nothing").to_string();
    assert!(why.contains("no migration"), "{why}");
    assert!(Folder::read(Path::new("absent")).is_err());
}

/// Takes `files` through a fresh database; what `ask` answers there, and the stage.
async fn staged(folder: &Folder, ask: &str) -> (Vec<String>, Origins, Vec<String>) {
    let postgres = Postgres::start(&Source::Auto, &Options::default()).await.expect("a Postgres");
    postgres.create_database("stage").await.expect("a database");
    let url = postgres.admin_url_for("stage");
    let mut stage = Stage::open(folder, &url).await.expect("open");
    while stage.step().await.expect("a step").is_some() {}
    let mut connection = connect(&url).await.expect("connected");
    let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(ask)).fetch_all(&mut connection).await.expect("rows");
    (rows, stage.origins().clone(), stage.presumed())
}

#[tokio::test]
async fn each_object_comes_from_the_statement_that_last_altered_it() {
    let (_dir, read) = folder(&[
        (
            "1.sql",
            "CREATE TABLE a (tenant int);\nCREATE TABLE b (tenant int);\n\nCREATE POLICY own ON a USING (tenant = 1);\n\
             CREATE FUNCTION f() RETURNS int RETURN 1;\nCREATE INDEX ON b (tenant);\nCREATE VIEW v AS SELECT 1 AS x;\n\
             CREATE ROLE \"Worker\";",
        ),
        (
            "2.sql",
            "DO $$ BEGIN\n  EXECUTE 'ALTER TABLE b ENABLE ROW LEVEL SECURITY';\nEND $$;\nGRANT SELECT (tenant) ON a TO web;\n\
             CREATE OR REPLACE VIEW v AS SELECT 2 AS x;",
        ),
        ("sub/1.sql", "CREATE TABLE c ();"),
    ]);
    let ask = "SELECT rolname || rolcanlogin FROM pg_roles WHERE rolname = 'web'";
    let (rows, origins, presumed) = staged(&read, ask).await;
    assert_eq!(rows, ["webtrue"], "a role that migrations presume is made");
    assert_eq!(presumed, ["role web"]);
    let told = |place: Option<&Place>| place.map(ToString::to_string).unwrap_or_default();
    assert_eq!(told(origins.of(Some("public"), "a")), "2.sql:4");
    assert_eq!(told(origins.of(Some("public"), "b")), "2.sql:1");
    assert_eq!(told(origins.of(Some("public"), "c")), "sub/1.sql:1");
    assert_eq!(told(origins.of(Some("public"), "v")), "2.sql:5", "a view is altered by its query");
    assert_eq!(told(origins.of(Some("public"), "f")), "1.sql:5");
    assert_eq!(told(origins.of_policies(Some("public"), "a")), "1.sql:4");
    assert_eq!(told(origins.of_part(Some("public"), "b", |part| part == "b_tenant_idx")), "1.sql:6");
    assert_eq!(told(origins.of(None, "web")), "", "no file made it");
    assert_eq!(told(origins.of(None, "Worker")), "1.sql:8");
}

#[tokio::test]
async fn what_tools_presume_is_there() {
    let (_dir, mut read) = folder(&[
        ("1_a.sql", "CREATE SCHEMA own;\nGRANT SELECT (version) ON _sqlx_migrations TO PUBLIC;"),
        ("2_b.sql", "-- no-transaction\nCREATE TABLE t (a int);\nCREATE INDEX CONCURRENTLY i ON t (a);"),
        ("rows/1_c.sql", "BEGIN;\nCREATE TABLE placed ();\nCOMMIT;\nCREATE TABLE then_too ();"),
    ]);
    read.search_paths.insert("rows".into(), "own, public".into());
    let ask = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'own'::regnamespace ORDER BY 1";
    let (rows, _, presumed) = staged(&read, ask).await;
    assert_eq!(rows, ["own.placed", "own.then_too"], "a subfolder's path is its own");
    assert_eq!(presumed, ["record _sqlx_migrations"]);
}

#[tokio::test]
async fn supabase_has_its_roles_and_claims() {
    let dir = tempfile::tempdir().expect("a folder");
    let place = dir.path().join("supabase/migrations");
    std::fs::create_dir_all(&place).expect("made");
    let text = "create table notes (user_id uuid references auth.users (id));\n\
                create policy own on notes to authenticated using (user_id = (select auth.uid()));";
    std::fs::write(place.join("20260101000000_notes.sql"), text).expect("written");
    let ask = "SELECT has_table_privilege('anon', 'notes', 'SELECT')::text";
    let (rows, origins, presumed) = staged(&Folder::read(&place).expect("read"), ask).await;
    assert_eq!((rows, presumed), (vec!["true".to_owned()], vec![]), "new tables are granted, as there");
    assert_eq!(origins.of(Some("auth"), "users").map(|p| p.line), Some(1), "a foreign key alters both tables");
}

#[tokio::test]
async fn a_statement_that_is_refused_is_named_with_its_file_and_line() {
    let (_dir, read) = folder(&[("1.sql", "CREATE TABLE a ();\n\nALTER TABLE absent ADD COLUMN x int;")]);
    let postgres = Postgres::start(&Source::Auto, &Options::default()).await.expect("a Postgres");
    let mut stage = Stage::open(&read, &postgres.admin_url_for("postgres")).await.expect("open");
    let why = stage.step().await.expect_err("refused").to_string();
    assert!(why.contains("1.sql:3: the server refuses this statement: relation \"absent\""), "{why}");
}
