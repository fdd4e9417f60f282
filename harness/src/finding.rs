//! One violation, and the fewest observations that prove it to a reader.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cell::PoolState;
use crate::plan::Vector;
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
    /// A row that came while another tenant was bound, or what one tenant's use of a connection left on it.
    TenantContext,
    /// A service that does not answer again after a fault, or said what is not so.
    Recovery,
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
            Self::TenantContext => "tenant_context",
            Self::Recovery => "recovery",
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
    /// By what means the step reached for its subject.
    pub vector: Vector,
    /// Where it was first seen.
    pub seen: Place,
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
    /// The fewest steps that show it, once they were looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimised: Option<Minimised>,
}

/// Findings of one likely root: the same requirement, oracle and vector, over many operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Cause {
    /// The findings' IDs; the first stands for all.
    pub findings: Vec<String>,
    /// The operations, in the order found.
    pub operations: Vec<String>,
    /// How often any of them was seen.
    pub occurrences: u64,
}

impl Cause {
    /// The causes of `findings`, in their order.
    pub fn of(findings: &[Finding]) -> Vec<Self> {
        let mut causes: Vec<(&Finding, Self)> = Vec::new();
        for finding in findings {
            let (id, operation, occurrences) = (finding.id.clone(), finding.operation.clone(), finding.occurrences);
            let alike = |first: &Finding| {
                (&first.requirement, first.oracle, first.vector)
                    == (&finding.requirement, finding.oracle, finding.vector)
            };
            match causes.iter_mut().find(|(first, _)| alike(first)) {
                Some((_, cause)) => {
                    cause.findings.push(id);
                    cause.operations.push(operation);
                    cause.occurrences += occurrences;
                }
                None => {
                    let cause = Self { findings: vec![id], operations: vec![operation], occurrences };
                    causes.push((finding, cause));
                }
            }
        }
        causes.into_iter().map(|(_, cause)| cause).collect()
    }
}

/// Where in the plan a finding was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Place {
    /// The pool state.
    pub pool_state: PoolState,
    /// Number of the sequence in its pool state.
    pub sequence: u64,
    /// Number of the step in the sequence.
    pub position: u32,
}

/// What shrinking a finding came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Minimised {
    /// Steps left.
    pub steps: u32,
    /// Tenants that take part in them.
    pub tenants: u32,
    /// How often they showed the finding again.
    pub reproduced: Reproduced,
    /// True when time ended before nothing smaller was left to try.
    pub cut_short: bool,
    /// The finding's folder, below the run's.
    pub folder: String,
}

/// So many of so many tries, each on a fresh start of the target by tenants that no try before it had, where there are
/// enough of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Reproduced {
    /// Tries that showed the finding.
    pub k: u32,
    /// Tries.
    pub n: u32,
}

impl fmt::Display for Reproduced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.k, self.n)
    }
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

/// A word for a POSIX shell.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
