//! A token as no issuer made it: cut, changed, or with other claims under the old signature.

use sha2::{Digest, Sha256};

use super::jwt::Strangers;
use super::misled::misled;
use crate::plan::Proof;

/// `token` as `proof` wants it sent.
pub(super) fn altered(token: &str, proof: &Proof, strangers: &Strangers) -> String {
    match proof {
        Proof::AsIssued | Proof::Issued => token.into(),
        // Of what is no JWT, nothing can be claimed that nobody signed.
        Proof::Flawed(flaw) => misled(token, *flaw, strangers).unwrap_or_else(|| strangers_value(token)),
        Proof::Altered => {
            // In the middle of the last part: a signature's final bits may be padding that decoders ignore.
            let part = token.rfind('.').map_or(0, |dot| dot + 1);
            let middle = part + (token.len() - part) / 2;
            let mut bytes = token.as_bytes().to_vec();
            if let Some(byte) = bytes.get_mut(middle) {
                *byte = if *byte == b'A' { b'B' } else { b'A' };
            }
            String::from_utf8(bytes).unwrap_or_default()
        }
        Proof::Truncated => token.chars().take(token.len() * 2 / 3).collect(),
        Proof::Malformed => "not.a.credential".into(),
        Proof::Unsigned => unsigned(token),
        Proof::Reclaimed(own, other) => reclaimed(token, own, other),
    }
}

/// What looks as much like a credential as `token` does, and is nobody's.
fn strangers_value(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

fn reclaimed(token: &str, own: &str, other: &str) -> String {
    use base64::engine::{Engine, general_purpose::URL_SAFE_NO_PAD};
    let parts: Vec<&str> = token.split('.').collect();
    let claims = parts.get(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    match (parts.as_slice(), claims) {
        ([head, _, signature], Some(claims)) => {
            let claims = String::from_utf8_lossy(&claims).replace(own, other);
            format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims))
        }
        _ => strangers_value(token),
    }
}

fn unsigned(token: &str) -> String {
    use base64::Engine;
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(payload), Some(_)) => {
            let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
            format!("{header}.{payload}.")
        }
        _ => strangers_value(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_rewritten_and_the_signature_stays() {
        use base64::engine::{Engine, general_purpose::URL_SAFE_NO_PAD};
        let (own, other) = ("tenant-1", "tenant-2");
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"tenant":"{own}"}}"#));
        let reclaimed = Proof::Reclaimed(own.into(), other.into());
        let sent = altered(&format!("h.{claims}.s"), &reclaimed, &Strangers::default());
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"tenant":"{other}"}}"#));
        assert_eq!(sent, format!("h.{claims}.s"));
        assert_ne!(altered("secret", &reclaimed, &Strangers::default()), "secret");
    }
}
