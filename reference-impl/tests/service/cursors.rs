//! Lists by page: whole, in order, and with cursors that belong to one tenant, one list, one set of filters.

use serde_json::json;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::world::{World, event};

#[tokio::test]
async fn pages_hold_every_row_once_in_either_order_with_the_total() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    // All at one instant: the id alone decides the order.
    let mut made = Vec::new();
    for index in 0..7 {
        made.push(world.event(&world.a, "member", &format!("d{index}")).await);
    }
    world.event(&world.b, "member", "theirs").await;
    made.sort();
    for sort in ["asc", "desc"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page =
                world.get(&owner, &format!("/v1/events?limit=3&count=true&sort={sort}{cursor}")).await.expect(200);
            assert_eq!(page.json()["total"], 7);
            seen.extend(page.ids());
            match page.json()["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        if sort == "desc" {
            seen.reverse();
        }
        assert_eq!(seen, made, "{sort}");
    }
    Ok(())
}

#[tokio::test]
async fn pages_go_on_into_months_long_past() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let mut made = Vec::new();
    for days in (0..12).map(|index| index * 25) {
        let at = OffsetDateTime::now_utc() - Duration::days(days) - Duration::HOUR;
        let mut event = event(world.a.people["member"], &format!("d{days}"));
        event["occurred_at"] = json!(at.format(&Rfc3339)?);
        made.push(world.post(&world.a.api_key, "/v1/events", event).await.expect(201).id());
    }
    world.event(&world.b, "member", "theirs").await;
    for limit in [1, 3, 5, 12, 50] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = world.get(&owner, &format!("/v1/events?limit={limit}{cursor}")).await.expect(200);
            seen.extend(page.ids());
            match page.json()["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, made, "{limit}");
    }
    Ok(())
}

#[tokio::test]
async fn a_cursor_that_is_altered_or_of_another_list_opens_nothing() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (owner, intruder) = (world.token(&world.a, "owner").await, world.token(&world.b, "owner").await);
    let first = world.event(&world.a, "member", "d").await;
    for tenant in [&world.a, &world.b] {
        for index in 0..3 {
            world.event(tenant, "member", &format!("d{index}")).await;
        }
    }
    for body in ["one", "two"] {
        let path = format!("/v1/events/{first}/annotations");
        world.post(&owner, &path, json!({"body": body})).await.expect(201);
    }
    let lists = [
        "/v1/events?limit=1".to_string(),
        "/v1/events/search?limit=1&q=document".into(),
        "/v1/members?limit=1".into(),
        format!("/v1/events/{first}/annotations?limit=1"),
    ];
    let mut cursors = Vec::new();
    for path in &lists {
        let page = world.get(&owner, path).await.expect(200).json();
        let cursor = page["next_cursor"].as_str().unwrap_or_else(|| panic!("{path} goes on")).to_string();
        world.get(&owner, &format!("{path}&cursor={cursor}")).await.expect(200);
        cursors.push(cursor);
    }
    let mut told = Vec::new();
    for (index, path) in lists.iter().enumerate() {
        let cursor = &cursors[index];
        let middle = cursor.len() / 2;
        let flipped = if cursor.as_bytes()[middle] == b'A' { "B" } else { "A" };
        let mut altered = cursor.clone();
        altered.replace_range(middle..=middle, flipped);
        let payload = cursor.split('.').next().unwrap_or_default();
        let other = &cursors[(index + 1) % cursors.len()];
        for bad in [altered.as_str(), payload, other, "", "a.b", "%00"] {
            told.push(world.get(&owner, &format!("{path}&cursor={bad}")).await.expect(400).text);
        }
        if !path.contains("annotations") {
            told.push(world.get(&intruder, &format!("{path}&cursor={cursor}")).await.expect(400).text);
        }
    }
    told.push(world.get(&owner, &format!("/v1/events?limit=1&action=x&cursor={}", cursors[0])).await.expect(400).text);
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    Ok(())
}

#[tokio::test]
async fn the_operators_list_has_pages_and_a_total_and_no_tenants_cursor_opens_it() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.event(&world.a, "member", "d").await;
    let platform = world.token(&world.a, "platform").await;
    let page = world.get(&platform, "/v1/platform/usage?limit=1&count=true").await.expect(200).json();
    assert_eq!(page["total"], 2);
    let cursor = page["next_cursor"].as_str().expect("it goes on");
    let rest = world.get(&platform, &format!("/v1/platform/usage?cursor={cursor}")).await.expect(200).json();
    let both = [&page["items"][0], &rest["items"][0]];
    assert!(rest["next_cursor"].is_null());
    for usage in both {
        let written = i64::from(usage["slug"] == "acme");
        assert_eq!(usage["events"], written, "{usage}");
        assert_eq!(usage["bytes"].as_i64().is_some_and(|bytes| bytes > 0), written == 1, "{usage}");
    }
    let owner = world.token(&world.a, "owner").await;
    let members = world.get(&owner, "/v1/members?limit=1").await.expect(200).json();
    let foreign = members["next_cursor"].as_str().expect("it goes on");
    world.get(&platform, &format!("/v1/platform/usage?cursor={foreign}")).await.expect(400);
    Ok(())
}
