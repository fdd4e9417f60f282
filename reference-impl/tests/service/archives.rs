//! The way back from an archive: what was altered is refused, what is restored is restored once, and kept for a while.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::retention::{archives, folder, keep, lines, outcome, plant, restored, run, total};
use crate::working::Working;
use crate::world::World;

#[tokio::test]
async fn an_archive_that_was_altered_or_is_gone_is_refused_and_puts_nothing_back() -> anyhow::Result<()> {
    let world = World::new().await?;
    let a = world.token(&world.a, "owner").await;
    plant(&world, &world.a, 3, 100).await?;
    keep(&world, &a, 1, 1, false).await;
    let working = Working::on(&world).await?;
    assert_eq!(outcome(&run(&world, &a).await?), ("done", 3, 3));
    let listed = archives(&world, &a).await;
    let id = listed[0]["id"].as_str().expect("an id").to_string();
    let path = folder(&world, &world.a, "archives").join(&id);
    let whole = std::fs::read(&path)?;
    let mut bent = whole.clone();
    bent[whole.len() / 2] ^= 1;
    // One who may change the database, too, still cannot make it what was sealed.
    let text = String::from_utf8(zstd::decode_all(whole.as_slice())?)?;
    let forged = zstd::encode_all(text.replace("planted", "harmless").as_bytes(), 0)?;
    let sum = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    for (bytes, sha256, says) in [
        (Some(&bent), sum(&whole), "is not what was written"),
        (Some(&forged), sum(&whole), "is not what was written"),
        (Some(&forged), sum(&forged), "not what was sealed"),
        (None, sum(&whole), "is not there"),
    ] {
        match bytes {
            Some(bytes) => std::fs::write(&path, bytes)?,
            None => std::fs::remove_file(&path)?,
        }
        world.sql(&world.a, &format!("UPDATE archives SET sha256 = '\\x{sha256}'")).await?;
        let told = restored(&world, &a, &id).await?;
        assert_eq!(told["restore_state"], "failed");
        assert!(told["restore_told"].as_str().is_some_and(|told| told.contains(says)), "{says}: {told}");
        assert_eq!(total(&world, &a).await, 0, "{says}");
    }
    std::fs::write(&path, &whole)?;
    assert_eq!(restored(&world, &a, &id).await?["restored"], 3, "mended");
    working.ended().await
}

#[tokio::test]
async fn what_is_restored_is_restored_once_and_kept_until_its_time() -> anyhow::Result<()> {
    let world = World::new().await?;
    let a = world.token(&world.a, "owner").await;
    plant(&world, &world.a, 3, 100).await?;
    let oldest = world.get(&a, "/v1/events?sort=asc&limit=1").await.expect(200).ids()[0];
    let attached = format!("/v1/events/{oldest}/attachments");
    world.post(&a, &format!("{attached}?name=n"), json!({"k": "v"})).await.expect(201);
    keep(&world, &a, 1, 1, false).await;
    let working = Working::on(&world).await?;
    run(&world, &a).await?;
    let id = archives(&world, &a).await[0]["id"].as_str().expect("an id").to_string();
    let back = restored(&world, &a, &id).await?;
    assert_eq!((&back["restored"], back["kept_until"].is_string()), (&json!(3), true));
    let attachment = world.get(&a, &attached).await.expect(200).ids()[0];
    let link = world.get(&a, &format!("/v1/attachments/{attachment}")).await.expect(200).json();
    let file = world.get("", &format!("/v1/objects/{}", link["signed"].as_str().expect("a link"))).await.expect(200);
    assert_eq!(file.text, r#"{"k":"v"}"#, "with its bytes");
    let event = world.get(&a, "/v1/events?limit=1").await.expect(200).ids()[0];
    world.post(&a, &format!("/v1/events/{event}/annotations"), json!({"body": "after"})).await.expect(201);
    assert_eq!(restored(&world, &a, &id).await?["restored"], 0, "they are there");
    let told = run(&world, &a).await?;
    assert_eq!((outcome(&told), &told["delete_due"]), (("done", 0, 0), &json!(0)), "kept: {told}");
    world.sql(&world.a, "UPDATE archives SET kept_until = now() - interval '1 s'").await?;
    let told = run(&world, &a).await?;
    // One of them has changed, and is archived as it is now before it goes.
    assert_eq!(outcome(&told), ("done", 1, 3), "{told}");
    let listed = archives(&world, &a).await;
    let later = listed.iter().find(|archive| archive["id"] != json!(id)).expect("another archive");
    assert!(lines(&world, &world.a, std::slice::from_ref(later))[&event][0].contains("after"));
    // From the two of them, whichever comes first, it comes back as it was at last.
    assert_eq!(restored(&world, &a, &id).await?["restored"], 2);
    assert_eq!(restored(&world, &a, later["id"].as_str().expect("an id")).await?["restored"], 1);
    let notes = world.get(&a, &format!("/v1/events/{event}/annotations")).await.expect(200).json();
    assert_eq!(notes["items"][0]["body"], "after");
    working.ended().await
}
