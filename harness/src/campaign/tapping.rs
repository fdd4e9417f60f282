//! The wiretap of a run: where it has a place it stands between the launched service and its database.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::stage::Stage;
use super::{Campaign, Run};
use crate::canary::Scanner;
use crate::cell::PoolState;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::postgres::pgbouncer::{Mode, PgBouncer, Through};
use crate::target::file::Tls;
use crate::target::launch::Service;
use crate::wire::{Backend, Wire};
use crate::wiretap::{Binding, Encryption, Faults, Hop, Identity, Lens, Trust, Upstream, Wiretap};

/// The wiretap, if the run has one.
#[derive(Default)]
pub(super) struct Tapping {
    tap: Option<Wiretap>,
    /// What stands before it, and what follows prepared statements where that does not.
    pooler: Option<(PgBouncer, Option<Hop>)>,
    /// Whether what is launched may speak to it under encryption.
    terminates: bool,
    /// All connections of the run together, and the one that was handed over most.
    total: Backend,
    most: Backend,
}

impl Tapping {
    /// Listens where the target file gives it a place.
    pub(super) async fn begin(
        campaign: &Campaign,
        plan: &Plan,
        stage: &Stage,
        scanner: Scanner,
        run: &Run,
    ) -> Result<Self> {
        let Some(url) = stage.surroundings.admin_url.as_ref().filter(|_| plan.target.is_tapped()) else {
            return match &campaign.through {
                None => Ok(Self::default()),
                Some(_) => Err(Error::Usage(
                    "a pooler stands where the wiretap does: the target file is to say how a tenant is bound, and to \
                     give what is launched the database's address"
                        .into(),
                )),
            };
        };
        let wrong = || Error::Usage("the database's URL names no place that the wiretap could stand before".into());
        let upstream = Upstream::of_url(url).ok_or_else(wrong)?;
        let terminates = plan.target.wiretap.as_ref().is_some_and(|wiretap| wiretap.tls == Tls::Terminate);
        let identity = if terminates { Some(Identity::throw_away()?) } else { None };
        let encryption = Encryption { identity, trust: Trust::of_url(url)? };
        let lens = Lens::new(scanner, Binding::of(&plan.target));
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let tap = Wiretap::listen_with(anywhere, upstream, encryption, lens).await?;
        let pooler = match &campaign.through {
            Some(through) => Some(pooled(through, &tap, stage, run).await?),
            None => None,
        };
        Ok(Self { tap: Some(tap), terminates: terminates && pooler.is_none(), pooler, ..Self::default() })
    }

    /// What strikes the connections that go through it.
    pub(super) fn faults(&self) -> Option<Arc<Faults>> {
        self.tap.as_ref().map(Wiretap::faults)
    }

    /// Launches the service behind the wiretap.
    pub(super) async fn launch(
        &self,
        stage: &Stage,
        campaign: &Campaign,
        pool_size: Option<u32>,
        log: &Path,
    ) -> Result<Option<Service>> {
        let address = match &self.pooler {
            Some((_, Some(hop))) => Some(hop.address()),
            Some((pooler, None)) => Some(pooler.address()),
            None => self.tap.as_ref().map(Wiretap::address),
        };
        stage.launch_through(address.map(|address| (address, self.terminates)), campaign, pool_size, log).await
    }

    /// What was seen since the last time, in `state`.
    pub(super) fn take(&mut self, state: Option<PoolState>) -> Option<Wire> {
        let wire = Wire { pool_state: state, ..self.tap.as_ref()?.take() };
        for backend in &wire.backends {
            self.total.rows += backend.rows;
            self.total.own_rows += backend.own_rows;
            self.total.hand_overs += backend.hand_overs;
            self.total.to_nobody += backend.to_nobody;
            if backend.hand_overs > self.most.hand_overs {
                self.most = backend.clone();
            }
        }
        Some(wire)
    }

    /// Tells what it came to.
    pub(super) fn tell(&self, run: &Run) {
        if self.tap.is_none() {
            return;
        }
        let Backend { rows, own_rows, hand_overs, to_nobody, .. } = self.total;
        let such_as = self.most.such_as.map_or_else(String::new, |(before, after)| {
            format!(", as when backend {} served {before} and then {after}", self.most.pid)
        });
        run.note(format!(
            "wiretap: {rows} rows judged between the target and its database, {own_rows} of the bound tenant; connections \
             went {hand_overs} times from one tenant to another, and {to_nobody} times to nobody{such_as}"
        ));
    }
}

/// PgBouncer before the wiretap, so that hand-overs are seen on real backends.
async fn pooled(through: &Through, tap: &Wiretap, stage: &Stage, run: &Run) -> Result<(PgBouncer, Option<Hop>)> {
    let surroundings = &stage.surroundings;
    let urls: Vec<&String> = surroundings.role_urls.values().chain(&surroundings.admin_url).collect();
    let pooler = PgBouncer::start(through, tap.address(), &urls).await?;
    let (major, minor) = pooler.version();
    let hop = match through.mode == Mode::Transaction && !pooler.follows() {
        true => Some(Hop::listen(pooler.address()).await?),
        false => None,
    };
    run.note(format!(
        "PgBouncer {major}.{minor} in {} mode stands before the wiretap{}",
        through.mode.word(),
        if hop.is_some() { "; it follows no prepared statements, which is done in its stead" } else { "" }
    ));
    Ok((pooler, hop))
}
