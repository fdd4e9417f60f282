//! The prober: connects as the application's database role and tries, for every table, view, function and sequence, every
//! statement in every relation to the rows. It plants rows that name their owner, records what came of each trial, and
//! judges the record alone.

mod bind;
mod breach;
mod calls;
mod cast;
mod control;
mod engine;
mod filling;
mod ground;
pub mod history;
pub mod judge;
mod keys;
mod outcome;
mod owned;
mod place;
mod plant;
mod reads;
mod run;
mod schema;
mod session;
mod story;
mod subject;
mod tenancy;
mod tenants;
mod trial;
mod trials;
mod triggered;
mod value;
mod writes;

pub use judge::{CellVerdict, Finding, Gap, Judgement, Record};
pub use outcome::Outcome;
pub use owned::mark;
pub use place::{Asked, MARK, Mode};
pub use run::{Ended, Facts, Probe, judge_again, requirements};
pub use subject::Kind;
pub use trial::{Act, Command, Context, Relation, Trial};
