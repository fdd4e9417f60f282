//! Minor versions that fix a hole in row security.

/// CVE-2026-14666: a prepared statement keeps the row security it was planned under after its role's rights change.
const FIXED: [(i32, i32); 5] = [(18, 6), (17, 11), (16, 15), (15, 19), (14, 24)];

/// What to say about a server of this version.
pub(crate) fn warnings(major: i32, minor: i32) -> Vec<String> {
    match FIXED.iter().find(|(fixed, _)| *fixed == major) {
        Some((_, fixed)) if minor < *fixed => vec![format!(
            "PostgreSQL {major}.{minor} is below {major}.{fixed}, which fixes CVE-2026-14666 \
             (prepared statements keep old row security after a role change): upgrade before you rely on row security"
        )],
        None if major < 14 => {
            vec![format!("PostgreSQL {major} gets no security fixes any more: upgrade before you rely on row security")]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::warnings;

    #[test]
    fn servers_below_the_fix_are_warned_of_and_others_are_not() {
        for (major, minor, warned) in
            [(15, 18, true), (15, 19, false), (18, 5, true), (18, 6, false), (13, 22, true), (19, 0, false)]
        {
            assert_eq!(!warnings(major, minor).is_empty(), warned, "{major}.{minor}");
        }
    }
}
