//! Clients that go away at any moment leave nothing on the connection that the next one gets.
//!
//! sqlx 0.8.4 to 0.9.0 can give a connection with an open transaction back to its pool when `begin()` is dropped
//! (issues 4385 and 4393 of its repository). A slow proxy holds `BEGIN` on its way, so that it is dropped right there.

use std::time::Duration;

use partywall_reference::problem::Problem;
use partywall_reference::scope::TenantScope;
use partywall_reference::storage::Storage;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Row};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::support::Database;

/// How long the proxy holds what passes.
const HELD: Duration = Duration::from_millis(4);
const ROUNDS: u64 = 60;

/// A port that leads to `port`, slowly, both ways.
async fn slow(port: u16) -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let own = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { break };
            let (client, server) = (client.into_split(), server.into_split());
            tokio::spawn(slowly(client.0, server.1));
            tokio::spawn(slowly(server.0, client.1));
        }
    });
    Ok(own)
}

async fn slowly(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        tokio::time::sleep(HELD).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}

async fn pool_of_one(database: &Database) -> anyhow::Result<PgPool> {
    let url = database.url_through(slow(database.port()).await?, "audit_app");
    Ok(PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(30)).connect(&url).await?)
}

/// What the next borrower finds: an open transaction, a bound tenant?
async fn leftovers(pool: &PgPool) -> anyhow::Result<(bool, String)> {
    // Outside a transaction, a simple query's own begins with it.
    let statement = "SELECT now() <> statement_timestamp(), coalesce(current_setting('app.tenant_id', true), '')";
    let row = sqlx::raw_sql(statement).fetch_one(pool).await?;
    Ok((row.get(0), row.get(1)))
}

/// Drops `begun` after each of many delays, and counts the rounds that were cut and those that left something behind.
async fn cut<F>(pool: &PgPool, begun: impl Fn() -> F) -> anyhow::Result<(u64, u64)>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (mut cut, mut dirty) = (0, 0);
    for round in 0..ROUNDS {
        // A request's way is four to eight times what the proxy holds: this falls into every part of it.
        let wait = Duration::from_micros(round * 613 % 34_000);
        cut += u64::from(tokio::time::timeout(wait, begun()).await.is_err());
        dirty += u64::from(leftovers(pool).await? != (false, String::new()));
        // Whatever was found, the next round begins on a clean connection.
        sqlx::raw_sql("ROLLBACK").execute(pool).await?;
    }
    Ok((cut, dirty))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_dropped_at_any_point_leaves_nothing_behind() -> anyhow::Result<()> {
    let database = Database::migrated().await?;
    let pool = pool_of_one(&database).await?;
    let scope = TenantScope::of(Storage::new(pool.clone()), Uuid::new_v4());
    let (cut, dirty) = cut(&pool, || {
        let scope = scope.clone();
        async move {
            let counted =
                scope.run(|store| Box::pin(async move { store.count_in_directory("memberships").await })).await;
            assert!(counted.is_ok(), "{counted:?}");
        }
    })
    .await?;
    assert!(cut > ROUNDS / 3, "clients went away in the middle: {cut}");
    assert_eq!(dirty, 0, "of {cut} that went away");
    Ok(())
}

/// The control: the same, with `begin()` straight from the pool, is seen to leave open transactions behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_begin_dropped_the_same_way_leaves_open_transactions() -> anyhow::Result<()> {
    let database = Database::migrated().await?;
    let pool = pool_of_one(&database).await?;
    let (cut, dirty) = cut(&pool, || {
        let pool = pool.clone();
        async move {
            let transaction = pool.begin().await;
            assert!(transaction.is_ok());
            // Dropped as a handler's would be: rolled back by sqlx when the connection is next used.
        }
    })
    .await?;
    assert!(dirty > 0, "sqlx holds by itself now ({cut} were dropped): the scope's task may go");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_that_fails_panics_or_is_ended_by_the_server_leaves_nothing_either() -> anyhow::Result<()> {
    let database = Database::migrated().await?;
    let pool = pool_of_one(&database).await?;
    let scope = TenantScope::of(Storage::new(pool.clone()), Uuid::new_v4());
    let failed: Result<(), _> = scope.run(|_| Box::pin(async { Err(Problem::NotFound) })).await;
    assert!(matches!(failed, Err(Problem::NotFound)));
    assert_eq!(leftovers(&pool).await?, (false, String::new()));
    let panicked: Result<(), _> = scope.run(|_| Box::pin(async { panic!("on purpose") })).await;
    assert!(matches!(panicked, Err(Problem::Internal)));
    assert_eq!(leftovers(&pool).await?, (false, String::new()));
    let admin = database.url("postgres");
    let ended = scope.run(move |store| {
        Box::pin(async move {
            let pool = PgPool::connect(&admin).await?;
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'audit_app' AND datname = current_database()";
            sqlx::query(end).execute(&pool).await?;
            store.count_in_directory("memberships").await
        })
    });
    assert!(ended.await.is_err());
    assert_eq!(leftovers(&pool).await?, (false, String::new()));
    Ok(())
}
