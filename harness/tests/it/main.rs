//! The harness from outside: its library and its program. One program, since each links the whole library.

mod command_line;
mod guard;
mod probe;
mod reports;
mod tap;
mod wiretap;
