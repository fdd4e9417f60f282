//! Opaque cursors: where a list goes on, sealed for one tenant, one operation and one set of filters.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, Mac};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use crate::defects::{Defect, on};
use crate::problem::Problem;

/// Where a list goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Microseconds since the Unix epoch, of the last row shown; 0 where the list is by id alone.
    pub at_us: i64,
    /// Its id.
    pub id: Uuid,
}

impl Position {
    /// A position in a list that is ordered by id alone.
    pub fn of_id(id: Uuid) -> Self {
        Self { at_us: 0, id }
    }
}

#[derive(Serialize, Deserialize)]
struct Sealed<P> {
    tenant: Uuid,
    position: P,
}

/// Seals and opens cursors.
#[derive(Clone)]
pub struct Sealer {
    key: Vec<u8>,
}

impl Sealer {
    /// A sealer with `key`.
    pub fn new(key: &[u8]) -> Self {
        Self { key: key.to_vec() }
    }

    fn mac(&self, payload: &[u8], purpose: &str) -> Hmac<Sha256> {
        // HMAC takes a key of any length.
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.key).unwrap_or_else(|_| unreachable!());
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(payload);
        mac
    }

    /// A cursor for `tenant`; `purpose` names the operation and its filters.
    pub fn seal<P: Serialize>(&self, tenant: Uuid, purpose: &str, position: P) -> String {
        let payload = serde_json::to_vec(&Sealed { tenant, position }).unwrap_or_default();
        if on(Defect::CursorUnbound) {
            return BASE64.encode(payload);
        }
        let tag = self.mac(&payload, purpose).finalize().into_bytes();
        format!("{}.{}", BASE64.encode(payload), BASE64.encode(tag))
    }

    /// The position in `cursor`, and the tenant to go on in.
    ///
    /// # Errors
    /// The same for a cursor that is altered, of another tenant, operation or set of filters.
    pub fn open<P: DeserializeOwned>(&self, tenant: Uuid, purpose: &str, cursor: &str) -> Result<(Uuid, P), Problem> {
        self.opened(tenant, purpose, cursor).ok_or_else(|| {
            let known = on(Defect::CursorKnown) && self.made(purpose, cursor).is_some();
            let whose =
                if known { "this cursor is another tenant's" } else { "this cursor does not belong to this list" };
            Problem::BadRequest(whose.into())
        })
    }

    /// The payload of a cursor that this sealer made for `purpose`, for whichever tenant.
    fn made(&self, purpose: &str, cursor: &str) -> Option<Vec<u8>> {
        let (payload, tag) = cursor.split_once('.')?;
        let payload = BASE64.decode(payload).ok()?;
        self.mac(&payload, purpose).verify_slice(&BASE64.decode(tag).ok()?).ok()?;
        Some(payload)
    }

    fn opened<P: DeserializeOwned>(&self, tenant: Uuid, purpose: &str, cursor: &str) -> Option<(Uuid, P)> {
        if on(Defect::CursorUnbound) {
            let sealed: Sealed<P> = serde_json::from_slice(&BASE64.decode(cursor).ok()?).ok()?;
            return Some((sealed.tenant, sealed.position));
        }
        let sealed: Sealed<P> = serde_json::from_slice(&self.made(purpose, cursor)?).ok()?;
        (sealed.tenant == tenant).then_some((tenant, sealed.position))
    }
}
