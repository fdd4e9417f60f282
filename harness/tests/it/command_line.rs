//! The `partywall` binary as a user meets it: bad input, interruption, and what is left behind.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use partywall::postgres::{Options, Postgres, Source};
use partywall::target::copy::execute;
use partywall::target::database::connect;

fn partywall(args: &[&str], reports: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_partywall"));
    command.args(args).env("PARTYWALL_REPORT_DIR", reports).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

#[track_caller]
fn check(args: &[&str], code: i32, says: &[&str]) -> Output {
    let reports = tempfile::tempdir().expect("a folder");
    let output = partywall(args, reports.path()).output().expect("partywall runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    for word in says {
        assert!(text.contains(word), "{args:?} does not say `{word}`: {text}");
    }
    output
}

/// A target file in a folder of its own.
fn target(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("target.toml");
    std::fs::write(&path, text).expect("a file");
    let path = path.display().to_string();
    (folder, path)
}

const NO_OPERATION: &str = "role = []\noperation = []\n[plant]\ntable = []\n";

#[test]
fn slips_of_the_hand_name_the_nearest_right_word() {
    check(&["certify", "--only", "read/by-ids"], 2, &["did you mean `read/by-id`"]);
    check(&["certify", "--only", "raed/.."], 2, &["did you mean `read/..`"]);
    check(&["certify", "--only", ""], 2, &["an empty selection"]);
    check(&["certify", "--profile", "quik"], 2, &["did you mean `quick`"]);
    check(&["certify", "--postgres", "instaled"], 2, &["did you mean `installed`"]);
    check(&["certify", "--report", "htlm"], 2, &["did you mean `html`"]);
    check(&["certify", "--tenants", "1"], 2, &["a wall has two sides"]);
    check(&["explain", "pool/handover"], 2, &["did you mean `pool/hand-over`"]);
    check(&["mutants", "--only", "using-tru"], 2, &["did you mean `using-true`"]);
    let (_folder, path) =
        target(&format!("name = \"x\"\nopenapi = \"d.json\"\nbase_ulr = \"http://127.0.0.1:1\"\n{NO_OPERATION}"));
    check(&["certify", "--target", &path], 2, &["did you mean `base_url`", "target.toml"]);
}

#[test]
fn what_is_no_finding_is_not_reproduced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("finding.json");
    let named = path.display().to_string();
    check(&["reproduce", &named], 2, &["cannot read", "finding.json"]);
    for (text, says) in [
        ("{\"schema_version\": 1, \"id\": \"f1", "is not a finding"),
        ("[]", "is not a finding"),
        ("{\"schema_version\": 99}", "its version is 99"),
        ("{\"schema_version\": 1, \"surplus\": 0}", "surplus"),
    ] {
        std::fs::write(&path, text).expect("a file");
        check(&["reproduce", &named], 2, &[says]);
    }
}

#[test]
fn what_is_no_capture_is_not_replayed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("capture.har");
    let named = path.display().to_string();
    check(&["replay", &named], 2, &["cannot read", "capture.har"]);
    for text in ["{\"log\": {\"entries\": [{\"request\": {\"method\": \"GE", "{\"entries\": []}", "\u{0}\u{1}PNG", "[]"]
    {
        std::fs::write(&path, text).expect("a file");
        check(&["replay", &named], 2, &["is not a HAR", "capture.har", "HAR 1.2"]);
    }
    std::fs::File::create(&path).and_then(|file| file.set_len(1 << 30)).expect("a sparse file");
    check(&["replay", &named], 2, &["is not a HAR", "bytes"]);
    check(&["replay", &named, "--identity", "admin"], 2, &["NUMBER=ROLE"]);
    check(&["certify", "--only", "replay/.."], 2, &["partywall replay"]);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    check(&["certify", "--target", "/nowhere/target.toml"], 2, &["/nowhere/target.toml"]);
    check(&["judge", "/nowhere/history.ndjson.zst"], 2, &["/nowhere/history.ndjson.zst"]);
    let (folder, path) =
        target(&format!("name = \"x\"\nopenapi = \"d.json\"\nbase_url = \"http://127.0.0.1:1\"\n{NO_OPERATION}"));
    check(&["certify", "--target", &path], 2, &["d.json"]);
    for (document, says) in [
        ("{", "not JSON"),
        ("{\"openapi\":\"2.0\"}", "version is 2.0"),
        ("{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"t\",\"version\":\"1\"},\"paths\":{}}", "no operation"),
    ] {
        std::fs::write(folder.path().join("d.json"), document).expect("a file");
        check(&["certify", "--target", &path], 2, &[says]);
    }
}

#[test]
fn a_report_folder_that_cannot_be_written_is_said_before_anything_runs() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let output = partywall(&["certify"], &file.path().join("below")).output().expect("partywall runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--report-dir"), "{text}");
}

#[test]
fn without_any_postgres_each_rung_says_why() {
    let reports = tempfile::tempdir().expect("a folder");
    let mut command = partywall(&["certify", "--postgres", "installed"], reports.path());
    let output = command.env("PARTYWALL_PG_BIN", "/nowhere").output().expect("partywall runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("installed: /nowhere has no initdb"), "{text}");
}

#[test]
fn a_server_that_does_not_answer_is_named_without_its_password() {
    let output = check(&["certify", "--postgres", "postgres://nobody:hunter2@127.0.0.1:1/x"], 4, &["127.0.0.1"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter2"), "a password is shown");
}

#[test]
fn a_target_that_never_gets_ready_or_ends_at_once_is_said_so() {
    let launch = |program: &str, args: &str| {
        target(&format!(
            "name = \"x\"\nopenapi = \"/openapi.json\"\n{NO_OPERATION}[launch]\nprogram = \"{program}\"\nargs = [{args}]\nhealth = \"/\"\nwait_s = 1\n"
        ))
    };
    let (_folder, path) = launch("/bin/sleep", "\"60\"");
    check(&["certify", "--target", &path], 4, &["not ready within 1 s"]);
    let (_folder, path) = launch("/bin/false", "");
    check(&["certify", "--target", &path], 4, &["ended before it was ready"]);
    let (_folder, path) = launch("/nowhere/program", "");
    check(&["certify", "--target", &path], 2, &["/nowhere/program"]);
}

#[test]
fn listings_are_json_on_request() {
    for args in [&["list", "--format", "json"][..], &["mutants", "--list", "--format", "json"]] {
        let output = check(args, 0, &[]);
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(value.as_array().is_some_and(|a| a.len() >= 10), "{args:?}");
    }
    let output = check(&["schema", "target"], 0, &[]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(schema.pointer("/properties/launch").is_some());
}

/// The children of `parent`: pid and command line.
fn children(parent: u32) -> Vec<(i32, Vec<String>)> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let found = processes.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let of: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        (of == parent).then(|| (pid, line.split('\0').map(String::from).collect()))
    });
    found.collect()
}

/// Children of `parent` that are Postgres servers, with their data folders.
fn clusters(parent: u32) -> Vec<(i32, PathBuf)> {
    let of_cluster = |word: &&String| word.contains("partywall-postgres-") && word.ends_with("/data");
    let found = children(parent).into_iter();
    found.filter_map(|(pid, words)| Some((pid, PathBuf::from(words.iter().find(of_cluster)?)))).collect()
}

fn wait_for<T>(what: &str, mut test: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(240);
    loop {
        if let Some(found) = test() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The folder of the one run.
fn run_dir(reports: &Path) -> PathBuf {
    std::fs::read_dir(reports).expect("runs").flatten().next().expect("a run").path()
}

fn report(reports: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(run_dir(reports).join("report.json")).expect("a report");
    serde_json::from_str(&text).expect("JSON")
}

/// A long run, driven as far as its history; a group of its own, as in a terminal.
fn driven(args: &[&str], reports: &Path) -> Child {
    let args = [&["certify", "--max-cases", "100000000"], args].concat();
    let mut child = partywall(&args, reports)
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("partywall runs");
    wait_for("the history", || {
        assert!(child.try_wait().expect("a child").is_none(), "the run ended by itself");
        let runs = std::fs::read_dir(reports).ok()?.flatten().next()?;
        runs.path().join("history.ndjson.zst").exists().then_some(())
    });
    child
}

/// A long run, driven as far as its history, and its cluster.
fn long_run(reports: &Path) -> (Child, i32, PathBuf) {
    let child = driven(&["--postgres", "installed"], reports);
    let (pid, folder) = clusters(child.id()).pop().expect("a cluster");
    (child, pid, folder)
}

#[test]
fn a_target_that_dies_during_the_run_leaves_a_partial_report() {
    let reports = tempfile::tempdir().expect("a folder");
    let (mut child, ..) = long_run(reports.path());
    // The history is there before the service is: one that has been judged at has told who it is.
    wait_for("observations", || {
        let history = std::fs::metadata(run_dir(reports.path()).join("history.ndjson.zst")).ok()?;
        (history.len() > 10_000).then_some(())
    });
    let service = wait_for("the service", || {
        children(child.id()).into_iter().find(|(_, words)| words[0].ends_with("/audit-api")).map(|(pid, _)| pid)
    });
    kill(Pid::from_raw(service), Signal::SIGKILL).expect("a signal");
    assert_eq!(child.wait().expect("a child").code(), Some(4));
    let report = report(reports.path());
    let why = report.pointer("/run/stopped_because").and_then(serde_json::Value::as_str).unwrap_or_default();
    assert!(why.contains("ended during the run") && why.contains("signal: 9"), "{why}");
    assert!(report.pointer("/counts/judged").and_then(serde_json::Value::as_u64) > Some(0), "what was known is kept");
}

#[test]
fn an_interrupted_run_leaves_its_report_and_no_server() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let reports = tempfile::tempdir().expect("a folder");
        let (mut child, postgres, folder) = long_run(reports.path());
        // To the whole group, as a terminal does: the target ends as well.
        killpg(Pid::from_raw(child.id() as i32), signal).expect("a signal");
        assert_eq!(child.wait().expect("a child").code(), Some(130), "{signal}");
        gone(postgres, &folder);
        let report = report(reports.path());
        assert_eq!(report.pointer("/run/interrupted"), Some(&serde_json::Value::Bool(true)));
        for file in ["report.html", "junit.xml", "summary.md"] {
            assert!(run_dir(reports.path()).join(file).exists(), "{file}");
        }
    }
}

#[test]
fn a_killed_run_leaves_no_server_either() {
    let reports = tempfile::tempdir().expect("a folder");
    let (mut child, postgres, folder) = long_run(reports.path());
    kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).expect("a signal");
    child.wait().expect("a child");
    gone(postgres, &folder);
}

fn gone(pid: i32, folder: &Path) {
    wait_for("the server's end", || kill(Pid::from_raw(pid), None).is_err().then_some(()));
    wait_for("the folder's end", || (!folder.exists()).then_some(()));
}

/// A server that is not the run's own.
async fn server() -> Postgres {
    Postgres::start(&Source::Installed, &Options::default()).await.expect("a Postgres")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_server_that_is_given_only_a_database_of_its_own_is_made_and_removed() {
    let server = server().await;
    let url = server.admin_url();
    let before = standing(&url).await;
    let args = ["certify", "--postgres", &url, "--max-cases", "0", "--only", "pool/..", "--format", "json"];
    let output = check(&args, 0, &[]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let note = report.pointer("/run/postgres").and_then(serde_json::Value::as_str).unwrap_or_default();
    assert!(note.ends_with("(url)"), "{note}");
    assert_eq!(standing(&url).await, before, "nothing is left");

    let mut admin = connect(&url).await.expect("a connection");
    execute(&mut admin, "CREATE ROLE audit_app PASSWORD 'theirs'").await.expect("a role");
    let password = "SELECT rolpassword FROM pg_authid WHERE rolname = 'audit_app'";
    let theirs: String = sqlx::query_scalar(password).fetch_one(&mut admin).await.expect("a password");
    check(&args, 2, &["a database role `audit_app` already", "drop the role"]);
    let still: String = sqlx::query_scalar(password).fetch_one(&mut admin).await.expect("a password");
    assert_eq!(still, theirs);
    drop(admin);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_server_that_is_given_databases_that_the_target_makes_are_removed_with_its_own() {
    let server = server().await;
    let url = server.admin_url();
    let mut admin = connect(&url).await.expect("a connection");
    execute(&mut admin, "CREATE DATABASE tenants").await.expect("a name that only looks alike");
    let before = standing(&url).await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/targets/reference-database.toml");
    let target = ["--postgres", &url, "--target", file, "--tenants", "2"];
    let args = [&["certify", "--max-cases", "0", "--only", "read/by-id"], &target[..]].concat();
    check(&args, 0, &[]);
    assert_eq!(standing(&url).await, before, "nothing is left");

    let reports = tempfile::tempdir().expect("a folder");
    let mut child = driven(&target, reports.path());
    let during = standing(&url).await;
    assert!(during.iter().filter(|name| name.starts_with("tenant_")).count() >= 2, "{during:?}");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("a signal");
    assert_eq!(child.wait().expect("a child").code(), Some(130));
    assert_eq!(standing(&url).await, before, "nothing is left by a run that was interrupted");

    execute(&mut admin, "CREATE DATABASE tenant_theirs").await.expect("a database");
    check(&args, 2, &["has a database `tenant_theirs` already", "drop the database"]);
    let left = standing(&url).await;
    assert!(left.contains(&"tenant_theirs".into()) && left.len() == before.len() + 1, "{left:?}");
    drop(admin);
    server.stop().await;
}

/// The server's databases and roles.
async fn standing(url: &str) -> Vec<String> {
    let mut admin = connect(url).await.expect("a connection");
    let names = "SELECT datname::text FROM pg_database UNION ALL SELECT rolname::text FROM pg_roles ORDER BY 1";
    sqlx::query_scalar(names).fetch_all(&mut admin).await.expect("names")
}

/// No file of the process may grow beyond a limit: to a program that writes, that is a disk that is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_during_the_run_is_said_and_nothing_is_certified() {
    let server = server().await;
    let reports = tempfile::tempdir().expect("a folder");
    let output = Command::new("/bin/sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 700; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_partywall")])
        .args(["certify", "--postgres", &server.admin_url(), "--report-dir"])
        .arg(reports.path())
        .stdin(Stdio::null())
        .output()
        .expect("partywall runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("cannot write") && text.contains("history.ndjson.zst") && text.contains("--report-dir"),
        "{text}"
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("Inconclusive"), "what was known is told");
    server.stop().await;
}

#[test]
fn a_download_that_cannot_be_had_says_so_and_names_the_other_ways() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = partywall(&["certify", "--postgres", "download"], folder.path());
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:1");
    }
    let output = command.env("HOME", folder.path()).output().expect("partywall runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("download: ") && text.contains("network") && text.contains("--postgres"), "{text}");
}

#[test]
fn what_somebody_begins_with_is_written_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().display().to_string();
    let document = folder.path().join("openapi.json");
    std::fs::write(
        &document,
        r#"{"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {
        "/notes": {"post": {"operationId": "create_note", "responses": {"201": {"description": "made"}}}},
        "/notes/{id}": {"get": {"operationId": "read_note", "responses": {"200": {"description": "one"}}}}}}"#,
    )
    .expect("written");
    let document = document.display().to_string();
    check(&["init", "--dir", &dir, "--openapi", "nowhere.json"], 2, &["cannot read nowhere.json"]);
    let output = check(&["init", "--dir", &dir, "--openapi", &document], 0, &[]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("partywall-target.toml") && told.contains("certify --target"), "{told}");
    let target = folder.path().join("partywall-target.toml").display().to_string();
    let text = std::fs::read_to_string(&target).expect("a target file");
    assert!(
        text.contains("openapi = \"openapi.json\"") && text.contains("params = { \"id\" = \"notes.id\" }"),
        "{text}"
    );
    // It is as good as what a person writes: what is wanting is what the environment holds.
    check(&["certify", "--target", &target], 2, &["SERVICE_URL"]);
    check(&["init", "--dir", &dir], 2, &["partywall-target.toml is there already"]);
    assert_eq!(std::fs::read_to_string(&target).expect("a target file"), text);
}

#[tokio::test]
async fn a_database_is_marked_once_by_who_owns_it() {
    let postgres = Postgres::start(&Source::Installed, &Options::default()).await.expect("a Postgres");
    let mut connection = connect(&postgres.admin_url()).await.expect("a connection");
    execute(&mut connection, "CREATE ROLE guest LOGIN PASSWORD 'open-sesame'").await.expect("a role");
    execute(&mut connection, "CREATE DATABASE \"my \"\"own\"\"\"").await.expect("a database");
    execute(&mut connection, "COMMENT ON DATABASE \"my \"\"own\"\"\" IS 'the shop''s'").await.expect("a comment");
    let url = postgres.admin_url_for("my%20%22own%22");
    let guest = postgres.url_for("my%20%22own%22", "guest", "open-sesame");
    let output = check(&["init", "--database", &guest], 2, &["my \"own\" cannot be marked", "as its owner"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("open-sesame"));
    for says in ["COMMENT ON DATABASE \"my \"\"own\"\"\" IS NULL", "has the mark already"] {
        let output = check(&["init", "--database", &url], 0, &[]);
        assert!(String::from_utf8_lossy(&output.stdout).contains(says), "{output:?}");
    }
    let comment: String =
        sqlx::query_scalar("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname LIKE 'my%'")
            .fetch_one(&mut connection)
            .await
            .expect("a comment");
    assert_eq!(comment, "the shop's; partywall may write here");
    check(&["init", "--database", "postgres://a:open-sesame@127.0.0.1:1/x"], 4, &[]);
    postgres.stop().await;
}
