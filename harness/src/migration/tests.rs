use std::path::Path;

use super::*;

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
