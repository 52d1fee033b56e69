//! A member as the JSON context of a ConfChange, as etcd writes it.

use serde_json::{Value, json};

use super::Member;

/// The context by which a new cluster's member comes into being. Client URLs are published later.
pub fn encode(member: &Member) -> Vec<u8> {
    json!({ "id": member.id, "peerURLs": member.peer_urls, "name": member.name }).to_string().into_bytes()
}

/// The member that a context describes; `None` if it can't be read.
pub fn decode(context: &[u8]) -> Option<Member> {
    let context: Value = serde_json::from_slice(context).ok()?;
    let urls = context.get("peerURLs")?.as_array()?.iter().map(|url| url.as_str().map(str::to_owned));
    let peer_urls = urls.collect::<Option<Vec<String>>>()?;
    let name = context.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_learner = context.get("isLearner").and_then(Value::as_bool).unwrap_or_default();
    Some(Member { id: context.get("id")?.as_u64()?, name, peer_urls, client_urls: Vec::new(), is_learner })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let peer_urls = vec!["http://127.0.0.1:42382".to_owned()];
        let name = "m2".to_owned();
        let member =
            Member { id: 7874398002763722684, name, peer_urls, client_urls: vec![], is_learner: false };
        assert_eq!(decode(&encode(&member)), Some(member));
        assert_eq!(decode(b"{}"), None);
        assert_eq!(decode(b"\xff"), None);
    }

    /// Bytes that etcd 3.5.1 wrote.
    #[test]
    fn etcds_own_context_is_read() {
        let member =
            decode(br#"{"id":15084760106391936156,"peerURLs":["http://127.0.0.1:43382"],"isLearner":true}"#);
        let member = member.expect("readable");
        assert_eq!((member.id, member.is_learner, member.name.as_str()), (15084760106391936156, true, ""));
    }
}
