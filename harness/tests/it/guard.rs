//! Guard on real databases: odd names, what cannot be read, and what a team lives with. Defects and their sound twins
//! are in `scenarios/walls`.

use partywall::exit_code::ExitCode;
use partywall::guard::catalog::{Catalog, Command, Kind, Privilege};
use partywall::guard::config::Config;
use partywall::guard::prove::prove;
use partywall::guard::review::review;
use partywall::guard::tenancy::Tenancy;
use partywall::guard::{Certainty, Finding};
use partywall::postgres::{Options, Postgres, Source};
use partywall::target::copy::execute;
use partywall::target::database::connect;

async fn read(postgres: &Postgres, database: &str, setup: &str) -> Catalog {
    postgres.create_database(database).await.expect("a database");
    let mut connection = connect(&postgres.admin_url_for(database)).await.expect("a connection");
    execute(&mut connection, setup).await.expect("the schema");
    Catalog::read(&mut connection).await.expect("the catalogs")
}

#[tokio::test]
async fn the_catalogs_are_read_whatever_the_names() {
    let postgres = Postgres::start(&Source::Installed, &Options::default()).await.expect("a Postgres");
    let long = "ü".repeat(31);
    let catalog = read(
        &postgres,
        "names",
        &format!(
            r#"CREATE ROLE "the ""owner""" NOLOGIN; CREATE ROLE "app·1" LOGIN; CREATE ROLE reader NOLOGIN; GRANT reader TO "app·1";
               CREATE SCHEMA "S.1" AUTHORIZATION "the ""owner"""; GRANT USAGE ON SCHEMA "S.1" TO "app·1"; SET ROLE "the ""owner""";
               CREATE TABLE "S.1"."{long}" ("tenant ""id""" uuid NOT NULL, v int, PRIMARY KEY ("tenant ""id""", v)) PARTITION BY LIST (v);
               CREATE TABLE "S.1".one PARTITION OF "S.1"."{long}" FOR VALUES IN (1);
               ALTER TABLE "S.1"."{long}" ENABLE ROW LEVEL SECURITY;
               CREATE POLICY "p'" ON "S.1"."{long}" FOR SELECT TO reader USING ("tenant ""id""" = current_setting('a.b')::uuid);
               GRANT SELECT ON "S.1"."{long}" TO reader; GRANT UPDATE (v) ON "S.1"."{long}" TO PUBLIC;
               CREATE VIEW "S.1".a AS SELECT 1 AS x; CREATE VIEW "S.1".b AS SELECT * FROM "S.1".a;
               CREATE OR REPLACE VIEW "S.1".a AS SELECT x FROM "S.1".b WHERE false;
               CREATE FUNCTION "S.1".f(uuid, b text DEFAULT '', OUT c int) LANGUAGE sql LEAKPROOF AS 'SELECT 1';"#
        )
        .replace("LEAKPROOF ", ""),
    )
    .await;
    let relation = catalog.relations.values().find(|relation| relation.name == long).expect("the table");
    assert_eq!((relation.kind, relation.row_security, relation.columns.len()), (Kind::Partitioned, true, 2));
    assert_eq!(relation.columns[0].name, "tenant \"id\"");
    let app = catalog.role_named("app·1").expect("the role").oid;
    assert!(catalog.may(app, Privilege::Select, relation.oid), "by the role it inherits");
    assert!(!catalog.may(app, Privilege::Update, relation.oid));
    assert!(catalog.may_column(app, Privilege::Update, relation.oid, 2), "by a grant on a column to PUBLIC");
    assert!(!catalog.may_column(app, Privilege::Update, relation.oid, 1));
    assert!(catalog.may_use_schema(app, relation.schema_oid) && !catalog.bypasses(app, relation));
    let policy = catalog.policies_of(relation.oid).next().expect("the policy");
    assert!(catalog.applies(policy, app) && policy.command == Some(Command::Select) && policy.name == "p'");
    let owner = catalog.role_named("the \"owner\"").expect("the owner").oid;
    assert!(catalog.bypasses(owner, relation) && catalog.may(owner, Privilege::Truncate, relation.oid));
    let child = catalog.relations.values().find(|relation| relation.name == "one").expect("the partition");
    assert!(child.is_partition && child.parents == [relation.oid] && !child.row_security);
    let function = catalog.functions.values().find(|function| function.name == "f").expect("the function");
    assert_eq!((function.arguments.as_str(), function.argument_names.len()), ("uuid, text", 2));
    assert_eq!(catalog.reads.values().filter(|read| !read.is_empty()).count(), 2, "views that read each other");
    assert_eq!(catalog.indexes.iter().filter(|index| index.primary && index.columns == [1, 2]).count(), 2);
    postgres.stop().await;
}

#[tokio::test]
async fn what_cannot_be_reviewed_says_why() {
    let postgres = Postgres::start(&Source::Installed, &Options::default()).await.expect("a Postgres");
    let catalog = read(
        &postgres,
        "odd",
        "CREATE ROLE shut LOGIN PASSWORD 'shut'; REVOKE SELECT ON pg_catalog.pg_policy FROM PUBLIC;
         CREATE TABLE t (tenant_id int); GRANT SELECT ON t TO shut; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         CREATE FUNCTION f(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN g($1); END';
         CREATE FUNCTION g(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN f($1); END';
         CREATE POLICY p ON t USING (f(tenant_id));",
    )
    .await;
    let config = Config::default();
    let error = Tenancy::read(&catalog, &config, &["shutt".into()]).expect_err("no such role").to_string();
    assert!(error.contains("unknown database role `shutt`; did you mean `shut`"), "{error}");
    let mut connection = connect(&postgres.admin_url_for("odd")).await.expect("a connection");
    let (_, _, report) = review(&mut connection, &config, &[]).await.expect("functions that call each other end");
    let undecided = report.findings.iter().find(|finding| finding.rule == "policy/undecided").expect("a finding");
    assert_eq!(undecided.certainty, Certainty::Suspected);
    assert_eq!(report.exit_code(), ExitCode::Inconclusive);
    let mut connection = connect(&postgres.url_for("odd", "shut", "shut")).await.expect("a connection");
    let error = review(&mut connection, &config, &[]).await.expect_err("a catalog that may not be read");
    assert_eq!(error.exit_code(), ExitCode::Unreachable);
    assert!(error.to_string().contains("cannot read the database's policies: permission denied"), "{error}");
    postgres.stop().await;
}

#[tokio::test]
async fn suppressions_end_and_an_empty_database_is_no_success() {
    let postgres = Postgres::start(&Source::Installed, &Options::default()).await.expect("a Postgres");
    postgres.create_database("open").await.expect("a database");
    let mut connection = connect(&postgres.admin_url_for("open")).await.expect("a connection");
    let (_, _, report) = review(&mut connection, &Config::default(), &[]).await.expect("a review");
    assert_eq!(report.exit_code(), ExitCode::Inconclusive, "nothing was judged");
    let setup = "CREATE ROLE app LOGIN; CREATE TABLE notes (tenant_id uuid, body text); GRANT SELECT ON notes TO app";
    execute(&mut connection, setup).await.expect("the schema");
    for (expires, code) in [("2999-01-01", ExitCode::Upheld), ("2020-01-01", ExitCode::Violated)] {
        let text = format!(
            "[[suppress]]\nrule = \"schema/row-security-off\"\nobject = \"public.notes\"\nreason = \"moved\"\nexpires = \"{expires}\""
        );
        let config = Config::parse(&text, "partywall.toml").expect("a configuration");
        let (_, _, mut report) = review(&mut connection, &config, &[]).await.expect("a review");
        assert_eq!(report.exit_code(), ExitCode::Violated);
        report.suppress(&config);
        assert_eq!(report.exit_code(), code, "{expires}: {:?}", report.findings);
    }
    postgres.stop().await;
}

/// A schema and a role for each of two tenants, and who may become either.
const SCHEMAS: &str = "CREATE ROLE north NOLOGIN; CREATE ROLE south NOLOGIN; CREATE ROLE desk LOGIN NOINHERIT; GRANT north, south TO desk;
    CREATE SCHEMA firm_north; CREATE SCHEMA firm_south; GRANT USAGE ON SCHEMA firm_north TO north; GRANT USAGE ON SCHEMA firm_south TO south;
    CREATE TABLE firm_north.deals (id int PRIMARY KEY, what text); CREATE TABLE firm_south.deals (id int PRIMARY KEY, what text);
    GRANT SELECT, INSERT ON firm_north.deals TO north; GRANT SELECT, INSERT ON firm_south.deals TO south;";

#[tokio::test]
async fn what_reaches_from_one_tenants_schema_into_anothers_is_told() {
    let postgres = Postgres::start(&Source::Installed, &Options::default()).await.expect("a Postgres");
    postgres.create_database("firms").await.expect("a database");
    let mut connection = connect(&postgres.admin_url_for("firms")).await.expect("a connection");
    execute(&mut connection, SCHEMAS).await.expect("the schemas");
    for (sql, rule) in [
        ("SELECT 1", None),
        ("ALTER ROLE north SET search_path = firm_north", None),
        ("ALTER ROLE north SET search_path = firm_south", Some("role/context-preset")),
        (
            "ALTER ROLE north RESET search_path; ALTER DEFAULT PRIVILEGES IN SCHEMA firm_north GRANT SELECT ON TABLES TO north",
            None,
        ),
        ("GRANT USAGE ON SCHEMA firm_south TO north", None),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO north", Some("role/spans-tenants")),
    ] {
        execute(&mut connection, sql).await.expect(sql);
        let (_, tenancy, report) = review(&mut connection, &Config::default(), &[]).await.expect("a review");
        assert_eq!(tenancy.schemas.len(), 1, "two schemas of the same tables");
        let told: Vec<&str> = report.findings.iter().map(|finding| finding.rule.as_str()).collect();
        assert_eq!(told, rule.into_iter().collect::<Vec<_>>(), "{sql}");
    }
    // Where the tables differ, the configuration says which schemas are tenants'.
    execute(&mut connection, "ALTER TABLE firm_south.deals RENAME TO orders").await.expect("renamed");
    let (_, tenancy, _) = review(&mut connection, &Config::default(), &[]).await.expect("a review");
    assert!(tenancy.schemas.is_empty());
    let config = Config { tenant_schemas: vec!["firm_*".into()], ..Config::default() };
    let (_, _, report) = review(&mut connection, &config, &[]).await.expect("a review");
    assert!(report.findings.iter().any(|finding| finding.rule == "role/spans-tenants"), "{:?}", report.findings);
    postgres.stop().await;
}

#[tokio::test]
async fn what_is_shown_to_a_tenant_that_there_is_not_is_proven() {
    let postgres = Postgres::start(&Source::Installed, &Options::default()).await.expect("a Postgres");
    postgres.create_database("shown").await.expect("a database");
    let mut connection = connect(&postgres.admin_url_for("shown")).await.expect("a connection");
    let setup = "CREATE ROLE app LOGIN; CREATE TABLE notes (tenant_id uuid NOT NULL, body text); CREATE INDEX ON notes (tenant_id);
        ALTER TABLE notes ENABLE ROW LEVEL SECURITY; ALTER TABLE notes FORCE ROW LEVEL SECURITY;
        CREATE POLICY own ON notes USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid); GRANT SELECT ON notes TO app;
        CREATE VIEW every_note AS SELECT tenant_id, body FROM notes; GRANT SELECT ON every_note TO app;
        CREATE FUNCTION notes_of_all() RETURNS SETOF notes LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT * FROM notes';
        CREATE TABLE drafts (tenant_id uuid NOT NULL, body text); GRANT SELECT ON drafts TO app";
    execute(&mut connection, setup).await.expect("the schema");
    let objects = ["public.drafts", "public.every_note", "public.notes_of_all()"];
    for (rows, certainty) in [("0", Certainty::Inferred), ("1", Certainty::Proven)] {
        let fill = format!(
            "INSERT INTO notes SELECT gen_random_uuid(), 'n' FROM generate_series(1, {rows}); INSERT INTO drafts SELECT * FROM notes"
        );
        execute(&mut connection, &fill).await.expect("rows");
        let (catalog, tenancy, mut report) = review(&mut connection, &Config::default(), &[]).await.expect("a review");
        prove(&mut connection, &catalog, &tenancy, &mut report).await.expect("answers");
        for object in objects {
            let about = |finding: &&Finding| finding.object.label() == object && finding.rule != "schema/not-forced";
            let found = report.findings.iter().filter(about).map(|finding| finding.certainty).min();
            assert_eq!(found, Some(certainty), "{rows} rows, {object}: {:?}", report.findings);
        }
    }
    postgres.stop().await;
}
