//! A file's statements, each with the line on which it begins.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, Tokenizer};

/// One statement of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its text, without the semicolon.
    pub sql: String,
    /// The line on which it begins, from 1.
    pub line: u64,
}

/// Where a file that holds both ways turns back: dbmate's and goose's words.
const BACK: [&str; 2] = ["-- migrate:down", "-- +goose down"];

/// The part of a file that goes forward.
pub(super) fn forward(text: &str) -> &str {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if BACK.iter().any(|word| line.trim_start().to_ascii_lowercase().starts_with(word)) {
            return &text[..at];
        }
        at += line.len();
    }
    text
}

/// True where a file says that it takes no transaction: sqlx's, dbmate's and goose's words.
pub(super) fn refuses_transaction(text: &str) -> bool {
    text.lines().take_while(|line| line.trim().is_empty() || line.trim_start().starts_with("--")).any(|line| {
        let line = line.to_ascii_lowercase();
        ["-- no-transaction", "transaction:false", "+goose no transaction"].iter().any(|word| line.contains(word))
    })
}

/// The statements of `text`; the line and the word of a psql command, if there is one.
pub(super) fn split(text: &str) -> Result<Vec<Statement>, (u64, String)> {
    // pg_dump puts these around what it writes; they say nothing to the server.
    let told = |line: &str| line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
    let blank = |line: &str| if told(line) { "\n".to_owned() } else { line.to_owned() };
    let text: String = text.split_inclusive('\n').map(blank).collect();
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, &text).tokenize_with_location() else {
        // The server may know better: it is told the whole.
        return Ok(vec![Statement { sql: text, line: 1 }]);
    };
    let offsets = Offsets::of(&text);
    let mut found = Vec::new();
    let mut first: Option<Location> = None;
    // Depth of `BEGIN ATOMIC … END`, whose semicolons end no statement.
    let mut atomic = 0_usize;
    let mut last = Keyword::NoKeyword;
    for token in &tokens {
        match &token.token {
            Token::Whitespace(_) | Token::EOF => continue,
            Token::Backslash => return Err((token.span.start.line, offsets.line(token.span.start).trim().to_owned())),
            Token::Word(word) => {
                match word.keyword {
                    Keyword::ATOMIC if last == Keyword::BEGIN => atomic = 1,
                    Keyword::CASE if atomic > 0 => atomic += 1,
                    Keyword::END => atomic = atomic.saturating_sub(1),
                    _ => {}
                }
                last = word.keyword;
            }
            _ => last = Keyword::NoKeyword,
        }
        if token.token != Token::SemiColon {
            first.get_or_insert(token.span.start);
        } else if atomic == 0
            && let Some(start) = first.take()
        {
            found.push(offsets.statement(start, Some(token.span.start)));
        }
    }
    found.extend(first.map(|start| offsets.statement(start, None)));
    Ok(found)
}

/// Where each line of a text begins.
struct Offsets<'t> {
    text: &'t str,
    lines: Vec<usize>,
}

impl<'t> Offsets<'t> {
    fn of(text: &'t str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, lines }
    }

    /// A location counts characters, a slice bytes.
    fn at(&self, place: Location) -> usize {
        let start = self.lines.get(place.line as usize - 1).copied().unwrap_or(self.text.len());
        let mut characters = self.text[start..].char_indices();
        characters.nth(place.column as usize - 1).map_or(self.text.len(), |(at, _)| start + at)
    }

    fn line(&self, place: Location) -> &'t str {
        self.text[self.at(place)..].lines().next().unwrap_or_default()
    }

    fn statement(&self, start: Location, end: Option<Location>) -> Statement {
        let end = end.map_or(self.text.len(), |end| self.at(end));
        Statement { sql: self.text[self.at(start)..end].trim_end().to_owned(), line: start.line }
    }
}
