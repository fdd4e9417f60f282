//! Targets that misbehave: each costs what it is about and nothing else. The run goes on, ends in bounded time and
//! memory, says what it could not judge, and finds nothing that is not there.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use partywall::campaign::{Campaign, Ended};
use partywall::exit_code::ExitCode;
use partywall::target::file::TargetFile;
use partywall::verdict::CellState;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::service::Notes;
use crate::{ACME, GLOBEX};

/// What a misbehaving target may cost at most.
const TIME_MAX: Duration = Duration::from_secs(90);
const MEMORY_MAX_KB: u64 = 700_000;

/// How one operation misbehaves.
#[derive(Clone)]
enum Mischief {
    /// The connection closes without a word.
    Closes,
    /// Another protocol.
    Babbles,
    /// An answer that never ends.
    Forever,
    /// An answer after a while.
    Slow,
    /// More than anyone reads.
    Huge,
    /// Fewer bytes than it says.
    Short,
    /// More bytes than it says.
    Long,
    /// A body as it is, under these headers.
    Body(&'static str, Arc<Vec<u8>>),
    /// "Later" to every second request.
    Later(Arc<AtomicU32>),
    /// "Later" for ever.
    Never,
}

impl Mischief {
    async fn answer(&self, mut to: TcpStream) -> std::io::Result<()> {
        let sound = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
        match self {
            Self::Closes => {}
            Self::Babbles => to.write_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n").await?,
            Self::Forever => {
                to.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                loop {
                    to.write_all(b"1\r\n.\r\n").await?;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Self::Slow => {
                tokio::time::sleep(Duration::from_millis(400)).await;
                to.write_all(sound).await?;
            }
            Self::Huge => {
                to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 209715200\r\n\r\n").await?;
                for _ in 0..200 {
                    to.write_all(&vec![b'3'; 1 << 20]).await?;
                }
            }
            Self::Short => to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{}").await?,
            Self::Long => {
                to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 500 No\r\n\r\n").await?
            }
            Self::Body(headers, body) => {
                let head =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n", body.len());
                to.write_all(head.as_bytes()).await?;
                to.write_all(body).await?;
            }
            Self::Later(asked) if asked.fetch_add(1, Ordering::Relaxed) % 2 == 1 => to.write_all(sound).await?,
            Self::Later(_) => {
                to.write_all(b"HTTP/1.1 429 Later\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n")
                    .await?;
            }
            Self::Never => {
                to.write_all(
                    b"HTTP/1.1 429 Later\r\nconnection: close\r\nretry-after: 86400\r\ncontent-length: 0\r\n\r\n",
                )
                .await?;
            }
        }
        to.shutdown().await
    }
}

/// Notes behind a door that lets everything through but `/odd`, which who has a credential gets `mischief` from.
async fn open(mischief: Mischief) -> std::io::Result<String> {
    let (behind, door) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    let (inner, outer) = (behind.local_addr()?, door.local_addr()?);
    let notes = Notes::new([(ACME, "acme"), (GLOBEX, "globex")]);
    tokio::spawn(axum::serve(behind, notes.router()).into_future());
    tokio::spawn(async move {
        while let Ok((from, _)) = door.accept().await {
            let mischief = mischief.clone();
            // A client that has seen enough goes away: that is no concern of the door's.
            tokio::spawn(async move { through(from, inner, mischief).await });
        }
    });
    Ok(format!("http://{outer}"))
}

async fn through(mut from: TcpStream, inner: std::net::SocketAddr, mischief: Mischief) -> std::io::Result<()> {
    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if from.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).into_owned();
    if text.starts_with("GET /odd") {
        if [ACME, GLOBEX].iter().any(|token| text.lines().any(|line| line.ends_with(&format!("Bearer {token}")))) {
            return mischief.answer(from).await;
        }
        return from.write_all(b"HTTP/1.1 401 Who\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    }
    let mut to = TcpStream::connect(inner).await?;
    to.write_all(text.as_bytes()).await?;
    to.write_all(b"\r\nconnection: close").await?;
    to.write_all(&head[end..]).await?;
    copy_bidirectional(&mut from, &mut to).await.map(drop)
}

async fn driven(mischief: Mischief, more: &str) -> anyhow::Result<Ended> {
    driven_by(mischief, more, |_| ()).await
}

/// The run by a document that `change` has been at.
async fn driven_by(mischief: Mischief, more: &str, change: impl Fn(&mut serde_json::Value)) -> anyhow::Result<Ended> {
    let began = Instant::now();
    let url = open(mischief).await?;
    let mut file =
        include_str!("partywall.toml").replace("openapi = \"/openapi.json\"", "openapi = \"odd.json\"\ntimeout_s = 1");
    file += "\n[[operation]]\nid = \"odd\"\nallow = [\"member\"]\n";
    file += more;
    let folder = tempfile::tempdir()?;
    let mut document: serde_json::Value = serde_json::from_str(include_str!("openapi.json"))?;
    document["paths"]["/odd"]["get"] = serde_json::json!({ "operationId": "odd", "responses": {} });
    change(&mut document);
    std::fs::write(folder.path().join("odd.json"), document.to_string())?;
    let campaign =
        Campaign::against(TargetFile::parse(&file, "odd.toml")?).document_in(folder.path()).reports(folder.path());
    let campaign = campaign.variable("NOTES_URL", &url).variable("ACME_TOKEN", ACME).variable("GLOBEX_TOKEN", GLOBEX);
    let ended = campaign.seed(51).max_cases(20).run().await?;
    assert!(began.elapsed() < TIME_MAX, "{:?}", began.elapsed());
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    assert!(peak.is_some_and(|kb| kb < MEMORY_MAX_KB), "{peak:?} kB at the peak");
    Ok(ended)
}

/// The misbehaving operation alone is left open, in words that say why.
async fn is_left_open(mischief: Mischief, why: &str) -> anyhow::Result<()> {
    // As a list of what its owner must see: what did not arrive is not missing.
    let ended = driven(mischief, "table = \"notes\"\nlist = { items = \"\" }\n").await?;
    let judgement = &ended.report.judgement;
    assert!(judgement.findings.is_empty(), "{:#?}", judgement.findings);
    assert_eq!(ended.exit, ExitCode::Inconclusive, "{:?}", ended.report.run.stopped_because);
    let told: Vec<&str> = judgement
        .cells
        .iter()
        .filter_map(|cell| match &cell.state {
            CellState::Inconclusive(why) => Some((cell, why.as_str())),
            _ => None,
        })
        .map(|(cell, why)| {
            assert_eq!(cell.cell.operation, "odd", "{why}");
            why
        })
        .collect();
    assert!(told.iter().any(|told| told.contains(why)), "{why:?} is not among {told:?}");
    Ok(())
}

async fn is_judged(mischief: Mischief) -> anyhow::Result<()> {
    driven(mischief, "").await?.assert_upheld();
    Ok(())
}

fn gzip(bytes: &[u8], times: usize) -> Arc<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    (0..times).for_each(|_| encoder.write_all(bytes).expect("to memory"));
    Arc::new(encoder.finish().expect("to memory"))
}

macro_rules! hostile {
    ($($name:ident: $check:ident($($argument:expr),+);)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> anyhow::Result<()> {
            $check($($argument),+).await
        })+
    };
}

hostile! {
    a_connection_that_closes_is_left_open: is_left_open(Mischief::Closes, "connection failed");
    another_protocol_is_left_open: is_left_open(Mischief::Babbles, "connection failed");
    an_answer_without_an_end_is_left_open: is_left_open(Mischief::Forever, "did not end in time");
    an_answer_of_200_mb_is_left_open: is_left_open(Mischief::Huge, "longer than");
    an_answer_shorter_than_it_says_is_left_open: is_left_open(Mischief::Short, "not whole");
    broken_gzip_is_left_open:
        is_left_open(Mischief::Body("content-encoding: gzip\r\n", Arc::new(b"\x1f\x8b\x08nothing of the kind".to_vec())), "gzip is broken");
    a_bomb_is_left_open: is_left_open(Mischief::Body("content-encoding: gzip\r\n", gzip(&vec![0; 1 << 20], 1024)), "unfolds to more");
    a_limit_that_never_ends_is_left_open: is_left_open(Mischief::Never, "429");
    an_answer_longer_than_it_says_is_judged: is_judged(Mischief::Long);
    a_slow_answer_is_judged: is_judged(Mischief::Slow);
    a_limit_that_is_waited_for_is_judged: is_judged(Mischief::Later(Arc::default()));
    deep_nesting_is_judged: is_judged(Mischief::Body("content-type: application/json\r\n", Arc::new(vec![b'['; 1 << 20])));
    what_is_no_text_is_judged: is_judged(Mischief::Body("content-type: application/json\r\n", Arc::new((0..=255).cycle().take(1 << 16).collect())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_goes_in_circles_and_points_elsewhere_is_driven_all_the_same() -> anyhow::Result<()> {
    for version in ["3.0.3", "3.1.0"] {
        let ended = driven_by(Mischief::Slow, "", |document| {
            document["openapi"] = version.into();
            let own = "#/components/schemas/NewNote";
            for (name, place) in
                [("parent", own), ("more", "elsewhere.json#/More"), ("gone", "#/components/schemas/Gone")]
            {
                document["components"]["schemas"]["NewNote"]["properties"][name] = serde_json::json!({ "$ref": place });
            }
        });
        let ended = ended.await?;
        ended.assert_upheld();
        for missing in ["elsewhere.json#/More", "#/components/schemas/Gone"] {
            let told =
                ended.report.run.notes.iter().any(|note| note.contains(missing) && note.contains("does not hold"));
            assert!(told, "{version}: {missing} is not among {:?}", ended.report.run.notes);
        }
    }
    Ok(())
}
