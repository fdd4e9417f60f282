//! Passes on what comes, both ways, and has it judged. What the client sends is read before it is passed on, so that an
//! answer finds its question; what the server sends is judged after, so that nobody waits for it.

use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::frame::{Reader, Sender};
use super::session::Session;

/// Bytes kept of what the client sends, and of what the server does: what a connection costs in memory.
const FROM_CLIENT: usize = 8 << 10;
const FROM_SERVER: usize = 32 << 10;

/// Why a direction ended before its time.
pub enum Broken {
    /// The connection failed.
    Io,
    /// What came is no frame.
    Frame(String),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// Both directions, until either end is done.
pub async fn both(
    (client_read, client_write): (&mut (impl AsyncRead + Unpin), &mut (impl AsyncWrite + Unpin)),
    (server_read, server_write): (&mut (impl AsyncRead + Unpin), &mut (impl AsyncWrite + Unpin)),
    session: &Mutex<Session>,
) -> Result<(), Broken> {
    let up = pump(Sender::Client, FROM_CLIENT, client_read, server_write, session);
    let down = pump(Sender::Server, FROM_SERVER, server_read, client_write, session);
    tokio::pin!(up, down);
    tokio::select! {
        // A client that has said all may still wait for answers; a server that has does not listen any more.
        asked = &mut up => {
            asked?;
            down.await
        }
        answered = &mut down => answered,
    }
}

async fn pump(
    sender: Sender,
    capacity: usize,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    session: &Mutex<Session>,
) -> Result<(), Broken> {
    let mut reader = Reader::new(sender, capacity);
    while reader.fill(from).await? > 0 {
        let vetted = reader.vet();
        if sender == Sender::Client {
            judge(&mut reader, session, Session::asked);
        }
        to.write_all(reader.passable()).await?;
        reader.pass();
        if sender == Sender::Server {
            judge(&mut reader, session, Session::answered);
        }
        vetted.map_err(Broken::Frame)?;
    }
    // The other end may be gone already.
    let _ = to.shutdown().await;
    Ok(())
}

fn judge(reader: &mut Reader, session: &Mutex<Session>, mut enter: impl FnMut(&mut Session, super::frame::Piece<'_>)) {
    let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(piece) = reader.next_piece() {
        enter(&mut session, piece);
    }
}
