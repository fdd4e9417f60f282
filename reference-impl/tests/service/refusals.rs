//! Bad requests: always a problem, never a 500, and nothing of the database in it.

use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::json;

use crate::world::{World, event};

#[tokio::test]
async fn bad_queries_and_paths_are_refused_as_problems() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let table = [
        ("/v1/events?limit=0", 400),
        ("/v1/events?limit=201", 400),
        ("/v1/events?limit=x", 400),
        ("/v1/events?actor=x", 400),
        ("/v1/events?sort=up", 400),
        ("/v1/events?count=maybe", 400),
        ("/v1/events?from=yesterday", 400),
        ("/v1/events?to=9999-12-31T00:00:00Z", 400),
        ("/v1/events?action=%00", 422),
        ("/v1/events?target_id=%00", 422),
        ("/v1/events/search", 400),
        ("/v1/events/search?q=%00", 422),
        ("/v1/events/no-id", 404),
        ("/v1/events/%00", 404),
        ("/v1/members/%FF", 404),
        ("/v1/nothing", 404),
        ("/v1/events?tenant_id=0190a5d4-0000-7000-8000-000000000001&unknown=%00", 200),
        ("/v1/events/search?q=%27%20%26%20%7C%20!%20(%20*%20:%20%5C", 200),
    ];
    for (path, status) in table {
        let answer = world.get(&owner, path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        if status != 200 {
            answer.expect(status);
        }
    }
    world.call(&owner, Method::PUT, "/v1/events", None).await.expect(405);
    Ok(())
}

#[tokio::test]
async fn bad_bodies_are_refused_as_problems() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let good = event(world.a.people["member"], "d");
    let with = |path: &str, value: serde_json::Value| {
        let mut body = good.clone();
        *body.pointer_mut(path).expect("a field") = value;
        body.to_string()
    };
    let mut table = vec![
        ("{".to_string(), 400),
        ("[]".into(), 422),
        ("{}".into(), 422),
        (with("/action", json!("a\0b")), 422),
        (with("/action", json!("x".repeat(201))), 422),
        (with("/target/id", json!("\0")), 422),
        (with("/details", json!({"a": [{"b": "\0"}]})), 422),
        (with("/details", json!({"\0": 1})), 422),
        (with("/details", json!([])), 422),
        (with("/outcome", json!("maybe")), 422),
        (with("/source_ip", json!("300.1.1.1")), 422),
        (with("/occurred_at", json!("0001-01-01T00:00:00Z")), 422),
        (with("/actor/id", json!("me")), 422),
        (format!("{{\"details\":{{\"k\":{}{}}}}}", "[".repeat(500), "]".repeat(500)), 400),
    ];
    for field in ["tenant_id", "id", "recorded_at"] {
        let mut body = good.clone();
        body[field] = json!(world.b.id);
        table.push((body.to_string(), 422));
    }
    table.push((with("/user_agent", json!("x".repeat(3 << 20))), 413));
    for (body, status) in table {
        let request = Request::post("/v1/events")
            .header(header::AUTHORIZATION, format!("Bearer {owner}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.clone()))?;
        let answer = world.send(request).await;
        let start: String = body.chars().take(200).collect();
        assert_eq!(answer.status, status, "{start}: {}", answer.text);
        answer.expect(status);
    }
    let untyped = Request::post("/v1/events").header(header::AUTHORIZATION, format!("Bearer {owner}"));
    world.send(untyped.body(Body::from(good.to_string()))?).await.expect(415);
    for (path, body) in [
        ("/v1/sign-in", json!({"email": "a\0@x", "password": "x"})),
        ("/v1/members", json!({"email": "a\0@x", "display_name": "x", "role": "member"})),
        ("/v1/members", json!({"email": "x", "display_name": "x", "role": "member"})),
        ("/v1/members", json!({"email": "x@x", "display_name": "x", "role": "platform"})),
        ("/v1/api-keys", json!({"name": "\0"})),
    ] {
        world.post(&owner, path, body).await.expect(422);
    }
    Ok(())
}

#[tokio::test]
async fn a_database_that_fails_is_told_to_the_log_and_not_to_the_client() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    world.sql(&world.a, "ALTER TABLE events RENAME COLUMN action TO renamed_secretly").await?;
    let told = world.get(&owner, "/v1/events").await.expect(500).text;
    assert!(!told.contains("action") && !told.contains("column") && !told.contains("events"), "{told}");
    world.sql(&world.a, "ALTER TABLE events RENAME COLUMN renamed_secretly TO action").await?;
    world.get(&owner, "/v1/events").await.expect(200);
    Ok(())
}
