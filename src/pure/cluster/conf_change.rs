//! The ConfChange that adds a member at bootstrap (raftpb.ConfChange with etcd's JSON context).

use prost::Message;
use serde_json::{Value, json};

use super::Member;

/// raftpb.ConfChange.
#[derive(Clone, PartialEq, Message)]
struct ConfChange {
    #[prost(uint64, tag = "1")]
    id: u64,
    /// 0 AddNode, 1 RemoveNode, 2 UpdateNode, 3 AddLearnerNode.
    #[prost(int32, tag = "2")]
    kind: i32,
    #[prost(uint64, tag = "3")]
    node_id: u64,
    #[prost(bytes = "vec", tag = "4")]
    context: Vec<u8>,
}

/// The payload of the entry by which a new cluster's member comes into being. Client URLs are published later.
pub fn encode_add_member(member: &Member) -> Vec<u8> {
    let context = json!({ "id": member.id, "peerURLs": member.peer_urls, "name": member.name });
    let context = context.to_string().into_bytes();
    ConfChange { id: 0, kind: 0, node_id: member.id, context }.encode_to_vec()
}

/// The member that a payload adds, `None` if it does anything else or can't be read.
pub fn decode_add_member(payload: &[u8]) -> Option<Member> {
    let change = ConfChange::decode(payload).ok().filter(|change| change.kind == 0)?;
    let context: Value = serde_json::from_slice(&change.context).ok()?;
    let urls = context.get("peerURLs")?.as_array()?.iter().map(|url| url.as_str().map(str::to_owned));
    let id = context.get("id")?.as_u64().filter(|id| *id == change.node_id)?;
    let name = context.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let peer_urls = urls.collect::<Option<Vec<String>>>()?;
    Some(Member { id, name, peer_urls, client_urls: Vec::new(), is_learner: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let urls = vec!["http://127.0.0.1:42382".to_owned()];
        let member =
            Member { id: 7874398002763722684, name: "m2".into(), peer_urls: urls, client_urls: vec![], is_learner: false };
        let payload = encode_add_member(&member);
        assert_eq!(decode_add_member(&payload), Some(member));
        assert_eq!(decode_add_member(b"\x10\x01"), None);
        assert_eq!(decode_add_member(b"\xff"), None);
    }
}
