//! Partywall proves tenant isolation. A scenario and a seed become a plan; the plan plants tenants whose every value
//! names its owner; the plan is driven over HTTP; every outcome is written to a history; pure oracles judge the
//! history; reports show what they concluded.

pub mod tenant;
pub mod principal;
pub mod canary;
pub mod operation;
pub mod requirement;
pub mod scenario;
pub mod seed;
pub mod cell;
pub mod plan;
pub mod mutant;

pub mod target;
pub mod postgres;

pub mod plant;
pub mod drive;
pub mod history;

pub mod oracle;
pub mod verdict;
pub mod finding;
pub mod campaign;

pub mod event;
pub mod report;
pub mod error;
pub mod exit_code;
