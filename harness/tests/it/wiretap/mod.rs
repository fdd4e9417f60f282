//! The wiretap over real sockets, before a real Postgres: what passes is what would pass without it, and what is no
//! conversation ends in words.

mod bad;
mod client;
mod fault;
mod same;
mod tls;

use std::time::{Duration, Instant};

use client::{Client, message};
use partywall::canary::{Canary, Mint, Owner, Scanner, TimeWindow};
use partywall::postgres::{Options, Postgres, Source};
use partywall::seed::Seed;
use partywall::target::copy::execute;
use partywall::target::database::{close, connect};
use partywall::wire::{Means, What};
use partywall::wiretap::{Binding, Lens, Upstream, Wiretap};

/// A cluster that lets the role `raw` in without a password, so that a conversation is the same each time.
async fn cluster() -> Postgres {
    let postgres = Postgres::start(&Source::Auto, &Options::default()).await.expect("a Postgres");
    let mut admin = connect(&postgres.admin_url()).await.expect("a connection");
    let setup = "CREATE ROLE raw LOGIN SUPERUSER; CREATE ROLE hashed LOGIN PASSWORD 'cat'; CREATE ROLE plain LOGIN PASSWORD 'dog';
         SET password_encryption = 'md5'; ALTER ROLE hashed PASSWORD 'cat'; RESET password_encryption;
         CREATE TABLE wall (id int PRIMARY KEY, text text);
         DO $$ BEGIN EXECUTE format('COPY (VALUES (''host all raw 127.0.0.1/32 trust''), (''host all hashed 127.0.0.1/32 md5''),
           (''host all plain 127.0.0.1/32 password''), (''host all all 127.0.0.1/32 scram-sha-256'')) TO %L',
           current_setting('hba_file')); END $$;
         SELECT pg_reload_conf()";
    execute(&mut admin, setup).await.expect("a setup");
    close(admin).await.expect("an end");
    postgres
}

const WINDOW: TimeWindow = TimeWindow { start_unix_s: 1_750_000_000, seconds: 86_400, owners: 4, rows_per_owner: 4 };

fn lens() -> Lens {
    Lens::new(
        Scanner::new(Seed(5).canary_key(0), WINDOW),
        Binding { settings: vec!["app.tenant".into()], ..Binding::default() },
    )
}

async fn tap(upstream: Upstream) -> Wiretap {
    Wiretap::listen("127.0.0.1:0".parse().expect("an address"), upstream, lens()).await.expect("a wiretap")
}

/// A cluster, and a wiretap before it.
async fn tapped() -> (Postgres, Wiretap) {
    let postgres = cluster().await;
    let wiretap = tap(Upstream::of_url(&postgres.admin_url()).expect("a place")).await;
    (postgres, wiretap)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_request_reaches_its_own_backend_alone() {
    let (_postgres, wiretap) = tapped().await;
    let began = Instant::now();
    let (mut one, mut other) = (Client::start(wiretap.address()).await, Client::start(wiretap.address()).await);
    one.send(&message(b'Q', b"SELECT pg_sleep(60)\0")).await;
    other.send(&message(b'Q', b"SELECT 7 FROM pg_sleep(2)\0")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    one.cancel(wiretap.address()).await;
    let ended = one.ready().await;
    assert!(
        ended.iter().any(|(tag, body)| *tag == b'E' && body.windows(6).any(|w| w == b"C57014")),
        "it was not cancelled"
    );
    let told = other.ready().await;
    assert!(told.iter().any(|(tag, body)| *tag == b'D' && body.ends_with(b"7")), "the other one was cancelled, too");
    one.send(&message(b'Q', b"SELECT 1\0")).await;
    assert!(one.ready().await.iter().any(|(tag, _)| *tag == b'D'), "it goes on");
    assert!(began.elapsed() < Duration::from_secs(30));
}

/// What sqlx sees, by way of `url`.
async fn by_sqlx(url: &str) -> Vec<String> {
    use sqlx::postgres::{PgConnection, PgListener, PgPool};
    use sqlx::{Connection, Row};
    let mut seen = Vec::new();
    let pool = PgPool::connect(url).await.expect("a pool");
    let mut listener = PgListener::connect_with(&pool).await.expect("a listener");
    listener.listen("news").await.expect("a channel");
    let mut tx = pool.begin().await.expect("a transaction");
    for id in 0..50i32 {
        sqlx::query("INSERT INTO wall VALUES ($1, $2)")
            .bind(id)
            .bind(format!("row {id}"))
            .execute(&mut *tx)
            .await
            .expect("a row");
    }
    let rows = sqlx::query("SELECT id, text, now() - now() AS none, ARRAY[id] AS ids FROM wall ORDER BY id")
        .fetch_all(&mut *tx)
        .await;
    seen.extend(
        rows.expect("rows").iter().map(|row| format!("{:?} {:?}", row.get::<i32, _>(0), row.get::<Vec<i32>, _>(3))),
    );
    let failed = sqlx::query("INSERT INTO wall VALUES (1, 'twice')").execute(&mut *tx).await.expect_err("it is there");
    seen.push(failed.to_string());
    tx.rollback().await.expect("a rollback");
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    let mut copy = connection.copy_in_raw("COPY wall FROM STDIN").await.expect("a copy");
    for id in 0..20_000 {
        copy.send(format!("{id}\t{}\n", "x".repeat(200)).into_bytes()).await.expect("room");
    }
    seen.push(copy.finish().await.expect("an end").to_string());
    sqlx::query("SELECT pg_notify('news', 'from ' || count(*)) FROM wall")
        .execute(&mut connection)
        .await
        .expect("news");
    seen.push(listener.recv().await.expect("news").payload().to_string());
    let long: String = sqlx::query_scalar("SELECT $1 || repeat('y', 5000000)")
        .bind("z".repeat(5_000_000))
        .fetch_one(&pool)
        .await
        .expect("it");
    seen.push(format!("{} {}", long.len(), long.ends_with('y')));
    drop(listener);
    sqlx::query("TRUNCATE wall").execute(&pool).await.expect("an end");
    pool.close().await;
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlx_and_psql_see_the_same_and_every_way_to_prove_who_one_is_passes() {
    let (postgres, wiretap) = tapped().await;
    let direct = postgres.admin_url();
    let through = partywall::wiretap::through(&direct, wiretap.address(), false).expect("a URL");
    assert_eq!(by_sqlx(&direct).await, by_sqlx(&through).await);
    let rows: u64 = wiretap.take().backends.iter().map(|backend| backend.rows).sum();
    assert!(rows >= 50, "{rows} rows judged");
    for (user, password) in [("hashed", "cat"), ("plain", "dog"), ("hashed", "no"), ("plain", "no"), ("nobody", "x")] {
        let mut said = Vec::new();
        for address in [direct.as_str(), through.as_str()] {
            let place = address.rsplit_once('@').expect("a place").1;
            let url = format!("postgres://{user}:{password}@{place}");
            let output = tokio::process::Command::new("psql")
                .args(["-Atc", "\\echo here\nSELECT 1", "-c", "\\d wall"])
                .arg(url)
                .output()
                .await
                .expect("psql");
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            // Where it was refused names the port.
            said.push((
                output.status.code(),
                text.lines().map(|line| line.rsplit("FATAL").next().unwrap_or(line).to_string()).collect::<Vec<_>>(),
            ));
        }
        assert_eq!(said[0], said[1], "{user}");
        assert_eq!(said[0].0 == Some(0), ["cat", "dog"].contains(&password), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_names_its_owner_whatever_format_it_comes_in() {
    use same::{bind, describe, execute as run, parse, q, sync};
    let (_postgres, wiretap) = tapped().await;
    let mint = Mint::new(Seed(5).canary_key(0), WINDOW);
    let number = mint.bigint(Canary { owner: Owner::new(2), row: 1, column: 1 });
    // What the client itself says shows nothing.
    let sql = format!("SELECT {}::bigint + 1 AS n", number - 1);
    let prepared = [parse("s", &sql), describe(b'S', "s"), sync()].concat();
    let mut client = Client::start(wiretap.address()).await;
    client.send(&prepared).await;
    client.ready().await;
    for (way, asked) in [
        ("text", q(&sql)),
        ("a copy", q(&format!("COPY ({sql}) TO STDOUT"))),
        ("a copy in binary", q(&format!("COPY ({sql}) TO STDOUT (FORMAT binary)"))),
        ("a cursor in binary", q(&format!("BEGIN; DECLARE c BINARY CURSOR FOR {sql}; SELECT 1; FETCH c; COMMIT"))),
        ("text that was bound", [bind("", "s", &[], 0), run("", 0), sync()].concat()),
        ("binary that was bound", [bind("", "s", &[], 1), run("", 0), sync()].concat()),
        ("binary that was described", [bind("", "s", &[], 1), describe(b'P', ""), run("", 0), sync()].concat()),
        ("binary after text", [q("SELECT 1"), bind("", "s", &[], 1), run("", 0), sync()].concat()),
    ] {
        client.send(&asked).await;
        client.ready().await;
        if way == "binary after text" {
            client.ready().await;
        }
        // The last of it is judged once it was passed on.
        let mut seen = Vec::new();
        for _ in 0..200 {
            seen.extend(wiretap.take().facts.into_iter().map(|fact| fact.what));
            if !seen.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let owners = vec![Owner::new(2)];
        let wanted = |what: &What| matches!(what, What::Seen { means: Means::Row, owners: of, .. } if *of == owners);
        assert!(seen.len() == 1 && seen.iter().all(wanted), "{way}: {seen:?}");
    }
}
