//! Limits per tenant and principal, what the answers tell about them, and counts that are kept for a moment.

use std::collections::BTreeSet;

use partywall_reference::limits::Limits;
use serde_json::json;
use uuid::Uuid;

use crate::world::{Answer, World};

fn told(answer: &Answer) -> (String, String) {
    let header = |name: &str| answer.headers.get(name).map_or("-", |v| v.to_str().expect("text")).to_string();
    (header("ratelimit"), header("ratelimit-policy"))
}

#[tokio::test]
async fn a_burst_is_refused_to_its_own_tenant_and_shows_in_no_others_headers() -> anyhow::Result<()> {
    let world = World::with(|settings| settings.rate_tenant = 1).await?;
    let (owner, admin) = (world.token(&world.a, "owner").await, world.token(&world.a, "admin").await);
    let other = world.token(&world.b, "owner").await;
    let mut refused = 0;
    for index in 0..14 {
        let answer = world.get(if index % 2 == 0 { &owner } else { &admin }, "/v1/events").await;
        if index == 0 {
            let (left, policy) = told(&answer);
            assert!(left.contains("\"tenant\";r=9;t=1"), "{left}");
            assert!(policy.contains("\"tenant\";q=10;w=10"), "{policy}");
        }
        if answer.status == 429 {
            let answer = answer.expect(429);
            assert!(answer.headers["retry-after"].to_str()?.parse::<u64>()? >= 1);
            assert!(told(&answer).0.contains("\"tenant\";r=0;"), "{}", told(&answer).0);
            refused += 1;
        }
    }
    assert!(refused >= 2, "{refused} of 14 refused");
    let answer = world.get(&other, "/v1/events").await.expect(200);
    assert!(told(&answer).0.contains("\"tenant\";r=9;t=1"), "{}", told(&answer).0);
    // Nobody's limit is told to nobody.
    assert_eq!(told(&world.get("", "/v1/events").await.expect(401)), ("-".into(), "-".into()));
    assert_eq!(told(&world.get("", "/healthz").await), ("-".into(), "-".into()));
    Ok(())
}

#[tokio::test]
async fn a_principals_burst_takes_nothing_from_its_tenant_or_from_itself_in_another() -> anyhow::Result<()> {
    let world = World::with(|settings| settings.rate_principal = 1).await?;
    let (owner, admin) = (world.token(&world.a, "owner").await, world.token(&world.a, "admin").await);
    let guest = json!({"email": world.a.email("admin"), "display_name": "Guest", "role": "auditor"});
    world.post(&world.token(&world.b, "owner").await, "/v1/members", guest).await.expect(201);
    let switch = json!({"tenant_id": world.b.id});
    let there = world.post(&admin, "/v1/tenants/switch", switch).await.expect(200).json();
    let mut refused = 0;
    for _ in 0..14 {
        refused += u32::from(world.get(&admin, "/v1/events").await.status == 429);
    }
    assert!(refused >= 2, "{refused} refused");
    world.get(&owner, "/v1/events").await.expect(200);
    let there = world.get(there["access_token"].as_str().expect("a token"), "/v1/events").await.expect(200);
    assert!(told(&there).0.contains("\"principal\";r=9;"), "{}", told(&there).0);
    Ok(())
}

#[test]
fn who_is_idle_is_forgotten() {
    let limits = Limits::of(1_000_000, 1_000_000);
    for _ in 0..20_000 {
        limits.take(Some(Uuid::new_v4()), Uuid::new_v4());
    }
    assert!(limits.remembered() < 6_000, "{} remembered", limits.remembered());
}

#[tokio::test]
async fn kept_counts_follow_each_write_and_are_of_one_tenant_one_question_and_one_who_may_ask() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (a, b) = (world.token(&world.a, "owner").await, world.token(&world.b, "owner").await);
    for written in 1..=5 {
        world.event(&world.a, "member", "d").await;
        for path in ["/v1/events/stats", "/v1/events/stats?target_id=d", "/v1/events/stats?target_type=document"] {
            assert_eq!(world.get(&a, path).await.expect(200).json()["total"], written, "{path}");
            assert_eq!(world.get(&a, path).await.expect(200).json()["total"], written, "{path}");
            assert_eq!(world.get(&b, path).await.expect(200).json()["total"], 0, "{path}");
        }
        assert_eq!(world.get(&a, "/v1/events/stats?target_id=e").await.expect(200).json()["total"], 0);
        let facets = world.get(&a, "/v1/events/facets?most=1").await.expect(200).json();
        assert_eq!(facets["facets"][0]["values"][0]["events"], written);
    }
    // Kept: a write past this service is not seen at once, but soon.
    let total = async || world.get(&a, "/v1/events/stats").await.expect(200).json()["total"].as_i64();
    let mut seen = BTreeSet::new();
    for round in 0..3 {
        total().await;
        world.sql(&world.a, "DELETE FROM events WHERE id = (SELECT min(id::text)::uuid FROM events)").await?;
        let expected = Some(4 - round);
        seen.insert(total().await == expected);
        tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
        assert_eq!(total().await, expected);
    }
    assert!(seen.contains(&false), "nothing is kept");
    // Whoever is out is not told what was kept for others.
    total().await;
    world.database.sql(&format!("DELETE FROM memberships WHERE person_id = '{}'", world.a.people["owner"])).await?;
    world.get(&a, "/v1/events/stats").await.expect(401);
    Ok(())
}
