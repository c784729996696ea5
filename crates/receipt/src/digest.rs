//! The digests of requests and answers. Gateway and client compute them with the same code.

use alloy_primitives::{B256, Keccak256};
use og_primitives::domain;

use crate::{Error, jcs};

/// Digest of a request: Keccak-256 of the domain and the exact bytes of the body.
pub fn request(body: &[u8]) -> B256 {
    hash(&[domain::REQUEST_BODY, body])
}

/// Digest of an answer that is one JSON document: Keccak-256 of the domain and the RFC 8785 form of the object
/// without its members `receipt` and `tee_…`, which are made after the digest.
///
/// # Errors
/// When the document is not an object, or not JSON that all readers understand alike.
pub fn json(document: &[u8]) -> Result<B256, Error> {
    let mut value = jcs::parse(document)?;
    let members =
        value.as_object_mut().ok_or_else(|| Error::Json("answer is not an object".to_owned()))?;
    members.retain(|name, _| name != "receipt" && !name.starts_with("tee_"));
    Ok(hash(&[domain::RESPONSE_JSON, jcs::canonical(&value)?.as_bytes()]))
}

/// Digest of a streamed answer: a chain over the data payloads of its server-sent events, in order, up to but
/// not including the event that carries the receipt.
///
/// `d₀ = keccak(domain)`, `dᵢ = keccak(dᵢ₋₁ ‖ payloadᵢ)`. A payload is the text after `data: ` of one event; of an
/// event with several data lines, these joined by newlines, as the standard says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamDigest(B256);

impl Default for StreamDigest {
    fn default() -> Self {
        Self::new()
    }
}

impl StreamDigest {
    /// The digest of no events.
    pub fn new() -> Self {
        Self(hash(&[domain::RESPONSE_STREAM]))
    }

    /// Takes in the next event.
    pub fn push(&mut self, data_payload: &[u8]) {
        self.0 = hash(&[self.0.as_slice(), data_payload]);
    }

    /// The digest of the events so far.
    pub fn finish(&self) -> B256 {
        self.0
    }
}

fn hash(parts: &[&[u8]]) -> B256 {
    let mut hasher = Keccak256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_does_not_change_a_json_digest_and_contents_do() {
        let digest = |text: &str| json(text.as_bytes()).unwrap();
        let base = digest(r#"{"a":1,"b":[true,null,"x"]}"#);
        assert_eq!(digest("{ \"b\": [true, null, \"\\u0078\"],\n \"a\": 1.0 }"), base);
        assert_eq!(digest(r#"{"a":1,"b":[true,null,"x"],"tee_id":"0x","receipt":"…"}"#), base);
        assert_ne!(digest(r#"{"a":1,"b":[true,null,"y"]}"#), base);
        assert_ne!(digest(r#"{"a":1,"b":[true,null,"x"],"tee":1}"#), base);
        // Only members of the answer itself are left out.
        assert_ne!(digest(r#"{"a":1,"b":[true,null,"x",{"tee_id":1}]}"#), base);
        assert!(json(b"[1]").is_err());
        assert!(json(b"{\"a\":1,\"a\":2}").is_err());
    }

    #[test]
    fn a_stream_digest_depends_on_every_event_and_their_order() {
        let digest = |events: &[&str]| {
            let mut digest = StreamDigest::new();
            events.iter().for_each(|event| digest.push(event.as_bytes()));
            digest.finish()
        };
        let base = digest(&["a", "b"]);
        for other in [&["b", "a"][..], &["ab"], &["a", "b", ""], &["a"], &[]] {
            assert_ne!(digest(other), base);
        }
        assert_ne!(request(b"a"), digest(&["a"]));
    }
}
