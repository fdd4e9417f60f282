//! The service under test: its file, its document, its process, its doors. Only this module, the wiretap and replay
//! know HTTP or the Postgres protocol.

mod access;
mod altered;
pub mod connection;
pub mod copy;
pub mod credential;
pub mod database;
mod extends;
pub mod file;
pub mod http;
pub mod identity;
pub mod inspect;
mod jwt;
pub mod launch;
mod misled;
pub mod named;
pub mod openapi;
mod paging;
pub mod retention;
pub mod sink;
pub mod tenants;
