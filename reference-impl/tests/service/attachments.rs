//! Attachments and the signatures that open their bytes: whose they are, what they are called, when they end.

use axum::body::Body;
use axum::http::{Method, Request, header};
use sha2::{Digest, Sha256};
use tower::ServiceExt;
use uuid::Uuid;

use crate::world::{Answer, World};

fn upload(token: &str, event: Uuid, query: &str, content_type: &str, bytes: &[u8]) -> Request<Body> {
    Request::post(format!("/v1/events/{event}/attachments?{query}"))
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, content_type)
        .body(Body::from(bytes.to_vec()))
        .expect("a request")
}

fn link(attached: &Answer) -> String {
    format!("/v1/objects/{}", attached.json()["signed"].as_str().expect("a signature"))
}

/// How many files lie in the object store.
fn files(world: &World) -> usize {
    fn below(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| if entry.path().is_dir() { below(&entry.path()) } else { 1 }).sum()
    }
    below(world.objects.path())
}

#[tokio::test]
async fn bytes_come_back_as_they_were_sent_as_a_file_to_keep() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let event = world.event(&world.a, "member", "d").await;
    let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let name = "name=..%2F..%2F%22%0D%0AX-Evil:%20%C3%BC.html";
    let attached = world.send(upload(&owner, event, name, "text/html; charset=utf-8", &bytes)).await.expect(201);
    let told = attached.json();
    assert_eq!(told["name"], "../../\"\r\nX-Evil: ü.html");
    assert_eq!(told["sha256"], hex::encode(Sha256::digest(&bytes)));
    assert_eq!(told["size_bytes"], 1 << 20);
    let request = Request::get(link(&attached)).body(Body::empty())?;
    let response = world.router.clone().oneshot(request).await?;
    let headers = response.headers().clone();
    assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    let disposition = "attachment; filename*=UTF-8''..%2F..%2F%22%0D%0AX-Evil%3A%20%C3%BC.html";
    assert_eq!(headers[header::CONTENT_DISPOSITION], disposition);
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(headers[header::CACHE_CONTROL], "private, no-store");
    assert!(headers.get("x-evil").is_none());
    assert_eq!(axum::body::to_bytes(response.into_body(), usize::MAX).await?, bytes);
    Ok(())
}

#[tokio::test]
async fn names_and_ids_from_outside_make_no_path() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let event = world.event(&world.a, "member", "d").await;
    for name in ["..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", "tenants%2Fx", "..", "%E2%80%AE", "C:%5Cx"] {
        let attached = world.send(upload(&owner, event, &format!("name={name}"), "a/b", b"x")).await.expect(201);
        let at = format!("tenants/{}/attachments/{}", world.a.id, attached.id());
        assert_eq!(std::fs::read(world.objects.path().join(at))?, b"x", "{name}");
    }
    assert_eq!(files(&world), 6);
    for path in [
        "/v1/objects/..%2F..%2Fetc%2Fpasswd",
        "/v1/objects/%2E%2E",
        "/v1/objects/%00",
        "/v1/objects/%FF",
        &format!("/v1/objects/{}", "A".repeat(10_000)),
        "/v1/objects/tenants/x/attachments/y",
    ] {
        world.get("", path).await.expect(404);
        world.get(&owner, &path.replace("objects", "attachments")).await.expect(404);
    }
    Ok(())
}

#[tokio::test]
async fn a_signature_that_is_altered_opens_nothing_and_a_deleted_attachment_neither() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let event = world.event(&world.a, "member", "d").await;
    let attached = world.send(upload(&owner, event, "name=n", "a/b", b"x")).await.expect(201);
    let good = link(&attached);
    assert_eq!(world.get("", &good).await.expect(200).text, "x");
    let absent = world.get("", "/v1/objects/x").await.expect(404).text;
    for place in "/v1/objects/".len()..good.len() {
        let mut altered = good.clone().into_bytes();
        altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
        assert_eq!(world.get("", &String::from_utf8(altered)?).await.expect(404).text, absent, "{place}");
    }
    world.call(&owner, Method::DELETE, &format!("/v1/attachments/{}", attached.id()), None).await.expect(204);
    assert_eq!(world.get("", &good).await.expect(404).text, absent);
    assert_eq!(files(&world), 0);
    Ok(())
}

#[tokio::test]
async fn attachments_are_of_their_tenant_and_of_events_that_one_sees() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (a, b) = (world.token(&world.a, "owner").await, world.token(&world.b, "owner").await);
    let member = world.token(&world.a, "member").await;
    let own = world.event(&world.a, "member", "d").await;
    let other = world.event(&world.a, "admin", "d").await;
    let by_key = world.send(upload(&world.a.api_key, own, "name=k", "a/b", b"k")).await.expect(201).id();
    let hidden = world.send(upload(&a, other, "name=h", "a/b", b"h")).await.expect(201).id();
    world.get(&member, &format!("/v1/attachments/{by_key}")).await.expect(200);
    world.get(&member, &format!("/v1/attachments/{hidden}")).await.expect(404);
    world.get(&member, &format!("/v1/events/{other}/attachments")).await.expect(404);
    let listed = world.get(&member, &format!("/v1/events/{own}/attachments?count=true")).await.expect(200);
    assert_eq!((listed.ids(), listed.json()["total"].as_i64()), (vec![by_key], Some(1)));
    let foreign = format!("/v1/attachments/{by_key}");
    world.get(&b, &foreign).await.expect(404);
    world.call(&b, Method::DELETE, &foreign, None).await.expect(404);
    let before = files(&world);
    for token in [&b, &world.b.api_key] {
        world.send(upload(token, own, "name=n", "a/b", b"x")).await.expect(404);
    }
    assert_eq!(files(&world), before, "what is refused leaves no bytes");
    world.get(&a, &foreign).await.expect(200);
    Ok(())
}

#[tokio::test]
async fn a_row_that_cannot_be_leaves_no_bytes() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let event = world.event(&world.a, "member", "d").await;
    world.sql(&world.a, "ALTER TABLE attachments ADD CHECK (name <> 'refused')").await?;
    world.send(upload(&owner, event, "name=refused", "a/b", b"x")).await.expect(500);
    assert_eq!(files(&world), 0);
    for (query, content_type, size, status) in [
        ("", "a/b", 1, 400),
        ("name=%00", "a/b", 1, 422),
        ("name=%FF", "a/b", 1, 400),
        ("name=n", "nonsense", 1, 415),
        ("name=n", "a/b\u{fc}", 1, 415),
        ("name=n", "a/b", (2 << 20) + 1, 413),
    ] {
        world.send(upload(&owner, event, query, content_type, &vec![b'x'; size])).await.expect(status);
    }
    let long = format!("name={}", "n".repeat(201));
    world.send(upload(&owner, event, &long, "a/b", b"x")).await.expect(422);
    assert_eq!(files(&world), 0);
    Ok(())
}
