//! The schema files, read by tests: do the numbers in the code agree with them, and what does a message say.
//!
//! Owns: the parsed schema. Takes: message bytes. Gives: them as text, by the schema's names.
//! Always true: knows nothing of the code that it checks.
//! Not here: anything that is shipped.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::canonical::{self, Label, Type};
use super::rpcs::{Kind, Rpc};
use crate::pure::wire::protobuf::{self as pb, Reader, Value};

const FILES: [&str; 6] = [
    include_str!("../../../schema/etcd/kv.proto"),
    include_str!("../../../schema/etcd/auth.proto"),
    include_str!("../../../schema/etcd/membership.proto"),
    include_str!("../../../schema/etcd/rpc.proto"),
    include_str!("../../../schema/etcd/raft_internal.proto"),
    // Not etcd's: the health service.
    "package grpc.health.v1;\nmessage HealthCheckRequest {\nstring service = 1;\n}\n\
     message HealthCheckResponse {\nServingStatus status = 1;\nenum ServingStatus {\n}\n}\n",
];

#[derive(Clone, Debug, Default)]
pub(super) struct SchemaField {
    name: String,
    kind: String,
    repeated: bool,
    union: bool,
}

#[derive(Debug, Default)]
pub(super) struct Schema {
    messages: BTreeMap<String, BTreeMap<u32, SchemaField>>,
    enums: Vec<String>,
    /// Path, streams of the client, streams of the server.
    rpcs: Vec<(String, bool, bool)>,
}

impl Schema {
    pub(super) fn load() -> Schema {
        let mut schema = Schema::default();
        for file in FILES {
            schema.add(file);
        }
        schema
    }

    fn add(&mut self, file: &str) {
        let mut package = "";
        // Open blocks: word and name.
        let mut open: Vec<(&str, &str)> = Vec::new();
        for line in file.lines().map(|line| line.trim().trim_end_matches(';')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let message = open.iter().rev().find(|block| block.0 == "message").map(|block| block.1);
            match words[..] {
                [] | ["//", ..] | ["syntax" | "import" | "reserved", ..] => {}
                ["package", name] => package = name,
                [word, name, "{"] => {
                    match word {
                        "message" => drop(self.messages.insert(format!("{package}.{name}"), BTreeMap::new())),
                        "enum" => self.enums.push(format!("{package}.{name}")),
                        _ => {}
                    }
                    open.push((word, name));
                }
                ["}"] => drop(open.pop().expect("a block is open")),
                ["rpc", ..] => {
                    let method = line[4..].split('(').next().expect("a name");
                    let service = open.last().expect("in a service").1;
                    let (request, response) = line.split_once("returns").expect("an answer");
                    let path = format!("/{package}.{service}/{method}");
                    self.rpcs.push((path, request.contains("(stream "), response.contains("(stream ")));
                }
                [.., _, "=", _] if open.last().is_some_and(|block| block.0 == "enum") => {}
                [.., kind, name, "=", number] => {
                    let message = format!("{package}.{}", message.expect("in a message"));
                    let primitive = ["bytes", "string", "int64", "uint64", "uint32", "bool"].contains(&kind);
                    let local = primitive || kind.starts_with("mvccpb.") || kind.contains("pb.");
                    let field = SchemaField {
                        name: name.to_owned(),
                        kind: if local { kind.to_owned() } else { format!("{package}.{kind}") },
                        repeated: words[0] == "repeated",
                        union: open.last().is_some_and(|block| block.0 == "oneof"),
                    };
                    let fields = self.messages.get_mut(&message).expect("known");
                    let number = number.parse().expect("a number");
                    assert!(fields.insert(number, field).is_none(), "{message}: {number} twice");
                }
                _ => panic!("schema line not understood: {line}"),
            }
        }
        assert!(open.is_empty(), "all blocks are closed");
    }

    /// A message as text: `name{...}` for messages, `name:value` for the rest, in the order of the bytes.
    pub(super) fn show(&self, message: &str, bytes: &[u8]) -> String {
        let mut out = String::new();
        let fields = self.messages.get(message).unwrap_or_else(|| panic!("no message {message}"));
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.next().expect("a message") {
            let shape =
                fields.get(&field.number).unwrap_or_else(|| panic!("{message}: no field {}", field.number));
            if !out.is_empty() {
                out.push(' ');
            }
            let kind = shape.kind.rsplit('.').next().expect("a name");
            let is_enum = self.enums.iter().any(|name| name.rsplit('.').next() == Some(kind));
            let written = match (shape.kind.as_str(), field.value) {
                ("bytes" | "string", Value::Bytes(text)) => {
                    write!(out, "{}:{:?}", shape.name, String::from_utf8_lossy(text))
                }
                ("int64", Value::Varint(number)) => write!(out, "{}:{}", shape.name, number.cast_signed()),
                ("uint64" | "uint32", Value::Varint(number)) => write!(out, "{}:{number}", shape.name),
                ("bool", Value::Varint(1)) => write!(out, "{}", shape.name),
                (_, Value::Varint(number)) if is_enum => {
                    write!(out, "{}:{}", shape.name, number.cast_signed())
                }
                (_, Value::Bytes(packed)) if is_enum && shape.repeated => {
                    let mut all = Vec::new();
                    pb::packed_varints(packed, |number| all.push(number)).expect("packed");
                    write!(out, "{}:{all:?}", shape.name)
                }
                (kind, Value::Bytes(inner)) if self.messages.contains_key(kind) => {
                    write!(out, "{}{{{}}}", shape.name, self.show(kind, inner))
                }
                (kind, value) => panic!("{message}.{}: {kind} as {value:?}", shape.name),
            };
            written.expect("a string takes it");
        }
        out
    }
}

#[test]
fn shapes_agree_with_the_schema() {
    let schema = Schema::load();
    for shape in canonical::ALL {
        let fields = &schema.messages[shape.name];
        assert_eq!(shape.fields.len(), fields.len(), "{}", shape.name);
        for (field, (number, expected)) in shape.fields.iter().zip(fields) {
            let name = format!("{}.{}", shape.name, field.name);
            assert_eq!((field.number, field.name), (*number, expected.name.as_str()));
            let (repeated, union) = (field.label == Label::Repeated, field.label == Label::Union);
            assert_eq!((repeated, union), (expected.repeated, expected.union), "{name}");
            let fits = match field.kind {
                Type::Int64 => expected.kind == "int64",
                Type::Uint64 => expected.kind == "uint64",
                Type::Bool => expected.kind == "bool",
                Type::Bytes => expected.kind == "bytes",
                Type::Text => expected.kind == "string",
                Type::Message(inner) => expected.kind == inner.name,
                Type::Enum => !expected.kind.starts_with(char::is_lowercase) || expected.kind.contains('.'),
            };
            assert!(fits, "{name} is {}", expected.kind);
        }
    }
}

#[test]
fn log_fields_agree_with_the_schema() {
    let fields = &Schema::load().messages["etcdserverpb.InternalRaftRequest"];
    for (number, name) in super::log_payload::FIELDS {
        assert_eq!(fields[number].name, *name);
    }
}

#[test]
fn the_rpc_table_agrees_with_the_schema() {
    let schema = Schema::load();
    let mut found = 0;
    for rpc in Rpc::ALL {
        let row = rpc.row();
        if !row.service.starts_with("etcdserverpb.") {
            continue;
        }
        found += 1;
        let kind = match schema.rpcs.iter().find(|line| line.0 == row.path) {
            Some((_, false, false)) => Kind::Unary,
            Some((_, false, true)) => Kind::ServerStream,
            Some((_, true, false)) => Kind::ClientStream,
            Some((_, true, true)) => Kind::Bidi,
            None => panic!("not in the schema: {}", row.path),
        };
        assert_eq!(row.kind, kind, "{}", row.path);
    }
    assert_eq!(found, schema.rpcs.len());
}
