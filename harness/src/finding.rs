//! One violation, and the fewest observations that prove it to a reader.

use serde::{Deserialize, Serialize};

use crate::requirement::Severity;

/// The oracle that made a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OracleId {
    /// A canary seen by one without a right to it.
    CanarySighting,
    /// Missing, extra or wrong rows and totals.
    ShadowModel,
    /// A credential or application role that should have been refused and was not.
    Authentication,
    /// An answer that depends on what other tenants have or do.
    Noninterference,
    /// A difference that tells that another tenant's data exists.
    ExistenceSignal,
    /// A change to what another tenant owns.
    WriteContainment,
}

impl OracleId {
    /// The glossary's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::CanarySighting => "canary_sighting",
            Self::ShadowModel => "shadow_model",
            Self::Authentication => "authentication",
            Self::Noninterference => "noninterference",
            Self::ExistenceSignal => "existence_signal",
            Self::WriteContainment => "write_containment",
        }
    }
}

/// One violation of one requirement, told apart from others by its cause.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Finding {
    /// `f1`, `f2`, … in the order found.
    pub id: String,
    /// The requirement violated.
    pub requirement: String,
    /// The oracle that saw it.
    pub oracle: OracleId,
    /// The requirement's severity.
    pub severity: Severity,
    /// What happened, in one sentence.
    pub sentence: String,
    /// The operation.
    pub operation: String,
    /// Who observed it, such as `auditor of tenant 3`.
    pub observer: String,
    /// Whose it was, if anyone's, such as `tenant 4`.
    pub owner: Option<String>,
    /// How often the same cause was seen.
    pub occurrences: u64,
    /// Requests sent when it was first seen.
    pub found_after_requests: u64,
    /// Milliseconds of driving when it was first seen.
    pub found_after_ms: u64,
    /// The proof.
    pub witness: Vec<Witness>,
}

/// One observation as a reader needs it; secrets are already redacted.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Witness {
    /// Number of the observation in the history.
    pub observation: u64,
    /// What this observation shows: `probe`, `control`, or what it stands beside the probe for.
    pub part: String,
    /// Who sent it.
    pub actor: String,
    /// `GET /v1/events/…`.
    pub request: String,
    /// The request's body, if it had one.
    pub request_body: Option<String>,
    /// The status; none when there was no answer.
    pub status: Option<u16>,
    /// Where it ran: pool state and connection.
    pub pool_state: String,
    /// What in the answer proves it, such as `text canary of tenant 4, events.action, row 7, at byte 120`.
    pub shows: Vec<String>,
    /// An excerpt of the answer's body.
    pub body_excerpt: Option<String>,
    /// A command that sends it again; credentials are shell variables.
    pub curl: String,
}
