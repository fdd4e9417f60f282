//! What the harness and the reference show together: one program, since each links all of both.

mod attribution;
mod black_box;
mod conformance;
mod corpus;
mod detection;
mod guard;
mod replay;
mod shrinking;
mod silence;
mod target_file;
mod through;
mod tidy;
mod walls;
