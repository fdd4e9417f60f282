//! The reference audit-log service: a multi-tenant wall in three layers. Row security in the database
//! (`migrations/`), one door that binds the tenant ([`scope::TenantScope`]), and a store that cannot be made without a
//! tenant ([`store::AuditStore`]). Start reading there, then `http/`.

pub mod archive;
mod believed;
pub mod caller;
mod careless;
pub mod config;
pub mod courier;
pub mod cursor;
#[cfg_attr(not(feature = "defects"), allow(dead_code, reason = "the seams are constant without the feature"))]
mod defects;
mod delivery;
pub mod demo;
pub mod doctor;
mod erasure;
mod export;
mod held;
pub mod hot;
pub mod http;
pub mod limits;
pub mod moment;
pub mod objects;
mod overdue;
pub mod platform;
pub mod problem;
pub mod reach;
mod restore;
mod retention;
pub mod scope;
pub mod sealing;
pub mod serve;
pub mod signing;
pub mod storage;
pub mod store;
pub mod telemetry;
pub mod token;
pub mod worker;
