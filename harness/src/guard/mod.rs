//! The wall reviewed where it stands: a database's own catalogs, and what they let through.

mod application;
pub mod catalog;
mod compared;
pub mod config;
pub mod expression;
pub mod finding;
pub mod folder;
pub mod prove;
pub mod reach;
pub mod report;
pub mod review;
pub mod rule;
mod rules;
pub mod tenancy;
mod wall;

pub use finding::{Certainty, Finding, Object};
pub use report::Report;
