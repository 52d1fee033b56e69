//! The server's messages as clients read them.

use bytes::Bytes;

use crate::pure::types::{LeaseId, Revision};
use crate::pure::wire::protobuf::{Reader, Value};
use crate::testing::history::{Answer, Event, Found, KeyValue, Request};

/// Fields of a message; what the server sends is protobuf.
fn fields<'a>(message: &'a [u8], mut each: impl FnMut(u32, Value<'a>)) {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next().expect("the server sends protobuf") {
        each(field.number, field.value);
    }
}

fn signed(value: u64) -> i64 {
    value.cast_signed()
}

fn key_value(message: &[u8]) -> KeyValue {
    let mut kv = KeyValue::default();
    fields(message, |number, value| match (number, value) {
        (1, Value::Bytes(key)) => kv.key = Bytes::copy_from_slice(key),
        (2, Value::Varint(revision)) => kv.create_revision = signed(revision),
        (3, Value::Varint(revision)) => kv.mod_revision = signed(revision),
        (4, Value::Varint(version)) => kv.version = signed(version),
        (5, Value::Bytes(value)) => kv.value = Bytes::copy_from_slice(value),
        (6, Value::Varint(lease)) => kv.lease = signed(lease),
        _ => {}
    });
    kv
}

fn header_revision(message: &[u8]) -> Revision {
    let mut revision = 0;
    fields(message, |number, value| {
        if let (3, Value::Varint(found)) = (number, value) {
            revision = signed(found);
        }
    });
    revision
}

/// The revision in a response's header and the answer to `request`.
pub fn answer(request: &Request, message: &[u8]) -> (Revision, Answer) {
    let mut revision = 0;
    fields(message, |number, value| {
        if let (1, Value::Bytes(header)) = (number, value) {
            revision = header_revision(header);
        }
    });
    let answer = match request {
        Request::Range(_) => Answer::Range(found(message)),
        Request::Put(_) => Answer::Put(previous(message)),
        Request::Delete(_) => deleted(message),
        Request::Txn(_) => txn(message),
        Request::Compact(_) => Answer::Compact,
        Request::Revoke(_) => Answer::Revoke,
        Request::Grant(_) => {
            let (id, ttl) = lease(message);
            Answer::Grant { id, ttl }
        }
    };
    (revision, answer)
}

/// Id and TTL of a grant's or keepalive's answer.
pub(super) fn lease(message: &[u8]) -> (LeaseId, i64) {
    let (mut id, mut ttl) = (0, 0);
    fields(message, |number, value| match (number, value) {
        (2, Value::Varint(value)) => id = signed(value),
        (3, Value::Varint(value)) => ttl = signed(value),
        _ => {}
    });
    (id, ttl)
}

fn found(message: &[u8]) -> Found {
    let mut found = Found::default();
    fields(message, |number, value| match (number, value) {
        (2, Value::Bytes(kv)) => found.kvs.push(key_value(kv)),
        (3, Value::Varint(more)) => found.more = more != 0,
        (4, Value::Varint(count)) => found.count = signed(count),
        _ => {}
    });
    found
}

fn previous(message: &[u8]) -> Option<KeyValue> {
    let mut previous = None;
    fields(message, |number, value| {
        if let (2, Value::Bytes(kv)) = (number, value) {
            previous = Some(key_value(kv));
        }
    });
    previous
}

fn deleted(message: &[u8]) -> Answer {
    let (mut deleted, mut previous) = (0, Vec::new());
    fields(message, |number, value| match (number, value) {
        (2, Value::Varint(count)) => deleted = signed(count),
        (3, Value::Bytes(kv)) => previous.push(key_value(kv)),
        _ => {}
    });
    Answer::Delete { deleted, previous }
}

fn txn(message: &[u8]) -> Answer {
    let (mut succeeded, mut answers) = (false, Vec::new());
    fields(message, |number, value| match (number, value) {
        (2, Value::Varint(flag)) => succeeded = flag != 0,
        (3, Value::Bytes(response)) => fields(response, |number, value| {
            let Value::Bytes(inner) = value else { return };
            answers.push(match number {
                1 => Answer::Range(found(inner)),
                2 => Answer::Put(previous(inner)),
                3 => deleted(inner),
                _ => txn(inner),
            });
        }),
        _ => {}
    });
    Answer::Txn { succeeded, answers }
}

/// A WatchResponse.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "fields are those of etcd's message")]
pub struct WatchAnswer {
    pub revision: Revision,
    pub watch_id: i64,
    pub created: bool,
    pub canceled: bool,
    pub compact_revision: Revision,
    pub fragment: bool,
    pub events: Vec<Event>,
}

/// Reads a WatchResponse.
pub fn watch(message: &[u8]) -> WatchAnswer {
    let mut answer = WatchAnswer::default();
    fields(message, |number, value| match (number, value) {
        (1, Value::Bytes(header)) => answer.revision = header_revision(header),
        (2, Value::Varint(id)) => answer.watch_id = signed(id),
        (3, Value::Varint(flag)) => answer.created = flag != 0,
        (4, Value::Varint(flag)) => answer.canceled = flag != 0,
        (5, Value::Varint(revision)) => answer.compact_revision = signed(revision),
        (7, Value::Varint(flag)) => answer.fragment = flag != 0,
        (11, Value::Bytes(event)) => answer.events.push(watch_event(event)),
        _ => {}
    });
    answer
}

fn watch_event(message: &[u8]) -> Event {
    let mut event = Event::default();
    fields(message, |number, value| match (number, value) {
        (1, Value::Varint(kind)) => event.is_delete = kind == 1,
        (2, Value::Bytes(kv)) => event.kv = key_value(kv),
        (3, Value::Bytes(kv)) => event.previous = Some(key_value(kv)),
        _ => {}
    });
    event
}
