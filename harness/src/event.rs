//! What the engine tells while it runs. Reporters format these; nothing else prints.

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A stage began.
    Stage(&'static str),
    /// Something the user should know: a passed-over rung, a warning.
    Note(String),
    /// The plan, in one line, before it is driven.
    Planned(String),
    /// Observations so far, of how many expected.
    Progress {
        /// Requests answered.
        done: u64,
        /// Requests planned; an estimate once walks of lists are in it.
        planned: u64,
        /// Findings so far.
        findings: u64,
    },
    /// A new finding, in one sentence.
    Found(String),
}

/// Where events go.
pub type Events = std::sync::Arc<dyn Fn(Event) + Send + Sync>;
