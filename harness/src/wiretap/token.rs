//! SQL in tokens, as Postgres's own scanner cuts it: comments nest, strings double their quotes or escape them, dollar
//! quotes have tags.

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'s> {
    /// A keyword or a name.
    Word(&'s str),
    /// A name in quotes, as it stands between them.
    Name(&'s str),
    /// A string, as it stands between its quotes.
    Text(&'s str),
    /// A number.
    Number(&'s str),
    /// `$1`.
    Parameter(u16),
    /// Anything else, a character.
    Sign(u8),
}

impl<'s> Token<'s> {
    /// Whether it is that keyword.
    pub fn is(self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// What it says, if it is a word or a value.
    pub fn says(self) -> Option<&'s str> {
        match self {
            Self::Word(text) | Self::Name(text) | Self::Text(text) | Self::Number(text) => Some(text),
            Self::Parameter(_) | Self::Sign(_) => None,
        }
    }
}

/// Cuts `text` into tokens; each comment goes to `comment`.
pub fn tokens<'s>(text: &'s str, comment: &mut dyn FnMut(&'s str)) -> Vec<Token<'s>> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(text.len() / 4);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let length = match byte {
            b if b.is_ascii_whitespace() => 1,
            b'-' if rest.starts_with(b"--") => {
                let length = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                comment(&text[at + 2..at + length]);
                length
            }
            b'/' if rest.starts_with(b"/*") => {
                let length = nested(rest);
                comment(text[at + 2..at + length].trim_end_matches("*/"));
                length
            }
            b'\'' => {
                let length = quoted(rest, b'\'', escapes(out.last(), bytes, at));
                if escapes(out.last(), bytes, at) || prefixed(out.last(), bytes, at) {
                    out.pop();
                }
                out.push(Token::Text(between(text, at, length)));
                length
            }
            b'"' => {
                let length = quoted(rest, b'"', false);
                out.push(Token::Name(between(text, at, length)));
                length
            }
            b'$' if rest.get(1).is_some_and(u8::is_ascii_digit) => {
                let length = 1 + rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
                out.push(Token::Parameter(text[at + 1..at + length].parse().unwrap_or(0)));
                length
            }
            b'$' => match dollar(rest) {
                Some((tag, length)) => {
                    let closed = rest[tag..length].ends_with(&rest[..tag]);
                    let end = if closed { length - tag } else { length };
                    out.push(Token::Text(text.get(at + tag..at + end).unwrap_or_default()));
                    length
                }
                None => push(&mut out, Token::Sign(byte), 1),
            },
            b'0'..=b'9' => {
                let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_')).count();
                push(&mut out, Token::Number(&text[at..at + length]), length)
            }
            b if is_letter(b) => {
                let length = rest.iter().take_while(|b| is_letter(**b) || b.is_ascii_digit() || **b == b'$').count();
                push(&mut out, Token::Word(&text[at..at + length]), length)
            }
            sign => push(&mut out, Token::Sign(sign), 1),
        };
        at += length;
    }
    out
}

fn push<'s>(out: &mut Vec<Token<'s>>, token: Token<'s>, length: usize) -> usize {
    out.push(token);
    length
}

/// Letters, and every byte of what is not ASCII, as Postgres has it.
fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// Whether the quote at `at` follows right after the word `last` of one letter.
fn follows(last: Option<&Token<'_>>, bytes: &[u8], at: usize, letters: &[u8]) -> bool {
    matches!(last, Some(Token::Word(word)) if word.len() == 1 && letters.contains(&word.as_bytes()[0].to_ascii_lowercase()))
        && at.checked_sub(1).is_some_and(|before| bytes[before].is_ascii_alphabetic())
}

fn escapes(last: Option<&Token<'_>>, bytes: &[u8], at: usize) -> bool {
    follows(last, bytes, at, b"e")
}

fn prefixed(last: Option<&Token<'_>>, bytes: &[u8], at: usize) -> bool {
    follows(last, bytes, at, b"bxn")
}

/// The length of a quoted run, both quotes included.
fn quoted(rest: &[u8], quote: u8, escapes: bool) -> usize {
    let mut at = 1;
    while let Some(&byte) = rest.get(at) {
        if byte == b'\\' && escapes {
            at += 1;
        } else if byte == quote {
            if rest.get(at + 1) != Some(&quote) {
                return at + 1;
            }
            at += 1;
        }
        at += 1;
    }
    rest.len()
}

/// What stands between the quotes of a run of `length` at `at`, which may have no end.
fn between(text: &str, at: usize, length: usize) -> &str {
    let closed = length > 1 && text.as_bytes()[at + length - 1] == text.as_bytes()[at];
    text.get(at + 1..at + length - usize::from(closed)).unwrap_or_default()
}

/// The length of a comment, those within it included.
fn nested(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if rest[at..].starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The lengths of a dollar quote's tag, and of the whole.
fn dollar(rest: &[u8]) -> Option<(usize, usize)> {
    let name = rest[1..].iter().take_while(|b| is_letter(**b) || b.is_ascii_digit()).count();
    let tag = rest.get(..name + 2).filter(|tag| tag.ends_with(b"$"))?;
    let end = memchr::memmem::find(&rest[tag.len()..], tag);
    Some((tag.len(), end.map_or(rest.len(), |end| end + 2 * tag.len())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Token::{Name, Number, Parameter, Sign, Text, Word};
    use super::*;

    #[test]
    fn comments_strings_and_dollar_quotes_are_cut_as_postgres_cuts_them() {
        for (text, cut) in [
            ("SELECT 'it''s' -- 'no'\n, $1", vec![Word("SELECT"), Text("it''s"), Sign(b','), Parameter(1)]),
            (r"E'a\'b' 'c\' d", vec![Text(r"a\'b"), Text(r"c\"), Word("d")]),
            ("/* a /* b */ c */ x /*", vec![Word("x")]),
            ("$$a 'b$$ $t$ $$ $t$ $1", vec![Text("a 'b"), Text(" $$ "), Parameter(1)]),
            (r#"app."Tenant id"=1.5e3"#, vec![Word("app"), Sign(b'.'), Name("Tenant id"), Sign(b'='), Number("1.5e3")]),
            ("'open", vec![Text("open")]),
            ("$open$ x", vec![Text(" x")]),
        ] {
            assert_eq!(tokens(text, &mut |_| {}), cut, "{text}");
        }
    }

    #[test]
    fn what_a_comment_says_is_told() {
        let mut said = Vec::new();
        tokens("SELECT 1 /*traceparent='00-ab-cd-01'*/ -- end", &mut |comment| said.push(comment));
        assert_eq!(said, ["traceparent='00-ab-cd-01'", " end"]);
    }

    proptest! {
        #[test]
        fn any_text_can_be_cut(text in "[ -~\n'\"$/*é-]{0,60}") {
            tokens(&text, &mut |_| {});
        }
    }
}
