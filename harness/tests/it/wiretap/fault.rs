//! Faults at the wall: each strikes the connection of its tenant alone, at its moment, and leaves client and server of one
//! mind on what has become of the transaction.

use std::time::{Duration, Instant};

use partywall::canary::{Canary, Mint, Owner};
use partywall::fault::{Fault, Kind, Moment};
use partywall::postgres::{Options, Postgres, Source};
use partywall::seed::Seed;
use partywall::target::copy::execute;
use partywall::target::database::connect;

use super::client::{Client, message};
use super::{WINDOW, tapped};

/// A connection that `owner` is bound to, in a transaction.
async fn bound(address: std::net::SocketAddr, owner: u32) -> Client {
    let mint = Mint::new(Seed(5).canary_key(0), WINDOW);
    let id = mint.uuid(Canary { owner: Owner::new(owner), row: 0, column: 0 });
    let mut client = Client::start(address).await;
    ask(&mut client, &format!("BEGIN; SET LOCAL app.tenant = '{id}'")).await;
    client
}

/// What is answered: the types of the messages, the error's code or the first value, and the state after.
async fn ask(client: &mut Client, sql: &str) -> String {
    client.send(&message(b'Q', &[sql.as_bytes(), &[0]].concat())).await;
    let told = client.ready().await.into_iter().map(|(tag, body)| match tag {
        b'E' => {
            let text = String::from_utf8_lossy(&body).into_owned();
            let code = text.split('\0').find_map(|field| field.strip_prefix('C')).unwrap_or("none").to_string();
            format!("error {code}")
        }
        b'D' => String::from_utf8_lossy(&body[6..]).into_owned(),
        b'Z' => char::from(body[0]).to_string(),
        b'C' => String::from_utf8_lossy(body.strip_suffix(&[0]).unwrap_or(&body)).into_owned(),
        _ => String::new(),
    });
    told.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_strikes_its_tenant_alone_at_its_moment() {
    let (_postgres, wiretap) = tapped().await;
    let faults = wiretap.faults();
    use Kind::{Cancel, Delay, Error, Exhaust, Fragment};
    use Moment::{Begun, Ending, Running};
    for (kind, moment, struck) in [
        (Error, Begun, "error 40001, E"),
        (Error, Running, "error 40001, E"),
        (Error, Ending, "error 40001, I"),
        (Cancel, Running, "error 57014, E"),
        (Cancel, Ending, "error 57014, I"),
        (Delay, Begun, "7, SELECT 1, T"),
        (Delay, Ending, "COMMIT, I"),
        (Fragment, Begun, "7, SELECT 1, T"),
        (Exhaust, Running, "7, SELECT 1, T"),
    ] {
        let fault = Fault { kind, moment };
        let (mut one, mut other) = (bound(wiretap.address(), 1).await, bound(wiretap.address(), 2).await);
        if moment == Running {
            assert_eq!(ask(&mut one, "SELECT 7").await, "7, SELECT 1, T");
        }
        faults.arm(fault, Owner::new(1));
        if kind != Exhaust {
            assert_eq!(ask(&mut other, "SELECT 8").await, "8, SELECT 1, T", "{fault:?} of another tenant");
        }
        let began = Instant::now();
        let sql = if moment == Ending { "COMMIT" } else { "SELECT 7" };
        assert_eq!(ask(&mut one, sql).await, struck, "{fault:?}");
        let late = began.elapsed() >= Duration::from_millis(150);
        assert!(late || !matches!(kind, Delay | Exhaust), "{fault:?} takes its time");
        let backends = faults.disarm().expect("it struck").backends;
        assert_eq!(backends, [one.pid()], "{fault:?}");
        // What the client thinks of its transaction is so.
        let after = if struck.ends_with('E') { "error 25P02, E" } else { "9, SELECT 1" };
        assert!(ask(&mut one, "SELECT 9").await.starts_with(after), "{fault:?}");
        ask(&mut one, "ROLLBACK").await;
        assert_eq!(ask(&mut one, "SELECT 9").await, "9, SELECT 1, I", "{fault:?}");
    }
    assert!(wiretap.take().facts.is_empty(), "no fault left a tenant behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_before_it_is_committed_is_rolled_back() {
    let (_postgres, wiretap) = tapped().await;
    let faults = wiretap.faults();
    for moment in [Moment::Begun, Moment::Running, Moment::Ending] {
        let mut one = bound(wiretap.address(), 1).await;
        if moment != Moment::Begun {
            ask(&mut one, "INSERT INTO wall VALUES (1, 'x')").await;
        }
        faults.arm(Fault { kind: Kind::Drop, moment }, Owner::new(1));
        let sql = if moment == Moment::Ending { &b"COMMIT\0"[..] } else { b"SELECT 7\0" };
        one.send(&message(b'Q', sql)).await;
        let heard = one.rest().await.len();
        assert_eq!(heard, one.read(), "{moment:?}: it was answered");
        assert_eq!(faults.disarm().expect("it struck").backends, [one.pid()]);
    }
    let mut next = Client::start(wiretap.address()).await;
    assert_eq!(ask(&mut next, "SELECT count(*) FROM wall").await, "0, SELECT 1, I");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_prepared_ahead_fail_as_a_whole_and_the_next_ones_do_not() {
    let (_postgres, wiretap) = tapped().await;
    let (faults, mut one) = (wiretap.faults(), bound(wiretap.address(), 1).await);
    let batch = [
        message(b'P', b"s\0SELECT 7\0\0\0"),
        message(b'B', b"\0s\0\0\0\0\0\0\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ]
    .concat();
    faults.arm(Fault { kind: Kind::Error, moment: Moment::Begun }, Owner::new(1));
    // The second one is sent before the first is answered.
    one.send(&[batch.clone(), batch.clone()].concat()).await;
    let tags = |told: Vec<(u8, Vec<u8>)>| told.into_iter().map(|(tag, _)| char::from(tag)).collect::<String>();
    assert_eq!(tags(one.ready().await), "EZ");
    assert_eq!(tags(one.ready().await), "EZ", "in a transaction that failed");
    assert_eq!(ask(&mut one, "ROLLBACK").await, "ROLLBACK, I");
    one.send(&batch).await;
    assert_eq!(tags(one.ready().await), "12DCZ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_restarted_in_its_place_and_removed_in_the_end() {
    let postgres = Postgres::start(&Source::Installed, &Options::default()).await.expect("a Postgres");
    let mut before = connect(&postgres.admin_url()).await.expect("a connection");
    execute(&mut before, "CREATE TABLE kept (id int)").await.expect("a table");
    let folder: String = sqlx::query_scalar("SHOW data_directory").fetch_one(&mut before).await.expect("a folder");
    postgres.restart().expect("it is ours").now().await.expect("a restart");
    assert!(execute(&mut before, "SELECT 1").await.is_err(), "a connection outlived its server");
    let mut after = connect(&postgres.admin_url()).await.expect("a connection");
    execute(&mut after, "SELECT id FROM kept").await.expect("what was there");
    postgres.stop().await;
    assert!(!std::path::Path::new(&folder).exists(), "{folder} stayed");
    assert!(execute(&mut after, "SELECT 1").await.is_err(), "the server that was started again runs on");
}
