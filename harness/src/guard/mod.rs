//! The wall reviewed where it stands: a database's own catalogs, and what they let through.

pub mod catalog;
pub mod config;
pub mod expression;
pub mod rule;
pub mod tenancy;
mod wall;
