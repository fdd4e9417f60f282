//! What a tenant arranges for itself: event types, saved searches, viewer tokens, counts, another of one's tenants.

use axum::http::Method;
use serde_json::json;
use uuid::Uuid;

use crate::world::{World, event};

#[tokio::test]
async fn events_must_fit_the_type_of_their_action_and_no_other_tenants() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (a, b) = (world.token(&world.a, "owner").await, world.token(&world.b, "owner").await);
    let schema = json!({"schema": {"type": "object", "required": ["reason"],
        "properties": {"reason": {"type": "string", "maxLength": 5}}}});
    world.call(&a, Method::PUT, "/v1/event-types/document.shared", Some(schema)).await.expect(200);
    let with = |details: serde_json::Value| {
        let mut new = event(Uuid::new_v4(), "d");
        new["details"] = details;
        new
    };
    world.post(&a, "/v1/events", with(json!({"reason": "short"}))).await.expect(201);
    let told = world.post(&a, "/v1/events", with(json!({"reason": "this is too long"}))).await.expect(422);
    assert!(told.text.contains("details/reason") && !told.text.contains("too long"), "{}", told.text);
    world.post(&a, "/v1/events", with(json!({}))).await.expect(422);
    world.post(&b, "/v1/events", with(json!({}))).await.expect(201);
    world.get(&b, "/v1/event-types/document.shared").await.expect(404);
    for refused in [
        json!({"schema": {"type": "no such type"}}),
        json!({"schema": {"$ref": "file:///etc/passwd"}}),
        json!({"schema": {"$ref": "http://127.0.0.1:1/"}}),
        json!({"schema": []}),
        json!({"schema": {"const": "\0"}}),
    ] {
        world.call(&a, Method::PUT, "/v1/event-types/other", Some(refused)).await.expect(422);
    }
    world.get(&a, "/v1/event-types/other").await.expect(404);
    world.get(&a, "/v1/event-types/%00").await.expect(404);
    Ok(())
}

#[tokio::test]
async fn members_tend_their_own_searches_and_the_others_all() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (owner, member) = (world.token(&world.a, "owner").await, world.token(&world.a, "member").await);
    let new = json!({"name": "mine", "query": {"q": "word", "actor": Uuid::new_v4()}});
    let theirs = world.post(&owner, "/v1/saved-searches", new.clone()).await.expect(201).id();
    let own = world.post(&member, "/v1/saved-searches", new).await.expect(201).id();
    assert_eq!(world.get(&member, "/v1/saved-searches?count=true").await.expect(200).ids(), [own]);
    assert_eq!(world.get(&owner, "/v1/saved-searches?count=true").await.expect(200).json()["total"], 2);
    let (own, theirs) = (format!("/v1/saved-searches/{own}"), format!("/v1/saved-searches/{theirs}"));
    let change = || Some(json!({"name": "changed"}));
    world.call(&member, Method::PATCH, &theirs, change()).await.expect(404);
    world.call(&member, Method::DELETE, &theirs, None).await.expect(404);
    let changed = world.call(&owner, Method::PATCH, &own, change()).await.expect(200).json();
    assert_eq!((&changed["name"], &changed["query"]["q"]), (&json!("changed"), &json!("word")));
    world.call(&member, Method::DELETE, &own, None).await.expect(204);
    let other = world.token(&world.b, "owner").await;
    world.get(&other, &theirs).await.expect(404);
    Ok(())
}

#[tokio::test]
async fn a_viewer_token_shows_its_part_until_it_is_revoked() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let shown = world.event(&world.a, "member", "shown").await;
    world.event(&world.a, "member", "hidden").await;
    let new = json!({"name": "v", "target": {"type": "document", "id": "shown"}});
    let made = world.post(&owner, "/v1/viewer-tokens", new).await.expect(201);
    let (id, secret) = (made.id(), made.json()["secret"].as_str().expect("a secret").to_string());
    assert_eq!(world.get(&secret, "/v1/events").await.expect(200).ids(), [shown]);
    assert_eq!(world.get(&secret, "/v1/targets/document/shown/events").await.expect(200).ids(), [shown]);
    world.get(&secret, "/v1/targets/document/hidden/events").await.expect(404);
    assert!(!world.get(&owner, &format!("/v1/viewer-tokens/{id}")).await.expect(200).text.contains("secret"));
    world.call(&owner, Method::DELETE, &format!("/v1/viewer-tokens/{id}"), None).await.expect(204);
    world.get(&secret, "/v1/events").await.expect(401);
    for refused in [
        json!({"name": "v"}),
        json!({"name": "v", "actor_id": Uuid::new_v4(), "target": {"type": "a", "id": "b"}}),
        json!({"name": "v", "actor_id": Uuid::new_v4(), "life_s": 59}),
        json!({"name": "v", "actor_id": Uuid::new_v4(), "life_s": i64::MAX}),
    ] {
        world.post(&owner, "/v1/viewer-tokens", refused).await.expect(422);
    }
    Ok(())
}

#[tokio::test]
async fn counts_are_of_the_own_tenant_alone() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let nothing = world.get(&owner, "/v1/events/stats").await.expect(200).json();
    assert_eq!((&nothing["total"], &nothing["last_at"]), (&json!(0), &json!(null)));
    for target in ["x", "x", "y"] {
        world.event(&world.a, "member", target).await;
        world.event(&world.b, "member", target).await;
    }
    let stats = world.get(&owner, "/v1/events/stats").await.expect(200).json();
    assert_eq!((&stats["total"], &stats["actors"]), (&json!(3), &json!(1)));
    assert_eq!(stats["days"], json!([{"day": "2026-03-01", "events": 3}]));
    let narrowed = world.get(&owner, "/v1/events/stats?target_id=x").await.expect(200).json();
    assert_eq!(narrowed["total"], 2);
    let facets = world.get(&owner, "/v1/events/facets").await.expect(200).json();
    let actor = world.a.people["member"];
    assert_eq!(
        facets["facets"][1],
        json!({"name": "actor", "values": [{"value": actor, "label": "Someone", "events": 3}]})
    );
    world.get(&owner, "/v1/events/facets?most=0").await.expect(400);
    Ok(())
}

#[tokio::test]
async fn one_switches_among_ones_own_tenants_only() -> anyhow::Result<()> {
    let world = World::new().await?;
    let admin = world.token(&world.a, "admin").await;
    let to = |tenant: Uuid| json!({"tenant_id": tenant});
    world.post(&admin, "/v1/tenants/switch", to(world.b.id)).await.expect(404);
    world.post(&admin, "/v1/tenants/switch", to(Uuid::new_v4())).await.expect(404);
    let invited = json!({"email": world.a.email("admin"), "display_name": "Guest", "role": "member"});
    world.post(&world.token(&world.b, "owner").await, "/v1/members", invited).await.expect(201);
    let there = world.post(&admin, "/v1/tenants/switch", to(world.b.id)).await.expect(200).json();
    let token = there["access_token"].as_str().expect("a token");
    let me = world.get(token, "/v1/me").await.expect(200).json();
    assert_eq!((&me["role"], &me["tenant_id"]), (&json!("member"), &json!(world.b.id)));
    assert_eq!(world.get(&admin, "/v1/me").await.expect(200).json()["tenant_id"], json!(world.a.id));
    Ok(())
}

#[tokio::test]
async fn the_owner_alone_names_the_tenant() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let renamed = world.call(&owner, Method::PATCH, "/v1/tenant", Some(json!({"name": "Acme"}))).await.expect(200);
    assert_eq!(renamed.json()["id"], json!(world.a.id));
    assert_eq!(world.get(&owner, "/v1/tenant").await.expect(200).json()["name"], "Acme");
    let other = world.token(&world.b, "owner").await;
    assert_eq!(world.get(&other, "/v1/tenant").await.expect(200).json()["name"], "globex");
    Ok(())
}
