//! Values for a column of any type that name their owner where the type has room for it, the most telling first.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::subject::Column;
use crate::canary::{Canary, Mint, Owner};
use crate::seed::Seed;
use crate::tenant::rfc3339;

/// Where the numbers begin that fit `integer` and yet are met by nobody's counting.
const INTEGER_BASE: u64 = 1_300_000_000;
/// Literals of a condition that are tried at most.
const LITERALS_MAX: usize = 24;

/// Candidates for `column`, as text that its type reads; `conditions` are the conditions on it.
pub fn candidates(column: &Column, canary: Canary, mint: &Mint, conditions: &[&str], seed: Seed) -> Vec<String> {
    let (base, size) = split(&column.base);
    let mut values = if column.labels.is_empty() {
        typed(base, size, canary, mint)
    } else {
        rotated(column.labels.clone(), canary.row as usize)
    };
    let mut hints: Vec<String> = conditions.iter().flat_map(|condition| literals(condition)).collect();
    hints.truncate(LITERALS_MAX);
    let neighbours: Vec<String> = hints
        .iter()
        .filter_map(|hint| hint.parse::<i64>().ok())
        .flat_map(|number| [number.saturating_add(1 + i64::from(canary.row)), number.saturating_sub(1)])
        .map(|number| number.to_string())
        .collect();
    let shaped = hints.iter().filter_map(|hint| matching(hint, canary, seed)).collect::<Vec<_>>();
    values.extend(shaped);
    values.extend(rotated(hints, canary.row as usize));
    values.extend(neighbours);
    values.dedup();
    values
}

/// A type's name and the size in its modifier.
fn split(kind: &str) -> (&str, Option<usize>) {
    let Some((name, rest)) = kind.split_once('(') else { return (kind, None) };
    let size = rest.split([',', ')']).next().and_then(|size| size.parse().ok());
    // The modifier stands within `timestamp(3) with time zone`.
    if kind.ends_with("with time zone") && !kind.contains("without") {
        return (if name.starts_with("timestamp") { "timestamp with time zone" } else { "time with time zone" }, size);
    }
    (name, size)
}

fn typed(base: &str, size: Option<usize>, canary: Canary, mint: &Mint) -> Vec<String> {
    if let Some(element) = base.strip_suffix("[]") {
        let inner = typed(element, size, canary, mint);
        let quoted = |value: &String| format!("{{\"{}\"}}", value.replace('\\', r"\\").replace('"', "\\\""));
        return inner.iter().map(quoted).chain(["{}".into()]).collect();
    }
    let number = u64::from(canary.owner.index() % 1_000) * 100_000 + u64::from(canary.row % 1_000) * 100;
    let number = number + u64::from(canary.column % 100);
    let day = 1 + canary.row % 27;
    let instant = || {
        let told = mint.timestamp_us(canary).map(rfc3339);
        told.into_iter().chain([format!("2024-01-{day:02}T00:00:00Z")]).collect::<Vec<_>>()
    };
    let small = [format!("{}", 1 + canary.row), format!("{}", canary.row), format!("0.{}", 1 + canary.row % 9)];
    match base {
        "uuid" => vec![mint.uuid(canary).to_string()],
        "text" | "character varying" | "character" | "citext" | "name" | "bpchar" => text(size, canary, mint),
        "bigint" => [vec![mint.bigint(canary).to_string()], small.to_vec()].concat(),
        "integer" => [vec![(INTEGER_BASE + number).to_string()], small.to_vec()].concat(),
        "smallint" => [vec![(10_000 + number % 20_000).to_string()], small.to_vec()].concat(),
        "numeric" if size.is_none() => [vec![mint.bigint(canary).to_string()], small.to_vec()].concat(),
        "numeric" | "money" | "real" | "double precision" => [vec![number.to_string()], small.to_vec()].concat(),
        "boolean" => rotated(vec!["true".into(), "false".into()], canary.row as usize),
        "timestamp with time zone" | "timestamp without time zone" | "timestamp" => instant(),
        "date" => vec![format!("2024-01-{day:02}")],
        "time without time zone" | "time with time zone" => vec![format!("10:00:{day:02}")],
        "interval" => vec![format!("{day} hours")],
        "json" | "jsonb" => vec![mint.json(canary).to_string(), format!("[\"{}\"]", mint.text(canary))],
        "bytea" => vec![format!("\\x{}", hex::encode(mint.bytes(canary)))],
        "inet" | "cidr" => vec![mint.inet(canary).to_string()],
        "macaddr" => {
            vec![format!("02:00:00:{:02x}:{:02x}:{:02x}", canary.owner.index() & 0xff, canary.row & 0xff, day)]
        }
        "xml" => vec![format!("<a>{}</a>", mint.text(canary))],
        "tsvector" => vec![mint.text(canary)],
        "int4range" | "int8range" | "numrange" => vec![format!("[{number},{})", number + 1)],
        "tstzrange" | "tsrange" | "daterange" => {
            let year = 2000 + (canary.owner.index() % 50) * 20 + canary.row % 20;
            vec![format!("[{year}-01-01,{year}-01-02)")]
        }
        "bit" | "bit varying" => vec!["1".repeat(size.unwrap_or(1)), "0".repeat(size.unwrap_or(1))],
        "hstore" => vec![format!("\"{0}\"=>\"{0}\"", mint.text(canary))],
        // A type that is not known here: what its input takes is found out.
        _ => {
            let mut tried =
                vec![mint.text(canary), format!("({number},{number})"), format!("{{\"a\":\"{}\"}}", mint.text(canary))];
            if let Some(size) = size {
                tried.push(format!("[{}]", vec![number.to_string(); size].join(",")));
            }
            tried.extend(["0", "1", "{}", "empty", "()", "[]", "(0,0),(1,1)", "<(0,0),1>", ""].map(String::from));
            tried
        }
    }
}

fn text(size: Option<usize>, canary: Canary, mint: &Mint) -> Vec<String> {
    let whole = mint.text(canary);
    let room = size.unwrap_or(usize::MAX);
    // What varies most stands last.
    let tail = |length: usize| whole[whole.len() - length.min(whole.len())..].to_string();
    let mut shapes = vec![
        whole.clone(),
        mint.email(canary),
        format!("https://canary.example/{whole}"),
        format!("/{whole}"),
        whole.to_uppercase(),
        format!("a{whole}"),
        format!("canary {whole}"),
        format!("A{whole}"),
        mint.uuid(canary).to_string(),
        mint.bigint(canary).to_string(),
        format!("+{}", &mint.bigint(canary).to_string()[5..]),
        rfc3339(mint.timestamp_us(canary).unwrap_or_default()),
    ];
    for length in [17, 16, 12, 10, 8, 6, 5, 4, 3, 2, 1] {
        shapes.push(tail(length));
        shapes.push(tail(length).chars().filter(char::is_ascii_alphabetic).collect::<String>().to_uppercase());
    }
    let digits = u64::from(canary.owner.index()) * 1_000 + u64::from(canary.row) * 10 + u64::from(canary.column % 10);
    shapes.extend((1..=12).map(|length: usize| format!("{digits:0length$}")));
    shapes.retain(|shape| shape.len() <= room && !shape.is_empty());
    if room < whole.len() {
        shapes.insert(0, tail(room));
    }
    shapes
}

/// Whether `value` can be of type `base`, where that is plain without asking.
pub fn certain(base: &str, value: &str) -> Option<bool> {
    match split(base).0 {
        "text" | "character varying" | "character" | "citext" | "bytea" => Some(true),
        "uuid" => Some(uuid::Uuid::try_parse(value).is_ok()),
        "smallint" => Some(value.parse::<i16>().is_ok()),
        "integer" => Some(value.parse::<i32>().is_ok()),
        "bigint" => Some(value.parse::<i64>().is_ok()),
        "boolean" => Some(matches!(value, "true" | "false")),
        "json" | "jsonb" => Some(serde_json::from_str::<serde_json::Value>(value).is_ok()),
        _ => None,
    }
}

fn rotated(mut values: Vec<String>, by: usize) -> Vec<String> {
    let by = by % values.len().max(1);
    values.rotate_left(by);
    values
}

/// The literals of an expression: texts, and numbers outside of words.
pub fn literals(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find(['\'', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        let before = rest[..at].chars().next_back();
        let tail = &rest[at..];
        if let Some(text) = tail.strip_prefix('\'') {
            let (value, after) = quoted_text(text);
            found.push(value);
            rest = after;
        } else {
            let end = tail.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(tail.len());
            let within = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"');
            if !within {
                found.push(tail[..end].to_string());
            }
            rest = &tail[end..];
        }
    }
    found
}

/// The keys by which an expression reaches into a document.
pub fn document_keys(expression: &str) -> Vec<String> {
    let reached = expression.split("->").skip(1);
    let named = reached.filter_map(|part| part.trim_start_matches('>').trim_start().strip_prefix('\''));
    named.map(|text| quoted_text(text).0).collect()
}

/// The text up to the closing quote, and what follows it.
fn quoted_text(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '\'' {
            value.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == '\'') {
            chars.next();
            value.push('\'');
        } else {
            return (value, &text[at + 1..]);
        }
    }
    (value, "")
}

/// A text that a regular expression matches, if `pattern` is more of one than a word.
fn matching(pattern: &str, canary: Canary, seed: Seed) -> Option<String> {
    if !pattern.contains(['^', '[', '\\', '+', '{']) {
        return None;
    }
    let inner = pattern.trim_start_matches('^').trim_end_matches('$').replace("[[:alnum:]]", "[a-z0-9]");
    let strategy = proptest::string::string_regex(&inner).ok()?;
    let place = u64::from(canary.owner.index()) << 32 | u64::from(canary.row) << 10 | u64::from(canary.column);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed.bytes("matching", place));
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let text = strategy.new_tree(&mut runner).ok()?.current();
    (!text.contains('\0')).then_some(text)
}

/// The id that a tenant gets, of the type that its column has.
pub fn tenant_id(column: &Column, owner: Owner, mint: &Mint, conditions: &[&str], seed: Seed) -> Vec<String> {
    candidates(column, Canary { owner, row: 0, column: 0 }, mint, conditions, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_texts_and_numbers_outside_of_words() {
        let of = |expression: &str| literals(expression).join("|");
        assert_eq!(of("(status = ANY (ARRAY['on hold'::text, 'it''s'::text]))"), "on hold|it's");
        assert_eq!(of("((int4_col > 10) AND (\"9x\" < 2.5))"), "10|2.5");
        assert_eq!(of("code ~ '^[A-Z]{3}$'"), "^[A-Z]{3}$");
    }

    #[test]
    fn a_document_is_reached_into_by_its_keys() {
        assert_eq!(document_keys("(((meta -> 'a b'::text) ->> 'c'::text))::uuid"), ["a b", "c"]);
    }

    #[test]
    fn a_pattern_becomes_a_text_that_it_matches() {
        let canary = Canary { owner: Owner::new(1), row: 2, column: 3 };
        let text = matching("^[A-Z]{3}-[0-9]{4}$", canary, Seed(5)).expect("a text");
        assert_eq!((text.len(), &text[3..4]), (8, "-"), "{text}");
        assert_eq!(matching("plain", canary, Seed(5)), None);
    }

    #[test]
    fn a_modifier_within_a_type_is_no_part_of_its_name() {
        assert_eq!(split("timestamp(3) with time zone"), ("timestamp with time zone", Some(3)));
        assert_eq!(split("character varying(12)"), ("character varying", Some(12)));
        assert_eq!(split("numeric(10,2)"), ("numeric", Some(10)));
        assert_eq!(split("text"), ("text", None));
    }
}
