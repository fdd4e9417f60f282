//! Lists that are asked for again and again: answered again only while nothing was committed.

use std::time::Duration;

use axum::http::Method;
use partywall_reference::http::router;
use partywall_reference::serve::app;
use serde_json::json;
use sqlx::Executor;
use tower::ServiceExt;

use crate::support::Database;
use crate::world::{World, event, request, settings};

const LIST: &str = "/v1/events?count=true";

/// Asks so often that the next answer may be a kept one.
async fn warmed(world: &World, token: &str) {
    for _ in 0..3 {
        world.get(token, LIST).await.expect(200);
    }
}

#[tokio::test]
async fn a_hot_list_is_answered_while_nobody_can_read_its_rows() -> anyhow::Result<()> {
    // A server of its own: what others commit would make the list old.
    let world = World::on(Database::durable().await?).await?;
    let own = world.event(&world.a, "member", "d").await;
    let owner = world.token(&world.a, "owner").await;
    let mut admin = world.at_home(&world.a, "postgres").await?;
    for _ in 0..5 {
        warmed(&world, &owner).await;
        admin.execute("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await?;
        let answer = tokio::time::timeout(Duration::from_secs(2), world.get(&owner, LIST)).await;
        let other = tokio::time::timeout(Duration::from_millis(300), world.get(&owner, "/v1/events")).await;
        admin.execute("ROLLBACK").await?;
        assert!(other.is_err(), "the lock keeps readers out");
        if let Ok(answer) = answer {
            assert_eq!(answer.expect(200).ids(), [own]);
            return Ok(());
        }
    }
    panic!("no list was kept")
}

#[tokio::test]
async fn a_hot_list_is_old_at_once_whoever_writes_and_however_its_asker_goes() -> anyhow::Result<()> {
    let world = World::new().await?;
    let session = world.sign_in(&world.a, "owner").await;
    let owner = session["access_token"].as_str().expect("a token");
    // As another process would, for all that this one can tell.
    let elsewhere = router(app(&settings(&world.database, 1)).await?);
    for number in 1..=5 {
        warmed(&world, owner).await;
        let body = event(world.a.people["member"], "d");
        let write = request(&world.a.api_key, Method::POST, "/v1/events", Some(body));
        assert_eq!(elsewhere.clone().oneshot(write).await?.status(), 201);
        assert_eq!(world.get(owner, LIST).await.expect(200).json()["total"], number);
    }
    let theirs = world.token(&world.b, "owner").await;
    warmed(&world, owner).await;
    assert_eq!(world.get(&theirs, LIST).await.expect(200).json()["total"], 0, "another asker is told its own");

    let member = world.token(&world.a, "member").await;
    warmed(&world, &member).await;
    let person = world.a.people["member"];
    world.database.sql(&format!("DELETE FROM memberships WHERE person_id = '{person}'")).await?;
    world.get(&member, LIST).await.expect(401);

    warmed(&world, owner).await;
    world.post(owner, "/v1/sign-out", json!({"refresh_token": session["refresh_token"]})).await.expect(204);
    world.get(owner, LIST).await.expect(401);
    Ok(())
}
