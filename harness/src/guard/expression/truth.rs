//! Three-valued logic about what cannot be known exactly: which of true, false, null and an error an expression may come
//! to, and what it hangs on where that is more than one.

use std::collections::BTreeSet;

/// What an expression hangs on, beside whose the row is and who is bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A setting, or a key in it, that is compared with something other than the row's tenant.
    Flag(String),
    /// A setting that is compared with data: it says who calls.
    Caller(String),
    /// A value of the row itself, other than its tenant.
    Column(String),
    /// The database role that runs the statement.
    DatabaseRole,
    /// Rows of a relation, named by its label.
    Rows(String),
    /// What cannot be read: a function without a body to follow, an operator or form that is not known.
    Unread(String),
}

/// The outcomes that are possible, and what decides between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    outcomes: u8,
    /// What it hangs on; empty when there is one outcome.
    pub because: BTreeSet<Cause>,
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const NULL: u8 = 4;
const ERROR: u8 = 8;
const EACH: [u8; 4] = [TRUE, FALSE, NULL, ERROR];

impl Truth {
    /// `true`.
    pub fn yes() -> Self {
        Self::one(TRUE)
    }

    /// `false`.
    pub fn no() -> Self {
        Self::one(FALSE)
    }

    /// `null`.
    pub fn null() -> Self {
        Self::one(NULL)
    }

    /// It raises an error.
    pub fn error() -> Self {
        Self::one(ERROR)
    }

    /// `true` or `false`, known here.
    pub fn known(yes: bool) -> Self {
        if yes { Self::yes() } else { Self::no() }
    }

    /// `true` or `false`, as the cause has it.
    pub fn either(cause: Cause) -> Self {
        Self { outcomes: TRUE | FALSE, because: BTreeSet::from([cause]) }
    }

    /// Anything but an error, as the causes have it.
    pub fn any(because: BTreeSet<Cause>) -> Self {
        Self { outcomes: TRUE | FALSE | NULL, because }
    }

    fn one(outcome: u8) -> Self {
        Self { outcomes: outcome, because: BTreeSet::new() }
    }

    /// It is true and nothing else.
    pub fn is_true(&self) -> bool {
        self.outcomes == TRUE
    }

    /// It may be true.
    pub fn may_be_true(&self) -> bool {
        self.outcomes & TRUE != 0
    }

    /// It may raise an error.
    pub fn may_fail(&self) -> bool {
        self.outcomes & ERROR != 0
    }

    /// It may be null.
    pub fn may_be_null(&self) -> bool {
        self.outcomes & NULL != 0
    }

    /// It is an error and nothing else.
    pub fn is_error(&self) -> bool {
        self.outcomes == ERROR
    }

    /// `NOT`.
    pub fn not(&self) -> Self {
        let outcome = |one| match one {
            TRUE => FALSE,
            FALSE => TRUE,
            other => other,
        };
        self.map(outcome)
    }

    /// What follows from each outcome.
    fn map(&self, outcome: impl Fn(u8) -> u8) -> Self {
        let outcomes = EACH.into_iter().filter(|one| self.outcomes & one != 0).fold(0, |all, one| all | outcome(one));
        Self { outcomes, because: self.because.clone() }.settled()
    }

    /// `IS TRUE`, and so on: `null` counts as `null_is`, an error stays one.
    pub fn is(&self, yes: bool, no: bool, null_is: bool) -> Self {
        let known = |yes| if yes { TRUE } else { FALSE };
        self.map(|one| match one {
            TRUE => known(yes),
            FALSE => known(no),
            NULL => known(null_is),
            other => other,
        })
    }

    /// `AND`.
    pub fn and(&self, other: &Self) -> Self {
        self.with(other, |a, b| match (a, b) {
            (FALSE, _) | (_, FALSE) => FALSE,
            (ERROR, _) | (_, ERROR) => ERROR,
            (NULL, _) | (_, NULL) => NULL,
            _ => TRUE,
        })
    }

    /// `OR`.
    pub fn or(&self, other: &Self) -> Self {
        self.with(other, |a, b| match (a, b) {
            (TRUE, _) | (_, TRUE) => TRUE,
            (ERROR, _) | (_, ERROR) => ERROR,
            (NULL, _) | (_, NULL) => NULL,
            _ => FALSE,
        })
    }

    fn with(&self, other: &Self, outcome: impl Fn(u8, u8) -> u8) -> Self {
        let mut outcomes = 0;
        for a in EACH.into_iter().filter(|one| self.outcomes & one != 0) {
            for b in EACH.into_iter().filter(|one| other.outcomes & one != 0) {
                outcomes |= outcome(a, b);
            }
        }
        Self { outcomes, because: self.because.union(&other.because).cloned().collect() }.settled()
    }

    /// One or the other, and it is not known which.
    pub fn joined(&self, other: &Self) -> Self {
        let because = self.because.union(&other.because).cloned().collect();
        Self { outcomes: self.outcomes | other.outcomes, because }
    }

    /// This outcome where `when` is true, `otherwise` where it is not.
    pub fn chosen(when: &Self, then: &Self, otherwise: &Self) -> Self {
        let mut chosen = Self { outcomes: when.outcomes & ERROR, because: when.because.clone() };
        if when.may_be_true() {
            chosen = chosen.joined(then);
        }
        if when.outcomes & (FALSE | NULL) != 0 {
            chosen = chosen.joined(otherwise);
        }
        chosen.settled()
    }

    /// Also hangs on `cause`, if it hangs on anything.
    pub fn hanging_on(mut self, cause: Cause) -> Self {
        if !self.outcomes.is_power_of_two() {
            self.because.insert(cause);
        }
        self
    }

    fn settled(mut self) -> Self {
        if self.outcomes.is_power_of_two() {
            self.because.clear();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logic_has_three_values_errors_and_doubt() {
        let doubt = || Truth::either(Cause::DatabaseRole);
        assert!(Truth::yes().or(&doubt()).is_true());
        assert!(doubt().or(&Truth::yes()).because.is_empty(), "what is decided hangs on nothing");
        assert!(!Truth::no().and(&doubt()).may_be_true());
        assert!(doubt().or(&Truth::null()).may_be_true());
        assert_eq!(Truth::null().not(), Truth::null());
        assert!(Truth::null().or(&Truth::no()).is(true, false, false) == Truth::no());
        assert!(Truth::error().and(&Truth::yes()).is_error());
        assert_eq!(Truth::chosen(&Truth::null(), &Truth::yes(), &Truth::no()), Truth::no());
        assert!(Truth::chosen(&doubt(), &Truth::yes(), &Truth::no()).because.contains(&Cause::DatabaseRole));
    }
}
