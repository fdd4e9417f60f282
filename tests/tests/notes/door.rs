//! Doors before a service that are careless in ways which no client's library brings to light.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use partywall::campaign::{Campaign, Ended};
use partywall::exit_code::ExitCode;
use partywall::target::file::TargetFile;
use partywall::verdict::Verdict;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::service::Notes;
use crate::{ACME, GLOBEX};

/// How a door is careless.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Careless {
    /// Not at all.
    Not,
    /// Who sent the first of several requests that arrive together has sent them all.
    OneSenderAtATime,
    /// Answers are written from one place, which the next answer takes over while a slow reader is waited for.
    OneAnswerAtATime,
    /// One request is answered, and the connection closed.
    OneRequestAConnection,
}

/// A request that arrived: its head, and its body.
type Arrived = (String, Vec<u8>);

/// The requests that `held` begins with; what is not whole stays there.
fn arrived(held: &mut Vec<u8>) -> Vec<Arrived> {
    let mut all = Vec::new();
    while let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&held[..end]).into_owned();
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let whole = end + 4 + length.unwrap_or(0);
        if held.len() < whole {
            break;
        }
        all.push((head, held[end + 4..whole].to_vec()));
        held.drain(..whole);
    }
    all
}

fn sender(head: &str) -> Option<&str> {
    head.lines().find(|line| line.to_lowercase().starts_with("authorization:"))
}

/// What the service behind answers to `request`, as sent by `sender`.
async fn answered(inner: SocketAddr, (head, body): &Arrived, sender: Option<&str>) -> std::io::Result<Vec<u8>> {
    let own = |line: &&str| {
        let line = line.to_lowercase();
        !line.starts_with("authorization:") && !line.starts_with("connection:")
    };
    let lines: Vec<&str> = head.lines().filter(own).chain(sender).chain(["connection: close", "", ""]).collect();
    let mut to = TcpStream::connect(inner).await?;
    to.write_all(lines.join("\r\n").as_bytes()).await?;
    to.write_all(body).await?;
    let mut answer = Vec::new();
    to.read_to_end(&mut answer).await?;
    Ok(answer)
}

async fn served(
    mut from: TcpStream,
    inner: SocketAddr,
    careless: Careless,
    place: Arc<Mutex<Vec<u8>>>,
) -> std::io::Result<()> {
    let mut held = Vec::new();
    loop {
        // What arrives together is read together.
        held.reserve(16 << 10);
        if from.read_buf(&mut held).await? == 0 {
            return Ok(());
        }
        let together = arrived(&mut held);
        let first = together.first().and_then(|(head, _)| sender(head)).map(String::from);
        for request in &together {
            let sender = if careless == Careless::OneSenderAtATime { first.as_deref() } else { sender(&request.0) };
            let answer = answered(inner, request, sender).await?;
            // The connection to the service ends here, and that to the door does not.
            let open = String::from_utf8_lossy(&answer).replacen("connection: close\r\n", "", 1).into_bytes();
            let answer = if careless == Careless::OneRequestAConnection { answer } else { open };
            if careless != Careless::OneAnswerAtATime {
                from.write_all(&answer).await?;
            } else {
                let length = answer.len();
                *place.lock().expect("a place") = answer;
                let mut sent = 0;
                while sent < length {
                    let piece: Vec<u8> = place.lock().expect("a place").iter().skip(sent).copied().collect();
                    // Whoever took the place over has a shorter answer: the rest is made up.
                    let piece = if piece.is_empty() { vec![b' '; length - sent] } else { piece };
                    sent += from.write(&piece[..piece.len().min(length - sent)]).await?;
                }
            }
            if careless == Careless::OneRequestAConnection {
                return from.shutdown().await;
            }
        }
    }
}

/// The run against notes behind a door, of the requirements in `only`.
async fn driven(careless: Careless, only: &str) -> anyhow::Result<Ended> {
    let behind = TcpListener::bind("127.0.0.1:0").await?;
    let inner = behind.local_addr()?;
    let socket = TcpSocket::new_v4()?;
    // So little is taken at a time that a slow reader is waited for.
    socket.set_send_buffer_size(2 << 10)?;
    socket.bind("127.0.0.1:0".parse()?)?;
    let door = socket.listen(64)?;
    let url = format!("http://{}", door.local_addr()?);
    let notes = Notes::new([(ACME, "acme"), (GLOBEX, "globex")]);
    tokio::spawn(axum::serve(behind, notes.router()).into_future());
    let place = Arc::new(Mutex::new(Vec::new()));
    tokio::spawn(async move {
        while let Ok((from, _)) = door.accept().await {
            let place = place.clone();
            tokio::spawn(async move { served(from, inner, careless, place).await });
        }
    });
    let target = TargetFile::parse(include_str!("partywall.toml"), "partywall.toml")?;
    let campaign = Campaign::against(target).variable("NOTES_URL", &url).max_cases(50).rows(96).seed(61);
    let campaign = campaign.variable("ACME_TOKEN", ACME).variable("GLOBEX_TOKEN", GLOBEX);
    Ok(campaign.only(Some(only).filter(|id| !id.is_empty())).run().await?)
}

fn verdict<'e>(ended: &'e Ended, id: &str) -> &'e Verdict {
    let found = ended.report.judgement.requirements.iter().find(|r| r.requirement == id);
    &found.expect("a requirement of the catalogue").verdict
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_that_keeps_requests_and_answers_apart_is_sound() -> anyhow::Result<()> {
    let ended = driven(Careless::Not, "").await?;
    ended.assert_upheld();
    for id in ["pool/pipelined", "pool/slow-reader"] {
        assert_eq!(*verdict(&ended, id), Verdict::Upheld, "{id}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_that_asks_who_sent_the_first_of_several_alone_is_shown_by_pipelining_alone() -> anyhow::Result<()> {
    let ended = driven(Careless::OneSenderAtATime, "").await?;
    assert_eq!(ended.exit, ExitCode::Violated);
    let findings = &ended.report.judgement.findings;
    assert!(findings.iter().all(|finding| finding.requirement == "pool/pipelined"), "{findings:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_that_forgets_whose_answer_it_writes_is_shown_by_a_slow_reader() -> anyhow::Result<()> {
    let ended = driven(Careless::OneAnswerAtATime, "pool/slow-reader").await?;
    assert_eq!(ended.exit, ExitCode::Violated, "{:?}", verdict(&ended, "pool/slow-reader"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_door_that_takes_one_request_a_connection_nothing_is_said() -> anyhow::Result<()> {
    let ended = driven(Careless::OneRequestAConnection, "").await?;
    ended.assert_upheld();
    assert!(matches!(verdict(&ended, "pool/pipelined"), Verdict::NotApplicable(_)), "{ended:?}", ended = ended.exit);
    Ok(())
}
