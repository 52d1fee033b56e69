//! What waits for space to come back, and how far cleaning has come.

use super::{Reply, Ticket};
use crate::pure::apply::Outcome;
use crate::pure::mvcc::Store;
use crate::pure::types::Revision;
use crate::stdx::work::{Step, Work};

/// Cleaning behind compactions.
///
/// Always true: `cleaned_to` only grows and is at most the compact revision.
pub(super) struct Cleaner {
    /// Everything that a floor of this revision frees is free.
    cleaned_to: Revision,
    /// The floor of the pass under way.
    pass: Option<Pass>,
    compactions: Vec<(Revision, Ticket, Outcome)>,
    defragments: Vec<Ticket>,
}

#[derive(Clone, Copy)]
struct Pass {
    floor: Revision,
    forced: bool,
}

impl Cleaner {
    pub(super) fn new() -> Cleaner {
        Cleaner { cleaned_to: -1, pass: None, compactions: Vec::new(), defragments: Vec::new() }
    }

    /// A physical compaction's client waits until all below `revision` is gone.
    pub(super) fn wait(&mut self, ticket: Ticket, outcome: Outcome, revision: Revision) {
        self.compactions.push((revision, ticket, outcome));
    }

    /// A client waits until no dead byte is left.
    pub(super) fn defragment(&mut self, ticket: Ticket) {
        self.defragments.push(ticket);
    }

    /// True if a slice would find work.
    pub(super) fn wants(&self, compact_revision: Revision, floor: Option<Revision>) -> bool {
        let floor = compact_revision.min(floor.unwrap_or(Revision::MAX));
        self.pass.is_some() || !self.defragments.is_empty() || self.cleaned_to < floor
    }

    /// Cleans a slice; who is served by that.
    pub(super) fn clean(
        &mut self,
        store: &mut Store,
        floor: Option<Revision>,
        work: &mut Work,
    ) -> Vec<(Ticket, Reply)> {
        let now = store.compact_revision().min(floor.unwrap_or(Revision::MAX)).max(self.cleaned_to);
        let pass = *self.pass.get_or_insert(Pass { floor: now, forced: !self.defragments.is_empty() });
        match store.clean(pass.floor, pass.forced, work) {
            Step::More | Step::Pending => Vec::new(),
            Step::Done(()) => self.finish(pass),
        }
    }

    fn finish(&mut self, pass: Pass) -> Vec<(Ticket, Reply)> {
        self.pass = None;
        self.cleaned_to = self.cleaned_to.max(pass.floor);
        let mut done = Vec::new();
        let (ready, waiting) =
            self.compactions.drain(..).partition(|(revision, ..)| *revision <= self.cleaned_to);
        self.compactions = waiting;
        let ready: Vec<(Revision, Ticket, Outcome)> = ready;
        done.extend(ready.into_iter().map(|(_, ticket, outcome)| (ticket, Reply::Applied(outcome))));
        if pass.forced {
            done.extend(self.defragments.drain(..).map(|ticket| (ticket, Reply::Done)));
        }
        done
    }
}
