//! C3: what a watch tells is right, ordered, unique and whole. C4: it leaves nothing out, and ends for a reason.
//! C5: a progress message is a bookmark.

use std::ops::ControlFlow;

use crate::pure::types::Revision;
use crate::testing::history::{Change, Event, History, Request, Time, Truth, Violation, Watch, What};
use crate::testing::model::{Model, contains};

/// Judges all watches.
pub fn check(history: &History, truth: &Truth, model: &Model) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (number, watch) in history.watches.iter().enumerate() {
        let judge = Judge { history, truth, model, watch, number };
        judge.order(&mut violations);
        judge.completeness(&mut violations);
        judge.bookmarks(&mut violations);
    }
    violations
}

struct Judge<'a> {
    history: &'a History,
    truth: &'a Truth,
    model: &'a Model,
    watch: &'a Watch,
    number: usize,
}

impl Judge<'_> {
    fn wrong(&self, checker: &'static str, text: String) -> Violation {
        let request = &self.watch.request;
        let text = format!(
            "watch {} of {:?}..{:?} from {}: {text}",
            self.number, request.key, request.range_end, request.start_revision
        );
        Violation::new(checker, text)
    }

    /// The first revision that it is to tell of; unknown before `created` came.
    fn start(&self) -> Option<Revision> {
        let created = self.watch.created?;
        Some(if self.watch.request.start_revision == 0 {
            created + 1
        } else {
            self.watch.request.start_revision
        })
    }

    fn wants(&self, change: &Change) -> bool {
        let request = &self.watch.request;
        let filtered = if change.is_delete { request.filters.no_delete } else { request.filters.no_put };
        contains(&request.key, &request.range_end, &change.kv.key) && !filtered
    }

    /// All that it is to tell of up to a revision.
    fn wanted(&self, up_to: Revision) -> impl Iterator<Item = &Change> {
        let start = self.start().unwrap_or(Revision::MAX).max(2);
        let first = usize::try_from(start - 2).unwrap_or(usize::MAX).min(self.truth.revisions.len());
        let end = usize::try_from(up_to - 1).unwrap_or(0).clamp(first, self.truth.revisions.len());
        self.truth.revisions[first..end]
            .iter()
            .flat_map(|published| &published.changes)
            .filter(|c| self.wants(c))
    }

    /// C3.
    fn order(&self, violations: &mut Vec<Violation>) {
        // Revision of the last event, and whether its response may go on with the same revision.
        let mut last = (0, false);
        let mut ended = false;
        for told in &self.watch.told {
            if ended {
                violations.push(self.wrong("C3", format!("after its end it told {:?}", told.what)));
                return;
            }
            match &told.what {
                What::Canceled { .. } => ended = true,
                What::Progress => {}
                What::Events { events, fragment } => {
                    if *fragment && !self.watch.request.fragment {
                        violations.push(self.wrong("C3", "a fragment that nobody asked for".to_owned()));
                    }
                    for (at, event) in events.iter().enumerate() {
                        let main = event.kv.mod_revision;
                        let goes_on = at > 0 || last.1;
                        if main < last.0 || main == last.0 && !goes_on {
                            let text =
                                format!("an event of revision {main} after a response with {}", last.0);
                            violations.push(self.wrong("C3", text));
                            return;
                        }
                        last.0 = main;
                        if let ControlFlow::Break(text) = self.fields(event, told.at) {
                            violations.push(self.wrong("C3", text));
                            return;
                        }
                    }
                    last.1 = *fragment;
                }
            }
        }
        self.repeats(violations);
    }

    /// The same key twice in a revision, or keys of a revision out of order.
    fn repeats(&self, violations: &mut Vec<Violation>) {
        let events = self.events();
        for group in events.chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision) {
            let main = group[0].kv.mod_revision;
            let Some(published) = self.truth.at(main) else { continue };
            let place =
                |event: &&Event| published.changes.iter().position(|change| change.kv.key == event.kv.key);
            if !group.iter().map(place).is_sorted_by(|a, b| a < b) {
                violations
                    .push(self.wrong("C3", format!("events of revision {main} twice, or out of order")));
            }
        }
    }

    fn events(&self) -> Vec<&Event> {
        let told = self.watch.told.iter().filter_map(|told| match &told.what {
            What::Events { events, .. } => Some(events),
            _ => None,
        });
        told.flatten().collect()
    }

    /// The content of one event.
    fn fields(&self, event: &Event, at: Time) -> ControlFlow<String> {
        let main = event.kv.mod_revision;
        let key = &event.kv.key;
        if self.start().is_none_or(|start| main < start) {
            return ControlFlow::Break(format!("an event of revision {main}, before its start"));
        }
        let change =
            self.truth.at(main).and_then(|published| published.changes.iter().find(|c| c.kv.key == *key));
        let Some(change) = change else {
            return ControlFlow::Break(format!("revision {main} did not change {key:?}"));
        };
        if !self.wants(change) {
            return ControlFlow::Break(format!("revision {main} of {key:?} is not for it"));
        }
        if change.is_delete != event.is_delete || change.kv != event.kv {
            return ControlFlow::Break(format!("revision {main}: {:?} instead of {:?}", event.kv, change.kv));
        }
        let previous = self.model.get(key, main - 1).filter(|_| self.watch.request.prev_kv);
        // Just at a compaction the key before it is gone for who catches up from there.
        let excused = || event.previous.is_none() && self.compactions(at).any(|revision| revision == main);
        if event.previous.as_ref() != previous && !excused() {
            return ControlFlow::Break(format!(
                "revision {main}: before it {:?}, not {previous:?}",
                event.previous
            ));
        }
        ControlFlow::Continue(())
    }

    /// Revisions at which somebody had asked for a compaction by then.
    fn compactions(&self, by: Time) -> impl Iterator<Item = Revision> {
        self.history.calls.iter().filter_map(move |call| match &call.request {
            Request::Compact(compact) if call.invoked < by => Some(compact.revision),
            _ => None,
        })
    }

    /// C4.
    fn completeness(&self, violations: &mut Vec<Violation>) {
        let Some(start) = self.start() else {
            let open = self.watch.closed.is_none() && self.truth.ended.saturating_sub(self.watch.sent) > LATE;
            if open && !self.watch.told.iter().any(|told| matches!(told.what, What::Canceled { .. })) {
                violations.push(self.wrong("C4", "it was never created".to_owned()));
            }
            return;
        };
        let mut events = self.events();
        if let Some(What::Events { fragment: true, .. }) = self.watch.told.last().map(|told| &told.what) {
            // The rest of the response was lost with the connection.
            let unfinished = events.last().map_or(0, |event| event.kv.mod_revision);
            events.retain(|event| event.kv.mod_revision < unfinished);
        }
        let last = events.last().map_or(start - 1, |event| event.kv.mod_revision);
        let canceled = self.watch.told.iter().find_map(|told| match told.what {
            What::Canceled { compact_revision } => Some((told.at, compact_revision)),
            _ => None,
        });
        let is_open = self.watch.closed.is_none() && canceled.is_none();
        let up_to = if is_open { self.truth.revision() } else { last };
        let mut told = events.iter();
        for change in self.wanted(up_to) {
            let main = change.kv.mod_revision;
            let next = told.as_slice().first();
            if next.is_some_and(|event| event.kv.mod_revision == main && event.kv.key == change.kv.key) {
                told.next();
            } else if next.is_none_or(|event| event.kv.mod_revision >= main) {
                let text =
                    format!("revision {main} of {:?} is missing; it got as far as {last}", change.kv.key);
                violations.push(self.wrong("C4", text));
                return;
            } else {
                // Something that is not wanted: C3 says so.
                return;
            }
        }
        if let Some((at, compact_revision)) = canceled {
            let next = start.max(last + 1);
            let compacted =
                compact_revision > next && self.compactions(at).any(|asked| asked >= compact_revision);
            if !compacted && (compact_revision > 0 || !self.watch.cancel_asked) {
                let text = format!(
                    "canceled with compact revision {compact_revision} for no reason, next was {next}"
                );
                violations.push(self.wrong("C4", text));
            }
        }
    }

    /// C5.
    fn bookmarks(&self, violations: &mut Vec<Violation>) {
        let Some(start) = self.start() else { return };
        let mut mark = 0;
        let mut last = 0;
        for told in &self.watch.told {
            match &told.what {
                What::Events { events, .. } => {
                    if let Some(event) = events.iter().find(|event| event.kv.mod_revision <= mark) {
                        let text = format!("revision {} after a bookmark of {mark}", event.kv.mod_revision);
                        violations.push(self.wrong("C5", text));
                        return;
                    }
                    last = events.last().map_or(last, |event| event.kv.mod_revision.max(last));
                }
                What::Progress => {
                    let missing =
                        self.wanted(told.revision).last().filter(|change| change.kv.mod_revision > last);
                    if let Some(change) = missing {
                        let (at, main) = (told.revision, change.kv.mod_revision);
                        violations
                            .push(self.wrong("C5", format!("a bookmark of {at} before revision {main}")));
                        return;
                    }
                    if told.revision < mark || told.revision < start - 1 {
                        let text =
                            format!("a bookmark of {} after {mark}, with a start at {start}", told.revision);
                        violations.push(self.wrong("C5", text));
                        return;
                    }
                    mark = told.revision;
                }
                What::Canceled { .. } => return,
            }
        }
        if self.watch.asked_at_end && self.watch.closed.is_none() && mark < self.truth.revision() {
            let text =
                format!("idle at the end, asked, and its bookmark is {mark} of {}", self.truth.revision());
            violations.push(self.wrong("C5", text));
        }
    }
}

/// A watch that was asked for this long before the end is there.
const LATE: Time = 2_000_000_000;
