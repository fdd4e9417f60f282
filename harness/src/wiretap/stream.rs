//! What bytes come and go by, on either side.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use super::startup::TIME_MAX;

/// One end's connection.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// No more.
    Gone,
}

/// What is read from, and what is written to.
pub type Halves<'s> = (Box<dyn AsyncRead + Send + Unpin + 's>, Box<dyn AsyncWrite + Send + Unpin + 's>);

impl Stream {
    /// Whether the first byte that comes is `byte`, which stays there; false where nobody says so in time.
    pub async fn begins_with(&self, byte: u8) -> bool {
        let Self::Tcp(stream) = self else { return false };
        let mut first = [0];
        let peeked = tokio::time::timeout(TIME_MAX, stream.peek(&mut first)).await;
        matches!(peeked, Ok(Ok(1))) && first[0] == byte
    }

    /// Both directions, each by itself.
    pub fn split(&mut self) -> Halves<'_> {
        match self {
            Self::Tcp(stream) => {
                let (read, write) = stream.split();
                (Box::new(read), Box::new(write))
            }
            Self::Unix(stream) => {
                let (read, write) = stream.split();
                (Box::new(read), Box::new(write))
            }
            Self::Tls(stream) => {
                let (read, write) = tokio::io::split(stream);
                (Box::new(read), Box::new(write))
            }
            Self::Gone => (Box::new(tokio::io::empty()), Box::new(tokio::io::sink())),
        }
    }
}
