//! Starting, refusing to start, and ending.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::program::{Program, answer, command, free_port, get, post_text};
use crate::support::Database;
use crate::world::{World, event};

const PROGRAM: &str = env!("CARGO_BIN_EXE_audit-api");

#[tokio::test]
async fn a_request_under_way_is_finished_before_the_end_and_no_new_one_is_taken() -> anyhow::Result<()> {
    let world = World::new().await?;
    let port = free_port()?;
    let program = Program::start(command(PROGRAM, &world.database, port), port).await?;
    let request = post_text("/v1/events", &world.a.api_key, &event(world.a.people["member"], "d").to_string());
    let (first, rest) = request.split_at(request.len() - 20);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(first.as_bytes()).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    program.terminate()?;
    for tries in 0.. {
        if get(port, "/healthz", "").await.is_err() {
            break;
        }
        assert!(tries < 100, "it still takes new requests");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stream.write_all(rest.as_bytes()).await?;
    let (status, body) = answer(&mut stream).await?;
    assert_eq!(status, 201, "{body}");
    let (code, log) = program.ended().await?;
    assert_eq!(code, Some(0), "{log}");
    let owner = world.token(&world.a, "owner").await;
    assert_eq!(world.get(&owner, "/v1/events").await.expect(200).ids().len(), 1, "what was answered is kept");
    Ok(())
}

#[tokio::test]
async fn the_log_is_json_with_request_ids_and_names_no_tenant_secret_or_content() -> anyhow::Result<()> {
    let world = World::new().await?;
    let port = free_port()?;
    let program = Program::start(command(PROGRAM, &world.database, port), port).await?;
    let body = event(world.a.people["member"], "secret-target").to_string();
    crate::program::post(port, "/v1/events", &world.a.api_key, &body).await?;
    get(port, "/v1/events?action=secret-filter", &world.a.viewer_token).await?;
    program.terminate()?;
    let (_, log) = program.ended().await?;
    let lines: Vec<serde_json::Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let answered = |route: &str| {
        let of = |line: &&serde_json::Value| line["fields"]["route"] == route && line["span"]["request_id"].is_string();
        lines.iter().filter(of).filter_map(|line| line["fields"]["tenant"].as_str()).next().map(str::to_string)
    };
    let tenant = answered("/v1/events").expect("the tenant, hashed");
    assert_eq!(tenant.len(), 16);
    let key = &world.a.api_key[3..];
    for word in [
        "secret",
        "acme",
        key,
        &world.a.viewer_token[3..],
        &world.a.id.to_string(),
        &world.a.people["member"].to_string(),
    ] {
        assert!(!log.contains(word), "the log says {word}");
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_serve_says_why_in_one_line_and_ends_with_its_code() -> anyhow::Result<()> {
    let database = Database::migrated().await?;
    let empty = Database::empty().await?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let (listen, closed) = (taken.local_addr()?.to_string(), free_port()?);
    let gone = database.url_through(closed, "audit_app");
    let (superuser, owner, unmigrated) =
        (database.url("postgres"), database.url("audit_owner"), empty.url("audit_app"));
    let table = [
        ("AUDIT_LISTEN", listen.as_str(), 4, "cannot listen"),
        ("AUDIT_LISTEN", "nonsense", 2, "--listen"),
        ("AUDIT_TOKEN_KEY", "00ff", 2, "AUDIT_TOKEN_KEY"),
        ("AUDIT_TOKEN_KEY", "", 2, "AUDIT_TOKEN_KEY"),
        ("AUDIT_POOL_SIZE", "0", 2, "0"),
        ("AUDIT_DATABASE_URL", &gone, 4, "no database for AUDIT_DATABASE_URL"),
        ("AUDIT_LOGIN_DATABASE_URL", &gone, 4, "no database for AUDIT_LOGIN_DATABASE_URL"),
        ("AUDIT_DATABASE_URL", "nonsense:sesame", 2, "AUDIT_DATABASE_URL"),
        ("AUDIT_DATABASE_URL", &superuser, 2, "serve as audit_app"),
        ("AUDIT_DATABASE_URL", &owner, 2, "serve as audit_app"),
        ("AUDIT_DATABASE_URL", &unmigrated, 2, "audit-api migrate"),
        ("AUDIT_DEFECTS", "idor-by-id,", 2, "AUDIT_DEFECTS"),
    ];
    for (variable, value, code, says) in table {
        if variable == "AUDIT_DEFECTS" && cfg!(feature = "defects") {
            continue;
        }
        let mut command = command(PROGRAM, &database, free_port()?);
        let output =
            tokio::time::timeout(Duration::from_secs(20), command.arg("serve").env(variable, value).output()).await??;
        let told = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(code), "{variable}={value}: {told}");
        assert!(told.contains(says), "{variable}={value}: {told}");
        assert!(told.starts_with("error: ") && !told.contains("sesame") && !told.contains("00ff"), "{told}");
    }
    Ok(())
}
