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

/// `text` with `change` noted in each placeholder that has none.
pub fn each(text: &str, change: &str) -> String {
    let mut parts = text.split('⟦');
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let noted = part.split_once('⟧').filter(|(word, _)| !word.contains('|'));
        match noted {
            Some((word, rest)) => out.push_str(&format!("⟦{word}|{change}⟧{rest}")),
            None => out.extend(["⟦", part]),
        }
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
/// full-width forms, which normalise to it, Unicode NFKC), `stranger` (of the same form, and hardly anybody's: other letters
/// before the first `@`, and where there are none other digits).
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
        "stranger" => {
            let letters = value.split('@').next().is_some_and(|name| name.contains(|c: char| c.is_ascii_alphabetic()));
            let other = |c: char, first: u8, of: u8| char::from(first + (c as u8 - first + of / 2) % of);
            let mut named = true;
            let strange = |c: char| {
                named &= c != '@';
                match c {
                    'a'..='z' if letters && named => other(c, b'a', 26),
                    'A'..='Z' if letters && named => other(c, b'A', 26),
                    '0'..='9' if !letters => other(c, b'0', 10),
                    c => c,
                }
            };
            value.chars().map(strange).collect()
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
    fn a_stranger_has_the_form_of_who_is_known() {
        for (known, stranger) in
            [("owner@a.example", "bjare@a.example"), ("Ann7", "Naa7"), ("0049 17", "5594 62"), ("", "")]
        {
            assert_eq!(with(known, "stranger"), stranger);
        }
        assert_eq!(each("⟦a⟧ b ⟦c|cut⟧", "stranger"), "⟦a|stranger⟧ b ⟦c|cut⟧");
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
