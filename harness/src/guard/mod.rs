//! The wall reviewed where it stands: a database's own catalogs, and what they let through.

pub mod catalog;
