//! The chain of hashes, verified as one outside would: from the documentation, by what the API answers.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::program::{command, free_port};
use crate::working::{Working, until};
use crate::world::{Tenant, World, event};

/// Follows the proof of an event from its digest to the head, over as many proofs as that takes, and says what is wrong.
/// Answers the head.
async fn verified(world: &World, token: &str, event: Uuid) -> Result<(i64, String), String> {
    let text = world.get(token, &format!("/v1/events/{event}")).await.expect(200).text;
    let mut proof = world.get(token, &format!("/v1/proofs/{event}")).await.expect(200).json();
    if proof["digest"] != hex::encode(Sha256::digest(text)) {
        return Err(format!("{event} is not what was sealed"));
    }
    loop {
        let hashed = |hash: &[u8], digest: &Value| {
            let digest = hex::decode(digest.as_str().unwrap_or_default()).map_err(|e| e.to_string())?;
            Ok::<_, String>(Sha256::digest([hash, &digest].concat()).to_vec())
        };
        let previous = proof["previous"].as_str().and_then(|hash| hex::decode(hash).ok()).ok_or("no previous")?;
        if proof["position"] == 1 && previous != [0; 32] {
            return Err("the first link follows nothing".into());
        }
        let mut hash = hashed(&previous, &proof["digest"])?;
        if proof["hash"] != hex::encode(&hash) {
            return Err("the link is not of its event".into());
        }
        let path = proof["path"].as_array().ok_or("no path")?;
        for digest in path {
            hash = hashed(&hash, digest)?;
        }
        let (end, head) = (proof["path_end"].clone(), &proof["head"]);
        let position = |value: &Value| value["position"].as_i64().ok_or("no position");
        if end["hash"] != hex::encode(&hash) || position(&end)? != position(&proof)? + path.len() as i64 {
            return Err("the path does not lead to its end".into());
        }
        if end["position"] == head["position"] {
            let same = end["hash"] == head["hash"];
            return if same { Ok((position(&end)?, hex::encode(hash))) } else { Err("another head".into()) };
        }
        let next = end["event_id"].as_str().unwrap_or_default();
        proof = world.get(token, &format!("/v1/proofs/{next}")).await.expect(200).json();
        if proof["hash"] != end["hash"] {
            return Err("the chain does not go on".into());
        }
    }
}

async fn head(world: &World, tenant: &Tenant) -> Value {
    let owner = world.token(tenant, "owner").await;
    world.get(&owner, "/v1/proofs/head").await.expect(200).json()
}

#[tokio::test]
async fn every_event_is_proved_up_to_the_one_head_of_its_own_tenant() -> anyhow::Result<()> {
    let world = World::new().await?;
    assert_eq!(head(&world, &world.a).await, json!({"position": 0, "hash": "0".repeat(64), "complete": true}));
    let auditor = world.token(&world.a, "auditor").await;
    let mut events = Vec::new();
    for index in 0..3 {
        events.push(world.event(&world.a, "member", &format!("d{index}")).await);
        world.event(&world.b, "member", "theirs").await;
        // Sealed by the proof, not only by the head.
        verified(&world, &auditor, events[index]).await.map_err(anyhow::Error::msg)?;
    }
    let head_a = head(&world, &world.a).await;
    for event in &events {
        let (position, hash) = verified(&world, &auditor, *event).await.map_err(anyhow::Error::msg)?;
        assert_eq!(json!({"position": position, "hash": hash, "complete": true}), head_a);
    }
    assert_eq!(head_a["position"], 3);
    let head_b = head(&world, &world.b).await;
    assert_eq!(head_b["position"], 3);
    assert_ne!(head_a["hash"], head_b["hash"]);
    let intruder = world.token(&world.b, "owner").await;
    world.get(&intruder, &format!("/v1/proofs/{}", events[0])).await.expect(404);
    world.get(&intruder, "/v1/proofs/nonsense").await.expect(404);
    Ok(())
}

#[tokio::test]
async fn a_long_chain_is_proved_in_pieces_and_what_is_recorded_late_is_sealed_too() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let first = world.event(&world.a, "member", "first").await;
    let id = world.a.id;
    let insert = |count: u32, late: &str| {
        format!(
            "INSERT INTO events (tenant_id, id, occurred_at, recorded_at, actor_id, actor_email, actor_name, action, \
               target_type, target_id, target_name) \
             SELECT '{id}', gen_random_uuid(), now(), now() - interval '{late}', gen_random_uuid(), '', '', 'a', 't', 'x', '' \
               FROM generate_series(1, {count})"
        )
    };
    world.sql(&world.a, &insert(2_400, "0 s")).await?;
    let (position, _) = verified(&world, &owner, first).await.map_err(anyhow::Error::msg)?;
    assert_eq!(position, 2_401);
    world.sql(&world.a, &insert(2, "9 min")).await?;
    assert_eq!(head(&world, &world.a).await["position"], 2_403);
    // A server whose clock is a day ahead hides nothing that comes after it.
    world.sql(&world.a, &insert(1, "-1 day")).await?;
    assert_eq!(head(&world, &world.a).await["position"], 2_404);
    world.sql(&world.a, &insert(1, "1 min")).await?;
    assert_eq!(head(&world, &world.a).await["position"], 2_405);
    // Too late for sealing by the clock, but not for being asked for.
    world.sql(&world.a, &insert(1, "1 day")).await?;
    assert_eq!(head(&world, &world.a).await["position"], 2_405);
    let listed = world.get(&owner, "/v1/events?limit=1").await.expect(200).ids()[0];
    assert_eq!(verified(&world, &owner, listed).await.map_err(anyhow::Error::msg)?.0, 2_406);
    Ok(())
}

#[tokio::test]
async fn changed_removed_exchanged_and_inserted_history_is_told() -> anyhow::Result<()> {
    let tampering = [
        ("UPDATE events SET action = 'harmless' WHERE id = '{event}'", "is not what was sealed"),
        ("UPDATE events SET details = '{\"k\": 1}' WHERE id = '{event}'", "is not what was sealed"),
        (
            "UPDATE events SET occurred_at = occurred_at + interval '1 us' WHERE id = '{event}'",
            "is not what was sealed",
        ),
        ("DELETE FROM chain_links WHERE position = 3", "does not lead to its end"),
        (
            "DELETE FROM chain_links WHERE position = 3; UPDATE chain_links SET position = 3 WHERE position = 4; \
             UPDATE chain_heads SET position = 3",
            "does not lead to its end",
        ),
        ("UPDATE chain_links SET digest = sha256('x') WHERE position = 4", "does not lead to its end"),
        ("UPDATE chain_links SET digest = sha256('x') WHERE position = 2", "is not what was sealed"),
        ("UPDATE chain_links SET hash = sha256('x') WHERE position = 1", "the link is not of its event"),
        ("UPDATE chain_heads SET hash = sha256('x')", "another head"),
    ];
    for (statement, told) in tampering {
        let world = World::new().await?;
        let owner = world.token(&world.a, "owner").await;
        let mut events = Vec::new();
        for _ in 0..4 {
            events.push(world.event(&world.a, "member", "d").await);
            head(&world, &world.a).await;
        }
        verified(&world, &owner, events[1]).await.map_err(anyhow::Error::msg)?;
        world.sql(&world.a, &statement.replace("{event}", &events[1].to_string())).await?;
        let found = verified(&world, &owner, events[1]).await;
        assert!(found.as_ref().is_err_and(|error| error.contains(told)), "{statement}: {found:?}");
    }
    Ok(())
}

#[tokio::test]
async fn writers_and_sealers_at_the_same_time_make_one_chain() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let mut last = Uuid::nil();
    for _ in 0..5 {
        let write = async || world.event(&world.a, "member", "d").await;
        let head = async || world.get(&owner, "/v1/proofs/head").await.expect(200);
        let (_, one, _, _, two) = tokio::join!(write(), head(), write(), write(), head());
        assert!(one.json()["position"].is_i64() && two.json()["position"].is_i64());
        last = world.event(&world.a, "member", "d").await;
    }
    verified(&world, &owner, last).await.map_err(anyhow::Error::msg)?;
    assert_eq!(head(&world, &world.a).await["position"], 20);
    let first = world.get(&owner, "/v1/events?sort=asc&limit=1").await.expect(200).ids()[0];
    verified(&world, &owner, first).await.map_err(anyhow::Error::msg)?;
    Ok(())
}

#[tokio::test]
async fn writing_does_not_wait_for_one_who_seals() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.event(&world.a, "member", "d").await;
    head(&world, &world.a).await;
    let mut sealer = world.at_home(&world.a, "postgres").await?;
    sqlx::raw_sql("BEGIN; SELECT FROM chain_heads FOR UPDATE").execute(&mut sealer).await?;
    let written = tokio::time::timeout(Duration::from_secs(4), world.event(&world.a, "member", "d")).await;
    assert!(written.is_ok(), "an event is written while the head is held");
    let owner = world.token(&world.a, "owner").await;
    world.get(&owner, "/v1/proofs/head").await.expect(503);
    let other = world.token(&world.b, "owner").await;
    world.get(&other, "/v1/proofs/head").await.expect(200);
    Ok(())
}

/// How many links each tenant's chain has, by its id.
async fn links(world: &World) -> anyhow::Result<Vec<(Uuid, i64)>> {
    let mut found = Vec::new();
    for tenant in [&world.a, &world.b] {
        let mut home = world.at_home(tenant, "postgres").await?;
        let links = "SELECT count(*) FROM chain_links WHERE tenant_id = $1";
        found.push((tenant.id, sqlx::query_scalar(links).bind(tenant.id).fetch_one(&mut home).await?));
    }
    found.sort();
    Ok(found)
}

#[tokio::test]
async fn a_worker_seals_what_is_written_now_and_then_and_each_event_once() -> anyhow::Result<()> {
    let world = World::new().await?;
    // Two of them: of those who seal at the same time one has the head.
    let working = [
        Working::with(&world, |work| work.seal_every_s = 1).await?,
        Working::with(&world, |work| work.seal_every_s = 1).await?,
    ];
    for round in 1..=2 {
        for tenant in [&world.a, &world.b] {
            world.event(tenant, "member", "d").await;
        }
        let mut expected = vec![(world.a.id, round), (world.b.id, round)];
        expected.sort();
        until("sealed events", async || Ok((links(&world).await? == expected).then_some(()))).await?;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(links(&world).await?.iter().all(|(_, links)| *links == 2), "no event twice");
    for one in working {
        one.ended().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_command_seals_all_tenants_as_worker_and_as_no_one_above_the_wall() -> anyhow::Result<()> {
    let world = World::new().await?;
    for tenant in [&world.a, &world.b] {
        world.post(&tenant.api_key, "/v1/events", event(Uuid::new_v4(), "d")).await.expect(201);
    }
    let seal = async |role: &str| {
        let mut command = command(env!("CARGO_BIN_EXE_audit-api"), &world.database, free_port()?);
        command.env("AUDIT_WORKER_DATABASE_URL", world.database.url(role));
        let output = tokio::time::timeout(Duration::from_secs(20), command.arg("seal").output()).await??;
        anyhow::Ok((output.status.code(), String::from_utf8(output.stderr)?))
    };
    for role in ["postgres", "audit_owner"] {
        let (code, told) = seal(role).await?;
        assert!(code == Some(2) && told.contains("serve as audit_worker"), "{role}: {told}");
    }
    let (code, told) = seal("audit_worker").await?;
    assert_eq!(code, Some(0), "{told}");
    let mut expected = vec![(world.a.id, 1), (world.b.id, 1)];
    expected.sort();
    assert_eq!(links(&world).await?, expected);
    Ok(())
}
