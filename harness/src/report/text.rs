//! Text that came from a target is hostile: it may hold escapes, markup or letters that turn the line around.

use crate::finding::{Cause, Finding};
use crate::verdict::{Judgement, Overall, Report};

/// What stands in for a character that has no harmless picture.
const REPLACEMENT: char = '\u{fffd}';

/// `text` with every control and every direction mark made visible; lines and tabs stay.
pub(super) fn clean(text: &str) -> String {
    text.replace("\r\n", "\n").chars().map(harmless).collect()
}

/// `text` cleaned and on one line.
pub(super) fn line(text: &str) -> String {
    let flat = |c| match c {
        '\n' | '\t' | '\r' => ' ',
        other => harmless(other),
    };
    text.chars().map(flat).collect()
}

/// At most `most` characters of `text`; what is left out is counted.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => {
            let left_out = text[end..].chars().count();
            format!("{}… ({left_out} more characters)", &text[..end])
        }
        None => text.to_owned(),
    }
}

fn harmless(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        // Unicode has a picture for each of these: ␀, ␛, ␍ and so on.
        '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(REPLACEMENT),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' => REPLACEMENT,
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => REPLACEMENT,
        '\u{fffe}' | '\u{ffff}' => REPLACEMENT,
        other => other,
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with its noun: `1 finding`, `2 findings`.
pub(super) fn count(number: usize, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", grouped(number as u64))
}

/// How often something was seen: `once`, `12 times`.
pub(super) fn times(number: u64) -> String {
    match number {
        1 => "once".into(),
        more => format!("{} times", grouped(more)),
    }
}

/// Milliseconds as a reader says them.
pub(super) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// Bytes as a reader says them.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// The overall verdict as a shape, a word and a sentence.
pub(super) struct Headline {
    /// Told apart without colour.
    pub shape: char,
    /// One word.
    pub word: &'static str,
    /// What the word means.
    pub lead: &'static str,
}

/// The headline of an overall verdict.
pub(super) fn headline(overall: Overall) -> Headline {
    let (shape, word, lead) = match overall {
        Overall::Upheld => (
            '●',
            "Upheld",
            "Every requirement that applies was upheld beside a control that succeeded, and every planned cell was covered.",
        ),
        Overall::Violated => (
            '✗',
            "Violated",
            "At least one requirement is broken. Each finding carries its proof and a command that shows it again.",
        ),
        Overall::Inconclusive => (
            '?',
            "Inconclusive",
            "Nothing was seen to be violated, but not everything could be shown. Silence proves nothing.",
        ),
    };
    Headline { shape, word, lead }
}

/// How the run ended before its plan, if it did.
pub(super) fn ended_early(report: &Report) -> Option<String> {
    let why = report.run.stopped_because.as_deref().map(line);
    match (report.run.interrupted, why) {
        (true, Some(why)) if why != "interrupted" => {
            Some(format!("The run was interrupted; this is what it knew: {why}"))
        }
        (true, _) => Some("The run was interrupted; this is what it knew.".into()),
        (false, Some(why)) => Some(format!("The run stopped early: {why}")),
        (false, None) => None,
    }
}

/// How many findings, and of how many causes.
pub(super) fn found(judgement: &Judgement) -> String {
    let findings = count(judgement.findings.len(), "finding");
    match judgement.findings.len() {
        0 => findings,
        _ => format!("{findings} of {}", count(judgement.causes.len(), "cause")),
    }
}

/// Where else the same cause was seen, if anywhere.
pub(super) fn also(cause: &Cause) -> Option<String> {
    let (_, others) = cause.operations.split_first()?;
    let others: Vec<String> = others.iter().map(|operation| line(operation)).collect();
    (!others.is_empty()).then(|| {
        let all = count(cause.operations.len(), "operation");
        format!("also in {}: {all}, seen {} in all", others.join(", "), times(cause.occurrences))
    })
}

/// What the fewest steps came to, once they were looked for.
pub(super) fn fewest(finding: &Finding) -> Option<String> {
    let fewest = finding.minimised.as_ref()?;
    let steps = count(fewest.steps as usize, "step");
    let tenants = count(fewest.tenants as usize, "tenant");
    let folder = line(&fewest.folder);
    Some(format!("{steps} by {tenants} show it again, {} tries; see {folder}", fewest.reproduced))
}
