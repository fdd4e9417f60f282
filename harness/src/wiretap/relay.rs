//! Passes on what comes, both ways, and has it judged. What the client sends is read before it is passed on, so that an
//! answer finds its question; what the server sends is judged after, so that nobody waits for it.

use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::fault::Wounds;
use super::frame::{Reader, Sender};
use super::session::Session;
use super::startup::Refusal;

/// Bytes kept of what the client sends, and of what the server does: what a connection costs in memory.
const FROM_CLIENT: usize = 8 << 10;
const FROM_SERVER: usize = 32 << 10;

/// Why a conversation ended before its time.
pub enum Broken {
    /// A connection failed, or broke off where the client cannot be told why.
    Io,
    /// What came is no conversation: what to tell the client.
    Wrong(Refusal),
    /// As was asked for.
    Struck,
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
    wounds: &Wounds<'_>,
) -> Result<(), Broken> {
    let mut questions = Reader::new(Sender::Client, FROM_CLIENT);
    let mut answers = Reader::new(Sender::Server, FROM_SERVER);
    let ended = {
        let up = pump(&mut questions, client_read, server_write, wounds);
        let down = pump(&mut answers, server_read, client_write, wounds);
        tokio::pin!(up, down);
        tokio::select! {
            biased;
            asked = &mut up => match asked {
                // A client that has said all may still wait for answers; a server that broke off may have said why.
                Ok(()) | Err(Broken::Io) => down.await,
                wrong => wrong,
            },
            // A server that has said all does not listen any more.
            answered = &mut down => answered,
        }
    };
    match ended {
        // In the middle of an answer it would be taken for a part of it.
        Err(Broken::Wrong(_)) if !answers.is_between_messages() => Err(Broken::Io),
        ended => ended,
    }
}

/// One direction to its end, of which the other side is told.
async fn pump(
    reader: &mut Reader,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    wounds: &Wounds<'_>,
) -> Result<(), Broken> {
    let ended = forward(reader, from, to, wounds).await;
    if !matches!(ended, Err(Broken::Wrong(_) | Broken::Struck)) {
        // The other end may be gone already.
        let _ = to.shutdown().await;
    }
    ended
}

async fn forward(
    reader: &mut Reader,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    wounds: &Wounds<'_>,
) -> Result<(), Broken> {
    let wrong = |why| Broken::Wrong(("08P01", why));
    while reader.fill(from).await? > 0 {
        let vetted = reader.vet();
        match reader.sender() {
            Sender::Client => {
                wounds.befall(reader, to).await?;
                judge(reader, wounds.session, Session::asked);
            }
            Sender::Server => wounds.answer(reader, to).await?,
        }
        while !reader.passable().is_empty() {
            let passable = reader.passable();
            let written = to.write(&passable[..wounds.at_once(passable.len())]).await?;
            if written == 0 {
                return Err(Broken::Io);
            }
            reader.pass(written);
        }
        if reader.sender() == Sender::Server {
            judge(reader, wounds.session, Session::answered);
        }
        vetted.map_err(wrong)?;
    }
    match reader.end() {
        Ok(()) => Ok(()),
        Err(why) => Err(wrong(why)),
    }
}

fn judge(reader: &mut Reader, session: &Mutex<Session>, mut enter: impl FnMut(&mut Session, super::frame::Piece<'_>)) {
    let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(piece) = reader.next_piece() {
        enter(&mut session, piece);
    }
}
