//! Streams: whole, in spite of commits out of order, for the own tenant alone, and at an end when they must be.

use std::time::Duration;

use axum::body::BodyDataStream;
use axum::http::{Method, StatusCode};
use futures_util::StreamExt;
use partywall_reference::storage::moving;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tower::ServiceExt;
use uuid::Uuid;

use crate::program::{Program, command, free_port, get_text};
use crate::world::{Answer, Tenant, World, request};

const FROM: &str = "/v1/events/stream?from=2020-01-01T00:00:00Z";

/// The messages of a stream's text: id, and the event's id where there is one.
fn messages(text: &str) -> Vec<(String, Option<Uuid>)> {
    let field = |message: &str, name: &str| {
        message.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_string())
    };
    let event = |data: String| {
        let event: Value = serde_json::from_str(&data).expect("JSON");
        event["id"].as_str().and_then(|id| id.parse().ok()).expect("an event's id")
    };
    let all = text.split("\n\n").filter_map(|message| Some((field(message, "id:")?, message)));
    all.map(|(id, message)| (id, field(message, "data:").map(event))).collect()
}

fn events(text: &str) -> Vec<Uuid> {
    messages(text).into_iter().filter_map(|(_, event)| event).collect()
}

fn last_id(text: &str) -> String {
    messages(text).pop().expect("a message").0
}

async fn resumed(world: &World, token: &str, path: &str, id: &str) -> Answer {
    let mut request = request(token, Method::GET, path, None);
    request.headers_mut().insert("last-event-id", id.parse().expect("a header"));
    world.send(request).await
}

/// A stream that is read as it comes.
struct Open(BodyDataStream, String);

impl Open {
    async fn at(world: &World, token: &str, path: &str) -> Self {
        let response = world.router.clone().oneshot(request(token, Method::GET, path, None)).await.expect("answered");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(response.into_body().into_data_stream(), String::new())
    }

    /// Reads until `found`, or the end; false at the end, or when it takes longer than `most`.
    async fn until(&mut self, most: Duration, found: impl Fn(&str) -> bool) -> bool {
        let reading = async {
            while !found(&self.1) {
                let Some(bytes) = self.0.next().await else { return false };
                self.1.push_str(&String::from_utf8_lossy(&bytes.expect("bytes")));
            }
            true
        };
        tokio::time::timeout(most, reading).await.unwrap_or(false)
    }

    /// Whether it ends in time.
    async fn ends(&mut self, most: Duration) -> bool {
        tokio::time::timeout(most, async { while self.0.next().await.is_some() {} }).await.is_ok()
    }
}

#[tokio::test]
async fn a_stream_shows_the_own_tenants_events_as_they_come() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let before = world.event(&world.a, "member", "before").await;
    let mut now = Open::at(&world, &owner, "/v1/events/stream").await;
    let mut all = Open::at(&world, &owner, FROM).await;
    let theirs = world.event(&world.b, "member", "theirs").await;
    let after = world.event(&world.a, "member", "after").await;
    for stream in [&mut now, &mut all] {
        assert!(stream.until(Duration::from_secs(5), |text| text.contains(&after.to_string())).await, "{}", stream.1);
        assert!(!stream.1.contains(&theirs.to_string()));
    }
    assert_eq!((events(&now.1), events(&all.1)), (vec![after], vec![before, after]));
    Ok(())
}

#[tokio::test]
async fn a_stream_taken_up_again_anywhere_misses_nothing_and_repeats_nothing() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(world.event(&world.a, "member", "d").await);
    }
    let once = format!("{FROM}&for_s=0");
    let whole = world.get(&owner, &once).await.expect(200).text;
    assert_eq!(events(&whole), made);
    for (index, (id, _)) in messages(&whole).iter().enumerate() {
        let rest = resumed(&world, &owner, "/v1/events/stream?for_s=0", id).await.expect(200).text;
        assert_eq!(events(&rest), made[index..], "after {index}");
    }
    // More than one reading holds.
    let id = world.a.id;
    world.sql(&world.a, &planted(id, 450, "0 s")).await?;
    let (mut at, mut seen) = (last_id(&whole), Vec::new());
    for expected in [200, 200, 50, 0] {
        let part = resumed(&world, &owner, "/v1/events/stream?for_s=0", &at).await.expect(200).text;
        assert_eq!(events(&part).len(), expected);
        seen.extend(events(&part));
        at = last_id(&part);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 450);
    Ok(())
}

#[tokio::test]
async fn a_stream_taken_up_again_after_its_tenant_has_moved_misses_nothing_and_repeats_nothing() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let admin = world.database.url("postgres").parse()?;
    moving::tenant(&admin, world.a.id, "shared").await?;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(world.event(&world.a, "member", "d").await);
    }
    let again = "/v1/events/stream?for_s=0";
    let whole = world.get(&owner, &format!("{FROM}&for_s=0")).await.expect(200).text;
    // After one message, and after all; then in the middle of a reading of what is older than a stream looks back.
    let (middle, mut end) = (messages(&whole)[1].0.clone(), last_id(&whole));
    world.sql(&world.a, &planted(world.a.id, 250, "1 hour")).await?;
    let part = world.get(&owner, &format!("{FROM}&for_s=0")).await.expect(200).text;
    let (within, mut old) = (last_id(&part), events(&part));
    let rest = resumed(&world, &owner, again, &within).await.expect(200).text;
    old.extend(events(&rest));
    assert_eq!((old.len(), &old[250..]), (253, &made[..]));
    for to in ["schema", "database", "shared"] {
        moving::tenant(&admin, world.a.id, to).await?;
        let new = world.event(&world.a, "member", "d").await;
        made.push(new);
        let rest = resumed(&world, &owner, again, &end).await.expect(200).text;
        assert_eq!(events(&rest), [new], "after the end, in {to}");
        end = last_id(&rest);
        // What the reading under way has seen, then what has come since.
        for (id, left) in [(&middle, &made[1..3]), (&within, &old[200..])] {
            let rest = resumed(&world, &owner, again, id).await.expect(200).text;
            assert_eq!(events(&rest), left, "within a reading, in {to}");
            let rest = resumed(&world, &owner, again, &last_id(&rest)).await.expect(200).text;
            assert_eq!(events(&rest), made[3..], "after that reading, in {to}");
        }
    }
    Ok(())
}

fn planted(tenant: Uuid, count: u32, ago: &str) -> String {
    format!(
        "INSERT INTO events (tenant_id, id, occurred_at, recorded_at, actor_id, actor_email, actor_name, action, \
           target_type, target_id, target_name) \
         SELECT '{tenant}', gen_random_uuid(), now(), now() - interval '{ago}', gen_random_uuid(), '', '', 'late', 't', 'x', '' \
           FROM generate_series(1, {count})"
    )
}

#[tokio::test]
async fn events_that_are_committed_out_of_order_are_not_missed() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let mut slow: PgConnection = world.at_home(&world.a, "postgres").await?;
    let write = format!("BEGIN; {}", planted(world.a.id, 1, "10 s"));
    sqlx::raw_sql(AssertSqlSafe(write)).execute(&mut slow).await?;
    let early = world.event(&world.a, "member", "d").await;
    let first = world.get(&owner, &format!("{FROM}&for_s=0")).await.expect(200).text;
    assert_eq!(events(&first), [early]);
    sqlx::raw_sql("COMMIT").execute(&mut slow).await?;
    let next = world.event(&world.a, "member", "d").await;
    let second = resumed(&world, &owner, "/v1/events/stream?for_s=0", &last_id(&first)).await.expect(200).text;
    let shown = events(&second);
    assert!(shown.len() == 2 && shown[1] == next && second.contains("late"), "{second}");
    let third = resumed(&world, &owner, "/v1/events/stream?for_s=0", &last_id(&second)).await.expect(200).text;
    assert_eq!(events(&third), Vec::<Uuid>::new());
    Ok(slow.close().await?)
}

#[tokio::test]
async fn a_stream_ends_with_the_membership_or_the_session_and_no_other_ones() -> anyhow::Result<()> {
    let world = World::new().await?;
    let auditor = world.token(&world.a, "auditor").await;
    let signed_in = world.sign_in(&world.a, "admin").await;
    let admin = signed_in["access_token"].as_str().expect("a token");
    let owner = world.token(&world.a, "owner").await;
    let mut removed = Open::at(&world, &auditor, "/v1/events/stream").await;
    let mut left = Open::at(&world, admin, "/v1/events/stream").await;
    let mut stays = Open::at(&world, &owner, "/v1/events/stream").await;
    let gone = format!("DELETE FROM memberships WHERE person_id = '{}'", world.a.people["auditor"]);
    world.database.sql(&gone).await?;
    let renewal = serde_json::json!({"refresh_token": signed_in["refresh_token"]});
    world.post(admin, "/v1/sign-out", renewal).await.expect(204);
    assert!(removed.ends(Duration::from_secs(3)).await, "the membership has ended");
    assert!(left.ends(Duration::from_secs(3)).await, "the session has ended");
    let event = world.event(&world.a, "member", "d").await;
    assert!(stays.until(Duration::from_secs(5), |text| text.contains(&event.to_string())).await);
    world.get(&auditor, "/v1/events/stream").await.expect(401);
    Ok(())
}

#[tokio::test]
async fn a_message_id_of_another_tenant_or_list_opens_nothing() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (owner, intruder) = (world.token(&world.a, "owner").await, world.token(&world.b, "owner").await);
    for _ in 0..2 {
        world.event(&world.a, "member", "d").await;
    }
    let id = last_id(&world.get(&owner, &format!("{FROM}&for_s=0")).await.expect(200).text);
    let list = world.get(&owner, "/v1/events?limit=1").await.expect(200).json();
    let cursor = list["next_cursor"].as_str().expect("it goes on").to_string();
    resumed(&world, &intruder, "/v1/events/stream?for_s=0", &id).await.expect(400);
    world.get(&owner, &format!("/v1/events?limit=1&cursor={id}")).await.expect(400);
    for bad in [cursor.as_str(), "", "a.b", &id[1..], "x\u{7f}"] {
        let Ok(header) = axum::http::HeaderValue::from_bytes(bad.as_bytes()) else { continue };
        let mut request = request(&owner, Method::GET, "/v1/events/stream?for_s=0", None);
        request.headers_mut().insert("last-event-id", header);
        world.send(request).await.expect(400);
    }
    for bad in ["for_s=-1", "for_s=3601", "from=yesterday", "from=0001-01-01T00:00:00Z", "for_s=x"] {
        world.get(&owner, &format!("/v1/events/stream?{bad}")).await.expect(400);
    }
    Ok(())
}

#[tokio::test]
async fn streams_are_counted_per_tenant_and_hold_no_connection_while_they_wait() -> anyhow::Result<()> {
    let world = World::with(|settings| settings.pool_size = 1).await?;
    let owner = world.token(&world.a, "owner").await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(Open::at(&world, &owner, "/v1/events/stream").await);
    }
    assert_eq!(world.get(&owner, "/v1/events/stream?for_s=0").await.expect(429).headers["retry-after"], "1");
    let other: &Tenant = &world.b;
    Open::at(&world, &world.token(other, "owner").await, "/v1/events/stream").await;
    // The pool has one connection: were it held, nobody would be answered.
    for _ in 0..20 {
        let answered = tokio::time::timeout(Duration::from_secs(5), world.get(&owner, "/v1/me")).await;
        assert!(answered.is_ok_and(|answer| answer.status == 200));
        world.get(&owner, "/v1/events").await.expect(200);
    }
    open.pop();
    Open::at(&world, &owner, "/v1/events/stream?for_s=0").await;
    Ok(())
}

#[tokio::test]
async fn a_stream_ends_when_its_time_is_over_and_when_the_service_is_asked_to_end() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let mut short = Open::at(&world, &owner, "/v1/events/stream?for_s=1").await;
    assert!(short.ends(Duration::from_secs(4)).await);
    let port = free_port()?;
    let program = Program::start(command(env!("CARGO_BIN_EXE_audit-api"), &world.database, port), port).await?;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    tokio::io::AsyncWriteExt::write_all(&mut stream, get_text("/v1/events/stream", &owner).as_bytes()).await?;
    let mut first = [0; 12];
    stream.read_exact(&mut first).await?;
    assert_eq!(&first, b"HTTP/1.1 200");
    program.terminate()?;
    let (code, log) = tokio::time::timeout(Duration::from_secs(8), program.ended()).await??;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("cut off"), "{log}");
    Ok(())
}
