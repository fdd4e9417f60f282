//! The same conversations, with the wiretap and without it: every byte of the server's is the same.

use std::net::SocketAddr;

use super::client::{Client, message, messages, start, untyped};
use super::tapped;

/// A part of a conversation.
enum Say {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing, until so many bytes came that are no message.
    Wait(usize),
    /// Nothing, until told to say more.
    Ready,
    /// That it has said all.
    Finish,
}

use Say::{Bytes, Finish, Ready, Wait};

/// A simple query.
pub fn q(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), &[0]].concat())
}

/// Prepares it.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[name.as_bytes(), &[0], sql.as_bytes(), &[0, 0, 0]].concat())
}

/// Values as text, results in one format.
pub fn bind(portal: &str, name: &str, values: &[&[u8]], format: u8) -> Vec<u8> {
    let mut body =
        [portal.as_bytes(), &[0], name.as_bytes(), &[0, 0, 0], &(values.len() as u16).to_be_bytes()].concat();
    for value in values {
        body.extend((value.len() as u32).to_be_bytes());
        body.extend(*value);
    }
    body.extend([0, 1, 0, format]);
    message(b'B', &body)
}

/// Asks what a statement, or a portal, gives.
pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &[&[kind], name.as_bytes(), &[0]].concat())
}

/// Asks for so many rows of a portal, all with 0.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), &[0], &rows.to_be_bytes()].concat())
}

/// The end of what is sent together.
pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// What a client says after it was let in.
fn let_in(parts: Vec<Say>) -> Vec<Say> {
    let mut all = vec![Bytes(start()), Ready];
    all.extend(parts);
    all.extend([Bytes(message(b'X', b""))]);
    all
}

fn conversations() -> Vec<(&'static str, Vec<Say>)> {
    let long = "x".repeat(3 << 20);
    let mut all = vec![
        (
            "simple queries",
            let_in(vec![
                Bytes(q(
                    "SELECT 1, 'two', NULL; SELECT generate_series(1, 2000); CREATE TEMP TABLE t (a int); INSERT INTO t VALUES (1)",
                )),
                Ready,
                Bytes(q("")),
                Ready,
                Bytes(q("BEGIN; SELECT 1/0; SELECT 2")),
                Ready,
                Bytes(q("SELECT 3")),
                Ready,
                Bytes(q("ROLLBACK; DO $$ BEGIN RAISE NOTICE 'here'; END $$; SET application_name = 'x'")),
                Ready,
            ]),
        ),
        (
            "extended queries",
            let_in(vec![
                Bytes(
                    [
                        parse("s", "SELECT $1::int + g, $2::text FROM generate_series(1, 10) g"),
                        describe(b'S', "s"),
                        sync(),
                    ]
                    .concat(),
                ),
                Ready,
                Bytes(
                    [
                        bind("p", "s", &[b"5", b"text"], 1),
                        describe(b'P', "p"),
                        execute("p", 4),
                        execute("p", 0),
                        sync(),
                    ]
                    .concat(),
                ),
                Ready,
                Bytes([parse("", ""), bind("", "", &[], 0), describe(b'P', ""), execute("", 0), sync()].concat()),
                Ready,
                Bytes([message(b'C', b"Ss\0"), message(b'H', b"")].concat()),
                Bytes([bind("", "s", &[b"5", b"text"], 0), execute("", 0), sync()].concat()),
                Ready,
                Bytes(message(b'F', &[0, 0, 5, 37, 0, 0, 0, 1, 0, 0, 0, 3, b'a', b'b', b'c', 0, 0])),
                Ready,
            ]),
        ),
        (
            "a pipeline, with an error in its middle",
            let_in(vec![
                Bytes(
                    [
                        [parse("", "SELECT 1"), bind("", "", &[], 0), execute("", 0), sync()].concat(),
                        [parse("", "SELECT 1/$1::int"), bind("", "", &[b"0"], 0), execute("", 0)].concat(),
                        [parse("", "SELECT 2"), bind("", "", &[], 0), execute("", 0), sync()].concat(),
                        [parse("", "SELECT 3"), bind("", "", &[], 0), execute("", 0), sync()].concat(),
                        q("SELECT 4"),
                        q("SELECT 5; SELECT nothing; SELECT 6"),
                    ]
                    .concat(),
                ),
                Ready,
                Ready,
                Ready,
                Ready,
                Ready,
            ]),
        ),
        (
            "copying in and out",
            let_in(vec![
                Bytes(
                    [
                        q("BEGIN"),
                        q("COPY wall FROM STDIN"),
                        message(b'd', b"1\tone\n2\tt"),
                        message(b'd', b"wo\n"),
                        message(b'c', b""),
                    ]
                    .concat(),
                ),
                Ready,
                Ready,
                Bytes([q("COPY wall TO STDOUT (FORMAT csv)"), q("COPY wall TO STDOUT (FORMAT binary)")].concat()),
                Ready,
                Ready,
                Bytes([parse("", "COPY wall FROM STDIN"), bind("", "", &[], 0), execute("", 0), sync()].concat()),
                Bytes([message(b'd', b"3\tthree\n"), message(b'c', b""), sync()].concat()),
                Ready,
                Bytes([q("COPY wall FROM STDIN"), message(b'd', b"4\tfour\n"), message(b'f', b"no more\0")].concat()),
                Ready,
                Bytes(q("ROLLBACK")),
                Ready,
            ]),
        ),
        (
            "long messages",
            let_in(vec![
                Bytes(q(&format!("SELECT length('{long}'), repeat('y', 7000000), 'after'"))),
                Ready,
                Bytes(
                    [
                        parse("", "SELECT length($1), $1 FROM generate_series(1, 3)"),
                        bind("", "", &[long.as_bytes()], 1),
                        execute("", 0),
                        sync(),
                    ]
                    .concat(),
                ),
                Ready,
                Bytes(
                    [q("COPY (SELECT repeat('z', 3000000) FROM generate_series(1, 2)) TO STDOUT"), q("SELECT 1")]
                        .concat(),
                ),
                Ready,
                Ready,
            ]),
        ),
        (
            "notifications",
            let_in(vec![Bytes(q("LISTEN news; NOTIFY news, 'one'; SELECT pg_notify('news', 'two')")), Ready]),
        ),
        (
            "a client that has said all and waits",
            vec![Bytes(start()), Ready, Bytes(q("SELECT g FROM generate_series(1, 5) g, pg_sleep(0.3)")), Finish],
        ),
        (
            "encryption that is refused",
            vec![
                Bytes(untyped(80_877_103, b"")),
                Wait(1),
                Bytes([start(), q("SELECT 1"), message(b'X', b"")].concat()),
            ],
        ),
        (
            "another minor version",
            vec![Bytes(untyped(0x3_0002, b"user\0raw\0database\0postgres\0_pq_.x\0y\0\0")), Ready, Finish],
        ),
        ("a database that is not there", vec![Bytes(untyped(0x3_0000, b"user\0raw\0database\0none\0\0"))]),
        ("a start without a user", vec![Bytes(untyped(0x3_0000, b"database\0postgres\0\0"))]),
        (
            "settings at the start",
            vec![Bytes(untyped(0x3_0000, b"user\0raw\0database\0postgres\0options\0-c app.tenant=7 -c nothing=1\0\0"))],
        ),
        (
            "settings that hold",
            vec![
                Bytes(untyped(0x3_0000, b"user\0raw\0database\0postgres\0options\0-c app.tenant=7\0\0")),
                Ready,
                Bytes(q("SHOW app.tenant; SELECT pg_terminate_backend(pg_backend_pid())")),
            ],
        ),
    ];
    all.push(("a client that goes away at once", vec![Finish]));
    all
}

/// What the server said, but for its process's number and secret.
async fn heard(address: SocketAddr, parts: &[Say], at_once: usize) -> Vec<u8> {
    let mut client = Client::connect(address).await;
    let mut unframed = 0;
    for part in parts {
        match part {
            Bytes(bytes) => {
                for chunk in bytes.chunks(at_once) {
                    client.send(chunk).await;
                }
            }
            Wait(bytes) => {
                unframed += bytes;
                client.bytes(*bytes).await;
            }
            Ready => drop(client.ready().await),
            Finish => client.finish().await,
        }
    }
    let mut heard = client.rest().await;
    let (all, whole) = messages(&heard[unframed..]);
    assert_eq!(whole + unframed, heard.len(), "the last message is whole");
    let mut at = unframed;
    let numbers = all.iter().filter_map(|(tag, body)| {
        at += 5 + body.len();
        match tag {
            b'K' => Some(at - 8..at),
            b'A' => Some(at - body.len()..at - body.len() + 4),
            _ => None,
        }
    });
    for range in numbers.collect::<Vec<_>>() {
        heard[range].fill(0);
    }
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_of_the_servers_is_the_same_with_the_wiretap_and_without() {
    let (postgres, wiretap) = tapped().await;
    let place = postgres.admin_url();
    let place = place.rsplit_once('@').expect("a place").1.split('/').next().expect("an address");
    let direct: SocketAddr = place.parse().expect("an address");
    for (name, parts) in conversations() {
        let said: usize = parts.iter().map(|part| if let Bytes(bytes) = part { bytes.len() } else { 0 }).sum();
        let wanted = heard(direct, &parts, usize::MAX).await;
        assert_eq!(wanted.is_empty(), said == 0, "{name}");
        // A byte at a time where that takes no minutes.
        for at_once in if said < 10_000 { vec![usize::MAX, 1, 7] } else { vec![usize::MAX, 50_000] } {
            let got = heard(wiretap.address(), &parts, at_once).await;
            let same = wanted.iter().zip(&got).take_while(|(a, b)| a == b).count();
            assert!(
                got == wanted,
                "{name}, {at_once} at once: {} bytes, not {}; the same up to {same}: {:?}",
                got.len(),
                wanted.len(),
                String::from_utf8_lossy(&got[same.saturating_sub(20)..(same + 80).min(got.len())])
            );
        }
    }
    assert!(wiretap.take().backends.iter().map(|backend| backend.rows).sum::<u64>() > 6_000, "rows were judged");
}
