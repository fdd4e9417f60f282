//! What the server is to answer next, and what the client gave for it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use super::account::Key;
use super::act::Act;
use super::frame::Body;
use super::ownership::Layout;
use super::statement::Statement;
use crate::wire::Who;

/// What the server is to answer next.
pub enum Expected {
    /// A simple query's statements, those that came to their end left out.
    Query(VecDeque<Statement>, Vec<Key>),
    /// What a statement's result looks like.
    Describe(Arc<Prepared>),
    /// One execution.
    Execute(Arc<Portal>),
    /// A function call.
    Call,
    /// The end of what was sent together.
    Sync,
}

impl Expected {
    /// Whether it goes with what was sent together.
    pub fn is_passed_over(&self) -> bool {
        matches!(self, Self::Describe(_) | Self::Execute(_))
    }
}

/// A prepared statement, and the tenant whose it is if its text names the one that was bound.
#[derive(Default)]
pub struct Prepared {
    /// It.
    pub statement: Statement,
    /// Whose.
    pub of: Option<Who>,
    /// Which columns of its result name a tenant, once the server told.
    pub layout: OnceLock<Layout>,
}

/// What is bound to a portal.
pub struct Portal {
    /// The statement.
    pub prepared: Arc<Prepared>,
    /// Its values, where they may matter.
    pub parameters: Vec<Option<Box<[u8]>>>,
    /// The formats of its result.
    pub formats: Vec<u16>,
    /// Whether any of them is binary.
    pub is_binary: bool,
    /// What the client itself said.
    pub echoes: Vec<Key>,
}

/// A message that binds, read as far as it may matter.
pub struct Bind<'b> {
    /// The portal's name, and the statement's.
    pub names: (&'b [u8], &'b [u8]),
    /// The values, in order.
    pub values: Vec<Option<&'b [u8]>>,
    /// The formats of the result.
    pub formats: Vec<u16>,
}

impl<'b> Bind<'b> {
    /// Portal, statement, formats, values, formats.
    pub fn read(body: &'b [u8]) -> Option<Self> {
        let mut rest = Body::new(body);
        let names = (rest.text()?, rest.text()?);
        for _ in 0..rest.int16()? {
            rest.int16()?;
        }
        let number = rest.int16()?;
        let values = (0..number).map(|_| rest.value()).collect::<Option<Vec<_>>>()?;
        let number = rest.int16().unwrap_or(0);
        let formats = (0..number).map_while(|_| rest.int16()).collect();
        Some(Self { names, values, formats })
    }

    /// The values, where `statement` does something with them.
    pub fn needed_by(&self, statement: &Statement) -> Vec<Option<Box<[u8]>>> {
        let needed = statement.acts.iter().any(|act| matches!(act, Act::Configure(..) | Act::Bind(..)));
        self.values.iter().filter(|_| needed).map(|value| value.map(Box::from)).collect()
    }
}
