//! Other spellings of an id in a path: what a router, a proxy and a parser may each read differently.

use crate::placeholder::with;

/// A spelling of the first id; the second is one of the actor's own.
pub(super) type Spelling = fn(&str, &str) -> String;

/// All spellings. The driver percent-encodes what it sends, so that a percent sign here is encoded twice.
pub(super) const ALL: [Spelling; 14] = [
    |id, _| with(id, "upper"),
    |id, _| format!("{{{id}}}"),
    |id, _| format!("urn:uuid:{id}"),
    |id, _| with(id, "bare"),
    |id, _| format!("{id}/"),
    |id, _| with(id, "escaped"),
    |id, own| format!("{own}/%2e%2e/{id}"),
    |id, own| format!("{own}/../{id}"),
    |id, own| format!("{own};{id}"),
    |id, _| format!("{id};x=1"),
    |id, own| format!("{own},{id}"),
    |id, _| format!("{id}.json"),
    |id, _| format!(" {id}"),
    |id, _| with(id, "wide"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_is_the_id_itself_and_no_two_are_alike() {
        let (id, own) = ("33333333-aaaa-8bbb-8ccc-000000000001", "own");
        let all: std::collections::BTreeSet<String> = ALL.iter().map(|spelling| spelling(id, own)).collect();
        assert_eq!(all.len(), ALL.len());
        assert!(!all.contains(id));
        assert_eq!(with("a1-", "wide"), "\u{ff41}\u{ff11}\u{ff0d}");
    }
}
