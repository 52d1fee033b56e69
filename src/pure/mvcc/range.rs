//! Ranges as etcd evaluates them, a slice at a time.
//!
//! Owns: a walk's place and what it has found. Takes: a query, views, work. Gives: records, count, more.
//! Always true: the answer is that of one instant, the query's revision, however many views it took.
//! Not here: stripping values (`keys_only`; etcd 3.7 also answers lease 0 there unless sorted by
//! value), whether the revision is allowed.
//!
//! At the newest revision counts come from the tree and a walk stops at its limit; at an older one every
//! key of the interval is visited, since only its list knows whether it was there.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;

use crate::pure::types::Revision;
use crate::stdx::work::{Step, Work};

use super::records::RecordRef;
use super::versions::{Front, TreeKey};
use super::view::KvView;
use super::{Access, KeyRange, RangeQuery, RangeResult, SortOrder, SortTarget, Version};

/// A range being walked, a slice at a time. May be continued on a newer view of the same store
/// (it keeps its revision), never on an older one.
pub struct RangeWalk {
    query: RangeQuery,
    /// Keys up to here have been visited.
    visited: Option<Bytes>,
    /// Taken from the tree at once, or counted key by key.
    count: i64,
    count_known: bool,
    /// How many versions are fetched before sorting and filtering, if etcd bounds that.
    fetch_max: Option<usize>,
    fetched: usize,
    found: Found,
    /// The walk is over, what was sorted is being moved to the answer.
    walked: bool,
    answer: Vec<RecordRef>,
}

enum Found {
    InKeyOrder(Vec<RecordRef>),
    /// At most the first `limit + 1`, if there is a limit.
    Sorted(BTreeSet<Ranked>),
}

/// A record with its place in the wanted order; ties stay in key order.
struct Ranked {
    record: RecordRef,
    target: SortTarget,
    descend: bool,
    ordinal: usize,
}

impl RangeWalk {
    /// Starts a walk.
    pub fn new(query: RangeQuery) -> RangeWalk {
        let filtered = [
            query.min_mod_revision,
            query.max_mod_revision,
            query.min_create_revision,
            query.max_create_revision,
        ]
        .iter()
        .any(|bound| *bound != 0);
        let in_key_order = query.sort_target == SortTarget::Key && query.sort_order != SortOrder::Descend;
        // etcd bounds the fetch before it sorts if no order is given, even where it sorts by another
        // target then; clients see that (behaviours.md, 2), so it is kept.
        let bounded = query.limit > 0 && !filtered && (in_key_order || query.sort_order == SortOrder::None);
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let found = if in_key_order || query.count_only {
            Found::InKeyOrder(Vec::new())
        } else {
            Found::Sorted(BTreeSet::new())
        };
        RangeWalk {
            query,
            visited: None,
            count: 0,
            count_known: false,
            fetch_max: bounded.then(|| limit.saturating_add(1)),
            fetched: 0,
            found,
            walked: false,
            answer: Vec::new(),
        }
    }

    /// Walks a slice.
    pub fn step(&mut self, view: &KvView, work: &mut Work) -> Step<RangeResult> {
        assert!(self.query.revision <= view.revision(), "a walk goes on with newer views only");
        if let KeyRange::Point(key) = &self.query.keys {
            let key = key.clone();
            return self.point(view, &key, work);
        }
        if !self.walked {
            match self.walk(view, work) {
                Step::Done(()) => self.walked = true,
                Step::More => return Step::More,
                Step::Pending => return Step::Pending,
            }
        }
        self.finish(work)
    }

    /// The revision that it reads, to be kept as a floor while it runs.
    pub fn revision(&self) -> Revision {
        self.query.revision
    }

    /// Bytes of references to the records that it has found, about.
    pub fn kept_bytes(&self) -> usize {
        let found = match &self.found {
            Found::InKeyOrder(records) => records.capacity() * size_of::<RecordRef>(),
            // Nodes of the tree are two thirds full.
            Found::Sorted(set) => set.len() * size_of::<Ranked>() * 3 / 2,
        };
        found + self.answer.capacity() * size_of::<RecordRef>()
    }

    fn point(&mut self, view: &KvView, key: &[u8], work: &mut Work) -> Step<RangeResult> {
        work.charge(1);
        let Some(version) = view.get(key, self.query.revision) else {
            return Step::Done(RangeResult { records: Vec::new(), count: 0, more: false });
        };
        let mut records = Vec::new();
        if !self.query.count_only && self.passes(&version) {
            match view.record(version.addr) {
                Access::Ready(record) => records.push(record),
                Access::Pending => return Step::Pending,
            }
        }
        Step::Done(RangeResult { records, count: 1, more: false })
    }

    /// Visits keys until the interval or the slice ends, or enough is fetched.
    fn walk(&mut self, view: &KvView, work: &mut Work) -> Step<()> {
        let newest = self.query.revision == view.revision();
        if newest && self.visited.is_none() && !self.count_known {
            self.count = count_newest(view, &self.query.keys);
            self.count_known = true;
            work.charge(1);
        }
        let from = self.visited.clone();
        let keys = self.query.keys.clone();
        let mut walk = match &from {
            Some(last) => view.tree.iter_from(at_or_before(last)),
            None => view.tree.iter_from(before(start(&keys))),
        };
        if newest {
            walk = walk.weighted();
        }
        let end = end(&keys);
        let mut last = None;
        for (key, _) in walk {
            if end.is_some_and(|end| key.bytes() >= end) || self.is_enough() {
                return Step::Done(());
            }
            if work.is_spent()
                && let Some(last) = last
            {
                self.visited = Some(Bytes::copy_from_slice(last));
                return Step::More;
            }
            work.charge(1);
            match self.visit(view, key) {
                Access::Ready(()) => last = Some(key.bytes()),
                Access::Pending => {
                    self.visited = last.map(Bytes::copy_from_slice).or(self.visited.take());
                    return Step::Pending;
                }
            }
        }
        Step::Done(())
    }

    /// True if neither another record nor another key to count is wanted.
    fn is_enough(&self) -> bool {
        let full = self.query.count_only || self.fetch_max.is_some_and(|max| self.fetched >= max);
        self.count_known && full
    }

    fn visit(&mut self, view: &KvView, key: &TreeKey) -> Access<()> {
        let Some(version) = key.entry.entry().at(self.query.revision).filter(Version::is_live) else {
            return Access::Ready(());
        };
        let full = self.query.count_only || self.fetch_max.is_some_and(|max| self.fetched >= max);
        if !full && self.passes(&version) {
            match view.record(version.addr) {
                Access::Ready(record) => self.take(record),
                Access::Pending => return Access::Pending,
            }
        }
        if !self.count_known {
            self.count += 1;
        }
        Access::Ready(())
    }

    /// etcd's filters; a bound of 0 is none.
    fn passes(&self, version: &Version) -> bool {
        let q = &self.query;
        let inside =
            |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
        inside(version.main, q.min_mod_revision, q.max_mod_revision)
            && inside(version.create, q.min_create_revision, q.max_create_revision)
    }

    fn take(&mut self, record: RecordRef) {
        let ordinal = self.fetched;
        self.fetched += 1;
        let kept_max = usize::try_from(self.query.limit).ok().filter(|limit| *limit > 0);
        let kept_max = kept_max.map_or(usize::MAX, |limit| limit.saturating_add(1));
        match &mut self.found {
            // Beyond the limit one tells that there is more.
            Found::InKeyOrder(records) if records.len() >= kept_max => {}
            Found::InKeyOrder(records) => records.push(record),
            Found::Sorted(set) => {
                let descend = self.query.sort_order == SortOrder::Descend;
                set.insert(Ranked { record, target: self.query.sort_target, descend, ordinal });
                if set.len() > kept_max {
                    set.pop_last();
                }
            }
        }
    }

    /// Moves what was found to the answer and cuts it at the limit.
    fn finish(&mut self, work: &mut Work) -> Step<RangeResult> {
        match &mut self.found {
            Found::InKeyOrder(records) => self.answer = std::mem::take(records),
            Found::Sorted(set) => {
                while let Some(ranked) = set.pop_first() {
                    self.answer.push(ranked.record);
                    work.charge(1);
                    if work.is_spent() && !set.is_empty() {
                        return Step::More;
                    }
                }
            }
        }
        let mut records = std::mem::take(&mut self.answer);
        let limit = usize::try_from(self.query.limit).ok().filter(|limit| *limit > 0);
        let more = limit.is_some_and(|limit| records.len() > limit);
        records.truncate(limit.unwrap_or(usize::MAX));
        Step::Done(RangeResult { records, count: self.count, more })
    }
}

fn start(keys: &KeyRange) -> &[u8] {
    match keys {
        KeyRange::Point(key) | KeyRange::From(key) | KeyRange::Between(key, _) => key,
    }
}

fn end(keys: &KeyRange) -> Option<&[u8]> {
    match keys {
        KeyRange::Between(_, end) => Some(end),
        KeyRange::Point(_) | KeyRange::From(_) => None,
    }
}

fn before(key: &[u8]) -> impl Fn(&TreeKey) -> bool + '_ {
    let front = Front::new(key);
    move |k| k.compare(&front, key) == Ordering::Less
}

fn at_or_before(key: &[u8]) -> impl Fn(&TreeKey) -> bool + '_ {
    let front = Front::new(key);
    move |k| k.compare(&front, key) != Ordering::Greater
}

/// Live keys of an interval at the view's own revision, in O(log n).
fn count_newest(view: &KvView, keys: &KeyRange) -> i64 {
    let below = view.tree.rank(before(start(keys))).weight;
    let up_to = match end(keys) {
        Some(end) => view.tree.rank(before(end)).weight,
        None => view.tree.totals().weight,
    };
    i64::try_from(up_to.saturating_sub(below)).expect("fewer keys than 2^63")
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        let (a, b) = (&self.record, &other.record);
        let order = match self.target {
            // Records are found in key order, so their ordinals say it.
            SortTarget::Key => self.ordinal.cmp(&other.ordinal),
            SortTarget::Version => a.version().cmp(&b.version()),
            SortTarget::Create => a.create().cmp(&b.create()),
            SortTarget::Mod => a.main().cmp(&b.main()),
            SortTarget::Value => a.value().cmp(b.value()),
        };
        let order = if self.descend { order.reverse() } else { order };
        order.then(self.ordinal.cmp(&other.ordinal))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}
