//! What a part of an expression stands for, as far as that is known.

use std::collections::BTreeSet;

use super::truth::{Cause, Truth};

/// Whose a row is, as seen by the tenant that is bound, or was last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// The tenant's that is bound.
    Own,
    /// Another tenant's.
    Foreign,
    /// Nobody's: its tenant is null.
    Nobody,
    /// Another tenant's, whose id differs from the bound one's in case alone.
    Alike,
    /// Of a tenant whose id an expression spells out.
    Literal(String),
    /// Of a relation that is no tenant's.
    Shared,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// A truth value, or several.
    Truth(Truth),
    /// A literal.
    Text(String),
    /// The id of a tenant.
    Tenant(Whose),
    /// A setting, or a key in one, that says something else than the tenant.
    Context(String),
    /// A value of a row, other than its tenant.
    Column {
        /// The row's place in its statement: two of one place and name are the same value.
        place: usize,
        /// Whose the row is.
        whose: Whose,
        /// The column.
        name: String,
        /// True when the column says who somebody is: a key, or a reference to one.
        identifies: bool,
        /// True when it cannot be null.
        not_null: bool,
        /// True when whoever writes the row chooses it.
        chosen: bool,
    },
    /// `current_user` and its like.
    DatabaseRole(String),
    /// Any one of several.
    List(Vec<Value>),
    /// Several at once.
    Tuple(Vec<Value>),
    /// An error.
    Error,
    /// Unknown; it hangs on these.
    Unknown(BTreeSet<Cause>),
}

impl Value {
    /// A value that cannot be read.
    pub fn unread(what: impl Into<String>) -> Self {
        Self::Unknown(BTreeSet::from([Cause::Unread(what.into())]))
    }

    /// What it hangs on.
    pub fn causes(&self) -> BTreeSet<Cause> {
        match self {
            Self::Context(path) => BTreeSet::from([Cause::Flag(path.clone())]),
            Self::Column { name, .. } => BTreeSet::from([Cause::Column(name.clone())]),
            Self::DatabaseRole(_) => BTreeSet::from([Cause::DatabaseRole]),
            Self::Truth(truth) => truth.because.clone(),
            Self::Unknown(causes) => causes.clone(),
            Self::List(values) | Self::Tuple(values) => values.iter().flat_map(Self::causes).collect(),
            Self::Null | Self::Text(_) | Self::Tenant(_) | Self::Error => BTreeSet::new(),
        }
    }

    /// As a condition.
    pub fn truth(&self) -> Truth {
        match self {
            Self::Null => Truth::null(),
            Self::Error => Truth::error(),
            Self::Truth(truth) => truth.clone(),
            Self::Text(text) => match text.to_ascii_lowercase().as_str() {
                "t" | "true" | "on" | "yes" | "1" | "y" => Truth::yes(),
                "f" | "false" | "off" | "no" | "0" | "n" => Truth::no(),
                _ => Truth::error(),
            },
            other => Truth::any(other.causes()),
        }
    }

    /// `IS NULL`.
    pub fn is_null(&self) -> Truth {
        match self {
            Self::Null | Self::Tenant(Whose::Nobody) => Truth::yes(),
            Self::Error => Truth::error(),
            Self::Truth(truth) => truth.is(false, false, true),
            Self::Text(_) | Self::Tenant(_) | Self::List(_) | Self::Tuple(_) | Self::DatabaseRole(_) => Truth::no(),
            Self::Context(path) => Truth::either(Cause::Flag(path.clone())),
            Self::Column { not_null: true, .. } => Truth::no(),
            Self::Column { name, .. } => Truth::either(Cause::Column(name.clone())),
            Self::Unknown(causes) if causes.is_empty() => Truth::no(),
            Self::Unknown(_) => Truth::any(self.causes()).is(true, false, false),
        }
    }

    /// `=`.
    pub fn equals(&self, other: &Self) -> Truth {
        match (self, other) {
            (Self::Error, _) | (_, Self::Error) => Truth::error(),
            (Self::Null | Self::Tenant(Whose::Nobody), _) | (_, Self::Null | Self::Tenant(Whose::Nobody)) => {
                Truth::null()
            }
            (Self::List(values), one) | (one, Self::List(values)) => {
                values.iter().fold(Truth::no(), |found, value| found.or(&value.equals(one)))
            }
            (Self::Tuple(a), Self::Tuple(b)) if a.len() == b.len() => {
                a.iter().zip(b).fold(Truth::yes(), |all, (a, b)| all.and(&a.equals(b)))
            }
            (Self::Truth(a), Self::Truth(b)) => a.and(b).or(&a.not().and(&b.not())),
            (Self::Truth(truth), literal @ Self::Text(_)) | (literal @ Self::Text(_), Self::Truth(truth)) => {
                let literal = literal.truth();
                truth.and(&literal).or(&truth.not().and(&literal.not()))
            }
            (Self::Tenant(a), Self::Tenant(b)) => Truth::known(a == b),
            (Self::Tenant(Whose::Literal(a)), Self::Text(b)) | (Self::Text(b), Self::Tenant(Whose::Literal(a))) => {
                Truth::known(a == b)
            }
            (Self::Tenant(_), Self::Text(_)) | (Self::Text(_), Self::Tenant(_)) => Truth::no(),
            (Self::Text(a), Self::Text(b)) => {
                Truth::known(a == b || a.parse::<f64>().ok().is_some_and(|a| b.parse() == Ok(a)))
            }
            (Self::Context(a), Self::Context(b)) if a == b => Truth::yes(),
            (Self::Context(path), Self::Text(_)) | (Self::Text(_), Self::Context(path)) => {
                Truth::either(Cause::Flag(path.clone()))
            }
            (Self::Context(path), Self::Tenant(whose)) | (Self::Tenant(whose), Self::Context(path)) => match whose {
                Whose::Own => Truth::either(Cause::Caller(path.clone())),
                _ => Truth::no(),
            },
            (Self::Context(path), Self::Column { whose, identifies, name, .. })
            | (Self::Column { whose, identifies, name, .. }, Self::Context(path)) => {
                // Nobody of another tenant is the caller; but what names no person or key may be alike.
                match (whose, identifies) {
                    (Whose::Foreign | Whose::Alike | Whose::Literal(_), true) => Truth::no(),
                    _ => Truth::either(Cause::Caller(path.clone())).hanging_on(Cause::Column(name.clone())),
                }
            }
            (Self::Column { place: a, name: x, not_null, .. }, Self::Column { place: b, name: y, .. })
                if a == b && x == y =>
            {
                if *not_null {
                    Truth::yes()
                } else {
                    Truth::yes().joined(&Truth::null()).hanging_on(Cause::Column(x.clone()))
                }
            }
            (Self::Column { whose: a, identifies: true, .. }, Self::Column { whose: b, identifies: true, .. })
                if a != b && *a != Whose::Shared && *b != Whose::Shared =>
            {
                Truth::no()
            }
            // What is compared with the tenant's id is one.
            (Self::Tenant(Whose::Own), Self::Column { whose, name, chosen, .. })
            | (Self::Column { whose, name, chosen, .. }, Self::Tenant(Whose::Own)) => match (whose, chosen) {
                (Whose::Foreign | Whose::Alike | Whose::Literal(_), false) => Truth::no(),
                _ => Truth::either(Cause::Caller("the tenant".into())).hanging_on(Cause::Column(name.clone())),
            },
            (Self::DatabaseRole(a), Self::DatabaseRole(b)) => Truth::known(a == b),
            (Self::DatabaseRole(a), Self::Text(b)) | (Self::Text(b), Self::DatabaseRole(a)) => Truth::known(a == b),
            // A role a tenant: it may hold. One role for all: nobody is told from anybody.
            (Self::DatabaseRole(_), Self::Tenant(_)) | (Self::Tenant(_), Self::DatabaseRole(_)) => {
                Truth::either(Cause::DatabaseRole)
            }
            (a, b) => {
                let mut causes = a.causes();
                causes.extend(b.causes());
                if causes.is_empty() {
                    causes.insert(Cause::Unread("a comparison".into()));
                }
                Truth::any(causes)
            }
        }
    }

    /// `IS NOT DISTINCT FROM`.
    pub fn same(&self, other: &Self) -> Truth {
        let (a, b) = (self.is_null(), other.is_null());
        Truth::chosen(&a.or(&b), &a.and(&b), &self.equals(other))
    }
}
