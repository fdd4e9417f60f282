//! Each operation by each application role: who is let in, and what the others are told.

use axum::http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{ROLES, World, event};

/// An operation, its path with what to fill in, the roles it takes, and its answer to them.
const TABLE: &[(&str, &str, &str, u16)] = &[
    ("POST", "/v1/token/refresh", "owner admin auditor member platform", 200),
    ("POST", "/v1/sign-out", "owner admin auditor member platform", 204),
    ("POST", "/v1/tenants/switch", "owner admin auditor member", 200),
    ("GET", "/v1/me", "owner admin auditor member ingest viewer platform", 200),
    ("POST", "/v1/events", "owner admin ingest", 201),
    ("POST", "/v1/events/bulk", "owner admin ingest", 201),
    ("GET", "/v1/events", "owner admin auditor member viewer", 200),
    ("GET", "/v1/events/{event}", "owner admin auditor member viewer", 200),
    ("GET", "/v1/events/search?q=document", "owner admin auditor member", 200),
    ("GET", "/v1/events/stream?for_s=0", "owner admin auditor", 200),
    ("GET", "/v1/events/stats", "owner admin auditor", 200),
    ("GET", "/v1/events/facets", "owner admin auditor", 200),
    ("GET", "/v1/targets/document/t/events", "owner admin auditor member viewer", 200),
    ("GET", "/v1/actors/{actor}/events", "owner admin auditor member viewer", 200),
    ("POST", "/v1/events/{event}/annotations", "owner admin member", 201),
    ("GET", "/v1/events/{event}/annotations", "owner admin auditor member", 200),
    ("GET", "/v1/events/{event}/annotations/{annotation}", "owner admin auditor member", 200),
    ("PATCH", "/v1/events/{event}/annotations/{annotation}", "owner admin member", 200),
    ("DELETE", "/v1/events/{event}/annotations/{annotation}", "owner admin member", 204),
    ("POST", "/v1/events/{event}/attachments?name=n", "owner admin ingest", 201),
    ("GET", "/v1/events/{event}/attachments", "owner admin auditor member", 200),
    ("GET", "/v1/attachments/{attachment}", "owner admin auditor member", 200),
    ("DELETE", "/v1/attachments/{attachment}", "owner admin", 204),
    ("POST", "/v1/exports", "owner admin auditor", 201),
    ("GET", "/v1/exports", "owner admin auditor", 200),
    ("GET", "/v1/exports/{export}", "owner admin auditor", 200),
    ("GET", "/v1/exports/{export}/download", "owner admin auditor", 409),
    ("DELETE", "/v1/exports/{export}", "owner admin auditor", 204),
    ("GET", "/v1/retention", "owner admin auditor", 200),
    ("PUT", "/v1/retention", "owner admin", 200),
    ("POST", "/v1/retention/runs", "owner admin", 201),
    ("GET", "/v1/retention/runs", "owner admin auditor", 200),
    ("GET", "/v1/retention/runs/{run}", "owner admin auditor", 200),
    ("GET", "/v1/archives", "owner admin auditor", 200),
    ("POST", "/v1/archives/{archive}/restore", "owner admin", 202),
    ("POST", "/v1/members", "owner admin", 201),
    ("GET", "/v1/members", "owner admin auditor", 200),
    ("GET", "/v1/members/{member}", "owner admin auditor", 200),
    ("PATCH", "/v1/members/{member}", "owner admin", 200),
    ("DELETE", "/v1/members/{member}", "owner admin", 204),
    ("POST", "/v1/api-keys", "owner admin", 201),
    ("GET", "/v1/api-keys", "owner admin", 200),
    ("GET", "/v1/api-keys/{key}", "owner admin", 200),
    ("DELETE", "/v1/api-keys/{key}", "owner admin", 204),
    ("POST", "/v1/viewer-tokens", "owner admin", 201),
    ("GET", "/v1/viewer-tokens", "owner admin", 200),
    ("GET", "/v1/viewer-tokens/{viewer}", "owner admin", 200),
    ("DELETE", "/v1/viewer-tokens/{viewer}", "owner admin", 204),
    ("POST", "/v1/webhooks", "owner admin", 201),
    ("GET", "/v1/webhooks", "owner admin auditor", 200),
    ("GET", "/v1/webhooks/{webhook}", "owner admin auditor", 200),
    ("PATCH", "/v1/webhooks/{webhook}", "owner admin", 200),
    ("GET", "/v1/webhooks/{webhook}/deliveries", "owner admin auditor", 200),
    ("POST", "/v1/webhooks/{webhook}/deliveries/{delivery}/redeliver", "owner admin", 202),
    ("DELETE", "/v1/webhooks/{webhook}", "owner admin", 204),
    ("GET", "/v1/event-types/typed", "owner admin auditor member ingest", 200),
    ("PUT", "/v1/event-types/typed", "owner admin", 200),
    ("POST", "/v1/saved-searches", "owner admin auditor member", 201),
    ("GET", "/v1/saved-searches", "owner admin auditor member", 200),
    ("GET", "/v1/saved-searches/{search}", "owner admin auditor member", 200),
    ("PATCH", "/v1/saved-searches/{search}", "owner admin auditor member", 200),
    ("DELETE", "/v1/saved-searches/{search}", "owner admin auditor member", 204),
    ("GET", "/v1/proofs/head", "owner admin auditor", 200),
    ("GET", "/v1/proofs/{event}", "owner admin auditor", 200),
    ("GET", "/v1/tenant", "owner admin auditor", 200),
    ("PATCH", "/v1/tenant", "owner", 200),
    ("DELETE", "/v1/tenant?dry_run=true", "owner", 200),
    ("POST", "/v1/platform/tenants", "platform", 201),
    ("GET", "/v1/platform/usage", "platform", 200),
];

fn retention() -> Value {
    json!({"archive_after_days": 1, "delete_after_days": 2, "legal_hold": false})
}

async fn body(world: &World, role: &str, method: &str, path: &str) -> Option<Value> {
    let fresh = Uuid::new_v4();
    match (method, path) {
        ("POST", "/v1/token/refresh" | "/v1/sign-out") => {
            let who = if ["ingest", "viewer", "nobody"].contains(&role) { "owner" } else { role };
            Some(json!({"refresh_token": world.sign_in(&world.a, who).await["refresh_token"]}))
        }
        ("POST", "/v1/events" | "/v1/events/bulk") => Some(event(fresh, "d")),
        ("POST" | "PATCH", path) if path.contains("annotations") => Some(json!({"body": "noted"})),
        ("POST", "/v1/members") => {
            Some(json!({"email": format!("{fresh}@x.example"), "display_name": "New", "role": "member"}))
        }
        ("POST", "/v1/exports") => Some(json!({"format": "csv"})),
        ("POST", "/v1/tenants/switch") => Some(json!({"tenant_id": world.a.id})),
        ("POST", "/v1/viewer-tokens") => Some(json!({"name": "new", "actor_id": fresh})),
        ("PUT", "/v1/retention") => Some(retention()),
        ("POST", path) if path.contains("retention") || path.contains("archives") => None,
        ("PUT", "/v1/event-types/typed") => Some(json!({"schema": {"type": "object"}})),
        ("POST", "/v1/saved-searches") => Some(json!({"name": "new", "query": {"q": "word"}})),
        ("PATCH", path) if path.contains("saved-searches") || path.ends_with("tenant") => Some(json!({"name": "new"})),
        ("POST", "/v1/webhooks") => Some(json!({"url": "https://example.org/"})),
        ("PATCH", path) if path.contains("webhooks") => Some(json!({"enabled": true})),
        ("PATCH", _) => Some(json!({"role": "auditor"})),
        ("POST", "/v1/api-keys") => Some(json!({"name": "new"})),
        ("POST", _) => Some(json!({"slug": fresh, "name": "New"})),
        _ => None,
    }
}

/// Fills in fresh rows of the first tenant.
async fn path(world: &World, role: &str, path: &str) -> String {
    let tenant = &world.a;
    let owner = world.token(tenant, "owner").await;
    let mut path = path.to_string();
    if path.contains("{event}") {
        let id = world.event(tenant, "member", "d").await;
        path = path.replace("{event}", &id.to_string());
        let author = world.token(tenant, if role == "member" { role } else { "owner" }).await;
        let note = json!({"body": "noted"});
        let noted = world.post(&author, &format!("/v1/events/{id}/annotations"), note).await.expect(201);
        path = path.replace("{annotation}", &noted.id().to_string());
    }
    if path.contains("{attachment}") {
        let event = world.event(tenant, "member", "d").await;
        let attached =
            world.post(&owner, &format!("/v1/events/{event}/attachments?name=n"), json!({})).await.expect(201);
        path = path.replace("{attachment}", &attached.id().to_string());
    }
    if path.contains("{export}") {
        let asked = world.post(&owner, "/v1/exports", json!({"format": "csv"})).await.expect(201);
        path = path.replace("{export}", &asked.id().to_string());
    }
    if path.contains("/retention/runs") {
        // One at a time: whatever was open has ended.
        world.sql(&world.a, "UPDATE retention_runs SET state = 'done'").await.expect("done");
        world.call(&owner, Method::PUT, "/v1/retention", Some(retention())).await.expect(200);
    }
    if path.contains("{run}") {
        let asked = world.call(&owner, Method::POST, "/v1/retention/runs", None).await.expect(201);
        path = path.replace("{run}", &asked.id().to_string());
    }
    if path.contains("{archive}") {
        let id = Uuid::now_v7();
        let insert = format!(
            "INSERT INTO archives (tenant_id, id, run_id, rows, recorded_from, recorded_to, size_bytes, sha256, verified_at) \
             VALUES ('{}', '{id}', '{id}', 1, now(), now(), 1, '', now())",
            tenant.id
        );
        world.sql(&world.a, &insert).await.expect("an archive");
        path = path.replace("{archive}", &id.to_string());
    }
    if path.contains("{member}") {
        let new = body(world, role, "POST", "/v1/members").await.expect("a member");
        path = path.replace("{member}", &world.post(&owner, "/v1/members", new).await.expect(201).id().to_string());
    }
    if path.starts_with("/v1/targets") || path.contains("{actor}") {
        world.event(tenant, "member", "t").await;
        path = path.replace("{actor}", &tenant.people["member"].to_string());
    }
    if path.contains("{viewer}") {
        let new = json!({"name": "v", "actor_id": tenant.people["member"]});
        let made = world.post(&owner, "/v1/viewer-tokens", new).await.expect(201);
        path = path.replace("{viewer}", &made.id().to_string());
    }
    if path.contains("typed") {
        let put = json!({"schema": {"type": "object"}});
        world.call(&owner, Method::PUT, "/v1/event-types/typed", Some(put)).await.expect(200);
    }
    if path.contains("{search}") {
        let keeper = world.token(tenant, if role == "member" { role } else { "owner" }).await;
        let new = json!({"name": "s", "query": {}});
        let kept = world.post(&keeper, "/v1/saved-searches", new).await.expect(201);
        path = path.replace("{search}", &kept.id().to_string());
    }
    if path.contains("{webhook}") {
        let new = json!({"url": "https://example.org/", "actions": ["document.shared"]});
        let webhook = world.post(&owner, "/v1/webhooks", new).await.expect(201).id();
        world.event(tenant, "member", "d").await;
        let deliveries = world.get(&owner, &format!("/v1/webhooks/{webhook}/deliveries")).await.expect(200).ids();
        path = path.replace("{webhook}", &webhook.to_string()).replace("{delivery}", &deliveries[0].to_string());
    }
    if path.contains("{key}") {
        let new = world.post(&owner, "/v1/api-keys", json!({"name": "k"})).await.expect(201);
        path = path.replace("{key}", &new.id().to_string());
    }
    path
}

#[tokio::test]
async fn every_operation_takes_the_roles_of_the_table_and_no_other() -> anyhow::Result<()> {
    let world = World::new().await?;
    for (method, template, allowed, status) in TABLE {
        for role in ROLES {
            let (path, body) = (path(&world, role, template).await, body(&world, role, method, template).await);
            let token = world.token(&world.a, role).await;
            let answer = world.call(&token, Method::from_bytes(method.as_bytes())?, &path, body).await;
            let expected = match role {
                "nobody" => 401,
                role if allowed.split(' ').any(|one| one == role) => *status,
                _ => 403,
            };
            assert_eq!(answer.status, expected, "{method} {template} as {role}: {}", answer.text);
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_another_tenant_owns_and_what_is_not_there_are_answered_alike() -> anyhow::Result<()> {
    let world = World::new().await?;
    let intruder = world.token(&world.b, "owner").await;
    for (method, template, ..) in TABLE.iter().filter(|(_, template, ..)| template.contains('{')) {
        let method = Method::from_bytes(method.as_bytes())?;
        let body = body(&world, "owner", method.as_str(), template).await;
        let foreign = world.call(&intruder, method.clone(), &path(&world, "owner", template).await, body.clone()).await;
        let absent = template.replace(['{', '}'], "").replace("event/", "0190a5d4-0000-7000-8000-000000000009/");
        let absent = world.call(&intruder, method.clone(), &absent, body).await;
        assert_eq!(foreign.status, 404, "{method} {template}: {}", foreign.text);
        assert_eq!((absent.status, &absent.text), (foreign.status, &foreign.text), "{method} {template}");
        assert_eq!(absent.headers.len(), foreign.headers.len(), "{method} {template}");
    }
    Ok(())
}

#[tokio::test]
async fn members_and_viewers_see_their_own_part_and_its_total() -> anyhow::Result<()> {
    let world = World::new().await?;
    let own = world.event(&world.a, "member", "d1").await;
    let other = world.event(&world.a, "admin", "d2").await;
    for role in ["member", "viewer"] {
        let token = world.token(&world.a, role).await;
        let list = world.get(&token, "/v1/events?count=true").await.expect(200);
        assert_eq!((list.ids(), list.json()["total"].as_i64()), (vec![own], Some(1)), "{role}");
        world.get(&token, &format!("/v1/events/{own}")).await.expect(200);
        world.get(&token, &format!("/v1/events/{other}")).await.expect(404);
    }
    let member = world.token(&world.a, "member").await;
    world.post(&member, &format!("/v1/events/{other}/annotations"), json!({"body": "x"})).await.expect(404);
    let owner = world.token(&world.a, "owner").await;
    let notes = format!("/v1/events/{own}/annotations");
    let note = world.post(&owner, &notes, json!({"body": "the owner's"})).await.expect(201).id();
    let listed = world.get(&member, &format!("{notes}?count=true")).await.expect(200);
    assert_eq!((listed.ids(), listed.json()["total"].as_i64()), (vec![note], Some(1)));
    for method in [Method::PATCH, Method::DELETE] {
        let body = (method == Method::PATCH).then(|| json!({"body": "taken over"}));
        world.call(&member, method, &format!("{notes}/{note}"), body).await.expect(404);
    }
    Ok(())
}
