//! Full text, and the filters of the list.

use serde_json::json;

use crate::world::{World, event};

#[tokio::test]
async fn a_whole_marker_is_found_wherever_it_stands_and_by_its_owner_only() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (owner, intruder) = (world.token(&world.a, "owner").await, world.token(&world.b, "owner").await);
    // Digits and lower-case letters in every order a parser of numbers could stumble over.
    let markers =
        ["50731946k3v9aa2b7c", "12e5a7e9e1", "50731946e3", "0x1f9e", "7e", "a1e5", "1e400", "00000000aaaa2222"];
    for marker in markers {
        for field in ["/action", "/actor/name", "/target/id", "/target/name", "/user_agent", "/external_id"] {
            let mut new = event(world.a.people["member"], "d");
            *new.pointer_mut(field).expect("a field") = json!(marker);
            let id = world.post(&owner, "/v1/events", new).await.expect(201).id();
            let found = world.get(&owner, &format!("/v1/events/search?q={marker}&limit=200")).await.expect(200);
            assert!(found.ids().contains(&id), "{marker} in {field}");
        }
        let seen = world.get(&intruder, &format!("/v1/events/search?q={marker}&count=true")).await.expect(200);
        assert_eq!((seen.ids().len(), seen.json()["total"].as_i64()), (0, Some(0)));
    }
    Ok(())
}

#[tokio::test]
async fn each_filter_narrows_the_list_and_its_total() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let (member, admin) = (world.a.people["member"], world.a.people["admin"]);
    let base = world.event(&world.a, "member", "d").await;
    let mut other = event(admin, "e");
    other["action"] = json!("user.removed");
    other["target"]["type"] = json!("user");
    other["occurred_at"] = json!("2026-04-01T00:00:00Z");
    let other = world.post(&owner, "/v1/events", other).await.expect(201).id();
    let table = [
        (format!("actor={member}"), base),
        (format!("actor={admin}"), other),
        ("action=user.removed".into(), other),
        ("target_type=document".into(), base),
        ("target_id=e".into(), other),
        ("from=2026-04-01T00:00:00Z".into(), other),
        ("to=2026-04-01T00:00:00Z".into(), base),
        ("from=2026-03-01T11:00:00%2B01:00&to=2026-03-31T00:00:00Z".into(), base),
    ];
    for (filter, only) in table {
        let list = world.get(&owner, &format!("/v1/events?count=true&{filter}")).await.expect(200);
        assert_eq!((list.ids(), list.json()["total"].as_i64()), (vec![only], Some(1)), "{filter}");
    }
    Ok(())
}
