//! One connection, written and read by hand: for what no client's library does, as writing a request before the one ahead
//! of it is answered, or reading an answer a few bytes at a time. HTTP/1.1 (RFC 9112).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use super::http::{BODY_MAX, Raw, addressed};
use super::identity::Presented;
use crate::history::Outcome;
use crate::plan::{ByHand, Request};

/// Bytes of an answer's head at most, and its headers.
const HEAD_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 128;
/// Bytes that a slow reader's system takes ahead of it, so that who writes has to wait.
const AHEAD: u32 = 2 << 10;
/// A slow reader's sips: so many of a byte each, then so large.
const SIPS: u32 = 16;
const PAUSE: Duration = Duration::from_millis(2);
const SIP: usize = 512;
/// Bytes after which a client that breaks off has seen enough of an answer: its head has begun.
const ENOUGH: usize = 24;

/// A request that is ready to be written.
pub struct Ready {
    /// Its placeholders are filled in.
    pub request: Request,
    /// Path and query.
    pub url: String,
    /// What proves its sender.
    pub credential: Presented,
}

/// Writes all of `requests` at once, and reads their answers in order, in the manner `by`; what is not there after
/// `timeout` has not come. Of requests behind an answer that ends the connection nothing is said.
pub async fn exchanges(
    base_url: &str,
    requests: &[Ready],
    by: ByHand,
    timeout: Duration,
) -> Vec<std::result::Result<Raw, Outcome>> {
    let mut answers = Vec::new();
    let all = async {
        let mut connection = Connection::open(base_url, by).await?;
        let text: Vec<u8> = requests.iter().flat_map(|ready| written(base_url, ready)).collect();
        connection.stream.write_all(&text).await.map_err(failed)?;
        for ready in requests {
            let (raw, last) = connection.answer(&ready.request.method).await?;
            answers.push(Ok(raw));
            if last {
                break;
            }
        }
        Ok(())
    };
    let ended = tokio::time::timeout(timeout, all).await.unwrap_or(Err(Outcome::TimedOut));
    let begun = !answers.is_empty();
    let rest = match ended {
        Err(outcome @ (Outcome::TimedOut | Outcome::Abandoned)) => outcome,
        // A server need not take more than one (RFC 9112, 9.3.2): what it leaves unanswered was not refused.
        _ if begun => Outcome::Abandoned,
        Err(outcome) => outcome,
        Ok(()) => Outcome::Abandoned,
    };
    while answers.len() < requests.len() {
        answers.push(Err(rest.clone()));
    }
    answers
}

/// The host of an address, with its port, and the path below which the service is.
fn place(base_url: &str) -> (&str, &str) {
    let rest = base_url.trim_start_matches("http://");
    rest.split_at(rest.find('/').unwrap_or(rest.len()))
}

/// A request as it is sent.
fn written(base_url: &str, ready: &Ready) -> Vec<u8> {
    let Ready { request, url, credential } = ready;
    let url = addressed(url, credential);
    let (host, below) = place(base_url);
    let mut text = format!("{} {below}{url} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\n", request.method);
    for (name, value) in request.headers.iter().chain(&credential.headers) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = request.body.as_ref().map_or("", |(_, body)| body);
    if let Some((kind, _)) = &request.body {
        text.push_str(&format!("content-type: {kind}\r\ncontent-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

struct Connection {
    stream: TcpStream,
    by: ByHand,
    /// What was read and not used yet.
    held: Vec<u8>,
    sips: u32,
}

impl Connection {
    async fn open(base_url: &str, by: ByHand) -> Result<Self, Outcome> {
        let (authority, _) = place(base_url);
        let host = if authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) {
            authority.to_string()
        } else {
            format!("{authority}:80")
        };
        let address = lookup_host(host).await.map_err(failed)?.next();
        let address = address.ok_or_else(|| Outcome::Failed { why: "its name has no address".into() })?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
        if by != ByHand::Pipelined {
            socket.set_recv_buffer_size(AHEAD).map_err(failed)?;
        }
        let stream = socket.connect(address).await.map_err(failed)?;
        Ok(Self { stream, by, held: Vec::new(), sips: 0 })
    }

    /// Reads more; false at the end.
    async fn more(&mut self) -> Result<bool, Outcome> {
        let size = match self.by {
            ByHand::Pipelined => SIP * 16,
            ByHand::Breaking if self.held.len() >= ENOUGH => return Err(Outcome::Abandoned),
            ByHand::Breaking => ENOUGH,
            ByHand::Slowly if self.sips < SIPS => {
                self.sips += 1;
                tokio::time::sleep(PAUSE).await;
                1
            }
            ByHand::Slowly => SIP,
        };
        let mut sip = vec![0; size];
        let length = self.stream.read(&mut sip).await.map_err(failed)?;
        self.held.extend_from_slice(&sip[..length]);
        Ok(length > 0)
    }

    /// The next answer, and whether no other follows it.
    async fn answer(&mut self, method: &str) -> Result<(Raw, bool), Outcome> {
        let wrong = |why: &str| Outcome::Failed { why: why.into() };
        let (status, headers) = loop {
            let head = head(&self.held).map_err(|e| wrong(&e.to_string()))?;
            match head {
                // What only says that more is to come.
                Some((100..200, _, length)) => drop(self.held.drain(..length)),
                Some((status, headers, length)) => {
                    self.held.drain(..length);
                    break (status, headers);
                }
                None if self.held.len() > HEAD_MAX => return Err(wrong("the answer's head does not end")),
                None if !self.more().await? => return Err(wrong("the connection was closed without an answer")),
                None => {}
            }
        };
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.to_lowercase());
        let chunked = header("transfer-encoding").is_some_and(|value| value.contains("chunked"));
        let length = header("content-length").and_then(|value| value.parse::<usize>().ok());
        let closes = header("connection").is_some_and(|value| value.contains("close"));
        let empty = method == "HEAD" || matches!(status, 204 | 304);
        let (body, cut, ends) = match (empty, chunked, length) {
            (true, _, _) => (Vec::new(), None, false),
            (_, true, _) => self.chunks().await?,
            (_, _, Some(length)) => self.counted(length).await?,
            (_, _, None) => {
                while self.held.len() <= BODY_MAX && self.more().await? {}
                (std::mem::take(&mut self.held), None, true)
            }
        };
        let last = closes || ends || cut.is_some();
        Ok((Raw { status, headers, body, cut }, last))
    }

    /// A body of so many bytes, why it is not whole, and whether the connection ended.
    async fn counted(&mut self, length: usize) -> Result<(Vec<u8>, Option<String>, bool), Outcome> {
        let wanted = length.min(BODY_MAX);
        while self.held.len() < wanted {
            if !self.more().await? {
                return Ok((std::mem::take(&mut self.held), Some("it is shorter than it says".into()), true));
            }
        }
        let body = self.held.drain(..wanted).collect();
        Ok((body, (length > BODY_MAX).then(|| format!("it is longer than {} MiB", BODY_MAX >> 20)), false))
    }

    async fn chunks(&mut self) -> Result<(Vec<u8>, Option<String>, bool), Outcome> {
        let mut body = Vec::new();
        let cut = |why: &str| Some(why.to_string());
        loop {
            let (start, size) = match httparse::parse_chunk_size(&self.held) {
                Ok(httparse::Status::Complete(chunk)) => chunk,
                Ok(httparse::Status::Partial) if self.held.len() < HEAD_MAX => match self.more().await? {
                    true => continue,
                    false => return Ok((body, cut("it broke off"), true)),
                },
                _ => return Ok((body, cut("its chunks are broken"), true)),
            };
            // A size that no body may have is not waited for; behind each chunk there is the end of a line.
            let size = usize::try_from(size).unwrap_or(usize::MAX).min(BODY_MAX + 1);
            while self.held.len() < start + size + 2 {
                if !self.more().await? {
                    return Ok((body, cut("it broke off"), true));
                }
            }
            body.extend_from_slice(&self.held[start..start + size]);
            self.held.drain(..start + size + 2);
            if size == 0 {
                return Ok((body, None, false));
            }
            if body.len() > BODY_MAX {
                return Ok((body, Some(format!("it is longer than {} MiB", BODY_MAX >> 20)), true));
            }
        }
    }
}

/// An answer's status, its headers, and the bytes of its head.
type Head = (u16, Vec<(String, String)>, usize);

/// The head that `bytes` begin with; none while it is not whole.
fn head(bytes: &[u8]) -> Result<Option<Head>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    Ok(match answer.parse(bytes)? {
        httparse::Status::Partial => None,
        httparse::Status::Complete(length) => {
            let text = |header: &httparse::Header<'_>| {
                (header.name.to_lowercase(), String::from_utf8_lossy(header.value).into_owned())
            };
            Some((answer.code.unwrap_or(0), answer.headers.iter().map(text).collect(), length))
        }
    })
}

fn failed(error: std::io::Error) -> Outcome {
    Outcome::Failed { why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// What is read of a server that answers `answer` whatever it is asked.
    async fn read(answer: &'static [u8], requests: usize, by: ByHand) -> Vec<Result<(u16, String), String>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base_url = format!("http://{}", listener.local_addr().expect("its address"));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        });
        let request = Request {
            method: "GET".into(),
            path: "/".into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            proof: crate::plan::Proof::AsIssued,
        };
        let ready = |_| Ready { request: request.clone(), url: "/".into(), credential: Presented::default() };
        let ready: Vec<Ready> = (0..requests).map(ready).collect();
        let answers = exchanges(&base_url, &ready, by, Duration::from_secs(5)).await;
        let told = answers.into_iter().map(|answer| match answer {
            Ok(Raw { status, body, cut, .. }) => {
                let cut = cut.map_or_else(String::new, |why| format!(" ({why})"));
                Ok((status, String::from_utf8_lossy(&body).into_owned() + &cut))
            }
            Err(outcome) => Err(format!("{outcome:?}")),
        });
        told.collect()
    }

    #[tokio::test]
    async fn answers_are_told_apart_however_their_end_is_said() {
        const TWO: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab\
            HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ncde\r\n1\r\nf\r\n0\r\n\r\n";
        for by in [ByHand::Pipelined, ByHand::Slowly] {
            assert_eq!(read(TWO, 2, by).await, [Ok((200, "ab".into())), Ok((404, "cdef".into()))]);
        }
        const LAST: &[u8] = b"HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\n\r\nall that comes";
        assert_eq!(read(LAST, 2, ByHand::Pipelined).await, [Ok((204, "".into())), Ok((200, "all that comes".into()))]);
    }

    #[tokio::test]
    async fn what_a_server_leaves_unanswered_is_nothing_said() {
        const ONE: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(read(ONE, 2, ByHand::Pipelined).await, [Ok((200, "".into())), Err("Abandoned".into())]);
        assert_eq!(read(ONE, 1, ByHand::Breaking).await, [Err("Abandoned".into())]);
    }

    #[tokio::test]
    async fn what_lies_is_said_to() {
        for (answer, says) in [
            (&b""[..], "closed without an answer"),
            (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "invalid"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab", "shorter than it says"),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "chunks are broken"),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", "broke off"),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nab", "broke off"),
        ] {
            let told = format!("{:?}", read(answer, 1, ByHand::Pipelined).await);
            assert!(told.contains(says), "{says}: {told}");
        }
    }
}
