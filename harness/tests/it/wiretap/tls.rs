//! Encryption at the wiretap: ended towards clients, spoken towards the database, refused, or any of them together.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use partywall::postgres::Postgres;
use partywall::target::copy::execute;
use partywall::target::database::connect;
use partywall::wiretap::{Encryption, Identity, Trust, Upstream, Wiretap};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection};

use super::{cluster, lens};

/// A certificate of `localhost` alone, and its key, in PEM files of `folder`.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).expect("a certificate");
    let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
    std::fs::write(&certificate, made.cert.pem()).expect("a file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    (certificate, key)
}

/// A cluster that lets nobody in but under encryption, and its certificate.
async fn encrypted() -> (Postgres, PathBuf) {
    let postgres = cluster().await;
    let mut admin = connect(&postgres.admin_url()).await.expect("a connection");
    let folder: String = sqlx::query_scalar("SHOW data_directory").fetch_one(&mut admin).await.expect("a folder");
    let (certificate, key) = certificate(Path::new(&folder));
    let owner = std::fs::metadata(&folder).expect("it is there");
    for file in [&certificate, &key] {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        chown(file, Some(owner.uid()), Some(owner.gid())).expect("an owner");
    }
    execute(&mut admin, "CREATE ROLE sealed LOGIN SUPERUSER PASSWORD 'seal'").await.expect("a role");
    execute(&mut admin, "ALTER SYSTEM SET ssl = on").await.expect("a setting");
    let only = "DO $$ BEGIN EXECUTE format('COPY (VALUES (''hostssl all all 127.0.0.1/32 scram-sha-256'')) TO %L',
        current_setting('hba_file')); END $$; SELECT pg_reload_conf()";
    execute(&mut admin, only).await.expect("a setup");
    (postgres, certificate)
}

/// Where `postgres` answers, by the name that its certificate has, or by its address.
fn place(postgres: &Postgres, host: &str) -> Upstream {
    let Some(Upstream::Tcp(_, port)) = Upstream::of_url(&postgres.admin_url()) else { panic!("a place") };
    Upstream::Tcp(host.into(), port)
}

async fn tap(upstream: Upstream, identity: Option<Identity>, trust: Option<Trust>) -> Wiretap {
    let address = "127.0.0.1:0".parse().expect("an address");
    let encryption = Encryption { identity, trust };
    Wiretap::listen_with(address, upstream, encryption, lens()).await.expect("a wiretap")
}

/// What psql says by way of `tap`, with these words of its own: whether it was let in, and what it was told.
async fn psql(tap: &Wiretap, words: &str) -> (bool, String) {
    let ask = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let output = tokio::process::Command::new("psql")
        .args(["-XAtc", ask])
        .arg(format!("port={} user=sealed password=seal dbname=postgres {words}", tap.address().port()))
        .output()
        .await
        .expect("psql");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_string();
    (output.status.success(), text)
}

/// Whether sqlx is let in by way of `tap`, and reads what passes.
async fn sqlx_reads(tap: &Wiretap, mode: PgSslMode) -> bool {
    let options = PgConnectOptions::new().host("127.0.0.1").port(tap.address().port());
    let options = options.username("sealed").password("seal").database("postgres").ssl_mode(mode);
    let Ok(mut connection) = options.connect().await else { return false };
    let rows: Vec<(i32, String)> = sqlx::query_as("SELECT n, repeat('x', 3000) FROM generate_series(1, 100) n")
        .fetch_all(&mut connection)
        .await
        .expect("rows");
    PgConnection::close(connection).await.expect("an end");
    rows.len() == 100
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_for_encryption_is_refused_or_shown_a_certificate() {
    let postgres = cluster().await;
    let mut admin = connect(&postgres.admin_url()).await.expect("a connection");
    execute(&mut admin, "CREATE ROLE sealed LOGIN PASSWORD 'seal'").await.expect("a role");
    let folder = tempfile::tempdir().expect("a folder");
    let (shown, key) = certificate(folder.path());
    let upstream = || place(&postgres, "127.0.0.1");
    let throw_away = Some(Identity::throw_away().expect("a certificate"));
    let given = Some(Identity::of_files(&shown, &key).expect("a certificate"));
    let roots = format!("sslrootcert={}", shown.display());
    for (identity, words, let_in) in [
        (None, "host=127.0.0.1 sslmode=disable".to_string(), true),
        (None, "host=127.0.0.1 sslmode=prefer".into(), true),
        (None, "host=127.0.0.1 sslmode=require".into(), false),
        (throw_away.clone(), "host=127.0.0.1 sslmode=disable".into(), true),
        (throw_away.clone(), "host=127.0.0.1 sslmode=require".into(), true),
        (throw_away.clone(), format!("host=localhost sslmode=verify-full {roots}"), false),
        (given.clone(), format!("host=localhost sslmode=verify-full {roots}"), true),
        (given.clone(), format!("host=127.0.0.1 sslmode=verify-full {roots}"), false),
    ] {
        let tap = tap(upstream(), identity, None).await;
        let (success, said) = psql(&tap, &words).await;
        // To the database it goes on in the open.
        assert_eq!((success, said == "f"), (let_in, let_in), "{words}: {said}");
    }
    let open = tap(upstream(), None, None).await;
    assert!(!sqlx_reads(&open, PgSslMode::Require).await && sqlx_reads(&open, PgSslMode::Prefer).await);
    let ended = tap(upstream(), throw_away, None).await;
    assert!(sqlx_reads(&ended, PgSslMode::Require).await);
    assert_eq!(ended.take().backends.iter().map(|backend| backend.rows).sum::<u64>(), 100, "rows judged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_insists_on_encryption_is_spoken_to_so_and_known_as_well_as_is_asked() {
    let (postgres, shown) = encrypted().await;
    let trust = |mode: &str, roots: bool| Trust::of_mode(mode, roots.then_some(shown.as_path())).expect("a mode");
    for (mode, roots, host, let_in) in [
        ("prefer", false, "127.0.0.1", false),
        ("require", false, "127.0.0.1", true),
        ("verify-ca", true, "127.0.0.1", true),
        ("verify-ca", false, "localhost", false),
        ("verify-full", true, "localhost", true),
        ("verify-full", true, "127.0.0.1", false),
        ("verify-full", false, "localhost", false),
    ] {
        let open = tap(place(&postgres, host), None, trust(mode, roots)).await;
        let (success, said) = psql(&open, "host=127.0.0.1 sslmode=disable").await;
        assert_eq!((success, said == "t"), (let_in, let_in), "{mode} {host}: {said}");
        assert_eq!(sqlx_reads(&open, PgSslMode::Disable).await, let_in, "{mode} {host}");
    }
    // On both sides; what binds a password to its encryption cannot be, and is not.
    let identity = Some(Identity::throw_away().expect("a certificate"));
    let both = tap(place(&postgres, "localhost"), identity, trust("verify-full", true)).await;
    assert!(sqlx_reads(&both, PgSslMode::Require).await);
    let (success, said) = psql(&both, "host=127.0.0.1 sslmode=require channel_binding=disable").await;
    assert_eq!((success, said.as_str()), (true, "t"));
}

#[test]
fn what_is_no_certificate_or_mode_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (shown, key) = certificate(folder.path());
    let nothing = folder.path().join("nothing");
    std::fs::write(&nothing, "nothing").expect("a file");
    let told = |error: Option<partywall::error::Error>| error.map_or_else(String::new, |error| error.to_string());
    for (error, says) in [
        (told(Identity::of_files(&nothing, &key).err()), "holds no certificate"),
        (told(Identity::of_files(&shown, &nothing).err()), "holds no private key"),
        (told(Identity::of_files(Path::new("/nowhere"), &key).err()), "/nowhere"),
        (told(Trust::of_mode("verify-all", None).err()), "did you mean `verify-full`"),
        (told(Trust::of_mode("verify-full", Some(&nothing)).err()), "holds no certificate"),
        (told(Trust::of_url("postgres://h/d?sslmode=required").err()), "did you mean `require`"),
    ] {
        assert!(error.contains(says), "{error}");
    }
}
