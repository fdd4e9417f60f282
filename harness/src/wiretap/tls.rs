//! Encryption, which ends at a wiretap: what a client that asks for it is told, and how the database is spoken to.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{frame, startup, through};
use crate::error::{Error, Result};

/// What a client that begins encrypted at once must call its protocol.
const ALPN: &[u8] = b"postgresql";
/// A mechanism that binds who one is to the encryption, which ends here.
const BOUND: &[u8] = b"SCRAM-SHA-256-PLUS";
/// The number of the request for one of several mechanisms.
const SASL: i32 = 10;

/// A certificate that clients are shown.
#[derive(Clone)]
pub struct Identity(Arc<ServerConfig>);

impl Identity {
    /// One that nobody vouches for, made for this process.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn throw_away() -> Result<Self> {
        let wrong = |e: rcgen::Error| Error::Defect(format!("a certificate cannot be made: {e}"));
        let names = ["localhost".to_string(), "127.0.0.1".into(), "::1".into()];
        let made = rcgen::generate_simple_self_signed(names).map_err(wrong)?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(|e| Error::Defect(e.into()))?;
        Self::of(vec![made.cert.der().clone()], key)
    }

    /// The one in the PEM files `certificate`, with its chain, and `key`.
    ///
    /// # Errors
    /// A file that cannot be read, or holds none; a key of another certificate.
    pub fn of_files(certificate: &Path, key: &Path) -> Result<Self> {
        let chain = certificates(certificate)?;
        let wrong = |e| Error::Usage(format!("{} holds no private key in PEM: {e}", key.display()));
        Self::of(chain, PrivateKeyDer::from_pem_file(key).map_err(wrong)?)
    }

    fn of(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self> {
        let wrong = |e: rustls::Error| Error::Usage(format!("the certificate cannot be shown to clients: {e}"));
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.map_err(wrong)?.with_no_client_auth().with_single_cert(chain, key).map_err(wrong)?;
        config.alpn_protocols = vec![ALPN.into()];
        Ok(Self(Arc::new(config)))
    }

    /// Shows it to a client that has asked for encryption, or begun with it.
    pub(super) async fn meet(&self, client: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        Ok(TlsAcceptor::from(self.0.clone()).accept(client).await?.into())
    }
}

/// How sure one is of the database that one speaks to under encryption.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// As `mode` says, in libpq's words: `require`, `verify-ca` or `verify-full`; `roots` is a PEM file of those who may
    /// vouch for it, where they are others than everybody's. None where encryption is not insisted on.
    ///
    /// # Errors
    /// A word that libpq does not have; a file that cannot be read, or holds no certificate.
    pub fn of_mode(mode: &str, roots: Option<&Path>) -> Result<Option<Self>> {
        let known = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
        let (verified, named) = match mode {
            "disable" | "allow" | "prefer" => return Ok(None),
            // With roots it is libpq's verify-ca.
            "require" => (roots.is_some(), false),
            "verify-ca" => (true, false),
            "verify-full" => (true, true),
            other => return Err(crate::error::unknown("sslmode", other, known)),
        };
        let wrong = |e: String| Error::Usage(format!("the database's certificate cannot be verified: {e}"));
        let provider = Arc::new(ring::default_provider());
        let chain = match verified {
            true => {
                let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
                if let Some(path) = roots {
                    store = RootCertStore::empty();
                    let (added, _) = store.add_parsable_certificates(certificates(path)?);
                    if added == 0 {
                        return Err(wrong(format!("{} holds nobody who may vouch for it", path.display())));
                    }
                }
                let verifier = WebPkiServerVerifier::builder_with_provider(store.into(), provider.clone()).build();
                Some(verifier.map_err(|e| wrong(e.to_string()))?)
            }
            false => None,
        };
        let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let config = config.map_err(|e| wrong(e.to_string()))?.dangerous();
        let verifier = Verifier { chain, named, provider };
        let mut config = config.with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        config.alpn_protocols = vec![ALPN.into()];
        Ok(Some(Self(Arc::new(config))))
    }

    /// As a database's URL says by `sslmode` and `sslrootcert`.
    ///
    /// # Errors
    /// As [`Trust::of_mode`].
    pub fn of_url(url: &str) -> Result<Option<Self>> {
        let said = |name: &str| through::parameter(url, name);
        let roots = said("sslrootcert").filter(|path| path != "system");
        Self::of_mode(said("sslmode").as_deref().unwrap_or("prefer"), roots.as_deref().map(Path::new))
    }

    /// Asks the server at the other end of `server` for encryption.
    pub(super) async fn ask(&self, mut server: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
        let mut answer = [0];
        server.write_all(&startup::encrypt()).await?;
        server.read_exact(&mut answer).await?;
        if answer != *b"S" {
            return Err(io::Error::other("it does not speak TLS, which its URL asks for"));
        }
        let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
        Ok(TlsConnector::from(self.0.clone()).connect(name, server).await?.into())
    }
}

/// Passes on how the server asks who one is, without the mechanism that could only fail.
pub(super) async fn without_binding(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut head = [0; 5];
    from.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if !(4..=startup::LENGTH_MAX).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length - 4];
    from.read_exact(&mut body).await?;
    let mut rest = frame::Body::new(&body);
    if head[0] == b'R' && rest.int32() == Some(SASL) {
        let mechanisms = std::iter::from_fn(|| rest.text().filter(|name| !name.is_empty()));
        let kept = mechanisms.filter(|name| *name != BOUND).flat_map(|name| [name, b"\0"].concat());
        body = SASL.to_be_bytes().into_iter().chain(kept).chain([0]).collect();
    }
    to.write_all(&frame::message(head[0], &body)).await
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |e| Error::Usage(format!("{} holds no certificate in PEM: {e}", path.display()));
    let all: Vec<_> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(wrong)?;
    if all.is_empty() {
        return Err(Error::Usage(format!("{} holds no certificate in PEM", path.display())));
    }
    Ok(all)
}

/// Verifies as much of a certificate as is asked for.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    named: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(own, between, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) if !self.named => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, own, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, own, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
