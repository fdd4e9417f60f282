//! The prober on real schemas: each kind of defect is caught, and its sound twin is quiet.

use std::sync::Arc;

use partywall::campaign::Interrupt;
use partywall::exit_code::ExitCode;
use partywall::guard::config::Config;
use partywall::postgres::{Options, Postgres, Source};
use partywall::probe::{Asked, Ended, MARK, Mode, Probe, judge_again};
use partywall::report::probe as report;
use partywall::seed::Seed;
use partywall::target::copy::execute;
use partywall::target::database::{close, connect};

/// What every case begins with: tables with keys of every usual kind, a partitioned one, a view, all walled.
const SOUND: &str = "
CREATE TABLE firms (id uuid PRIMARY KEY, name text NOT NULL);
CREATE TABLE plans (firm uuid NOT NULL REFERENCES firms, id uuid NOT NULL DEFAULT gen_random_uuid(), slug text NOT NULL,
  state text NOT NULL CHECK (state IN ('on', 'off')), code text NOT NULL CHECK (code ~ '^[A-Z]{3}-[0-9]{4}$'),
  PRIMARY KEY (firm, id), UNIQUE (firm, slug), UNIQUE (id));
CREATE TABLE steps (firm uuid NOT NULL REFERENCES firms, id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, plan uuid NOT NULL,
  title varchar(20) NOT NULL, price numeric(8,2) CHECK (price >= 0), more jsonb NOT NULL DEFAULT '{}', FOREIGN KEY (firm, plan) REFERENCES plans);
CREATE VIEW open_steps WITH (security_invoker) AS SELECT * FROM steps;
CREATE TABLE logs (firm uuid NOT NULL, at timestamptz NOT NULL, line text) PARTITION BY RANGE (at);
CREATE TABLE logs_old PARTITION OF logs FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE logs_new PARTITION OF logs FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
DO $$ DECLARE t text; BEGIN
  FOREACH t IN ARRAY ARRAY['firms', 'plans', 'steps', 'logs', 'logs_old', 'logs_new'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY; ALTER TABLE %I FORCE ROW LEVEL SECURITY; CREATE POLICY wall ON %I
      USING (%I = nullif(current_setting(''shop.firm'', true), '''')::uuid); GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO shop',
      t, t, t, CASE t WHEN 'firms' THEN 'id' ELSE 'firm' END, t);
  END LOOP;
END $$;
GRANT SELECT ON open_steps TO shop;";

/// The caller's tenant, as the policies say it.
const CALLER: &str = "nullif(current_setting('shop.firm', true), '')::uuid";

struct Case {
    name: &'static str,
    /// What breaks the wall, and the requirement that it breaks.
    defect: &'static str,
    breaks: &'static str,
    /// The same thing done well.
    twin: &'static str,
}

/// A server with the sound schema as a template.
struct Stage {
    postgres: Postgres,
    reports: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let postgres = Postgres::start(&Source::Installed, &Options::default()).await.expect("a Postgres");
        let stage = Self { postgres, reports: tempfile::tempdir().expect("a folder") };
        let mut sound = format!("CREATE ROLE shop LOGIN PASSWORD 'open-sesame'; {SOUND}");
        if stage.is_old() {
            let (with, without) = ("CREATE VIEW open_steps WITH (security_invoker)", "CREATE VIEW open_steps");
            let viewer = "CREATE ROLE viewer; GRANT SELECT ON steps TO viewer; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO viewer";
            sound = sound.replace(with, &format!("{viewer}; {without}"));
            sound.push_str("ALTER VIEW open_steps OWNER TO viewer;");
        }
        stage.database("sound", &sound, None).await;
        stage
    }

    /// True for a server on which a view cannot be its caller's.
    fn is_old(&self) -> bool {
        self.postgres.server_version().starts_with("14.")
    }

    async fn database(&self, name: &str, sql: &str, template: Option<&str>) {
        match template {
            Some(template) => self.postgres.create_database_from(name, template).await.expect("a copy"),
            None => self.postgres.create_database(name).await.expect("a database"),
        }
        let mut connection = connect(&self.postgres.admin_url_for(name)).await.expect("a connection");
        execute(&mut connection, &sql.replace("CALLER", CALLER)).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        close(connection).await.expect("closed");
    }

    fn probe(&self, database: &str) -> Probe {
        Probe {
            asked: Asked {
                url: self.postgres.admin_url_for(database),
                role: "shop".into(),
                as_url: None,
                mode: Mode::Copy,
                owned: None,
            },
            contexts: Vec::new(),
            config: Config { tenant_columns: vec!["firm".into()], ..Config::default() },
            seed: Seed(7),
            cases: 12,
            reports: self.reports.path().into(),
            reproduce: String::new(),
        }
    }

    async fn run(&self, probe: &Probe) -> Ended {
        probe.run(Arc::new(|_| ()), Interrupt::default()).await.unwrap_or_else(|e| panic!("{e}"))
    }

    /// Each defect is caught by name, and the twin upheld with nothing left open.
    async fn check(&self, cases: &[Case]) {
        for case in cases {
            if self.is_old() && [case.defect, case.twin].iter().any(|sql| sql.contains("security_invoker")) {
                eprintln!("{} is not tried: it needs Postgres 15", case.name);
                continue;
            }
            for (suffix, sql, breaks) in [("defect", case.defect, Some(case.breaks)), ("twin", case.twin, None)] {
                let name = format!("{} {suffix}", case.name);
                self.database(&name, sql, Some("sound")).await;
                let ended = self.run(&self.probe(&name)).await;
                let told = report::summary(&ended, false);
                let found: Vec<&str> = ended.judgement.findings.iter().map(|f| f.requirement.as_str()).collect();
                match breaks {
                    Some(requirement) => {
                        assert!(found.contains(&requirement), "{name}: {requirement} is not among {found:?}\n{told}");
                        assert_eq!(ended.exit, ExitCode::Violated, "{name}");
                    }
                    None => assert_eq!(ended.exit, ExitCode::Upheld, "{name}: {found:?}\n{told}"),
                }
                self.postgres.drop_database(&name).await.expect("dropped");
            }
        }
    }
}

macro_rules! cases {
    ($($name:ident: [$(($label:literal, $defect:literal, $breaks:literal, $twin:literal)),* $(,)?])*) => {
        $(#[tokio::test]
        async fn $name() {
            let stage = Stage::new().await;
            stage.check(&[$(Case { name: $label, defect: $defect, breaks: $breaks, twin: $twin }),*]).await;
            stage.postgres.stop().await;
        })*
    };
}

cases! {
    what_a_policy_lets_through_is_seen: [
        ("true", "ALTER POLICY wall ON steps USING (true)", "sql/read",
         "ALTER POLICY wall ON steps USING (true AND firm = CALLER)"),
        ("or", "CREATE POLICY more ON steps FOR SELECT USING (title IS NOT NULL)", "sql/read",
         "CREATE POLICY more ON steps AS RESTRICTIVE FOR SELECT USING (title IS NOT NULL)"),
        ("inverted", "ALTER POLICY wall ON steps USING (firm <> CALLER)", "sql/read",
         "ALTER POLICY wall ON steps USING (NOT firm <> CALLER)"),
        ("off", "ALTER TABLE steps DISABLE ROW LEVEL SECURITY", "sql/read",
         "ALTER TABLE steps NO FORCE ROW LEVEL SECURITY"),
        ("owner", "ALTER TABLE steps NO FORCE ROW LEVEL SECURITY; ALTER TABLE steps OWNER TO shop", "sql/read",
         "CREATE ROLE keeper; ALTER TABLE steps OWNER TO keeper"),
        ("cast", "ALTER POLICY wall ON steps USING ((more->>'firm')::uuid = CALLER OR firm = CALLER)", "sql/error",
         "ALTER POLICY wall ON steps USING (firm = CALLER AND more->>'firm' IS DISTINCT FROM 'none')"),
    ]
    what_comes_of_a_row_is_seen: [
        ("looked up", "CREATE FUNCTION taken() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN IF EXISTS (SELECT FROM plans p WHERE p.slug = NEW.slug) THEN RAISE 'no'; END IF; RETURN NEW; END $$; CREATE TRIGGER taken BEFORE INSERT ON plans FOR EACH ROW EXECUTE FUNCTION taken()", "sql/existence",
         "CREATE FUNCTION taken() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN IF EXISTS (SELECT FROM plans p WHERE p.slug = NEW.slug AND p.firm = NEW.firm) THEN RAISE 'no'; END IF; RETURN NEW; END $$; CREATE TRIGGER taken BEFORE INSERT ON plans FOR EACH ROW EXECUTE FUNCTION taken()"),
        ("looked up by a policy", "CREATE FUNCTION taken(slug text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT EXISTS (SELECT FROM plans p WHERE p.slug = $1) $$; ALTER POLICY wall ON plans WITH CHECK (firm = CALLER AND NOT taken(slug))", "sql/existence",
         "CREATE FUNCTION taken(slug text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT EXISTS (SELECT FROM plans p WHERE p.slug = $1) $$; ALTER POLICY wall ON plans WITH CHECK (firm = CALLER AND NOT taken(slug))"),
        ("spoken of", "CREATE TABLE news (firm uuid NOT NULL, line text); CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO news VALUES (coalesce(NEW.more->>'for', NEW.firm::text)::uuid, NEW.title); RETURN NULL; END $$; CREATE TRIGGER tell AFTER INSERT OR UPDATE ON steps FOR EACH ROW EXECUTE FUNCTION tell()", "sql/misattribution",
         "CREATE TABLE news (firm uuid NOT NULL, line text); CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO news VALUES (NEW.firm, NEW.more->>'for'); RETURN NULL; END $$; CREATE TRIGGER tell AFTER INSERT OR UPDATE ON steps FOR EACH ROW EXECUTE FUNCTION tell()"),
        ("handed on", "CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL); GRANT SELECT, INSERT ON jobs TO shop", "sql/read",
         "CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL); GRANT INSERT ON jobs TO shop"),
        ("left by others", "CREATE TABLE outbox (line text); INSERT INTO firms SELECT gen_random_uuid(), 'f' FROM generate_series(1, 2); INSERT INTO outbox SELECT 'mail to ' || id FROM firms; GRANT SELECT ON outbox TO shop", "sql/read",
         "CREATE TABLE outbox (line text); INSERT INTO firms SELECT gen_random_uuid(), 'f' FROM generate_series(1, 2); INSERT INTO outbox SELECT 'mail to ' || id FROM firms LIMIT 1; GRANT SELECT ON outbox TO shop"),
    ]
    what_nobody_bound_is_seen: [
        ("unset", "ALTER POLICY wall ON steps USING (current_setting('shop.firm', true) IS NULL OR firm = CALLER)", "sql/unbound",
         "ALTER POLICY wall ON steps USING (current_setting('shop.firm', true) IS NOT NULL AND firm = CALLER)"),
        ("empty", "ALTER POLICY wall ON steps USING (current_setting('shop.firm', true) = '' OR firm = CALLER)", "sql/unbound",
         "ALTER POLICY wall ON steps USING (current_setting('shop.firm', true) <> '' AND firm = CALLER)"),
        ("left", "CREATE FUNCTION enter(firm uuid) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('shop.firm', firm::text, false); END $$", "sql/left",
         "CREATE FUNCTION enter(firm uuid) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('shop.firm', firm::text, true); END $$"),
        ("kept plan", "CREATE FUNCTION bound() RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT CALLER $$; ALTER POLICY wall ON steps USING (firm = bound())", "sql/switched",
         "CREATE FUNCTION bound() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT CALLER $$; ALTER POLICY wall ON steps USING (firm = bound())"),
    ]
    what_is_written_across_the_wall_is_seen: [
        ("check", "ALTER POLICY wall ON steps WITH CHECK (true)", "sql/misattribution",
         "ALTER POLICY wall ON steps WITH CHECK (firm = CALLER)"),
        ("bare delete", "CREATE POLICY more ON steps FOR DELETE USING (true)", "sql/change",
         "CREATE POLICY more ON steps AS RESTRICTIVE FOR DELETE USING (true)"),
        ("bare update", "CREATE POLICY more ON steps FOR UPDATE USING (true) WITH CHECK (firm = CALLER)", "sql/change",
         "CREATE POLICY more ON steps FOR UPDATE USING (firm = CALLER)"),
        ("moved", "CREATE POLICY more ON steps FOR UPDATE USING (firm = CALLER) WITH CHECK (true)", "sql/misattribution",
         "CREATE POLICY more ON steps FOR UPDATE USING (firm = CALLER) WITH CHECK (firm = CALLER)"),
        ("truncate", "GRANT TRUNCATE ON steps TO shop", "sql/change", "GRANT TRIGGER ON steps TO shop"),
        ("for everybody", "ALTER TABLE steps ALTER firm DROP NOT NULL; ALTER POLICY wall ON steps USING (firm IS NULL OR firm = CALLER)", "sql/read",
         "ALTER TABLE steps ALTER firm DROP NOT NULL"),
    ]
    what_stands_beside_the_table_is_seen: [
        ("partition", "ALTER TABLE logs_new DISABLE ROW LEVEL SECURITY", "sql/read",
         "ALTER TABLE logs_new DISABLE ROW LEVEL SECURITY; REVOKE ALL ON logs_new FROM shop"),
        ("view", "ALTER VIEW open_steps RESET (security_invoker)", "sql/read",
         "CREATE VIEW more WITH (security_invoker) AS SELECT title, more FROM open_steps; GRANT SELECT ON more TO shop"),
        ("barrier", "REVOKE ALL ON steps FROM shop; ALTER VIEW open_steps RESET (security_invoker); CREATE OR REPLACE VIEW open_steps AS SELECT * FROM steps WHERE firm = CALLER", "sql/read",
         "REVOKE ALL ON steps FROM shop; CREATE OR REPLACE VIEW open_steps WITH (security_barrier) AS SELECT * FROM steps WHERE firm = CALLER"),
        ("stored", "CREATE MATERIALIZED VIEW stored AS SELECT * FROM steps; GRANT SELECT ON stored TO shop", "sql/read",
         "CREATE MATERIALIZED VIEW stored AS SELECT * FROM steps"),
        ("counted", "CREATE VIEW counted AS SELECT state, count(*) FROM plans GROUP BY 1; GRANT SELECT ON counted TO shop", "sql/influence",
         "CREATE VIEW counted WITH (security_invoker) AS SELECT state, count(*) FROM plans GROUP BY 1; GRANT SELECT ON counted TO shop"),
        ("beside", "CREATE TABLE trail (line jsonb); GRANT SELECT ON trail TO shop; CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO trail VALUES (to_jsonb(new)); RETURN new; END $$; CREATE TRIGGER noted AFTER INSERT ON steps FOR EACH ROW EXECUTE FUNCTION note()", "sql/read",
         "CREATE TABLE trail (line text); GRANT SELECT ON trail TO shop; CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO trail VALUES ('a step'); RETURN new; END $$; CREATE TRIGGER noted AFTER INSERT ON steps FOR EACH ROW EXECUTE FUNCTION note()"),
    ]
    what_a_function_or_a_role_opens_is_seen: [
        ("definer", "CREATE FUNCTION plan_of(plan uuid) RETURNS SETOF plans LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM plans WHERE id = $1'", "sql/function",
         "CREATE FUNCTION plan_of(plan uuid) RETURNS SETOF plans LANGUAGE sql AS 'SELECT * FROM plans WHERE id = $1'"),
        ("writer", "CREATE FUNCTION drop_plan(plan uuid) RETURNS void LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM steps WHERE steps.plan = $1'", "sql/function",
         "CREATE FUNCTION drop_plan(plan uuid) RETURNS void LANGUAGE sql AS 'DELETE FROM steps WHERE steps.plan = $1'"),
        ("counter", "CREATE FUNCTION plans_in_all() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM plans'", "sql/influence",
         "CREATE FUNCTION plans_in_all() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM plans'"),
        ("role", "CREATE ROLE reports BYPASSRLS; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reports; GRANT reports TO shop", "sql/role",
         "CREATE ROLE readers; GRANT SELECT ON ALL TABLES IN SCHEMA public TO readers; GRANT readers TO shop; REVOKE reports FROM shop"),
    ]
    what_keys_and_counters_tell_is_seen: [
        ("unique", "ALTER TABLE plans ADD UNIQUE (slug)", "sql/existence", "ALTER TABLE plans ADD UNIQUE (slug, firm)"),
        ("exclusion", "CREATE EXTENSION btree_gist; CREATE TABLE stays (firm uuid NOT NULL, during tstzrange NOT NULL, EXCLUDE USING gist (during WITH &&)); ALTER TABLE stays ENABLE ROW LEVEL SECURITY; CREATE POLICY wall ON stays USING (firm = CALLER); GRANT SELECT, INSERT ON stays TO shop", "sql/existence",
         "CREATE EXTENSION btree_gist; CREATE TABLE stays (firm uuid NOT NULL, during tstzrange NOT NULL, EXCLUDE USING gist (firm WITH =, during WITH &&)); ALTER TABLE stays ENABLE ROW LEVEL SECURITY; CREATE POLICY wall ON stays USING (firm = CALLER); GRANT SELECT, INSERT ON stays TO shop"),
        ("foreign key", "ALTER TABLE steps DROP CONSTRAINT steps_firm_plan_fkey, ADD FOREIGN KEY (plan) REFERENCES plans (id)", "sql/link",
         "ALTER TABLE steps DROP CONSTRAINT steps_firm_plan_fkey, ADD FOREIGN KEY (plan, firm) REFERENCES plans (id, firm)"),
        ("counter", "CREATE SEQUENCE numbers; GRANT SELECT ON SEQUENCE numbers TO shop", "sql/sequence",
         "CREATE SEQUENCE numbers; GRANT USAGE ON SEQUENCE numbers TO shop"),
        ("set", "CREATE SEQUENCE numbers; GRANT UPDATE ON SEQUENCE numbers TO shop", "sql/sequence", "CREATE SEQUENCE numbers"),
    ]
}

#[tokio::test]
async fn a_history_is_judged_the_same_offline_and_a_finding_is_shown_again_by_its_script() {
    let stage = Stage::new().await;
    stage.database("loose", "ALTER POLICY wall ON plans USING (true)", Some("sound")).await;
    let ended = stage.run(&stage.probe("loose")).await;
    report::write(&ended).expect("written");
    let again = judge_again(&ended.dir.join("history.ndjson.zst")).expect("read").expect("a probe's");
    assert_eq!(serde_json::to_string(&again).expect("JSON"), serde_json::to_string(&ended.judgement).expect("JSON"));
    let read = ended.judgement.findings.iter().find(|f| f.requirement == "sql/read" && f.subject == "public.plans");
    let folder = ended.dir.join("findings").join(&read.expect("a finding").id);
    let witness = std::fs::read_to_string(folder.join("witness.md")).expect("a witness");
    assert!(witness.contains("rows of tenant 0") && witness.contains("rows of tenant 1"), "{witness}");
    let script = std::fs::read_to_string(folder.join("reproduce.sql")).expect("a script");
    let script: String =
        script.lines().filter(|line| !line.starts_with('\\')).map(|line| format!("{line}\n")).collect();
    let mut connection = connect(&stage.postgres.admin_url_for("loose")).await.expect("a connection");
    let shown = sqlx::raw_sql(sqlx::AssertSqlSafe(script)).fetch_all(&mut connection).await.expect("it runs");
    assert!(shown.len() >= 8, "every tenant's rows are among the {} shown", shown.len());
    stage.postgres.stop().await;
}

#[tokio::test]
async fn a_place_that_may_not_be_written_to_is_not() {
    let stage = Stage::new().await;
    let mut open = connect(&stage.postgres.admin_url_for("sound")).await.expect("a connection");
    let error = |probe: Probe| async move {
        let told = probe.run(Arc::new(|_| ()), Interrupt::default()).await.err().expect("refused");
        (told.exit_code(), told.to_string())
    };
    let with = |change: &dyn Fn(&mut Probe)| {
        let mut probe = stage.probe("sound");
        change(&mut probe);
        probe
    };
    // Somebody is connected: there is no copy, and nobody said that the database is theirs.
    let (code, told) = error(with(&|probe| probe.asked.mode = Mode::Auto)).await;
    assert!(
        code == ExitCode::Usage && told.contains("--i-own-this-database sound") && told.contains("connected"),
        "{told}"
    );
    let (code, told) = error(with(&|probe| probe.asked.owned = Some("another".into()))).await;
    assert!(code == ExitCode::Usage && told.contains("no copy of sound"), "{told}");
    let (code, told) = error(with(&|probe| probe.asked.role = "shopp".into())).await;
    assert!(code == ExitCode::Usage && told.contains("did you mean `shop`"), "{told}");
    let (code, told) = error(with(&|probe| probe.asked.url = "postgres://a:open-sesame@127.0.0.1:1/x".into())).await;
    assert!(code == ExitCode::Unreachable && !told.contains("open-sesame"), "{told}");

    // One transaction, where somebody says so or the mark is there; nothing stays.
    execute(&mut open, &format!("COMMENT ON DATABASE sound IS '{MARK}'")).await.expect("a mark");
    let ended = stage.run(&with(&|probe| probe.asked.mode = Mode::Auto)).await;
    assert_eq!(ended.exit, ExitCode::Upheld, "{}", report::summary(&ended, false));
    assert_eq!(ended.facts.mode, "rollback");
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM firms").fetch_one(&mut open).await.expect("a count");
    assert_eq!(left, 0);
    execute(&mut open, "ALTER POLICY wall ON steps USING (true)").await.expect("loose");
    let ended = stage.run(&with(&|probe| probe.asked.mode = Mode::Rollback)).await;
    assert_eq!(ended.exit, ExitCode::Violated);
    stage.postgres.stop().await;
}

#[tokio::test]
async fn a_live_database_is_read_alone() {
    let stage = Stage::new().await;
    let rows = "INSERT INTO firms SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, 'secret name ' || n FROM generate_series(1, 3) n;
        INSERT INTO plans (firm, slug, state, code) SELECT f.id, 's' || n, 'on', 'ABC-1234' FROM firms f, generate_series(1, 5) n";
    stage.database("live", rows, Some("sound")).await;
    let mut probe = stage.probe("live");
    probe.asked.mode = Mode::ReadOnly;
    let ended = stage.run(&probe).await;
    assert!(ended.judgement.findings.is_empty(), "{}", report::summary(&ended, false));
    assert!(ended.judgement.cells.iter().any(|cell| cell.place.subject == "public.plans"));
    let mut open = connect(&stage.postgres.admin_url_for("live")).await.expect("a connection");
    execute(&mut open, "ALTER POLICY wall ON plans USING (true)").await.expect("loose");
    let ended = stage.run(&probe).await;
    assert_eq!(ended.exit, ExitCode::Violated);
    report::write(&ended).expect("written");
    let told = report::to_json(&ended).expect("JSON") + &report::summary(&ended, false);
    assert!(
        !told.contains("secret name") && !told.contains("00000000-0000-4000"),
        "no real row is in a report: {told}"
    );
    stage.postgres.stop().await;
}

#[tokio::test]
async fn the_role_signs_in_itself_where_it_can() {
    let stage = Stage::new().await;
    let probe = |database: &str| {
        let mut probe = stage.probe(database);
        probe.asked.as_url = Some(stage.postgres.url_for(database, "shop", "open-sesame"));
        probe
    };
    let ended = stage.run(&probe("sound")).await;
    assert_eq!(ended.exit, ExitCode::Upheld, "{}", report::summary(&ended, false));
    // The policy asks who signed in: under SET ROLE it would say another.
    stage
        .database("signed", "CREATE POLICY more ON plans FOR SELECT USING (session_user = 'shop')", Some("sound"))
        .await;
    assert_eq!(stage.run(&probe("signed")).await.exit, ExitCode::Violated);
    stage.postgres.stop().await;
}

#[tokio::test]
async fn odd_names_kept_partitions_and_contexts_of_users_are_understood() {
    let stage = Stage::new().await;
    let odd = r#"CREATE SCHEMA "S.1"; GRANT USAGE ON SCHEMA "S.1" TO shop;
        CREATE TYPE "S.1"."mood" AS ENUM ('so so', 'it''s'); CREATE DOMAIN "S.1".short AS text CHECK (length(VALUE) < 6);
        CREATE TABLE "S.1"."tab""le 'x'" ("firm" uuid NOT NULL, "na me" "S.1"."mood" NOT NULL, d "S.1".short NOT NULL, tags text[] NOT NULL,
          span int4range NOT NULL, at date NOT NULL, made timestamptz GENERATED ALWAYS AS (timestamptz '2024-01-01 00:00:00+00') STORED, PRIMARY KEY (firm, d));
        ALTER TABLE "S.1"."tab""le 'x'" ENABLE ROW LEVEL SECURITY;
        CREATE POLICY "p'" ON "S.1"."tab""le 'x'" USING (firm = CALLER); GRANT SELECT, INSERT, UPDATE, DELETE ON "S.1"."tab""le 'x'" TO shop"#;
    let hashed = "CREATE TABLE parts (firm uuid NOT NULL, id uuid NOT NULL, line text) PARTITION BY HASH (firm);
        CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        ALTER TABLE parts ENABLE ROW LEVEL SECURITY; CREATE POLICY wall ON parts USING (firm = CALLER); GRANT SELECT ON parts TO shop;";
    let users = "CREATE TABLE people (id uuid PRIMARY KEY, name text); CREATE TABLE members (firm uuid NOT NULL REFERENCES firms, person uuid NOT NULL REFERENCES people, PRIMARY KEY (firm, person));
        GRANT SELECT ON members TO shop; ALTER TABLE members ENABLE ROW LEVEL SECURITY; CREATE POLICY wall ON members USING (person = nullif(current_setting('shop.person', true), '')::uuid);
        DO $$ DECLARE t text; BEGIN FOREACH t IN ARRAY ARRAY['plans', 'steps', 'logs', 'logs_old', 'logs_new'] LOOP
          EXECUTE format('ALTER POLICY wall ON %I USING (firm IN (SELECT m.firm FROM members m WHERE m.person = nullif(current_setting(''shop.person'', true), '''')::uuid))', t); END LOOP; END $$;
        ALTER POLICY wall ON firms USING (id IN (SELECT m.firm FROM members m WHERE m.person = nullif(current_setting('shop.person', true), '')::uuid));";
    let stamped =
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.firm := CALLER; RETURN NEW; END $$;
        CREATE TRIGGER stamp BEFORE INSERT ON plans FOR EACH ROW EXECUTE FUNCTION stamp()";
    for (name, sql, looser, breaks) in [
        ("stamped", stamped.to_string(), "ALTER POLICY wall ON plans USING (true)", "sql/read"),
        ("odd", odd.to_string(), r#"ALTER POLICY "p'" ON "S.1"."tab""le 'x'" USING (true)"#, "sql/read"),
        (
            "hashed",
            format!(
                "{hashed} GRANT SELECT, INSERT ON parts_1 TO shop; ALTER TABLE parts_1 ENABLE ROW LEVEL SECURITY; CREATE POLICY wall ON parts_1 USING (firm = CALLER)"
            ),
            "ALTER TABLE parts_1 DISABLE ROW LEVEL SECURITY",
            "sql/read",
        ),
        (
            "users",
            users.into(),
            "ALTER POLICY wall ON plans USING (firm IN (SELECT m.firm FROM members m))",
            "sql/nothing",
        ),
        ("users", String::new(), "ALTER POLICY wall ON plans USING (EXISTS (SELECT FROM members m))", "sql/read"),
    ] {
        if !sql.is_empty() {
            stage.database(name, &sql, Some("sound")).await;
        }
        let ended = stage.run(&stage.probe(name)).await;
        let told = report::summary(&ended, false);
        assert_eq!(ended.exit, ExitCode::Upheld, "{name}: {told}");
        let mut open = connect(&stage.postgres.admin_url_for(name)).await.expect("a connection");
        execute(&mut open, looser).await.expect("looser");
        close(open).await.expect("closed");
        let ended = stage.run(&stage.probe(name)).await;
        let found: Vec<&str> = ended.judgement.findings.iter().map(|f| f.requirement.as_str()).collect();
        assert_eq!(found.contains(&breaks), breaks != "sql/nothing", "{name}: {found:?}");
    }
    stage.postgres.stop().await;
}

/// The names of databases that begin so.
async fn databases(stage: &Stage, like: &str) -> Vec<String> {
    let mut connection = connect(&stage.postgres.admin_url()).await.expect("a connection");
    let query = "SELECT datname::text FROM pg_database WHERE starts_with(datname, $1) ORDER BY 1";
    let found = sqlx::query_scalar(query).bind(like).fetch_all(&mut connection).await.expect("names");
    close(connection).await.expect("closed");
    found
}

#[tokio::test]
async fn a_copy_that_a_killed_probe_left_is_removed_by_the_next() {
    let stage = Stage::new().await;
    let mut killed = std::process::Command::new(env!("CARGO_BIN_EXE_partywall"))
        .args([
            "probe",
            &stage.postgres.admin_url_for("sound"),
            "--as",
            "shop",
            "--tenant-column",
            "firm",
            "--max-cases",
            "100000",
        ])
        .arg("--report-dir")
        .arg(stage.reports.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("a probe");
    let began = std::time::Instant::now();
    while databases(&stage, "partywall_probe_").await.is_empty() {
        assert!(began.elapsed().as_secs() < 60, "no copy was made");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // While it lives its copy is left alone.
    let ended = stage.run(&Probe { seed: Seed(8), ..stage.probe("sound") }).await;
    assert!(!ended.facts.notes.iter().any(|note| note.contains("left behind")), "{:?}", ended.facts.notes);
    assert_eq!(databases(&stage, "partywall_probe_").await.len(), 1);
    killed.kill().expect("killed");
    killed.wait().expect("gone");
    // Another's database of such a name is none of ours.
    stage.postgres.create_database("partywall_probe_mine").await.expect("a database");
    let ended = stage.run(&stage.probe("sound")).await;
    assert!(ended.facts.notes.iter().any(|note| note.contains("a copy of sound that an earlier probe left behind")));
    assert_eq!(databases(&stage, "partywall_probe_").await, ["partywall_probe_mine"]);
    stage.postgres.stop().await;
}
