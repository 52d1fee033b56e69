//! Events of a slice, encoded once, and the lists of them that watchers are to get.
//!
//! Owns: encoded events and lists until the slice ends. Takes: records, with their previous versions.
//! Gives: batches to queue.
//! Always true: watchers that get the same events share one list and one batch; a list never changes,
//! it is extended by a new one.
//! Not here: who gets which list.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::message::{Batch, Piece, field_bytes, put_event_head, put_prev_head};
use crate::limits::watch::RECORD_SHARED_BYTES_MIN;
use crate::pure::mvcc::RecordRef;
use crate::pure::types::Revision;

/// A list of events; [`EMPTY`] has none.
pub(super) type List = u32;

/// The list without events.
pub(super) const EMPTY: List = 0;

/// The events and lists of a slice.
pub(super) struct Events {
    /// Encoded bytes of all events, but for large records.
    text: Vec<u8>,
    parts: Vec<Part>,
    events: Vec<Event>,
    /// All lists; the first is the empty one.
    lists: Vec<Node>,
    /// Batches of lists that had to be cut into fragments.
    fragments: Vec<(List, Vec<Arc<Batch>>)>,
    /// Scratch: the events of a list in order.
    order: Vec<u32>,
}

enum Part {
    Text(Range<usize>),
    Record(RecordRef),
}

struct Event {
    revision: Revision,
    parts: Range<usize>,
    bytes: usize,
    /// The list that was last extended by this event, and what came out.
    extended: (List, List),
}

struct Node {
    base: List,
    event: u32,
    events: u32,
    revisions: u32,
    bytes: usize,
    batch: Option<Arc<Batch>>,
}

impl Default for Events {
    fn default() -> Events {
        let empty = Node { base: EMPTY, event: u32::MAX, events: 0, revisions: 0, bytes: 0, batch: None };
        Events {
            text: Vec::new(),
            parts: Vec::new(),
            events: Vec::new(),
            lists: vec![empty],
            fragments: Vec::new(),
            order: Vec::new(),
        }
    }
}

impl Events {
    /// Encodes an event and returns its number.
    pub fn encode(&mut self, record: &RecordRef, previous: Option<&RecordRef>) -> u32 {
        let first_part = self.parts.len();
        let kv_bytes = record.kv_bytes().len();
        let prev_field_bytes = previous.map_or(0, |previous| field_bytes(previous.kv_bytes().len()));
        let mut start = self.text.len();
        put_event_head(&mut self.text, record.is_tombstone(), kv_bytes, prev_field_bytes);
        let mut bytes = self.text.len() - start + kv_bytes + prev_field_bytes;
        self.put_record(record, &mut start);
        if let Some(previous) = previous {
            put_prev_head(&mut self.text, previous.kv_bytes().len());
            self.put_record(previous, &mut start);
        }
        if start < self.text.len() {
            self.parts.push(Part::Text(start..self.text.len()));
        }
        let parts = first_part..self.parts.len();
        debug_assert_eq!(bytes, self.parts[parts.clone()].iter().map(Part::len).sum::<usize>());
        bytes = bytes.max(1);
        self.events.push(Event { revision: record.main(), parts, bytes, extended: (u32::MAX, EMPTY) });
        self.events.len() as u32 - 1
    }

    /// Copies a small record, refers to a large one. `start` is where the open text part begins.
    fn put_record(&mut self, record: &RecordRef, start: &mut usize) {
        if record.kv_bytes().len() < RECORD_SHARED_BYTES_MIN {
            self.text.extend_from_slice(record.kv_bytes());
            return;
        }
        self.parts.push(Part::Text(*start..self.text.len()));
        self.parts.push(Part::Record(record.clone()));
        *start = self.text.len();
    }

    /// The list `base` with `event` behind it.
    pub fn extend(&mut self, base: List, event: u32) -> List {
        let of_event = &mut self.events[event as usize];
        if of_event.extended.0 == base {
            return of_event.extended.1;
        }
        let list = self.lists.len() as List;
        of_event.extended = (base, list);
        let (revision, bytes) = (of_event.revision, of_event.bytes);
        let before = &self.lists[base as usize];
        let same_revision = base != EMPTY && self.events[before.event as usize].revision == revision;
        let node = Node {
            base,
            event,
            events: before.events + 1,
            revisions: before.revisions + u32::from(!same_revision),
            bytes: before.bytes + bytes,
            batch: None,
        };
        self.lists.push(node);
        list
    }

    /// Bytes of a list's encoded events.
    pub fn bytes(&self, list: List) -> usize {
        self.lists[list as usize].bytes
    }

    /// Distinct revisions of a list.
    pub fn revisions(&self, list: List) -> usize {
        self.lists[list as usize].revisions as usize
    }

    /// Number of events of a list.
    pub fn count(&self, list: List) -> usize {
        self.lists[list as usize].events as usize
    }

    /// The list as one batch.
    pub fn batch(&mut self, list: List, header_revision: Revision) -> Arc<Batch> {
        if let Some(batch) = &self.lists[list as usize].batch {
            return batch.clone();
        }
        let order = self.take_order(list);
        let batch = Arc::new(self.build(&order, header_revision));
        self.order = order;
        self.lists[list as usize].batch = Some(batch.clone());
        batch
    }

    /// The list cut on event borders into batches below `bytes_max`; an event alone may be larger.
    pub fn fragments(&mut self, list: List, header_revision: Revision, bytes_max: usize) -> &[Arc<Batch>] {
        if let Some(at) = self.fragments.iter().position(|(of, _)| *of == list) {
            return &self.fragments[at].1;
        }
        let order = self.take_order(list);
        let (mut batches, mut first, mut bytes) = (Vec::new(), 0, 0);
        for (at, &event) in order.iter().enumerate() {
            let more = self.events[event as usize].bytes;
            if at > first && bytes + more >= bytes_max {
                batches.push(Arc::new(self.build(&order[first..at], header_revision)));
                (first, bytes) = (at, 0);
            }
            bytes += more;
        }
        batches.push(Arc::new(self.build(&order[first..], header_revision)));
        self.order = order;
        self.fragments.push((list, batches));
        &self.fragments.last().expect("just pushed").1
    }

    /// Forgets everything; keeps a slice's worth of memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.parts.clear();
        self.events.clear();
        self.lists.truncate(1);
        self.fragments.clear();
        self.text.shrink_to(TEXT_KEPT_BYTES);
        self.parts.shrink_to(EVENTS_KEPT);
        self.events.shrink_to(EVENTS_KEPT);
        self.lists.shrink_to(EVENTS_KEPT);
        self.order.shrink_to(EVENTS_KEPT);
    }

    fn take_order(&mut self, list: List) -> Vec<u32> {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        let mut at = list;
        while at != EMPTY {
            let node = &self.lists[at as usize];
            order.push(node.event);
            at = node.base;
        }
        order.reverse();
        order
    }

    fn build(&self, order: &[u32], header_revision: Revision) -> Batch {
        let parts = order.iter().flat_map(|&event| &self.parts[self.events[event as usize].parts.clone()]);
        let (mut pieces, mut text, mut bytes) = (Vec::with_capacity(1), Vec::new(), 0);
        for part in parts {
            bytes += part.len();
            match part {
                Part::Text(range) => text.extend_from_slice(&self.text[range.clone()]),
                Part::Record(record) => {
                    pieces.push(Piece::Bytes(Bytes::from(std::mem::take(&mut text))));
                    pieces.push(Piece::Record(record.clone()));
                }
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Bytes(Bytes::from(text)));
        }
        Batch { revision: header_revision, events: order.len() as u32, bytes, pieces: pieces.into() }
    }
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Part::Text(range) => range.len(),
            Part::Record(record) => record.kv_bytes().len(),
        }
    }
}

/// Scratch memory that survives a slice; more is given back.
const TEXT_KEPT_BYTES: usize = 256 * 1024;
const EVENTS_KEPT: usize = 4_096;
