//! What may be shown of an answer: secrets are left out before anything is kept.

use serde_json::Value;

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
