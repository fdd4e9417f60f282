//! A step between a service and a pooler that follows no prepared statements: it follows them in its stead, as newer ones
//! do. Before a statement is used in what is sent together it is prepared there anew, and nobody is told of that.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{self, AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::frame::{self, Body};
use super::startup::{self, Opening};
use crate::error::{Error, Result};

/// A hop that listens; dropping it ends all its connections.
pub struct Hop {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Hop {
    /// Listens on loopback for clients of the pooler at `upstream`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn listen(upstream: SocketAddr) -> Result<Self> {
        let failed = |e| Error::Unreachable(format!("no free loopback port: {e}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let accepting = tokio::spawn(async move {
            // Dropped with this task, it ends them all.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(serve(client, upstream));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut client: TcpStream, upstream: SocketAddr) {
    let refusal = match startup::open(&mut client, false).await {
        Ok(None) => return,
        Err(refusal) => refusal,
        Ok(Some(opening)) => match TcpStream::connect(upstream).await {
            // However it ends, both ends see it by their sockets.
            Ok(server) => return drop(converse(client, server, opening).await),
            Err(e) => ("08001", format!("the pooler cannot be reached: {e}")),
        },
    };
    // The client may be gone.
    let _ = client.write_all(&frame::fatal(refusal.0, &refusal.1)).await;
}

async fn converse(mut client: TcpStream, mut server: TcpStream, opening: Opening) -> io::Result<()> {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let start = match opening {
        Opening::Cancel(message) => {
            server.write_all(&message).await?;
            // The pooler closes once it has acted on it.
            return server.read(&mut [0; 1]).await.map(drop);
        }
        Opening::Encrypted => return Ok(()),
        Opening::Session(start, _) => start,
    };
    server.write_all(&start).await?;
    let following = Arc::new(Mutex::new(Following::default()));
    let locked = || following.lock().unwrap_or_else(PoisonError::into_inner);
    let ((client_read, mut client_write), (server_read, mut server_write)) = (client.split(), server.split());
    let up = pump(client_read, &mut server_write, |message, out| locked().asked(message, out));
    let down = pump(server_read, &mut client_write, |message, out| locked().answered(message, out));
    tokio::pin!(up, down);
    tokio::select! {
        // A client that has said all may still wait for answers.
        _ = &mut up => down.await,
        answered = &mut down => answered,
    }
}

/// One direction, a whole message at a time.
async fn pump(
    from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    mut pass: impl FnMut(&[u8], &mut Vec<u8>),
) -> io::Result<()> {
    let mut from = BufReader::with_capacity(32 << 10, from);
    let (mut message, mut out) = (Vec::new(), Vec::new());
    while next(&mut from, &mut message).await? {
        pass(&message, &mut out);
        // What came together goes on together.
        if from.buffer().len() < 5 || out.len() > 64 << 10 {
            to.write_all(&out).await?;
            out.clear();
        }
    }
    to.write_all(&out).await?;
    to.shutdown().await
}

/// The next message; false at the end.
async fn next(from: &mut (impl AsyncBufRead + Unpin), message: &mut Vec<u8>) -> io::Result<bool> {
    if from.fill_buf().await?.is_empty() {
        return Ok(false);
    }
    message.resize(5, 0);
    from.read_exact(message).await?;
    let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]) as usize;
    if !(4..=frame::LENGTH_MAX).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    message.resize(1 + length, 0);
    from.read_exact(&mut message[5..]).await?;
    Ok(true)
}

/// An answer that the server owes.
#[derive(PartialEq, Eq)]
enum Due {
    /// To what the client asked.
    Told,
    /// To what was asked in its stead.
    Kept,
    /// The end of what was sent together.
    End,
}

/// The prepared statements of one client.
#[derive(Default)]
struct Following {
    /// Each by its name, as it was prepared.
    prepared: HashMap<Vec<u8>, Vec<u8>>,
    /// Those that were prepared in what is being sent together.
    here: HashSet<Vec<u8>>,
    /// What says that something was prepared or closed, in order.
    due: VecDeque<Due>,
}

impl Following {
    fn asked(&mut self, message: &[u8], out: &mut Vec<u8>) {
        let (tag, mut body) = (message[0], Body::new(&message[5..]));
        match tag {
            b'P' => {
                if let Some(name) = body.text().filter(|name| !name.is_empty()) {
                    self.prepared.insert(name.into(), message.into());
                    self.here.insert(name.into());
                }
                self.due.push_back(Due::Told);
            }
            b'B' => {
                let _portal = body.text();
                self.follow(body.text().unwrap_or_default(), out);
            }
            b'D' if message.get(5) == Some(&b'S') => {
                self.follow(Body::new(&message[6..]).text().unwrap_or_default(), out);
            }
            b'C' => {
                if message.get(5) == Some(&b'S') {
                    self.prepared.remove(Body::new(&message[6..]).text().unwrap_or_default());
                }
                self.due.push_back(Due::Told);
            }
            // Whatever was sent to be ended before the copying was, the server has passed over.
            b'c' | b'f' => {
                while self.due.back() == Some(&Due::End) {
                    self.due.pop_back();
                }
            }
            b'Q' | b'S' | b'F' => {
                self.here.clear();
                self.due.push_back(Due::End);
            }
            _ => {}
        }
        out.extend_from_slice(message);
    }

    /// Prepares a statement where it may be unknown, or another's by that name.
    fn follow(&mut self, name: &[u8], out: &mut Vec<u8>) {
        let Some(parse) = self.prepared.get(name).filter(|_| !self.here.contains(name)) else { return };
        let close = [b"S", name, &[0]].concat();
        out.push(b'C');
        out.extend((close.len() as u32 + 4).to_be_bytes());
        out.extend(&close);
        out.extend(parse);
        self.due.extend([Due::Kept, Due::Kept]);
        self.here.insert(name.into());
    }

    fn answered(&mut self, message: &[u8], out: &mut Vec<u8>) {
        match message[0] {
            b'1' | b'3' if self.due.front() == Some(&Due::Kept) => {
                self.due.pop_front();
                return;
            }
            b'1' | b'3' => drop(self.due.pop_front()),
            // The server passes over the rest of what was sent together.
            b'E' => self.until_end(),
            b'Z' => {
                self.until_end();
                self.due.pop_front();
            }
            _ => {}
        }
        out.extend_from_slice(message);
    }

    fn until_end(&mut self) {
        while self.due.front().is_some_and(|due| *due != Due::End) {
            self.due.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    fn tags(bytes: &[u8]) -> String {
        frame::messages(bytes).map(|(tag, ..)| char::from(tag)).collect()
    }

    #[test]
    fn what_was_prepared_is_prepared_again_wherever_it_is_used_and_nobody_is_told() {
        let mut following = Following::default();
        let bind = message(b'B', b"\0s\0\0\0\0\0\0\0");
        let mut turn = |asked: &[Vec<u8>], answers: &[u8]| {
            let (mut sent, mut told) = (Vec::new(), Vec::new());
            asked.iter().for_each(|asked| following.asked(asked, &mut sent));
            answers.iter().for_each(|tag| following.answered(&message(*tag, b"I"), &mut told));
            (tags(&sent), tags(&told))
        };
        let sync = message(b'S', b"");
        let both = |sent: &str, told: &str| (sent.to_string(), told.to_string());
        let parse = message(b'P', b"s\0SELECT 1\0\0\0");
        assert_eq!(turn(&[parse, message(b'D', b"Ss\0"), sync.clone()], b"1tTZ"), both("PDS", "1tTZ"));
        assert_eq!(turn(&[bind.clone(), bind.clone(), sync.clone()], b"3122Z"), both("CPBBS", "22Z"));
        // Where it fails the rest is passed over, and what comes after is told from it.
        assert_eq!(turn(&[bind.clone(), sync.clone()], b"3EZ"), both("CPBS", "EZ"));
        assert_eq!(turn(&[bind.clone(), message(b'C', b"P\0"), sync.clone()], b"3123Z"), both("CPBCS", "23Z"));
        assert_eq!(turn(&[message(b'C', b"Ss\0"), bind, sync], b"3EZ"), both("CBS", "3EZ"));
    }
}
