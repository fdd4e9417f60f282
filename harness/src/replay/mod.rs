//! Recorded traffic: read from a file, told in terms of the target's operations, and written from a run's history.

pub mod har;
mod journey;
mod write;

pub use journey::{Mapped, Recording};
pub use write::write;
