//! Values for parameters and bodies, made from their JSON Schema: bodies as a sound client would send them, with a
//! fresh canary of the writer wherever text fits, and generated parameters by proptest.

use base64::Engine;
use proptest::prelude::*;
use proptest::strategy::{BoxedStrategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

use crate::canary::{Canary, Mint, Owner};
use crate::tenant::rfc3339;

/// Mints the values that one write puts into the target.
pub struct Writer<'a> {
    /// The run's mint.
    pub mint: &'a Mint,
    /// Who will own what is written.
    pub owner: Owner,
    /// Number of the write, so that each is told apart.
    pub number: u32,
    /// The column that the values are of.
    pub column: u16,
    /// An instant that no planted row has, microseconds since the Unix epoch.
    pub now_us: i64,
}

/// A text canary is this long.
const TEXT_LEN: u64 = 28;

impl Writer<'_> {
    fn canary(&self) -> Canary {
        Canary { owner: self.owner, row: self.number, column: self.column }
    }

    /// A text canary of this write.
    pub fn text(&self) -> String {
        self.mint.text(self.canary())
    }

    /// A text canary of this write, as base64 (RFC 4648, 4).
    pub fn base64(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.text())
    }

    /// An e-mail canary of this write.
    pub fn email(&self) -> String {
        self.mint.email(self.canary())
    }

    /// A body that `schema` accepts.
    pub fn body(&self, schema: &Value) -> Value {
        self.value(schema, 0)
    }

    fn value(&self, schema: &Value, depth: u32) -> Value {
        if let Some(one) = schema.get("const") {
            return one.clone();
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            return words.iter().find(|w| !w.is_null()).cloned().unwrap_or(Value::Null);
        }
        if *schema == json!(false) {
            return Value::Null;
        }
        if let Some(part) = alternative(schema) {
            return self.value(part, depth);
        }
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
            let mut all = Map::new();
            for part in parts {
                if let Value::Object(fields) = self.value(part, depth + 1) {
                    all.extend(fields);
                }
            }
            return Value::Object(all);
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" if depth < 6 => {
                let items = schema.get("items").filter(|items| **items != json!(false));
                items.map_or(json!([]), |items| json!([self.value(items, depth + 1)]))
            }
            "array" => json!([]),
            "integer" => json!(bound(schema, "minimum").unwrap_or(1)),
            "number" => json!(bound(schema, "minimum").unwrap_or(1) as f64),
            "boolean" => json!(true),
            "null" => Value::Null,
            _ => Value::String(self.string(schema)),
        }
    }

    fn object(&self, schema: &Value, depth: u32) -> Value {
        match schema.get("properties").and_then(Value::as_object) {
            Some(properties) if depth < 8 => {
                let writable = properties.iter().filter(|(_, s)| s.get("readOnly") != Some(&json!(true)));
                // What nothing fits is where a schema goes round in a circle.
                let possible = writable.filter(|(_, s)| **s != json!(false));
                Value::Object(possible.map(|(name, s)| (name.clone(), self.value(s, depth + 1))).collect())
            }
            _ => self.mint.json(self.canary()),
        }
    }

    fn string(&self, schema: &Value) -> String {
        let longest = schema.get("maxLength").and_then(Value::as_u64).unwrap_or(u64::MAX);
        if schema.get("contentEncoding").and_then(Value::as_str) == Some("base64") {
            return self.base64();
        }
        match schema.get("format").and_then(Value::as_str).unwrap_or("") {
            "byte" => self.base64(),
            "uuid" => self.mint.uuid(self.canary()).to_string(),
            "date-time" => rfc3339(self.now_us),
            "date" => rfc3339(self.now_us)[..10].into(),
            "email" => self.email(),
            "ip" | "ipv6" | "inet" => self.mint.inet(self.canary()).to_string(),
            "ipv4" => "192.0.2.1".into(),
            "uri" | "url" => format!("https://{}.example/", self.text()),
            _ if schema.get("pattern").is_some() => from_pattern(schema).unwrap_or_else(|| self.text()),
            _ if longest >= TEXT_LEN => self.text(),
            _ => self.text().chars().take(longest as usize).collect(),
        }
    }
}

/// The first alternative that is not null.
fn alternative(schema: &Value) -> Option<&Value> {
    let parts = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
    let possible = || parts.iter().filter(|part| **part != json!(false));
    possible().find(|part| kind(part) != "null").or_else(|| possible().next())
}

fn kind(schema: &Value) -> &str {
    let named = match schema.get("type") {
        Some(Value::String(word)) => Some(word.as_str()),
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).find(|w| *w != "null"),
        _ => None,
    };
    named.unwrap_or(if schema.get("properties").is_some() { "object" } else { "string" })
}

fn bound(schema: &Value, word: &str) -> Option<i64> {
    let number = schema.get(word)?;
    number.as_i64().or_else(|| number.as_f64().map(|n| n as i64))
}

fn from_pattern(schema: &Value) -> Option<String> {
    let pattern = schema.get("pattern")?.as_str()?;
    let strategy = proptest::string::string_regex(pattern.trim_start_matches('^').trim_end_matches('$')).ok()?;
    Some(draw(&strategy.boxed(), [7; 32]))
}

/// A strategy for a parameter of `schema`: mostly what the schema allows, its bounds and just beyond, and a few values
/// that it does not.
pub fn parameter(schema: &Value, planted: Vec<String>) -> BoxedStrategy<String> {
    let odd = prop::sample::select(vec![
        "",
        "0",
        "-1",
        "null",
        "*",
        "%",
        "' OR '1'='1",
        "../..",
        "9223372036854775808",
        "\u{202e}x",
        "[]",
        "true",
    ])
    .prop_map(String::from);
    let sound = match alternative(schema) {
        Some(part) => sound(part, &planted),
        None => sound(schema, &planted),
    };
    prop_oneof![8 => sound, 1 => odd].boxed()
}

fn sound(schema: &Value, planted: &[String]) -> BoxedStrategy<String> {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        let words: Vec<String> = words.iter().filter_map(Value::as_str).map(String::from).collect();
        if !words.is_empty() {
            return prop::sample::select(words).boxed();
        }
    }
    let format = schema.get("format").and_then(Value::as_str).unwrap_or("");
    match (kind(schema), format) {
        ("integer" | "number", _) => {
            let low = bound(schema, "minimum").unwrap_or(0);
            let high = bound(schema, "maximum").unwrap_or(1000).max(low);
            prop_oneof![
                4 => (low..=high).prop_map(|n| n.to_string()),
                1 => Just(low.to_string()),
                1 => Just(high.to_string()),
                1 => Just(high.saturating_add(1).to_string()),
            ]
            .boxed()
        }
        ("boolean", _) => prop::sample::select(vec!["true", "false"]).prop_map(String::from).boxed(),
        _ if !planted.is_empty() => prop::sample::select(planted.to_vec()).boxed(),
        (_, "uuid") => any::<u128>().prop_map(|n| uuid::Uuid::from_u128(n).to_string()).boxed(),
        _ => "[a-z0-9._-]{1,24}".boxed(),
    }
}

/// One value of `strategy`; the same bytes draw the same value.
pub fn draw<T: std::fmt::Debug>(strategy: &BoxedStrategy<T>, seed: [u8; 32]) -> T {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    match strategy.new_tree(&mut runner) {
        Ok(tree) => tree.current(),
        Err(reason) => unreachable!("no strategy here filters: {reason}"),
    }
}
