//! A client that says what it is told to, and keeps every byte of the answers.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than this nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(40);

/// A message of that type.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// A message without a type: a start, or what comes before it.
pub fn untyped(code: u32, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], &code.to_be_bytes(), body].concat()
}

/// How `raw` begins, in protocol 3.0.
pub fn start() -> Vec<u8> {
    untyped(0x3_0000, b"user\0raw\0database\0postgres\0\0")
}

/// The messages in `bytes`, and how much of it they are.
pub fn messages(bytes: &[u8]) -> (Vec<(u8, &[u8])>, usize) {
    let (mut all, mut at) = (Vec::new(), 0);
    while let Some(head) = bytes.get(at..at + 5) {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some(body) = bytes.get(at + 5..at + 1 + length) else { break };
        all.push((head[0], body));
        at += 1 + length;
    }
    (all, at)
}

/// The client.
pub struct Client {
    stream: TcpStream,
    /// All that came, and how much of it was looked at.
    heard: Vec<u8>,
    read: usize,
    key: Vec<u8>,
}

impl Client {
    /// Connected, and nothing said.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, heard: Vec::new(), read: 0, key: Vec::new() }
    }

    /// Let in, and told so.
    pub async fn start(address: SocketAddr) -> Self {
        let mut client = Self::connect(address).await;
        client.send(&start()).await;
        let told = client.ready().await;
        client.key = told.into_iter().find(|(tag, _)| *tag == b'K').expect("a key").1;
        client
    }

    /// The process that serves it.
    pub fn pid(&self) -> u32 {
        u32::from_be_bytes([self.key[0], self.key[1], self.key[2], self.key[3]])
    }

    /// How much of what came was looked at, bytes.
    pub fn read(&self) -> usize {
        self.read
    }

    /// Says it.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("somebody listens");
    }

    /// Says what may break off before its end.
    pub async fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Says no more.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Has what this one asked for cancelled.
    pub async fn cancel(&self, address: SocketAddr) {
        let mut other = Self::connect(address).await;
        other.send(&untyped(80_877_102, &self.key)).await;
        assert_eq!(other.rest().await, b"", "a cancel request has no answer");
    }

    async fn more(&mut self) -> usize {
        let mut part = vec![0; 64 << 10];
        let read =
            tokio::time::timeout(PATIENCE, self.stream.read(&mut part)).await.expect("an answer in time").unwrap_or(0);
        self.heard.extend_from_slice(&part[..read]);
        read
    }

    /// So many bytes.
    pub async fn bytes(&mut self, number: usize) -> &[u8] {
        while self.heard.len() < self.read + number && self.more().await > 0 {}
        self.read = (self.read + number).min(self.heard.len());
        &self.heard[..self.read]
    }

    /// The messages until it is told to say more.
    pub async fn ready(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut all = Vec::new();
        loop {
            let mut at = self.read;
            let (come, whole) = messages(&self.heard[at..]);
            for (tag, body) in come {
                at += 5 + body.len();
                all.push((tag, body.to_vec()));
                if tag == b'Z' {
                    self.read = at;
                    return all;
                }
            }
            self.read += whole;
            assert!(self.more().await > 0, "it ended after {all:?}");
        }
    }

    /// All that came, to its end.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await > 0 {}
        self.heard.clone()
    }
}
