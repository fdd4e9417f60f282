//! Placeholders in requests: `⟦name⟧` stands for a value that an earlier answer yielded or that was learnt, `⟦name|change⟧`
//! for it with one change made, see [`changed`].

/// The name of the address that the acting tenant is sent news at.
pub const SINK: &str = "sink";

/// The placeholder of `name`.
pub fn of(name: &str) -> String {
    format!("⟦{name}⟧")
}

/// The names between `⟦` and `⟧`, without their changes.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('⟦').skip(1).filter_map(|part| part.split('⟧').next()).map(|word| word.split('|').next().unwrap_or(word))
}

/// `text` with each placeholder that `value` knows filled in; others stay.
pub fn filled(text: &str, value: &dyn Fn(&str) -> Option<String>) -> String {
    let mut parts = text.split('⟦');
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let Some((word, rest)) = part.split_once('⟧') else {
            out.extend(["⟦", part]);
            continue;
        };
        let (name, change) = word.split_once('|').unwrap_or((word, ""));
        match value(name) {
            Some(value) => out.push_str(&changed(&value, change)),
            None => out.extend(["⟦", word, "⟧"]),
        }
        out.push_str(rest);
    }
    out
}

/// `text` with `change` made now, or noted where the whole of it is a placeholder.
pub fn with(text: &str, change: &str) -> String {
    match text.strip_prefix('⟦').and_then(|text| text.strip_suffix('⟧')) {
        Some(name) if !name.contains(['⟦', '|']) => format!("⟦{name}|{change}⟧"),
        _ => changed(text, change),
    }
}

/// The changes: `altered` and `late` (one character in the middle, or near the end, is another), `cut` (its last third is missing),
/// `last` (what follows its last slash), `upper` (upper case), `bare` (without hyphens), `escaped` (percent-encoded), `wide` (ASCII as its
/// full-width forms, which normalise to it, Unicode NFKC).
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
        "upper" => value.to_uppercase(),
        "bare" => value.replace('-', ""),
        "escaped" => value.bytes().map(|b| format!("%{b:02x}")).collect(),
        "wide" => {
            let wide = |c: char| char::from_u32(c as u32 + 0xfee0).filter(|_| c.is_ascii_graphic()).unwrap_or(c);
            value.chars().map(wide).collect()
        }
        _ => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_filled_in_with_their_change_and_others_stay() {
        let known = |name: &str| (name == "id").then(|| "/v1/abcAef".to_string());
        for (text, becomes) in [
            ("x ⟦id⟧ y", "x /v1/abcAef y"),
            ("⟦id|last⟧", "abcAef"),
            ("⟦id|altered⟧", "/v1/aAcAef"),
            ("⟦id|late⟧", "/v1/abcAAf"),
            ("⟦id|cut⟧", "/v1/ab"),
            ("⟦other|last⟧⟦id⟧", "⟦other|last⟧/v1/abcAef"),
            ("⟦id", "⟦id"),
            ("plain", "plain"),
        ] {
            assert_eq!(filled(text, &known), becomes, "{text}");
        }
        assert_eq!(names("⟦a|last⟧ and ⟦b⟧").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_change_is_made_now_or_when_the_value_is_known() {
        for change in ["upper", "bare", "escaped", "wide", "cut"] {
            let later = filled(&with("⟦id⟧", change), &|_| Some("a-1".into()));
            assert_eq!(later, with("a-1", change), "{change}");
            assert_ne!(later, "a-1", "{change}");
        }
    }
}
