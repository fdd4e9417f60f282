//! Writing events: as answered so kept, once for a key, all or none in bulk.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};

use crate::world::{Answer, World, event};

async fn keyed(world: &World, token: &str, key: &str, body: &Value) -> Answer {
    let request = Request::post("/v1/events")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header("Idempotency-Key", key)
        .body(Body::from(body.to_string()))
        .expect("a request");
    world.send(request).await
}

async fn bulk(world: &World, token: &str, lines: String) -> Answer {
    let request = Request::post("/v1/events/bulk")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .body(Body::from(lines))
        .expect("a request");
    world.send(request).await
}

async fn count(world: &World, token: &str) -> i64 {
    world.get(token, "/v1/events?count=true&limit=1").await.expect(200).json()["total"].as_i64().expect("a total")
}

#[tokio::test]
async fn what_is_answered_is_what_is_kept_and_its_tag_spares_reading_it_again() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let mut new = event(world.a.people["member"], "d");
    new["occurred_at"] = json!("2026-03-01T12:00:00.123456789+02:00");
    new["details"] = json!({"text": "not NUL: \\u0000", "list": [1, {"é": null}]});
    let made = world.post(&owner, "/v1/events", new).await.expect(201);
    let location = made.headers[header::LOCATION].to_str()?.to_string();
    let read = world.get(&owner, &location).await.expect(200);
    assert_eq!(read.json(), made.json());
    assert_eq!(read.json()["occurred_at"], "2026-03-01T10:00:00.123456Z");
    let tag = read.headers[header::ETAG].to_str()?.to_string();
    for (tags, status) in
        [(tag.clone(), 304), (format!("\"x\", W/{tag}"), 304), ("*".into(), 304), ("\"x\"".into(), 200)]
    {
        let request = Request::get(&location)
            .header(header::AUTHORIZATION, format!("Bearer {owner}"))
            .header(header::IF_NONE_MATCH, &tags)
            .body(Body::empty())?;
        assert_eq!(world.send(request).await.status, status, "{tags}");
    }
    let foreign = Request::get(&location)
        .header(header::AUTHORIZATION, format!("Bearer {}", world.token(&world.b, "owner").await))
        .header(header::IF_NONE_MATCH, tag)
        .body(Body::empty())?;
    assert_eq!(world.send(foreign).await.status, 404, "a known tag tells a stranger nothing");
    Ok(())
}

#[tokio::test]
async fn a_key_writes_once_for_its_principal_and_means_nothing_to_another() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (owner, admin) = (world.token(&world.a, "owner").await, world.token(&world.a, "admin").await);
    let stranger = world.token(&world.b, "owner").await;
    let body = event(world.a.people["member"], "d");
    let first = keyed(&world, &owner, "k", &body).await.expect(201);
    assert_eq!(keyed(&world, &owner, "k", &body).await.expect(201).text, first.text);
    keyed(&world, &owner, "k", &event(world.a.people["member"], "other")).await.expect(422);
    assert_eq!(count(&world, &owner).await, 1);
    for other in [&admin, &stranger] {
        assert_ne!(keyed(&world, other, "k", &body).await.expect(201).id(), first.id());
    }
    assert_eq!((count(&world, &owner).await, count(&world, &stranger).await), (2, 1));
    Ok(())
}

#[tokio::test]
async fn a_key_sent_many_times_at_once_writes_once_and_all_are_told_the_same() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let body = event(world.a.people["member"], "d");
    let (a, b, c) = tokio::join!(
        keyed(&world, &owner, "k", &body),
        keyed(&world, &owner, "k", &body),
        keyed(&world, &owner, "k", &body)
    );
    let ids = [a.expect(201).id(), b.expect(201).id(), c.expect(201).id()];
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(count(&world, &owner).await, 1);
    Ok(())
}

#[tokio::test]
async fn a_bulk_is_taken_whole_or_refused_whole_with_the_lines_that_are_wrong() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let line = event(world.a.people["member"], "d").to_string();
    let mut foreign = event(world.a.people["member"], "d");
    foreign["tenant_id"] = json!(world.b.id);
    let wrong = format!("{line}\nnot json\n{line}\n{foreign}\n");
    let refused = bulk(&world, &owner, wrong).await.expect(422).json();
    let lines: Vec<i64> =
        refused["errors"].as_array().into_iter().flatten().filter_map(|e| e["line"].as_i64()).collect();
    assert_eq!(lines, [2, 4]);
    for none in ["".to_string(), "\n\n".into(), format!("{line}\n").repeat(1_001)] {
        bulk(&world, &owner, none).await.expect(422);
    }
    // What only the database refuses undoes the lines before it as well.
    let nul = line.replace("document.shared", "a\\u0000b");
    bulk(&world, &owner, format!("{line}\n{nul}")).await.expect(422);
    assert_eq!(count(&world, &owner).await, 0);
    let taken = bulk(&world, &owner, format!("{line}\n").repeat(1_000)).await.expect(201);
    assert_eq!((taken.ids().len(), count(&world, &owner).await), (1_000, 1_000));
    assert_eq!(count(&world, &world.token(&world.b, "owner").await).await, 0);
    Ok(())
}
