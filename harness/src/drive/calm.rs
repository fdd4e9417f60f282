//! What follows on something that was only taken on, asked again once everything else was: how far it was at first is a
//! matter of time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{AGAIN, Run, TRIES_MAX};
use crate::error::Result;
use crate::likeness::Likeness;
use crate::plan::{Sequence, Step};

/// What has been the same for so long is taken to stay.
const LASTS: Duration = Duration::from_secs(1);

/// An answer that is waited for to stay as it is.
#[derive(Clone, Default)]
pub(super) struct Calm(Option<(u16, BTreeMap<String, String>, Instant)>);

impl Calm {
    /// Whether such an answer has been given for long enough.
    pub(super) fn lasts(&mut self, status: u16, likeness: &Likeness) -> bool {
        match &self.0 {
            Some((known, body, since)) if *known == status && *body == likeness.body => {
                status != 202 && since.elapsed() >= LASTS
            }
            _ => {
                self.0 = Some((status, likeness.body.clone(), Instant::now()));
                false
            }
        }
    }
}

/// A sequence in which something was only taken on, and what its answers yielded.
pub(super) struct PutOff<'a> {
    sequence: Sequence,
    run: Run<'a>,
    /// Where it was taken on.
    from: u32,
}

impl<'a> PutOff<'a> {
    /// What of a sequence is put off, if anything is.
    pub(super) fn of(sequence: Sequence, run: Run<'a>) -> Option<Self> {
        let from = run.taken_on.filter(|_| run.door.asks_again)?;
        Some(Self { sequence, run, from })
    }
}

/// Asks what was put off until each answer stays as it is, or for a while.
pub(super) async fn ask_again(put_off: Vec<PutOff<'_>>) -> Result<()> {
    for PutOff { sequence, mut run, from } in put_off {
        let later =
            (0..).zip(&sequence.steps).filter(|(position, step)| *position > from && step.request.method == "GET");
        for (position, step) in later {
            // The first page is as telling as all.
            let step = Step { walk: false, ..step.clone() };
            run.calm = Some(Calm::default());
            for _ in 0..TRIES_MAX {
                if !run.walk(&sequence, position, &step).await? {
                    return Ok(());
                }
                if run.ended {
                    break;
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
    Ok(())
}
