//! Which credentials are presented that are not as issued, and whose.

use std::collections::BTreeSet;

use super::{Planner, Proof};
use crate::target::credential::{Credential, Flaw};
use crate::target::file::Access;

impl Planner {
    fn credential_of(&self, role: &str) -> Option<&Credential> {
        self.plan.target.credential.get(&self.plan.target.role(role)?.credential)
    }

    /// The ways in which a credential is not as issued: alterations where the first application role that may call it
    /// proves itself by something that can be altered, and the flaws of those that are made here.
    pub(super) fn bad_proofs(&self, access: &Access) -> Vec<Proof> {
        let first = access.allow.first().and_then(|role| self.credential_of(role));
        let mut proofs = Vec::new();
        if first.is_none_or(Credential::proves) {
            proofs.extend([Proof::Altered, Proof::Truncated, Proof::Malformed, Proof::Unsigned]);
        }
        let made = access.allow.iter().filter_map(|role| self.credential_of(role));
        let flaws: BTreeSet<Flaw> = made.flat_map(Credential::flaws).collect();
        proofs.extend(flaws.into_iter().map(Proof::Flawed));
        proofs
    }

    /// The application role whose credential is presented as `proof` says.
    pub(super) fn proving<'a>(&self, access: &'a Access, proof: &Proof) -> Option<&'a String> {
        match proof {
            Proof::Flawed(flaw) => {
                access.allow.iter().find(|role| self.credential_of(role).is_some_and(|c| c.flaws().contains(flaw)))
            }
            _ => access.allow.first(),
        }
    }
}
