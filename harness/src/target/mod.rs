//! The service under test: its file, its document, its process, its doors. Only this module, the wiretap and replay
//! know HTTP or the Postgres protocol.

mod altered;
pub mod copy;
pub mod credential;
pub mod database;
pub mod file;
pub mod http;
pub mod identity;
pub mod inspect;
mod jwt;
pub mod launch;
pub mod openapi;
pub mod sink;
pub mod tenants;
