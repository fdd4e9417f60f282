//! `partywall tap` before services that nobody planted: what their rows say in a column, beside what is bound.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use partywall::postgres::{Options, Postgres, Source};
use partywall::target::copy::execute;
use partywall::target::database::{close, connect};
use partywall::wiretap::{Upstream, through};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

/// Three tenants with two rows each, their ids numbers in one table, UUIDs in another, names in a third.
const SCHEMA: &str = "CREATE ROLE gate LOGIN PASSWORD 'gate';
    CREATE TABLE papers AS SELECT t AS org_id, t * 10 + n AS id, 'paper' AS title FROM generate_series(1::int8, 3) t, generate_series(1, 2) n;
    CREATE TABLE letters AS SELECT md5(t::text)::uuid AS org_id, n AS id FROM generate_series(1, 3) t, generate_series(1, 2) n;
    CREATE TABLE words (org_id text, id int, about text);
    INSERT INTO words SELECT 'org-' || t, n, NULL FROM generate_series(1, 3) t, generate_series(1, 2) n;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO gate";

/// How a service reads: what it binds, and then what it asks, as `{}` the tenant.
type Reading = (&'static str, fn(u32) -> String, &'static str);

/// A service by its name, how it reads, what it does besides, flags, the exit code and what is to be said.
type Case<'c> = (&'c str, &'c [Reading], &'c [&'static str], &'c [&'c str], i32, &'c [&'c str]);

fn number(tenant: u32) -> String {
    tenant.to_string()
}

fn uuid(tenant: u32) -> String {
    ["c4ca4238-a0b9-2382-0dcc-509a6f75849b", "C81E728D-9D4C-2F63-6F06-7F89CC14862C"][tenant as usize - 1].into()
}

fn word(tenant: u32) -> String {
    format!("org-{tenant}")
}

const LOCAL: &str = "SELECT set_config('app.org', $1, true)";

/// One connection serves tenant 1 and tenant 2 in turn, and then what `after` says.
async fn serve(url: &str, reading: Reading, after: &[&'static str]) {
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    let (bind, id, ask) = reading;
    for tenant in [1, 2, 1, 2] {
        let mut tx = connection.begin().await.expect("a transaction");
        if !bind.is_empty() {
            sqlx::query(bind).bind(id(tenant)).execute(&mut *tx).await.expect("bound");
        }
        let ask = ask.replace("{}", &id(tenant));
        sqlx::query(AssertSqlSafe(ask)).fetch_all(&mut *tx).await.expect("rows");
        tx.commit().await.expect("an end");
    }
    for statement in after {
        sqlx::raw_sql(*statement).fetch_all(&mut connection).await.expect("rows");
    }
    connection.close().await.expect("an end");
}

/// A command that listens.
struct Tap {
    child: Child,
    url: String,
}

impl Tap {
    fn start(direct: &str, reports: &Path, flags: &[&str]) -> Self {
        let Some(Upstream::Tcp(host, port)) = Upstream::of_url(direct) else { panic!("a place") };
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
        let child = Command::new(env!("CARGO_BIN_EXE_partywall"))
            .args(["tap", "--listen", &free.to_string(), "--upstream", &format!("{host}:{port}")])
            .args(flags)
            .env("PARTYWALL_REPORT_DIR", reports)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("partywall runs");
        let until = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(free).is_err() {
            assert!(Instant::now() < until, "it does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, url: through(direct, free, false).expect("a URL") }
    }

    /// Interrupted: the exit code and what it said.
    fn end(self) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("it runs");
        let output = self.child.wait_with_output().expect("an end");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}

const FLAGS: [&str; 4] = ["--tenant-column", "org_id", "--context", "app.org"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_service_is_upheld_and_one_that_leaks_is_told_while_it_runs() {
    let postgres = Postgres::start(&Source::Auto, &Options::default()).await.expect("a Postgres");
    let direct = postgres.admin_url();
    let mut admin = connect(&direct).await.expect("a connection");
    execute(&mut admin, SCHEMA).await.expect("a schema");
    close(admin).await.expect("an end");
    let sound: [Reading; 4] = [
        (LOCAL, number, "SELECT * FROM papers WHERE org_id = {}"),
        (LOCAL, uuid, "SELECT id, org_id FROM letters WHERE org_id = '{}'"),
        (LOCAL, word, "SELECT w.org_id AS o, count(*) FROM words w WHERE org_id = '{}' GROUP BY 1"),
        (LOCAL, number, "SELECT 'nothing of a tenant', title, NULL AS org_id FROM papers WHERE id < {}"),
    ];
    let all: [Case<'_>; 9] = [
        ("a sound one", &sound, &[], &[], 0, &["rows judged", "hand-overs"]),
        (
            "no filter",
            &[(LOCAL, number, "SELECT * FROM papers WHERE {} > 0")],
            &[],
            &[],
            1,
            &["tenant 3", "tenant 1 was bound", "SELECT * FROM papers"],
        ),
        (
            "UUIDs",
            &[(LOCAL, uuid, "SELECT org_id FROM letters WHERE '{}' <> ''")],
            &[],
            &[],
            1,
            &["eccbc87e-4b5c-e2fe-2830-8fd9f2a7baf3"],
        ),
        (
            "another name",
            &[
                (LOCAL, word, "SELECT org_id FROM words WHERE org_id = '{}'"),
                (LOCAL, word, "SELECT about, org_id AS x FROM words WHERE '{}' <> ''"),
            ],
            &[],
            &[],
            1,
            &["read/query", "org-3", "by its org_id"],
        ),
        (
            "nobody is bound",
            &[("", number, "SELECT * FROM papers WHERE org_id = {}")],
            &[],
            &[],
            1,
            &["context/unbound", "no tenant was bound"],
        ),
        (
            "beyond the transaction",
            &[("SELECT set_config('app.org', $1, false)", number, "SELECT * FROM papers WHERE org_id = {}")],
            &[],
            &[],
            1,
            &["context/left"],
        ),
        (
            "a simple query beyond the context",
            &sound,
            &[
                "BEGIN; SET LOCAL app.org = '2'; SELECT id, org_id FROM papers WHERE org_id = 2; COMMIT; SELECT org_id FROM papers WHERE id = 11",
            ],
            &[],
            1,
            &["context/unbound", "tenant 1"],
        ),
        (
            "who may read before",
            &[sound[0], ("", number, "SELECT * FROM papers WHERE org_id = {}")],
            &[],
            &["--unbound", "partywall_admin"],
            0,
            &[],
        ),
        ("nobody came", &[], &[], &[], 3, &["0 rows judged"]),
    ];
    for (name, readings, after, flags, code, says) in all {
        let reports = tempfile::tempdir().expect("a folder");
        let tap = Tap::start(&direct, reports.path(), &[&FLAGS[..], flags].concat());
        for reading in readings {
            serve(&tap.url, *reading, after).await;
        }
        let (ended, said) = tap.end();
        assert_eq!(ended, Some(code), "{name}: {said}");
        for word in says {
            assert!(said.contains(word), "{name} does not say `{word}`: {said}");
        }
        // The history says the same again.
        let run = std::fs::read_dir(reports.path()).expect("a folder").next().expect("a run").expect("it").path();
        let judged =
            Command::new(env!("CARGO_BIN_EXE_partywall")).arg("judge").arg(run.join("history.ndjson.zst")).output();
        let judged = judged.expect("partywall runs");
        assert_eq!(judged.status.code(), Some(code), "{name}: {}", String::from_utf8_lossy(&judged.stdout));
    }
}

#[test]
fn what_it_is_not_told_it_asks_for() {
    for (flags, says) in [
        (&[][..], "--tenant-column"),
        (&["--tenant-column", "org_id"], "--context"),
        (&["--context", "app.org"], "--tenant-column"),
        (&["--tenant-column", "org_id", "--context", "app.org", "--upstream", "nowhere"], "HOST:PORT"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_partywall"));
        command.args(["tap", "--listen", "127.0.0.1:0"]).args(flags);
        if !flags.contains(&"--upstream") {
            command.args(["--upstream", "127.0.0.1:1"]);
        }
        let output = command.output().expect("partywall runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.contains(says)), (Some(2), true), "{flags:?}: {said}");
    }
}
