//! Credentials and application roles that must be refused are refused.

use super::canary_sighting::actor_words;
use super::{Ground, Oracle, Suspicion};
use crate::finding::OracleId;
use crate::history::Observation;
use crate::plan::{Answer, Proof};
use crate::principal::NOBODY;
use crate::target::credential::Flaw;

/// The oracle.
#[derive(Default)]
pub struct Authentication;

fn flawed(flaw: Flaw) -> &'static str {
    match flaw {
        Flaw::Expired => "a credential whose time was over",
        Flaw::ForeignKey => "a credential that another key had signed",
        Flaw::Confused | Flaw::ConfusedTrimmed => "a credential signed with the public key as a secret",
        Flaw::ForeignIssuer => "a credential of another issuer",
        Flaw::ForeignAudience => "a credential for another audience",
        Flaw::AnothersKey => "a credential that the key of another tenant had signed",
        Flaw::AnothersKeyAsOwn => "a credential that the key of another tenant had signed under the own key's id",
        Flaw::KeyIdPath => "a credential whose key id is the path of an empty file",
        Flaw::KeyIdSql => "a credential whose key id is SQL",
        Flaw::EmbeddedKey => "a credential that brings its own key along",
        Flaw::NoneCased => "an unsigned credential, of the algorithm `nOnE`",
    }
}

impl Oracle for Authentication {
    fn id(&self) -> OracleId {
        OracleId::Authentication
    }

    fn observe(&mut self, _: &Ground, observation: &Observation) -> Vec<Suspicion> {
        let step = &observation.step;
        let Some(answer) = observation.answered() else { return Vec::new() };
        if step.expect.answer != Answer::Refused || !(200..300).contains(&answer.status) {
            return Vec::new();
        }
        let who = match step.request.proof {
            Proof::AsIssued if step.actor.role == NOBODY => "a request without a credential".into(),
            Proof::AsIssued => format!("the {}, which has no right to it,", actor_words(observation)),
            Proof::Altered => "an altered credential".into(),
            Proof::Truncated => "a truncated credential".into(),
            Proof::Malformed => "a malformed credential".into(),
            Proof::Unsigned => "an unsigned credential".into(),
            Proof::Issued => "a credential that had been revoked".into(),
            Proof::Reclaimed(..) => "a credential whose claims were rewritten".into(),
            Proof::Flawed(flaw) => flawed(flaw).into(),
        };
        vec![Suspicion {
            requirement: None,
            sentence: format!("{} answered {} to {who}", step.cell.operation, answer.status)
                .trim_end_matches(',')
                .into(),
            owner: step.subject,
            shows: vec![format!("status {} where 401 or 403 was due", answer.status)],
            beside: Vec::new(),
        }]
    }
}
