//! Fills a fresh database with two tenants of plausible events, to try the page on. What they hold is data:
//! `scenarios/content/audit.json`.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, ensure};
use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use sqlx::PgPool;
use time::{Duration, OffsetDateTime, Time, Weekday};
use uuid::Uuid;

use crate::http::event::{Actor, NewEvent, Outcome, Target};
use crate::scope::TenantScope;
use crate::storage::Storage;
use crate::store::Sight;
use crate::token;

const CONTENT: &str = include_str!("../../scenarios/content/audit.json");
/// Events a tenant.
const EVENTS: usize = 600;
/// The days that they lie in.
const DAYS: i64 = 30;
/// The roles of a tenant's people, in order.
const ROLES: [&str; 4] = ["owner", "admin", "auditor", "member"];

/// What the demo draws from.
#[derive(Deserialize)]
struct Content {
    tenants: Vec<Name>,
    people: Vec<String>,
    agents: Vec<String>,
    notes: Vec<String>,
    events: Vec<Kind>,
}

#[derive(Deserialize)]
struct Name {
    slug: String,
    name: String,
}

/// A kind of event.
#[derive(Deserialize)]
struct Kind {
    action: String,
    target_type: String,
    targets: Vec<String>,
    /// How common it is.
    weight: u32,
    failures_percent: u32,
    details: serde_json::Map<String, serde_json::Value>,
}

/// Fills the migrated database at `url`, an administrator's; answers who may sign in.
///
/// # Errors
/// A database that cannot be reached, or that has tenants already.
pub async fn fill(url: &str) -> anyhow::Result<String> {
    let content: Content = serde_json::from_str(CONTENT).context("scenarios/content/audit.json")?;
    let pool = PgPool::connect_with(crate::serve::options(url)?).await.context("no database")?;
    let taken: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM tenants)").fetch_one(&pool).await?;
    ensure!(!taken, "this database has tenants already: the demo wants a fresh one");
    let password = token::secret("")[..12].to_string();
    let hash =
        Argon2::default().hash_password(password.as_bytes()).map_err(|_| anyhow::anyhow!("no hash"))?.to_string();
    // The same events each time; only ids, times and the password differ.
    let mut rng = StdRng::seed_from_u64(7);
    let mut told = format!("password of all: {password}\n");
    let mut first = None;
    for (tenant, names) in content.tenants.iter().zip(content.people.chunks(ROLES.len())) {
        let id = Uuid::now_v7();
        let insert = "INSERT INTO tenants (id, slug, name) VALUES ($1, $2, $3)";
        sqlx::query(insert).bind(id).bind(&tenant.slug).bind(&tenant.name).execute(&pool).await?;
        let mut actors = Vec::new();
        for (name, role) in names.iter().zip(ROLES) {
            let email = format!("{}@{}.example", name.to_lowercase().replace(' ', "."), tenant.slug);
            let actor = Actor { id: Uuid::now_v7(), email, name: name.clone() };
            let insert = "INSERT INTO people (id, email, name, password_hash) VALUES ($1, $2, $3, $4)";
            sqlx::query(insert).bind(actor.id).bind(&actor.email).bind(name).bind(&hash).execute(&pool).await?;
            belong(&pool, id, &actor, role).await?;
            told.push_str(&format!("{:<9} {:<24} {}\n", role, tenant.name, actor.email));
            actors.push(actor);
        }
        let events = (0..EVENTS).map(|_| event(&content, &actors, &mut rng)).collect();
        write(&pool, id, events, actors[0].id, content.notes.clone()).await?;
        // Whoever owns the first also audits the others: someone to switch tenants with.
        match &first {
            None => first = Some(actors[0].clone()),
            Some(guest) => belong(&pool, id, guest, "auditor").await?,
        }
    }
    pool.close().await;
    Ok(told)
}

async fn belong(pool: &PgPool, tenant: Uuid, actor: &Actor, role: &str) -> anyhow::Result<()> {
    let insert =
        "INSERT INTO memberships (tenant_id, person_id, role, display_name, email) VALUES ($1, $2, $3, $4, $5)";
    sqlx::query(insert)
        .bind(tenant)
        .bind(actor.id)
        .bind(role)
        .bind(&actor.name)
        .bind(&actor.email)
        .execute(pool)
        .await?;
    Ok(())
}

/// Writes a tenant's events as the service does, and annotates those that failed gravely.
async fn write(
    pool: &PgPool,
    tenant: Uuid,
    events: Vec<NewEvent>,
    author: Uuid,
    notes: Vec<String>,
) -> anyhow::Result<()> {
    let scope = TenantScope::of(Storage::new(pool.clone()), tenant);
    scope
        .run(move |store| {
            Box::pin(async move {
                let written = store.add_events(events).await?;
                let grave = written.iter().filter(|event| event.details["severity_id"].as_i64() >= Some(4));
                for (event, note) in grave.zip(notes.iter().cycle()) {
                    store.annotate(event.id, &Sight::All, author, note).await?;
                }
                Ok(())
            })
        })
        .await
        .context("events could not be written")
}

fn event(content: &Content, actors: &[Actor], rng: &mut StdRng) -> NewEvent {
    let mut at = rng.random_range(0..content.events.iter().map(|kind| kind.weight).sum::<u32>());
    let drawn = content.events.iter().find(|kind| {
        let found = at < kind.weight;
        at = at.saturating_sub(kind.weight);
        found
    });
    let kind = drawn.unwrap_or(&content.events[0]);
    let target = rng.random_range(0..kind.targets.len());
    let failed = rng.random_range(0..100) < kind.failures_percent;
    let network = [[192, 0, 2], [198, 51, 100], [203, 0, 113]][rng.random_range(0..3)];
    let [a, b, c] = network;
    NewEvent {
        occurred_at: Some(instant(rng)),
        actor: actors[rng.random_range(0..actors.len())].clone(),
        action: kind.action.clone(),
        target: Target {
            kind: kind.target_type.clone(),
            id: format!("{}-{:04}", &kind.target_type, 1 + target * 37),
            name: kind.targets[target].clone(),
        },
        outcome: if failed { Outcome::Failure } else { Outcome::Success },
        source_ip: Some(IpAddr::V4(Ipv4Addr::new(a, b, c, rng.random_range(1..255)))),
        user_agent: Some(content.agents[rng.random_range(0..content.agents.len())].clone()),
        external_id: None,
        details: kind.details.clone(),
    }
}

/// An instant of the last days, mostly at work.
fn instant(rng: &mut StdRng) -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    loop {
        let day = now - Duration::days(rng.random_range(0..DAYS));
        let idle = matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
        let hour = if rng.random_range(0..8) == 0 { rng.random_range(0..24) } else { rng.random_range(7..18) };
        let time =
            Time::from_hms_milli(hour, rng.random_range(0..60), rng.random_range(0..60), rng.random_range(0..1000));
        let at = day.replace_time(time.unwrap_or(Time::MIDNIGHT));
        if at <= now && !(idle && rng.random_range(0..5) > 0) {
            return at;
        }
    }
}
