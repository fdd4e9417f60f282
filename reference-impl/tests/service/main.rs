//! The service against a real Postgres: what it answers, to whom, and what it leaves behind.

mod archives;
mod attachments;
mod cancel;
mod credentials;
mod cursors;
mod database;
#[cfg(feature = "defects")]
mod defects;
mod deliveries;
mod doctor;
mod document;
mod erasure;
mod exports;
mod hostile;
mod hot;
mod layers;
mod limits;
mod page;
mod process;
mod program;
mod proofs;
mod receiver;
mod refusals;
mod restart;
mod retention;
mod roles;
mod schemathesis;
mod search;
mod storage;
mod stream;
#[path = "../support/mod.rs"]
mod support;
mod tenant_objects;
mod traces;
mod webhooks;
mod working;
mod world;
mod writes;
