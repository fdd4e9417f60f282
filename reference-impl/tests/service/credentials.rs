//! Signing in and out, renewing, and credentials that prove nothing any more.

use axum::http::{Method, header};
use partywall_reference::token::{Claims, Signer, derived};
use serde_json::json;
use uuid::Uuid;

use crate::world::{PASSWORD, TOKEN_KEY, World};

#[tokio::test]
async fn an_unknown_address_a_wrong_password_and_a_foreign_tenant_are_answered_alike() -> anyhow::Result<()> {
    let world = World::new().await?;
    let email = world.a.email("owner");
    let wrong = [
        json!({"email": "unknown@acme.example", "password": PASSWORD}),
        json!({"email": email, "password": "wrong"}),
        json!({"email": email, "password": PASSWORD, "tenant_id": world.b.id}),
        json!({"email": email, "password": PASSWORD, "tenant_id": Uuid::nil()}),
        json!({"email": "platform@operator.example", "password": PASSWORD, "tenant_id": world.a.id}),
    ];
    let mut told = Vec::new();
    for body in wrong {
        told.push(world.post("", "/v1/sign-in", body).await.expect(401).text);
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    let cased = json!({"email": email.to_uppercase(), "password": PASSWORD, "tenant_id": world.a.id});
    let tokens = world.post("", "/v1/sign-in", cased).await.expect(200).json();
    assert_eq!((tokens["tenant_id"].clone(), tokens["token_type"].clone()), (json!(world.a.id), json!("Bearer")));
    Ok(())
}

#[tokio::test]
async fn who_belongs_to_two_tenants_names_one_and_has_its_role_there() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.b, "owner").await;
    let email = world.a.email("owner");
    let new = json!({"email": email, "display_name": "Guest", "role": "auditor"});
    world.post(&owner, "/v1/members", new).await.expect(201);
    world.post("", "/v1/sign-in", json!({"email": email, "password": PASSWORD})).await.expect(422);
    for (tenant, role) in [(&world.a, "owner"), (&world.b, "auditor")] {
        let body = json!({"email": email, "password": PASSWORD, "tenant_id": tenant.id});
        let tokens = world.post("", "/v1/sign-in", body).await.expect(200).json();
        let me = world.get(tokens["access_token"].as_str().expect("a token"), "/v1/me").await.expect(200).json();
        assert_eq!((me["tenant_id"].clone(), me["role"].clone()), (json!(tenant.id), json!(role)));
    }
    Ok(())
}

#[tokio::test]
async fn what_proves_nothing_is_refused() -> anyhow::Result<()> {
    let world = World::new().await?;
    let person = world.a.people["owner"];
    let claims =
        |exp: i64| Claims { sub: person, tenant: Some(world.a.id), role: "owner".into(), sid: Uuid::nil(), exp };
    let key = derived(&hex::decode(TOKEN_KEY)?, "access tokens");
    let forged = |key: &[u8], exp| Signer::new(key).sign(&claims(exp)).expect("a token");
    let good = world.token(&world.a, "owner").await;
    let mut altered = good.clone();
    altered
        .replace_range(good.len() - 2..good.len() - 1, if good.as_bytes()[good.len() - 2] == b'A' { "B" } else { "A" });
    let bad = [
        "nonsense".to_string(),
        "ak_".into(),
        "vt_0000".into(),
        altered,
        forged(&[7; 32], 4_000_000_000),
        forged(&hex::decode(TOKEN_KEY)?, 4_000_000_000),
        forged(&key, 1_000_000_000),
        // Signed as it should be, for a session that there never was.
        forged(&key, 4_000_000_000),
    ];
    for token in bad {
        for path in ["/v1/me", "/v1/events", "/v1/platform/usage"] {
            let answer = world.get(&token, path).await;
            let forbidden = answer.status == 403 && path == "/v1/platform/usage";
            assert!(forbidden || answer.status == 401, "{token} at {path}: {}", answer.text);
            if answer.status == 401 {
                assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_refresh_token_serves_once_its_own_person_only_and_a_stranger_cannot_spend_it() -> anyhow::Result<()> {
    let world = World::new().await?;
    for role in ["owner", "platform"] {
        let tokens = world.sign_in(&world.a, role).await;
        let access = tokens["access_token"].as_str().expect("a token");
        let refresh = json!({"refresh_token": tokens["refresh_token"]});
        let stranger = world.token(&world.b, "owner").await;
        world.post(&stranger, "/v1/token/refresh", refresh.clone()).await.expect(401);
        let renewed = world.post(access, "/v1/token/refresh", refresh.clone()).await.expect(200).json();
        world.post(access, "/v1/token/refresh", refresh).await.expect(401);
        world.get(renewed["access_token"].as_str().expect("a token"), "/v1/me").await.expect(200);
    }
    Ok(())
}

#[tokio::test]
async fn an_access_token_that_ran_out_renews_its_session_and_does_nothing_else() -> anyhow::Result<()> {
    let world = World::new().await?;
    let tokens = world.sign_in(&world.a, "member").await;
    let key = derived(&hex::decode(TOKEN_KEY)?, "access tokens");
    let sub = world.a.people["member"];
    let claims = Claims { sub, tenant: Some(world.a.id), role: "member".into(), sid: Uuid::nil(), exp: 1_000_000_000 };
    let old = Signer::new(&key).sign(&claims).expect("a token");
    world.get(&old, "/v1/me").await.expect(401);
    let refresh = json!({"refresh_token": tokens["refresh_token"]});
    world.post(&old, "/v1/token/refresh", refresh).await.expect(200);
    Ok(())
}

#[tokio::test]
async fn who_signs_out_is_removed_or_revoked_is_out_at_once() -> anyhow::Result<()> {
    let world = World::new().await?;
    for role in ["owner", "platform"] {
        let tokens = world.sign_in(&world.a, role).await;
        let access = tokens["access_token"].as_str().expect("a token");
        let path = if role == "platform" { "/v1/platform/usage" } else { "/v1/events" };
        world.get(access, path).await.expect(200);
        let refresh = json!({"refresh_token": tokens["refresh_token"]});
        world.post(access, "/v1/sign-out", refresh).await.expect(204);
        world.get(access, path).await.expect(401);
    }
    let (owner, member) = (world.token(&world.a, "owner").await, world.token(&world.a, "member").await);
    world.get(&member, "/v1/events").await.expect(200);
    let members = world.get(&owner, "/v1/members").await.expect(200).json();
    let is_member = |m: &&serde_json::Value| m["role"] == "member";
    let id = members["items"].as_array().and_then(|all| all.iter().find(is_member)).expect("a member")["id"].clone();
    let path = format!("/v1/members/{}", id.as_str().expect("an id"));
    world.call(&owner, Method::DELETE, &path, None).await.expect(204);
    world.get(&member, "/v1/events").await.expect(401);
    let made = world.post(&owner, "/v1/api-keys", json!({"name": "k"})).await.expect(201).json();
    let secret = made["secret"].as_str().expect("a secret");
    world.get(secret, "/v1/me").await.expect(200);
    let path = format!("/v1/api-keys/{}", made["id"].as_str().expect("an id"));
    world.call(&owner, Method::DELETE, &path, None).await.expect(204);
    world.get(secret, "/v1/me").await.expect(401);
    let shown = world.get(&owner, &path).await.expect(200);
    assert!(!shown.text.contains(secret) && shown.json()["revoked_at"].is_string());
    Ok(())
}
