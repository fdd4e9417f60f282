//! Objects: a tenant's bytes outside the database. One function makes their keys, from typed parts alone, so that no
//! text from outside ever becomes a path; a signature opens one object of one tenant for some minutes.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use hmac::{Hmac, Mac};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Error, ObjectStore, ObjectStoreExt, WriteMultipart};
use sha2::Sha256;
use time::{Duration, OffsetDateTime};
use url::Url;
use uuid::Uuid;

use crate::defects::{Defect, on};
use crate::problem::Problem;

/// A signature is good for so long.
pub const SIGNED_FOR: Duration = Duration::minutes(10);
/// Bytes of a signature's statement, and of its tag.
const STATED: usize = 16 + 1 + 16 + 8;
const TAG: usize = 32;

/// What an object is to its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file that belongs to an event.
    Attachment,
    /// Events, written to a file.
    Export,
    /// Events, and what hangs on them, kept outside the database.
    Archive,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Attachment => "attachments",
            Self::Export => "exports",
            Self::Archive => "archives",
        }
    }
}

/// One object of one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Whose.
    pub tenant: Uuid,
    /// What.
    pub kind: Kind,
    /// Which.
    pub id: Uuid,
}

impl Object {
    /// The only maker of keys.
    fn key(&self) -> Path {
        prefix(self.tenant).join(self.kind.word()).join(self.id.to_string())
    }
}

/// What every key of a tenant begins with, and no key of another.
fn prefix(tenant: Uuid) -> Path {
    Path::from_iter(["tenants", &tenant.to_string()])
}

/// The object store.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Where it is a folder, which.
    folder: Option<PathBuf>,
    signing_key: Arc<[u8]>,
}

impl Objects {
    /// The store at `url`: a folder (`file:///…`), which is made if need be, or a bucket (`s3://…`), whose credentials
    /// are the usual `AWS_…` variables; without a URL a folder among the system's temporary ones.
    ///
    /// # Errors
    /// Another scheme, or a folder that cannot be made.
    pub fn open(url: Option<&str>, signing_key: &[u8]) -> anyhow::Result<Self> {
        let (store, folder): (Arc<dyn ObjectStore>, _) = match url {
            None => {
                let path = std::env::temp_dir().join("audit-api-objects");
                let store = folder(&path)?;
                // Among temporary folders one of that name may be somebody else's.
                let found = std::fs::metadata(&path)?;
                if found.uid() != nix::unistd::geteuid().as_raw() || found.mode() & 0o077 != 0 {
                    bail!("{} is open to others: set AUDIT_OBJECTS", path.display());
                }
                (store, Some(path))
            }
            Some(url) => {
                // The parser's error may quote the URL, and the URL may hold a secret.
                let url: Url = url.parse().map_err(|_| anyhow::anyhow!("AUDIT_OBJECTS is not a URL"))?;
                match url.scheme() {
                    "file" => {
                        let path = url.to_file_path().map_err(|()| anyhow::anyhow!("AUDIT_OBJECTS names no folder"))?;
                        (folder(&path)?, Some(path))
                    }
                    "s3" => (bucket(&url).context("AUDIT_OBJECTS: the bucket cannot be used")?, None),
                    _ => bail!("AUDIT_OBJECTS must begin with file:// or s3://"),
                }
            }
        };
        Ok(Self { store, folder, signing_key: signing_key.into() })
    }

    /// Writes an object.
    ///
    /// # Errors
    /// [`Problem::Internal`] when the store fails.
    pub async fn put(&self, object: Object, bytes: Bytes) -> Result<(), Problem> {
        self.store.put(&object.key(), bytes.into()).await.map(drop).map_err(failed)
    }

    /// Begins to write an object piece by piece; it is there once finished.
    ///
    /// # Errors
    /// [`Problem::Internal`] when the store fails.
    pub async fn begin(&self, object: Object) -> Result<WriteMultipart, Problem> {
        self.store.put_multipart(&object.key()).await.map(WriteMultipart::new).map_err(failed)
    }

    /// An object's bytes, as they come.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::Internal`] when the store fails.
    pub async fn read(&self, object: Object) -> Result<BoxStream<'static, Result<Bytes, Error>>, Problem> {
        Ok(self.store.get(&object.key()).await.map_err(failed)?.into_stream())
    }

    /// An object's bytes, all at once.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::Internal`] when the store fails.
    pub async fn bytes(&self, object: Object) -> Result<Bytes, Problem> {
        self.store.get(&object.key()).await.map_err(failed)?.bytes().await.map_err(failed)
    }

    /// Removes every object of a tenant.
    ///
    /// # Errors
    /// [`Problem::Internal`] when the store fails.
    pub async fn remove_all(&self, tenant: Uuid) -> Result<(), Problem> {
        let prefix = prefix(tenant);
        let keys = self.store.list(Some(&prefix)).map_ok(|found| found.location).boxed();
        self.store.delete_stream(keys).try_for_each(|_| async { Ok(()) }).await.map_err(failed)?;
        // What was being written when its writer was killed is in the folder, and in no list.
        if let Some(folder) = &self.folder
            && let Err(error) = tokio::fs::remove_dir_all(folder.join(prefix.as_ref())).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::error!(kind = %error.kind(), "object store error");
            return Err(Problem::Internal);
        }
        Ok(())
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// [`Problem::Internal`] when the store fails.
    pub async fn remove(&self, object: Object) -> Result<(), Problem> {
        match self.store.delete(&object.key()).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// A signature for `object`, and when it ends.
    pub fn sign(&self, object: Object, now: OffsetDateTime) -> (String, OffsetDateTime) {
        let ends = (now + SIGNED_FOR).replace_nanosecond(0).unwrap_or(now);
        let mut signed = Vec::with_capacity(STATED + TAG);
        signed.extend_from_slice(object.tenant.as_bytes());
        signed.push(object.kind as u8);
        signed.extend_from_slice(object.id.as_bytes());
        signed.extend_from_slice(&ends.unix_timestamp().to_be_bytes());
        let tag = self.mac(&signed).finalize().into_bytes();
        signed.extend_from_slice(&tag);
        (BASE64.encode(signed), ends)
    }

    /// The object that `signed` opens.
    ///
    /// # Errors
    /// [`Problem::NotFound`], the same for what is altered, has ended, or was never signed.
    pub fn opened(&self, signed: &str, now: OffsetDateTime) -> Result<Object, Problem> {
        self.verified(signed, now).ok_or(Problem::NotFound)
    }

    fn verified(&self, signed: &str, now: OffsetDateTime) -> Option<Object> {
        let bytes = BASE64.decode(signed).ok()?;
        let (stated, tag) = bytes.split_at_checked(STATED)?;
        self.mac(stated).verify_slice(tag).ok().or_else(|| on(Defect::SignedUnverified).then_some(()))?;
        let kind =
            [Kind::Attachment, Kind::Export, Kind::Archive].into_iter().find(|kind| *kind as u8 == stated[16])?;
        let ends = i64::from_be_bytes(stated[33..].try_into().ok()?);
        let id = |bytes: &[u8]| Uuid::from_slice(bytes).ok();
        let object = Object { tenant: id(&stated[..16])?, kind, id: id(&stated[17..33])? };
        (now.unix_timestamp() < ends).then_some(object)
    }

    fn mac(&self, stated: &[u8]) -> Hmac<Sha256> {
        // HMAC takes a key of any length.
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.signing_key).unwrap_or_else(|_| unreachable!());
        mac.update(stated);
        mac
    }
}

fn folder(path: &std::path::Path) -> anyhow::Result<Arc<dyn ObjectStore>> {
    use std::os::unix::fs::DirBuilderExt;
    // What others on this machine may read is behind no wall.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("the folder {} cannot be made", path.display()))?;
    let store = LocalFileSystem::new_with_prefix(path);
    Ok(Arc::new(store.with_context(|| format!("the folder {} cannot be used", path.display()))?))
}

fn bucket(url: &Url) -> anyhow::Result<Arc<dyn ObjectStore>> {
    // Of two programs in one process only the first installs; the other finds the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = AmazonS3Builder::from_env().with_url(url.as_str()).build()?;
    Ok(Arc::new(PrefixStore::new(store, Path::from_url_path(url.path())?)))
}

/// What the store says may hold a key, and a key holds a tenant: only its kind is logged.
pub(crate) fn failed(error: Error) -> Problem {
    let kind = match error {
        Error::NotFound { .. } => return Problem::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => "rights",
        Error::InvalidPath { .. } => "path",
        _ => "other",
    };
    tracing::error!(kind, "object store error");
    Problem::Internal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(key: u8) -> (tempfile::TempDir, Objects) {
        let folder = tempfile::tempdir().expect("a folder");
        let url = Url::from_file_path(folder.path()).expect("a path");
        let objects = Objects::open(Some(url.as_str()), &[key; 32]).expect("a store");
        (folder, objects)
    }

    fn object() -> Object {
        Object { tenant: Uuid::new_v4(), kind: Kind::Attachment, id: Uuid::now_v7() }
    }

    #[test]
    fn a_key_has_four_parts_and_names_tenant_kind_and_id() {
        let object = object();
        let key = object.key();
        let (tenant, id) = (object.tenant.to_string(), object.id.to_string());
        let parts: Vec<_> = key.parts().map(|part| part.as_ref().to_string()).collect();
        assert_eq!(parts, ["tenants", &tenant, "attachments", &id]);
        assert_ne!(Object { kind: Kind::Export, ..object }.key(), key);
    }

    #[test]
    fn a_signature_opens_what_it_was_made_for_until_it_ends() {
        let (_folder, objects) = objects(1);
        let (object, now) = (object(), OffsetDateTime::now_utc());
        let (signed, ends) = objects.sign(object, now);
        assert_eq!(objects.opened(&signed, now).ok(), Some(object));
        assert!(objects.opened(&signed, ends - Duration::seconds(1)).is_ok());
        assert!(objects.opened(&signed, ends).is_err());
        assert!(self::objects(2).1.opened(&signed, now).is_err(), "another key");
    }

    #[test]
    fn a_signature_altered_in_any_byte_or_of_any_other_length_opens_nothing() {
        let (_folder, objects) = objects(1);
        let now = OffsetDateTime::now_utc();
        let (signed, _) = objects.sign(object(), now);
        for place in 0..signed.len() {
            for other in (b' '..=b'~').filter(|byte| *byte != signed.as_bytes()[place]) {
                let mut altered = signed.clone().into_bytes();
                altered[place] = other;
                let altered = String::from_utf8(altered).expect("ASCII");
                assert!(matches!(objects.opened(&altered, now), Err(Problem::NotFound)), "{place}: {altered}");
            }
            assert!(objects.opened(&signed[..place], now).is_err());
        }
        for longer in [format!("{signed}A"), format!("{signed}="), format!("{signed}{signed}")] {
            assert!(objects.opened(&longer, now).is_err());
        }
    }

    #[test]
    fn only_folders_and_buckets_are_taken_and_a_refusal_quotes_no_secret() {
        for refused in ["", "nonsense", "http://x/sesame", "file://elsewhere/sesame", "s3://", "memory://"] {
            let error = Objects::open(Some(refused), &[0; 32]).err().expect(refused).to_string();
            assert!(!error.contains("sesame"), "{error}");
        }
    }
}
