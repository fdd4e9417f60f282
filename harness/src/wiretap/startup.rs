//! How a connection begins: what it asks for before it says who it is, and who it says it is. Where encryption is not
//! offered it is refused, as the protocol allows; authentication passes through untouched.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::frame::Body;

/// Longer than Postgres allows a start to be (`MAX_STARTUP_PACKET_LENGTH`), bytes.
pub const LENGTH_MAX: usize = 10_000;
/// How long a client may take until it has said who it is: Postgres's own default.
pub const TIME_MAX: Duration = Duration::from_secs(60);
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
/// The first byte of a TLS handshake.
pub const TLS: u8 = 0x16;

/// What a client wants of a new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// To talk: the message as it came, and its parameters.
    Session(Vec<u8>, Vec<(String, String)>),
    /// To have a request of another connection cancelled: the message as it came.
    Cancel(Vec<u8>),
    /// To be encrypted first, which it was told it may.
    Encrypted,
}

/// Why there will be no connection: an SQLSTATE and what to tell the client.
pub type Refusal = (&'static str, String);

/// The message that asks to have cancelled what runs on the connection that was given `key`, its process id included.
pub fn cancel(key: &[u8]) -> Vec<u8> {
    [&(key.len() as u32 + 8).to_be_bytes()[..], &CANCEL.to_be_bytes(), key].concat()
}

/// The message that asks to be encrypted.
pub fn encrypt() -> Vec<u8> {
    [8u32.to_be_bytes(), SSL.to_be_bytes()].concat()
}

/// Reads how a client begins, and tells whether it `may_encrypt`; nothing when it goes away.
///
/// # Errors
/// What no server would take.
pub async fn open(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    may_encrypt: bool,
) -> Result<Option<Opening>, Refusal> {
    let opening = tokio::time::timeout(TIME_MAX, opening(client, may_encrypt)).await;
    opening.unwrap_or_else(|_| Err(("08P01", format!("no start within {} s", TIME_MAX.as_secs()))))
}

async fn opening(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    may_encrypt: bool,
) -> Result<Option<Opening>, Refusal> {
    // Each kind of encryption may be asked for once, and once more after the other was refused.
    for _ in 0..4 {
        let mut head = [0; 4];
        if client.read_exact(&mut head[..1]).await.is_err() {
            return Ok(None);
        }
        if head[0] == TLS {
            return Err(("08P01", "encryption is not offered here: connect with sslmode=disable or prefer".into()));
        }
        if client.read_exact(&mut head[1..]).await.is_err() {
            return Ok(None);
        }
        let length = u32::from_be_bytes(head) as usize;
        if !(8..=LENGTH_MAX).contains(&length) {
            return Err(("08P01", format!("a start of the impossible length {length}")));
        }
        let mut message = head.to_vec();
        message.resize(length, 0);
        if client.read_exact(&mut message[4..]).await.is_err() {
            return Ok(None);
        }
        let code = u32::from_be_bytes([message[4], message[5], message[6], message[7]]);
        match code {
            SSL if may_encrypt => {
                return Ok(client.write_all(b"S").await.is_ok().then_some(Opening::Encrypted));
            }
            SSL | GSS => {
                if client.write_all(b"N").await.is_err() {
                    return Ok(None);
                }
            }
            CANCEL => return Ok(Some(Opening::Cancel(message))),
            _ if code >> 16 == 3 => {
                let parameters = parameters(&message[8..]);
                return Ok(Some(Opening::Session(message, parameters)));
            }
            _ => {
                let (major, minor) = (code >> 16, code & 0xffff);
                return Err(("0A000", format!("protocol {major}.{minor} is not spoken here, only 3.x")));
            }
        }
    }
    Err(("08P01", "encryption was asked for again and again".into()))
}

/// Names and values, those within `options` too.
fn parameters(body: &[u8]) -> Vec<(String, String)> {
    let mut rest = Body::new(body);
    let mut all = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    while let Some(name) = rest.text().filter(|name| !name.is_empty()) {
        let Some(value) = rest.text() else { break };
        if name == b"options" {
            let value = text(value);
            let settings = value.split_whitespace().filter_map(|word| {
                let word = word.strip_prefix("--").or(word.strip_prefix("-c")).unwrap_or(word);
                word.split_once('=').map(|(name, value)| (name.to_ascii_lowercase(), value.to_string()))
            });
            all.extend(settings);
        }
        all.push((text(name).to_ascii_lowercase(), text(value)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(code: u32, body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    }

    async fn began(bytes: &[u8]) -> (Result<Option<Opening>, Refusal>, Vec<u8>) {
        let (mut client, mut here) = tokio::io::duplex(64 << 10);
        client.write_all(bytes).await.expect("room");
        client.shutdown().await.expect("an end");
        let opening = open(&mut here, false).await;
        drop(here);
        let mut told = Vec::new();
        client.read_to_end(&mut told).await.expect("an end");
        (opening, told)
    }

    #[tokio::test]
    async fn encryption_is_refused_and_the_start_is_kept_as_it_came() {
        let start = message(0x3_0002, b"user\0app\0options\0-c app.tenant=7 --x=1\0database\0shop\0\0");
        let (opening, told) = began(&[message(GSS, b""), message(SSL, b""), start.clone()].concat()).await;
        let Ok(Some(Opening::Session(raw, parameters))) = opening else { panic!("{opening:?}") };
        assert_eq!((raw, told.as_slice()), (start, &b"NN"[..]));
        let value = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(
            [value("user"), value("database"), value("app.tenant"), value("x")],
            [Some("app"), Some("shop"), Some("7"), Some("1")]
        );
        let cancel = message(CANCEL, &[0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(began(&cancel).await.0, Ok(Some(Opening::Cancel(cancel))));
    }

    #[tokio::test]
    async fn what_is_no_start_is_refused_in_words() {
        for (bytes, says) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "impossible length"),
            (&[0, 0, 0, 7, 0, 3, 0][..], "impossible length"),
            (&message(0x2_0000, b"")[..], "protocol 2.0"),
            (&[TLS, 3, 1][..], "sslmode"),
            (&message(SSL, b"").repeat(5)[..], "again and again"),
        ] {
            let (opening, _) = began(bytes).await;
            assert!(opening.as_ref().is_err_and(|(_, why)| why.contains(says)), "{opening:?}");
        }
        assert_eq!(began(&message(0x3_0000, b"user\0app\0\0")[..9]).await.0, Ok(None));
    }
}
