//! Stories that are written and read by hand: requests behind each other on one connection, slow readers, and clients that
//! go away while they are answered.

use std::collections::BTreeMap;

use super::cast::Cast;
use super::{Answer, ByHand, Expect, Planner, Step};
use crate::principal::{NOBODY, Principal};

/// The requirement of requests that are written behind each other.
pub const PIPELINED: &str = "pool/pipelined";
/// Milliseconds after which another asks while one reads slowly.
const SLOW_MS: u16 = 10;

impl Planner {
    /// One tenant, another, nobody and the first again, written to one connection before anything is answered.
    pub(super) fn piped(&self, cast: &Cast<'_>) -> Result<Vec<Step>, String> {
        let ask = |cast: &Cast<'_>| self.by_hand(cast, PIPELINED, ByHand::Pipelined);
        let mut nobody = ask(cast)?;
        (nobody.actor, nobody.cell.role) = (Principal::without_tenant(NOBODY), NOBODY.into());
        nobody.expect = Expect { answer: Answer::Refused, ..Expect::default() };
        Ok(vec![ask(cast)?, ask(&self.turned(cast))?, nobody, ask(cast)?])
    }

    /// One tenant reads slowly while another is answered; then it goes away in the middle, and the other is answered again.
    pub(super) fn slow(&self, cast: &Cast<'_>) -> Result<Vec<Step>, String> {
        let id = "pool/slow-reader";
        let other = self.turned(cast);
        let mut beside = self.told(&other, id, BTreeMap::new())?;
        beside.beside_ms = Some(SLOW_MS);
        let mut gone = self.by_hand(cast, id, ByHand::Breaking)?;
        gone.expect = Expect::default();
        Ok(vec![self.by_hand(cast, id, ByHand::Slowly)?, beside, gone, self.told(&other, id, BTreeMap::new())?])
    }

    fn by_hand(&self, cast: &Cast<'_>, id: &str, by: ByHand) -> Result<Step, String> {
        Ok(Step { by_hand: Some(by), ..self.told(cast, id, BTreeMap::new())? })
    }
}
