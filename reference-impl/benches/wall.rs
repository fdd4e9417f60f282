//! What the wall costs, at a million events of a thousand tenants. Needs PostgreSQL binaries.
//!
//! - A list and a get behind row security against the same in the same envelope, as a database role with the same rights
//!   that row security does not apply to: the store writes the tenant predicate by hand in any case.
//! - The envelope (begin, bind, query, commit) against the bare statement.
//! - A bulk against raw COPY of the same rows into the same table.
//! - Lists over HTTP against a handler that returns a constant of the same size, to as many clients at once.
//!
//! `plans`, `reading`, `writing` and `serving` as arguments choose among them.

mod setting;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Params, Version};
use futures_util::future::try_join_all;
use partywall_reference::config::{Databases, Serve};
use partywall_reference::http::event::NewEvent;
use partywall_reference::scope::TenantScope;
use partywall_reference::storage::Storage;
use partywall_reference::store::Sight;
use partywall_reference::store::events::Filter;
use serde_json::json;
use setting::support::Database;
use setting::{median, one, plant, tenants};
use sqlx::{AssertSqlSafe, PgPool, Row};
use time::OffsetDateTime;
use uuid::Uuid;

const TENANTS: u32 = 1_000;
const EVENTS: u32 = 1_000_000;
/// Items of a list.
const PAGE: i64 = 50;
/// Lines of a bulk: as many as one may have.
const BULK: usize = 1_000;
/// Rounds of a comparison, after one that warms up.
const ROUNDS: usize = 25;
/// Clients over HTTP: as many as leave no core without work, or a round measures how long a sleeping one takes to wake.
const CLIENTS: usize = 192;
/// Requests of each, one after the other, in a round.
const ASKED: usize = 20;
/// Connections of the service's pool.
const POOL: u32 = 64;
const COLUMNS: &str = "id, occurred_at, recorded_at, actor_id, actor_email, actor_name, action, target_type, target_id, \
                       target_name, outcome, source_ip, user_agent, external_id, details";
const PASSWORD: &str = "correct horse battery staple";

/// As the service has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = Database::migrated().await?;
    plant(&database, TENANTS, EVENTS).await?;
    database.sql("CREATE ROLE audit_open LOGIN BYPASSRLS IN ROLE audit_app").await?;
    let (walled, open, bare) =
        (one(&database, "audit_app").await?, one(&database, "audit_open").await?, one(&database, "postgres").await?);
    let tenants = tenants(&open, 200).await?;
    let parts: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|word| word == part);
    if wanted("plans") {
        plans(&walled, &tenants).await?;
    }
    if wanted("reading") {
        reading(&walled, &open, &bare, &tenants).await?;
    }
    if wanted("writing") {
        writing(&walled, &bare, &tenants).await?;
    }
    if wanted("serving") {
        serving(&database, &tenants).await?;
    }
    Ok(())
}

/// Every plan behind the wall goes through an index that the tenant leads.
async fn plans(walled: &PgPool, tenants: &[Uuid]) -> anyhow::Result<()> {
    let mut transaction = walled.begin().await?;
    let bind = "SELECT set_config('app.tenant_id', $1::text, true)";
    sqlx::query(bind).bind(tenants[0].to_string()).execute(&mut *transaction).await?;
    for (what, narrowed) in [
        ("a list", "ORDER BY occurred_at DESC, id DESC LIMIT 50"),
        ("an actor's list", "AND actor_id = md5('actor 1')::uuid ORDER BY occurred_at DESC, id DESC LIMIT 50"),
        ("a get", "AND id = md5('some')::uuid"),
    ] {
        let explain = format!("EXPLAIN SELECT {COLUMNS} FROM events WHERE tenant_id = '{}' {narrowed}", tenants[0]);
        let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&mut *transaction).await?;
        let scans = lines.iter().filter(|line| line.contains("Scan")).count();
        let by_tenant = lines.iter().filter(|line| line.contains("Cond") && line.contains("tenant_id")).count();
        println!("{what}: {by_tenant} of {scans} scans by an index that the tenant leads");
    }
    Ok(())
}

async fn reading(walled: &PgPool, open: &PgPool, bare: &PgPool, tenants: &[Uuid]) -> anyhow::Result<()> {
    let sample =
        "SELECT tenant_id, id FROM events TABLESAMPLE BERNOULLI (1) REPEATABLE (7) ORDER BY md5(id::text) LIMIT 4000";
    let events: Vec<(Uuid, Uuid)> = sqlx::query_as(sample).fetch_all(bare).await?;
    let list = |pool: &PgPool| {
        let storage = Storage::new(pool.clone());
        async move |number: usize| {
            let scope = TenantScope::of(storage.clone(), tenants[number % tenants.len()]);
            let events = scope
                .run(|store| Box::pin(async move { store.events(&Filter::default(), &Sight::All, None, PAGE).await }));
            assert_eq!(events.await?.len() as i64, PAGE + 1);
            anyhow::Ok(())
        }
    };
    let bare_list = async |number: usize| {
        let statement =
            format!("SELECT {COLUMNS} FROM events WHERE tenant_id = $1 ORDER BY occurred_at DESC, id DESC LIMIT $2");
        let query = sqlx::query(AssertSqlSafe(statement)).bind(tenants[number % tenants.len()]).bind(PAGE + 1);
        assert_eq!(query.fetch_all(bare).await?.len() as i64, PAGE + 1);
        anyhow::Ok(())
    };
    tell("list behind row security, of without", compared(100, list(walled), list(open)).await?, 0.95);
    tell("list in its envelope, of the bare statement", compared(100, list(walled), bare_list).await?, 0.6);

    let get = |pool: &PgPool| {
        let (storage, events) = (Storage::new(pool.clone()), &events);
        async move |number: usize| {
            let (tenant, id) = events[number % events.len()];
            let scope = TenantScope::of(storage.clone(), tenant);
            let event = scope.run(move |store| Box::pin(async move { store.event(id, &Sight::All).await })).await?;
            assert_eq!(event.id, id);
            anyhow::Ok(())
        }
    };
    let bare_get = async |number: usize| {
        let (tenant, id) = events[number % events.len()];
        let statement = format!("SELECT {COLUMNS} FROM events WHERE tenant_id = $1 AND id = $2");
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).fetch_one(bare).await?;
        assert_eq!(row.get::<Uuid, _>("id"), id);
        anyhow::Ok(())
    };
    tell("get behind row security, of without", compared(200, get(walled), get(open)).await?, 0.95);
    tell("get in its envelope, of the bare statement", compared(200, get(walled), bare_get).await?, 0.6);
    Ok(())
}

async fn writing(walled: &PgPool, bare: &PgPool, tenants: &[Uuid]) -> anyhow::Result<()> {
    let storage = Storage::new(walled.clone());
    let bulk = async |number: usize| {
        let events: Vec<NewEvent> = (0..BULK).map(|line| new_event(number * BULK + line)).collect::<Result<_, _>>()?;
        let scope = TenantScope::of(storage.clone(), tenants[number % tenants.len()]);
        let written = scope.run(move |store| Box::pin(async move { store.add_events(events).await })).await?;
        assert_eq!(written.len(), BULK);
        anyhow::Ok(())
    };
    let copy = async |number: usize| {
        let tenant = tenants[number % tenants.len()];
        let rows = copied(tenant, number * BULK..(number + 1) * BULK);
        let mut connection = bare.acquire().await?;
        let statement = "COPY events (tenant_id, id, occurred_at, recorded_at, actor_id, actor_email, actor_name, action, \
                         target_type, target_id, target_name, outcome, source_ip, user_agent, external_id, details) FROM STDIN";
        let mut copy = connection.copy_in_raw(statement).await?;
        copy.send(rows.as_bytes()).await?;
        assert_eq!(copy.finish().await?, BULK as u64);
        anyhow::Ok(())
    };
    tell("a bulk of 1,000, of raw COPY", compared(4, bulk, copy).await?, 0.5);
    Ok(())
}

fn new_event(number: usize) -> anyhow::Result<NewEvent> {
    Ok(serde_json::from_value(json!({
        "occurred_at": "2026-03-01T10:00:00.123456Z",
        "actor": {"id": Uuid::from_u128(number as u128), "email": format!("person{number}@example.com"), "name": format!("Person {number}")},
        "action": "document.shared",
        "target": {"type": "document", "id": format!("doc-{number}"), "name": format!("Document {number}")},
        "source_ip": "192.0.2.7", "user_agent": "Mozilla/5.0 (X11; Linux x86_64)", "outcome": "success",
        "external_id": format!("req-{number}"), "details": {"attempt": 1, "via": "web"}
    }))?)
}

/// The same as COPY reads it.
fn copied(tenant: Uuid, numbers: std::ops::Range<usize>) -> String {
    let mut rows = String::new();
    for number in numbers {
        let (id, actor) = (Uuid::now_v7(), Uuid::from_u128(number as u128));
        let now = OffsetDateTime::now_utc();
        let _ = writeln!(
            rows,
            "{tenant}\t{id}\t2026-03-01T10:00:00.123456Z\t{now}\t{actor}\tperson{number}@example.com\tPerson {number}\t\
             document.shared\tdocument\tdoc-{number}\tDocument {number}\tsuccess\t192.0.2.7\tMozilla/5.0 (X11; Linux x86_64)\t\
             req-{number}\t{{\"attempt\": 1, \"via\": \"web\"}}"
        );
    }
    rows
}

async fn serving(database: &Database, tenants: &[Uuid]) -> anyhow::Result<()> {
    let cheap = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).expect("parameters"));
    let hash = cheap.hash_password(PASSWORD.as_bytes()).expect("a hash").to_string();
    for tenant in &tenants[..CLIENTS] {
        let person = format!(
            "INSERT INTO people (id, email, name, password_hash, is_platform) \
             VALUES ('{tenant}', 'owner@{tenant}.example', 'Owner', '{hash}', false); \
             INSERT INTO memberships (tenant_id, person_id, role, display_name, email) \
             VALUES ('{tenant}', '{tenant}', 'owner', 'Owner', 'owner@{tenant}.example')"
        );
        database.sql(&person).await?;
    }
    let service = partywall_reference::http::router(partywall_reference::serve::app(&settings(database)).await?);
    let service = listen(service).await?;
    let client = reqwest::Client::new();
    let mut tokens = Vec::new();
    for tenant in &tenants[..CLIENTS] {
        let body = json!({"email": format!("owner@{tenant}.example"), "password": PASSWORD}).to_string();
        let request =
            client.post(format!("{service}/v1/sign-in")).header("content-type", "application/json").body(body);
        let answer: serde_json::Value = serde_json::from_str(&request.send().await?.error_for_status()?.text().await?)?;
        tokens.push(answer["access_token"].as_str().unwrap_or_default().to_string());
    }
    let list = format!("{service}/v1/events?limit={PAGE}");
    let answer = client.get(&list).bearer_auth(&tokens[0]).send().await?.error_for_status()?.bytes().await?;
    let size = answer.len();
    let constant = listen(axum::Router::new().route("/", axum::routing::get(async move || answer.clone()))).await?;
    let all = async |url: &str| {
        let asked = tokens.iter().map(|token| {
            let (client, url, token) = (client.clone(), url.to_string(), token.clone());
            // None waits for the slowest but at the end.
            tokio::spawn(async move {
                for _ in 0..ASKED {
                    let answer = client.get(&url).bearer_auth(&token).send().await?.error_for_status()?;
                    anyhow::ensure!(answer.bytes().await?.len() > size / 2, "a list that is too short");
                }
                anyhow::Ok(())
            })
        });
        for ended in try_join_all(asked).await? {
            ended?;
        }
        Ok(())
    };
    tell(
        "lists over HTTP, of a constant",
        compared(1, async |_| all(&list).await, async |_| all(&constant).await).await?,
        0.6,
    );
    Ok(())
}

fn settings(database: &Database) -> Serve {
    Serve {
        listen: ([127, 0, 0, 1], 0).into(),
        databases: Databases {
            database_url: database.url("audit_app"),
            login_database_url: database.url("audit_login"),
            platform_database_url: database.url("audit_platform"),
        },
        pool_size: POOL,
        objects: None,
        rate_tenant: 1_000_000,
        rate_principal: 1_000_000,
        streams: 1,
        webhooks: 20,
        plain_http: false,
        token_key: "00".repeat(32),
        with_worker: false,
        worker_database_url: None,
        webhook_private: false,
        seal_every_s: 86_400,
    }
}

/// Serves on a port of its own until the program ends; where.
async fn listen(router: axum::Router) -> anyhow::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

/// Two ways to do the same, in turns: what each takes a time at the median of its rounds.
async fn compared(
    times: usize,
    mut one: impl AsyncFnMut(usize) -> anyhow::Result<()>,
    mut other: impl AsyncFnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<(Duration, Duration)> {
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let numbers = round * times..(round + 1) * times;
        let began = Instant::now();
        for number in numbers.clone() {
            one(number).await?;
        }
        let half = Instant::now();
        for number in numbers {
            other(number).await?;
        }
        if round > 0 {
            ones.push((half - began) / times as u32);
            others.push(half.elapsed() / times as u32);
        }
    }
    Ok((median(ones), median(others)))
}

/// Tells how fast `ours` is against `peer`.
fn tell(what: &str, (ours, peer): (Duration, Duration), limit: f64) {
    let ratio = peer.as_secs_f64() / ours.as_secs_f64();
    println!("{what}: {ratio:.2} ({ours:.1?} against {peer:.1?}; limit {limit:.2})");
}
