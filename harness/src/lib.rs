//! Partywall proves tenant isolation. A scenario and a seed become a plan; the plan plants tenants whose every value
//! names its owner; the plan is driven over HTTP; every outcome is written to a history; pure oracles judge the
//! history; reports show what they concluded.

pub mod cell;
pub mod error;
pub mod event;
pub mod exit_code;
pub mod finding;
pub mod report;
pub mod requirement;
pub mod seed;
pub mod verdict;
