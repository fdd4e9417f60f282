//! The service against a real Postgres: what it answers, to whom, and what it leaves behind.

mod cancel;
mod credentials;
mod cursors;
mod database;
#[cfg(feature = "defects")]
mod defects;
mod doctor;
mod document;
mod hostile;
mod layers;
mod process;
mod program;
mod refusals;
mod restart;
mod roles;
mod schemathesis;
mod search;
#[path = "../support/mod.rs"]
mod support;
mod tenant_objects;
mod traces;
mod world;
mod writes;
