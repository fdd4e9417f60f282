//! Placeholders in requests: `⟦name⟧` stands for a value that an earlier answer yielded, `⟦name|change⟧` for it with one
//! change made: `altered` and `late` (one character in the middle, or near the end, is another), `cut` (its last third is missing), `last` (what
//! follows its last slash).

use std::collections::BTreeMap;

/// The names between `⟦` and `⟧`, without their changes.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('⟦').skip(1).filter_map(|part| part.split('⟧').next()).map(|word| word.split('|').next().unwrap_or(word))
}

/// `text` with the known names filled in; unknown ones stay.
pub fn filled(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut parts = text.split('⟦');
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (word, rest) = part.split_once('⟧').unwrap_or((part, ""));
        let (name, change) = word.split_once('|').unwrap_or((word, ""));
        match known.get(name) {
            Some(value) => out.push_str(&changed(value, change)),
            None => out.push_str(&format!("⟦{word}⟧")),
        }
        out.push_str(rest);
    }
    out
}

fn changed(value: &str, change: &str) -> String {
    let count = value.chars().count();
    match change {
        "altered" | "late" => {
            let place = if change == "late" { count * 7 / 8 } else { count / 2 };
            let other = |c| if c == 'A' { 'B' } else { 'A' };
            value.chars().enumerate().map(|(at, c)| if at == place { other(c) } else { c }).collect()
        }
        "cut" => value.chars().take(count * 2 / 3).collect(),
        "last" => value.rsplit('/').next().unwrap_or(value).into(),
        _ => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_filled_in_with_their_change_and_others_stay() {
        let known = BTreeMap::from([("id".to_string(), "/v1/abcAef".to_string())]);
        for (text, becomes) in [
            ("x ⟦id⟧ y", "x /v1/abcAef y"),
            ("⟦id|last⟧", "abcAef"),
            ("⟦id|altered⟧", "/v1/aAcAef"),
            ("⟦id|late⟧", "/v1/abcAAf"),
            ("⟦id|cut⟧", "/v1/ab"),
            ("⟦other|last⟧⟦id⟧", "⟦other|last⟧/v1/abcAef"),
            ("plain", "plain"),
        ] {
            assert_eq!(filled(text, &known), becomes, "{text}");
        }
        assert_eq!(names("⟦a|last⟧ and ⟦b⟧").collect::<Vec<_>>(), ["a", "b"]);
    }
}
