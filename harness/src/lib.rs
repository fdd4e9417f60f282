//! Partywall proves tenant isolation. A scenario and a seed become a plan; the plan plants tenants whose every value
//! names its owner; the plan is driven over HTTP; every outcome is written to a history; pure oracles judge the
//! history; reports show what they concluded.

pub mod ageing;
pub mod canary;
pub mod cell;
pub mod content;
pub mod fault;
pub mod ledger;
pub mod mutant;
pub mod operation;
pub mod plan;
pub mod principal;
pub mod requirement;
pub mod scenario;
pub mod seed;
pub mod tenant;
pub mod wire;
pub mod world;

pub mod migration;
pub mod postgres;
pub mod probe;
pub mod target;

pub mod drive;
pub mod history;
pub mod likeness;
pub mod patience;
pub mod placeholder;
pub mod plant;
pub mod redaction;
pub mod replay;
pub mod settle;
pub mod snapshot;
pub mod wiretap;

pub mod guard;

pub mod campaign;
pub mod evidence;
pub mod finding;
pub mod minimise;
pub mod oracle;
pub mod verdict;

pub mod error;
pub mod event;
pub mod exit_code;
pub mod report;
pub mod starter;
