//! What may be shown of an answer: secrets are left out before anything is kept.

use aho_corasick::AhoCorasick;
use serde_json::Value;

use crate::error::{Error, Result};

/// Bytes of a body kept as witness.
const WITNESS_MAX: usize = 64 << 10;

/// Bytes of a body read as JSON: a tree of it takes many times as much.
pub const PARSED_MAX: usize = 8 << 20;

/// A field whose name holds one of these holds a secret.
const SECRET_WORDS: [&str; 4] = ["token", "secret", "password", "credential"];

/// True for a place whose name says that it holds a secret.
pub fn is_secret(place: &str) -> bool {
    let place = place.to_lowercase();
    SECRET_WORDS.iter().any(|word| place.contains(word))
}

/// A body as a witness may show it: bounded, its secrets left out.
pub fn excerpt(body: &[u8]) -> String {
    if body.len() > PARSED_MAX {
        return format!("[{} bytes]", body.len());
    }
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            redact(&mut value);
            value.to_string()
        }
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars().take(WITNESS_MAX).collect()
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if field.is_string() && is_secret(name) {
                    *field = Value::String("[redacted]".into());
                } else {
                    redact(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

/// Shorter values are words that an answer may hold by chance, and no secrets.
const HIDDEN_LEN_MIN: usize = 8;
/// Bytes of a secret's end that are searched for: a search for whole tokens would take as much memory as all of them, many times.
const END_MAX: usize = 24;

/// Secrets, found in one search however many there are.
#[derive(Default)]
pub struct Hidden {
    secrets: Vec<String>,
    ends: Option<AhoCorasick>,
}

impl Hidden {
    /// Of those `secrets` that are long enough to be any.
    ///
    /// # Errors
    /// More than can be searched for: a defect.
    pub fn of(mut secrets: Vec<String>) -> Result<Self> {
        secrets.retain(|secret| secret.len() >= HIDDEN_LEN_MIN);
        let ends = secrets.iter().map(|secret| &secret.as_bytes()[secret.len().saturating_sub(END_MAX)..]);
        let ends = AhoCorasick::new(ends).map_err(|e| Error::Defect(e.to_string()))?;
        Ok(Self { secrets, ends: Some(ends) })
    }

    /// `text` without any of them; of one that is there in part, without its end.
    pub fn left_out_of(&self, text: &str) -> String {
        let Some(ends) = &self.ends else { return text.into() };
        let (mut shown, mut from) = (Vec::new(), 0);
        for found in ends.find_iter(text) {
            let secret = &self.secrets[found.pattern().as_usize()];
            let whole = text.as_bytes()[from..found.end()].ends_with(secret.as_bytes());
            let start = if whole { found.end() - secret.len() } else { found.start() };
            shown.extend_from_slice(&text.as_bytes()[from..start.max(from)]);
            shown.extend_from_slice(b"[redacted]");
            from = found.end();
        }
        shown.extend_from_slice(&text.as_bytes()[from..]);
        String::from_utf8_lossy(&shown).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out_whole_and_of_one_in_part_its_end() {
        let long = format!("head.{}.{}", "c".repeat(60), "signature-of-thirty-two-letters!");
        let hidden = Hidden::of(vec!["word".into(), "a-secret".into(), long.clone()]).expect("few");
        for (text, shown) in [
            (format!("x {long} y"), "x [redacted] y"),
            ("a-secreta-secret word".into(), "[redacted][redacted] word"),
            (format!("other.{}", &long[66..]), "other.signatur[redacted]"),
            ("ä plain".into(), "ä plain"),
        ] {
            assert_eq!(hidden.left_out_of(&text), shown, "{text}");
        }
    }
}
