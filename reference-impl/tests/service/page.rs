//! The page: who sees what on it, what a cookie opens, what a form of another site may not do, and that nothing an event
//! holds becomes markup.

use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::json;
use sqlx::Connection;
use uuid::Uuid;

use crate::working::{Working, until};
use crate::world::{Answer, PASSWORD, Tenant, World, event};

/// A browser's cookies, `Cookie: …`.
type Cookies = String;

/// A form as a browser sends it from the page itself.
async fn submit(world: &World, cookies: &str, path: &str, fields: &str) -> Answer {
    submit_from(world, cookies, path, fields, &[("sec-fetch-site", "same-origin")]).await
}

async fn submit_from(world: &World, cookies: &str, path: &str, fields: &str, from: &[(&str, &str)]) -> Answer {
    let mut request = Request::post(path)
        .header(header::HOST, "audit.example")
        .header(header::COOKIE, cookies)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    for (name, value) in from {
        request = request.header(*name, *value);
    }
    world.send(request.body(Body::from(fields.to_string())).expect("a request")).await
}

async fn open(world: &World, cookies: &str, path: &str) -> Answer {
    let request = Request::get(path).header(header::COOKIE, cookies);
    world.send(request.body(Body::empty()).expect("a request")).await
}

/// What the browser holds after this answer.
fn kept(answer: &Answer) -> Cookies {
    let set = answer.headers.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = set.filter_map(|cookie| cookie.split(';').next()).filter(|pair| !pair.ends_with('='));
    pairs.collect::<Vec<_>>().join("; ")
}

fn fields(email: &str, password: &str) -> String {
    serde_urlencoded::to_string([("email", email), ("password", password)]).expect("a form")
}

async fn signed_in(world: &World, tenant: &Tenant, role: &str) -> Cookies {
    let answer = submit(world, "", "/sign-in", &fields(&tenant.email(role), PASSWORD)).await;
    assert_eq!((answer.status.as_u16(), location(&answer)), (303, "/"), "{}", answer.text);
    kept(&answer)
}

fn location(answer: &Answer) -> &str {
    answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("-")
}

#[track_caller]
fn shown(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    &answer.text
}

#[tokio::test]
async fn each_tenant_sees_its_own_events_in_the_list_by_id_by_search_and_by_filter() -> anyhow::Result<()> {
    let world = World::new().await?;
    let ours = world.event(&world.a, "member", "our-plan").await;
    let theirs = world.event(&world.b, "member", "their-plan").await;
    let note = json!({"body": "their-note"});
    let owner = world.token(&world.b, "owner").await;
    world.post(&owner, &format!("/v1/events/{theirs}/annotations"), note).await.expect(201);
    let us = signed_in(&world, &world.a, "owner").await;
    let actor = world.b.people["member"];
    for path in [
        "/".to_string(),
        "/?q=document".into(),
        "/?action=document.shared".into(),
        format!("/?actor={actor}"),
        "/?target_type=document&target_id=their-plan".into(),
        "/?from=2026-03-01&to=2026-03-02T00:00&sort=asc".into(),
        format!("/?tenant_id={}", world.b.id),
        format!("/events/{ours}"),
    ] {
        let answer = open(&world, &us, &path).await;
        let text = shown(&answer);
        assert!(
            !text.contains("document their") && !text.contains("their-note") && !text.contains("globex"),
            "{path}: {text}"
        );
        assert_eq!(
            text.contains("document our-plan"),
            !path.contains("actor=") && !path.contains("their-plan"),
            "{path}"
        );
    }
    let (foreign, nowhere) = (format!("/events/{theirs}"), format!("/events/{}", Uuid::now_v7()));
    let (foreign, nowhere) = (open(&world, &us, &foreign).await, open(&world, &us, &nowhere).await);
    assert_eq!((foreign.status.as_u16(), &foreign.text), (404, &nowhere.text), "not yours and not there are alike");
    let to_theirs = submit(&world, &us, &format!("/events/{theirs}/annotations"), "body=mine").await;
    assert_eq!(to_theirs.status, 404);
    Ok(())
}

#[tokio::test]
async fn who_may_not_read_all_sees_on_the_page_what_the_api_shows() -> anyhow::Result<()> {
    let world = World::new().await?;
    let own = world.event(&world.a, "member", "own-deed").await;
    let other = world.event(&world.a, "admin", "deed-of-another").await;
    for (role, all, notes) in
        [("owner", true, true), ("admin", true, true), ("auditor", true, false), ("member", false, true)]
    {
        let cookies = signed_in(&world, &world.a, role).await;
        let list = open(&world, &cookies, "/").await;
        assert!(shown(&list).contains("own-deed"), "{role}");
        assert_eq!(list.text.contains("deed-of-another"), all, "{role}");
        assert_eq!(list.text.contains("<select id=\"actor\""), all, "{role} is offered the actors it may see");
        let status = open(&world, &cookies, &format!("/events/{other}")).await.status;
        assert_eq!(status, if all { 200 } else { 404 }, "{role}");
        let one = open(&world, &cookies, &format!("/events/{own}")).await;
        assert_eq!(shown(&one).contains("<textarea"), notes, "{role}");
        let noted = submit(&world, &cookies, &format!("/events/{own}/annotations"), "body=seen+it").await;
        assert_eq!(noted.status, if notes { 303 } else { 403 }, "{role}");
    }
    // An operator has no tenant, and so no page; it is answered as one who is not known.
    let operator = submit(&world, "", "/sign-in", &fields("platform@operator.example", PASSWORD)).await;
    let unknown = submit(&world, "", "/sign-in", &fields("platform@operator.example", "wrong")).await;
    assert_eq!((operator.status.as_u16(), &operator.text), (403, &unknown.text));
    assert!(kept(&operator).is_empty());
    Ok(())
}

#[tokio::test]
async fn what_is_filtered_is_exported_and_fetched_by_its_own_tenant_alone() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.event(&world.a, "member", "our-plan").await;
    world.event(&world.a, "admin", "another-plan").await;
    world.event(&world.b, "member", "their-plan").await;
    let (us, them) = (signed_in(&world, &world.a, "auditor").await, signed_in(&world, &world.b, "owner").await);
    let filtered = open(&world, &us, "/?target_type=document&target_id=our-plan&from=2026-03-01").await;
    assert!(shown(&filtered).contains("name=\"target_id\" value=\"our-plan\""), "the form takes the filters over");
    let asked = "target_type=document&target_id=our-plan&from=2026-03-01&format=csv";
    let sent = submit(&world, &us, "/exports", asked).await;
    assert_eq!((sent.status.as_u16(), location(&sent)), (303, "/exports"), "{}", sent.text);
    let waiting = open(&world, &us, "/exports").await;
    assert!(shown(&waiting).contains("queued") && waiting.text.contains("Target our-plan"), "{}", waiting.text);
    assert!(shown(&open(&world, &them, "/exports").await).contains("Nothing has been exported"));
    let working = Working::on(&world).await?;
    let link = until("a file", async || {
        let page = open(&world, &us, "/exports").await;
        let link = shown(&page).split('"').find(|word| word.ends_with("/download")).map(str::to_string);
        Ok(link)
    })
    .await?;
    let file = open(&world, &us, &link).await;
    assert_eq!((file.status.as_u16(), file.headers[header::CONTENT_TYPE].to_str()?), (200, "text/csv; charset=utf-8"));
    assert!(file.text.contains("our-plan") && !file.text.contains("another-plan"), "{}", file.text);
    assert_eq!(open(&world, &them, &link).await.status, 404);
    let member = signed_in(&world, &world.a, "member").await;
    assert!(!shown(&open(&world, &member, "/").await).contains("/exports"), "not offered to who may not");
    assert_eq!(open(&world, &member, &link).await.status, 403);
    assert_eq!(submit(&world, &member, "/exports", asked).await.status, 403);
    let searched = submit(&world, &us, "/exports", "q=plan&format=csv").await;
    assert_eq!(searched.status, 400, "what a search finds is not what the export would hold");
    working.ended().await
}

#[tokio::test]
async fn cookies_open_the_page_and_nothing_else_and_bearers_do_not_open_the_page() -> anyhow::Result<()> {
    let world = World::new().await?;
    let id = world.event(&world.a, "member", "d").await;
    let cookies = signed_in(&world, &world.a, "owner").await;
    for path in ["/v1/me", "/v1/events", "/v1/members", &format!("/v1/events/{id}")] {
        open(&world, &cookies, path).await.expect(401);
    }
    let request = Request::post("/v1/events").header(header::COOKIE, &cookies);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let body = event(world.a.people["member"], "forged").to_string();
    world.send(request.body(Body::from(body))?).await.expect(401);
    let owner = world.token(&world.a, "owner").await;
    assert_eq!(location(&world.get(&owner, "/").await), "/sign-in");
    for secret in [&world.a.api_key, &world.a.viewer_token] {
        let planted = format!("__Host-audit-access={secret}; __Host-audit-refresh=rt_0");
        assert_eq!(location(&open(&world, &planted, "/").await), "/sign-in", "only people sign in");
    }
    // The names that plain http uses mean nothing here.
    assert_eq!(location(&open(&world, &cookies.replace("__Host-", ""), "/").await), "/sign-in");
    Ok(())
}

#[tokio::test]
async fn every_answer_of_the_page_forbids_scripts_frames_and_caches_and_its_cookies_are_locked() -> anyhow::Result<()> {
    let world = World::new().await?;
    let id = world.event(&world.a, "member", "d").await;
    let answer = submit(&world, "", "/sign-in", &fields(&world.a.email("owner"), PASSWORD)).await;
    let set: Vec<&str> =
        answer.headers.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
    assert_eq!(set.len(), 2);
    for cookie in &set {
        assert!(cookie.starts_with("__Host-audit-"), "{cookie}");
        for attribute in ["HttpOnly", "Secure", "SameSite=Strict", "Path=/"] {
            assert!(cookie.split("; ").any(|one| one == attribute), "{attribute}: {cookie}");
        }
        assert!(!cookie.contains("Domain"), "{cookie}");
    }
    let cookies = kept(&answer);
    let pages = ["/", "/?from=nonsense", &format!("/events/{id}"), "/events/none", "/sign-in", "/docs"];
    for (cookies, path) in pages.iter().flat_map(|path| [(cookies.as_str(), path), ("", path)]) {
        let answer = open(&world, cookies, path).await;
        let of = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
        let policy = of("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'self'"), "{policy}");
        assert_eq!((of("cache-control"), of("x-content-type-options")), ("no-store", "nosniff"), "{path}");
        for word in ["<script", " style=", "javascript:", "http://", "https://"] {
            let text = answer.text.replace("xmlns='http://www.w3.org", "");
            assert!(!text.contains(word), "{path} has {word}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn nothing_that_an_event_holds_becomes_markup() -> anyhow::Result<()> {
    let world = World::new().await?;
    let evil = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>";
    let owner = world.token(&world.a, "owner").await;
    let new = json!({
        "actor": {"id": world.a.people["member"], "email": evil, "name": evil},
        "action": evil, "target": {"type": evil, "id": evil, "name": evil},
        "user_agent": evil, "external_id": evil, "outcome": "failure",
        "details": {"severity": evil, evil: [evil, {"</pre>": evil}]}
    });
    let id = world.post(&owner, "/v1/events", new).await.expect(201).id();
    world.post(&owner, &format!("/v1/events/{id}/annotations"), json!({"body": evil})).await.expect(201);
    world.call(&owner, Method::PATCH, "/v1/tenant", Some(json!({"name": evil}))).await.expect(200);
    let rename = "UPDATE memberships SET display_name = $1";
    let mut admin = world.database.connect("postgres").await?;
    sqlx::query(rename).bind(evil).execute(&mut admin).await?;
    admin.close().await?;
    let cookies = signed_in(&world, &world.a, "owner").await;
    let typed = serde_urlencoded::to_string(
        ["q", "actor", "action", "target_type", "target_id", "from", "to", "sort", "cursor"].map(|name| (name, evil)),
    )?;
    let quoted = serde_urlencoded::to_string([("q", evil), ("action", evil), ("target_id", evil)])?;
    for path in ["/".to_string(), format!("/?{typed}"), format!("/?{quoted}"), format!("/events/{id}")] {
        let answer = open(&world, &cookies, &path).await;
        let text = &answer.text;
        assert!(text.contains("alert(1)"), "{path}: what it holds is shown");
        for word in ["<script", "<img", "'><", "\"><script", "</pre>\""] {
            assert!(!text.contains(word), "{path}: {word} in {text}");
        }
    }
    let wrong = submit(&world, "", "/sign-in", &fields(evil, "x")).await;
    assert!(wrong.text.contains("alert(1)") && !wrong.text.contains("<script"), "{}", wrong.text);
    Ok(())
}

#[tokio::test]
async fn a_form_of_another_site_does_nothing() -> anyhow::Result<()> {
    let world = World::new().await?;
    let id = world.event(&world.a, "member", "d").await;
    let cookies = signed_in(&world, &world.a, "owner").await;
    let path = format!("/events/{id}/annotations");
    let to_b = format!("tenant_id={}", world.b.id);
    let good = fields(&world.a.email("owner"), PASSWORD);
    let origins: [&[(&str, &str)]; 5] = [
        &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
        &[("sec-fetch-site", "same-site"), ("origin", "https://other.audit.example")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", "https://audit.example.evil.example")],
    ];
    for from in origins {
        for (path, fields) in [
            (path.as_str(), "body=forged"),
            ("/sign-out", ""),
            ("/tenants/switch", &to_b),
            ("/sign-in", &good),
            ("/sign-in/tenant", &to_b),
        ] {
            let answer = submit_from(&world, &cookies, path, fields, from).await;
            assert_eq!(answer.status, 403, "{path} from {from:?}");
            assert!(kept(&answer).is_empty());
        }
    }
    // The page's own, of a browser that says only where from.
    let own = [("origin", "https://audit.example")];
    assert_eq!(submit_from(&world, &cookies, &path, "body=mine", &own).await.status, 303);
    let text = open(&world, &cookies, &format!("/events/{id}")).await.text;
    assert!(text.contains("mine") && !text.contains("forged"));
    Ok(())
}

#[tokio::test]
async fn who_belongs_to_two_tenants_chooses_one_and_switches_and_each_shows_its_own() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (ours, theirs) =
        (world.event(&world.a, "member", "our-plan").await, world.event(&world.b, "member", "their-plan").await);
    let invited = json!({"email": world.a.email("admin"), "display_name": "Guest", "role": "auditor"});
    world.post(&world.token(&world.b, "owner").await, "/v1/members", invited).await.expect(201);
    let answer = submit(&world, "", "/sign-in", &fields(&world.a.email("admin"), PASSWORD)).await;
    assert!(shown(&answer).contains("acme") && answer.text.contains("globex"));
    let choosing = kept(&answer);
    // Having said the password opens nothing but the choice.
    for path in ["/", &format!("/events/{ours}")] {
        assert_eq!(location(&open(&world, &choosing, path).await), "/sign-in", "{path}");
    }
    let as_access = choosing.replace("choice", "access") + "; __Host-audit-refresh=rt_0";
    assert_eq!(location(&open(&world, &as_access, "/").await), "/sign-in");
    let to = |tenant: Uuid| format!("tenant_id={tenant}");
    assert_eq!(submit(&world, &choosing, "/sign-in/tenant", &to(Uuid::nil())).await.status, 404);
    assert_eq!(location(&submit(&world, "", "/sign-in/tenant", &to(world.a.id)).await), "/sign-in");
    let here = kept(&submit(&world, &choosing, "/sign-in/tenant", &to(world.a.id)).await);
    let text = open(&world, &here, "/").await.text;
    assert!(text.contains("our-plan") && !text.contains("their-plan") && text.contains("globex"), "{text}");
    let there = kept(&submit(&world, &here, "/tenants/switch", &to(world.b.id)).await);
    let text = open(&world, &there, "/").await.text;
    assert!(text.contains("their-plan") && !text.contains("our-plan"), "{text}");
    assert_eq!(open(&world, &there, &format!("/events/{ours}")).await.status, 404);
    assert_eq!(open(&world, &there, &format!("/events/{theirs}")).await.status, 200);
    assert_eq!(location(&open(&world, &here, "/").await), "/sign-in", "the session left behind has ended");
    // One who belongs to one tenant alone can go nowhere, and learns nothing.
    let member = signed_in(&world, &world.a, "member").await;
    let (foreign, nowhere) = (
        submit(&world, &member, "/tenants/switch", &to(world.b.id)).await,
        submit(&world, &member, "/tenants/switch", &to(Uuid::nil())).await,
    );
    assert_eq!((foreign.status.as_u16(), &foreign.text), (404, &nowhere.text));
    assert!(!open(&world, &member, "/").await.text.contains("globex"));
    Ok(())
}

#[tokio::test]
async fn who_signs_out_or_is_removed_is_out_at_once_and_a_new_role_counts_at_once() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.event(&world.a, "admin", "deed-of-another").await;
    let cookies = signed_in(&world, &world.a, "owner").await;
    let out = submit(&world, &cookies, "/sign-out", "").await;
    assert_eq!((location(&out), kept(&out).as_str()), ("/sign-in", ""));
    assert_eq!(out.headers.get_all(header::SET_COOKIE).iter().count(), 2, "both cookies are taken away");
    // Also where the list is not even read.
    for path in ["/", "/?from=nonsense"] {
        let refused = open(&world, &cookies, path).await;
        assert_eq!(location(&refused), "/sign-in", "{path}: {}", refused.text);
        let taken = refused.headers.get_all(header::SET_COOKIE).iter().count();
        assert_eq!(taken, 2, "what opens nothing any more is taken from the browser");
    }

    let owner = world.token(&world.a, "owner").await;
    let members = world.get(&owner, "/v1/members").await.expect(200).json();
    let member = members["items"].as_array().and_then(|all| all.iter().find(|m| m["role"] == "member").cloned());
    let path = format!("/v1/members/{}", member.expect("a member")["id"].as_str().expect("an id"));
    let cookies = signed_in(&world, &world.a, "member").await;
    assert!(!open(&world, &cookies, "/").await.text.contains("deed-of-another"));
    world.call(&owner, Method::PATCH, &path, Some(json!({"role": "auditor"}))).await.expect(200);
    let again = open(&world, &cookies, "/?sort=asc").await;
    assert_eq!(location(&again), "/?sort=asc", "renewed with the new role, and asked again");
    let cookies = kept(&again);
    assert!(shown(&open(&world, &cookies, "/").await).contains("deed-of-another"));
    world.call(&owner, Method::DELETE, &path, None).await.expect(204);
    for path in ["/", "/?from=nonsense"] {
        let refused = open(&world, &cookies, path).await;
        assert_eq!((location(&refused), kept(&refused).as_str()), ("/sign-in", ""), "{path}");
        assert!(!refused.text.contains("acme"));
    }
    Ok(())
}

#[tokio::test]
async fn a_session_whose_access_token_ran_out_is_renewed_and_its_old_cookies_open_nothing() -> anyhow::Result<()> {
    use partywall_reference::token::{Claims, Signer, derived};
    let world = World::new().await?;
    let cookies = signed_in(&world, &world.a, "member").await;
    let claims = Claims {
        sub: world.a.people["member"],
        tenant: Some(world.a.id),
        role: "member".into(),
        sid: Uuid::nil(),
        exp: 1_000_000_000,
    };
    let key = derived(&hex::decode(crate::world::TOKEN_KEY)?, "access tokens");
    let old = Signer::new(&key).sign(&claims).expect("a token");
    let refresh = cookies.split("; ").find(|pair| pair.contains("refresh")).expect("a refresh token").to_string();
    let ran_out = format!("__Host-audit-access={old}; {refresh}");
    let answer = open(&world, &ran_out, "/").await;
    shown(&answer);
    let fresh = kept(&answer);
    assert!(fresh.contains("access") && fresh.contains("refresh") && !fresh.contains(&refresh));
    shown(&open(&world, &fresh, "/").await);
    let spent = open(&world, &ran_out, "/").await;
    assert_eq!(location(&spent), "/sign-in");
    assert!(spent.headers.get(header::SET_COOKIE).is_none(), "another tab may hold the fresh ones");
    // One who signs out with a token that ran out leaves no session behind.
    let refresh = fresh.split("; ").find(|pair| pair.contains("refresh")).expect("a refresh token");
    submit(&world, &format!("__Host-audit-access={old}; {refresh}"), "/sign-out", "").await;
    assert_eq!(location(&open(&world, &fresh, "/").await), "/sign-in");
    Ok(())
}

#[tokio::test]
async fn pages_go_on_with_the_filters_kept_and_a_cursor_of_another_list_is_refused() -> anyhow::Result<()> {
    let world = World::new().await?;
    for index in 0..53 {
        world.event(&world.a, "member", &format!("d{index:02}")).await;
    }
    let cookies = signed_in(&world, &world.a, "owner").await;
    let next = |text: &str| {
        let (_, rest) = text.split_once("class=\"next\" href=\"").expect("a next page");
        rest.split('"').next().expect("an address").replace("&#38;", "&")
    };
    let first = open(&world, &cookies, "/?action=document.shared&sort=asc").await;
    assert!(shown(&first).contains("<strong>53</strong>"));
    let address = next(&first.text);
    assert!(address.contains("action=document.shared") && address.contains("sort=asc"), "{address}");
    let second = open(&world, &cookies, &address).await;
    let rows = |text: &str| text.matches("class=\"time\"").count();
    assert_eq!((rows(&first.text), rows(shown(&second))), (50, 3));
    let foreign = open(&world, &signed_in(&world, &world.b, "owner").await, &address).await;
    assert_eq!((foreign.status.as_u16(), rows(&foreign.text)), (400, 0));
    let other = open(&world, &cookies, &address.replace("sort=asc", "sort=desc")).await;
    assert_eq!((other.status.as_u16(), rows(&other.text)), (400, 0));
    for bad in ["/?actor=x", "/?from=x", "/?to=9999-01-01", "/?q=%00", "/?action=%00", "/?cursor=x"] {
        let answer = open(&world, &cookies, bad).await;
        assert!(answer.status.is_client_error() && answer.text.contains("role=\"alert\""), "{bad}: {}", answer.status);
    }
    for bad in ["/?q=%FF", "/?q=a&q=b"] {
        assert!(!open(&world, &cookies, bad).await.status.is_server_error(), "{bad}");
    }
    Ok(())
}
