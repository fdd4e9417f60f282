//! What is no conversation: it ends with an error that a client understands, and the others go on.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::client::{Client, message, messages, start, untyped};
use super::{tap, tapped};
use partywall::wiretap::Upstream;

/// The SQLSTATE and the words with which it ended.
#[track_caller]
fn told(heard: &[u8]) -> (String, String) {
    let (all, whole) = messages(heard);
    assert_eq!(whole, heard.len(), "the last message is whole: {:?}", String::from_utf8_lossy(heard));
    let Some((b'E', body)) = all.last() else { panic!("it ended without an error: {all:?}") };
    let field = |code: u8| {
        let field = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&code));
        String::from_utf8_lossy(&field.expect("a field")[1..]).into_owned()
    };
    assert_eq!((field(b'S').as_str(), field(b'V').as_str()), ("FATAL", "FATAL"));
    (field(b'C'), field(b'M'))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_says_that_makes_no_sense_ends_its_connection_alone() {
    let (_postgres, wiretap) = tapped().await;
    let mut bystander = Client::start(wiretap.address()).await;
    // One that never says who it is holds up nobody.
    let _silent = Client::connect(wiretap.address()).await;
    for (let_in, says, code, words) in [
        (false, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "08P01", "impossible length"),
        (false, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "08P01", "sslmode"),
        (false, untyped(0x2_0000, b"user\0raw\0\0"), "0A000", "protocol 2.0"),
        (false, untyped(80_877_103, b"").repeat(6), "08P01", "again and again"),
        (true, b"GET / HTTP/1.1\r\n\r\n".to_vec(), "08P01", "unknown type"),
        (true, message(b'Z', b"I"), "08P01", "unknown type"),
        (true, [b'Q', 0, 0, 0, 3, 0, 0].to_vec(), "08P01", "impossible length"),
        (true, [&[b'Q', 0x7f, 0xff, 0xff, 0xff][..], &[0; 100_000]].concat(), "08P01", "impossible length"),
        (true, message(b'Q', b"SELECT 1\0")[..9].to_vec(), "08P01", "middle of a message"),
        (true, b"Q\0\0".to_vec(), "08P01", "middle of a message"),
    ] {
        let mut client = match let_in {
            true => Client::start(wiretap.address()).await,
            false => Client::connect(wiretap.address()).await,
        };
        client.try_send(&says).await;
        client.finish().await;
        let heard = client.rest().await;
        let refused = heard.iter().take_while(|byte| **byte == b'N').count();
        let (coded, said) = told(&heard[refused..]);
        assert!(
            coded == code && said.contains(words),
            "{:?}: {coded} {said}",
            String::from_utf8_lossy(&says[..says.len().min(40)])
        );
        bystander.send(&message(b'Q', b"SELECT 1\0")).await;
        assert!(bystander.ready().await.iter().any(|(tag, _)| *tag == b'D'), "the others go on");
    }
}

/// A server that says `says` once somebody begins, and then goes away or not.
async fn server(says: Vec<u8>, stays: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut begun = [0; 512];
            let _ = stream.read(&mut begun).await;
            let _ = stream.write_all(&says).await;
            if stays {
                // Until the other end goes away.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        }
    });
    address
}

async fn before(address: SocketAddr) -> Vec<u8> {
    let wiretap = tap(Upstream::Tcp(address.ip().to_string(), address.port())).await;
    let mut client = Client::connect(wiretap.address()).await;
    client.send(&start()).await;
    client.rest().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_none_ends_the_connection_in_words() {
    let welcome = [message(b'R', &[0, 0, 0, 0]), message(b'Z', b"I")].concat();
    let with = |more: &[u8]| [&welcome, more].concat();
    for (says, stays, code, words) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), true, "08P01", "impossible length"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), true, "08P01", "impossible length"),
        (b"\x4a\x00\x00\x00\x0a8.0.33\x00".to_vec(), true, "08P01", "unknown type"),
        (Vec::new(), false, "08P01", "without a word"),
        (b"R\0\0".to_vec(), false, "08P01", "middle of a message"),
        (with(b"\xff\0\0\0\x04"), true, "08P01", "unknown type"),
        (with(b"D\0\0\0\x01"), true, "08P01", "impossible length"),
        (with(b"D\x7f\xff\xff\xff"), true, "08P01", "impossible length"),
        (with(b"D\0"), false, "08P01", "middle of a message"),
    ] {
        let (coded, said) = told(&before(server(says.clone(), stays).await).await);
        assert!(coded == code && said.contains(words), "{:?}: {coded} {said}", String::from_utf8_lossy(&says));
    }
    // In the middle of an answer nothing can be said that would not be taken for a part of it.
    let torn = with(b"D\0\0\0\x40\0\x01");
    assert_eq!(before(server(torn.clone(), false).await).await, torn);
    let nobody =
        TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("a free port");
    let (code, said) = told(&before(nobody).await);
    assert!(code == "08001" && said.contains("cannot be reached"), "{code} {said}");
}
