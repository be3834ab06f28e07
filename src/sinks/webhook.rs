//! Posts records to a URL, signed as <https://www.standardwebhooks.com> has it.
//!
//! Knows nothing about the log. Each request holds the checkpoint that its records are
//! under: who keeps those holds what shows that the log was cut off.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::hmac;

use super::batch::Batch;
use super::{Deliver, Fault, PATIENCE, Refused};
use crate::config::{self, Sends};
use crate::http::{Client, Url};
use crate::secret::Source;

/// The shortest secret, in bytes.
const SECRET: usize = 24;
/// What an answer may be long.
const ANSWER: usize = 64 << 10;

pub(super) struct Hook {
    url: Url,
    key: hmac::Key,
    client: Client,
    sends: Sends,
}

impl Hook {
    pub(super) async fn new(config: &config::Webhook) -> Result<Self, Fault> {
        let secret = Source::of(&config.secret).get().await?;
        let plain = secret
            .expose_str()
            .and_then(|text| text.strip_prefix("whsec_"));
        let secret = match plain {
            Some(text) => STANDARD
                .decode(text.trim())
                .map_err(|_| "what is behind whsec_ is not base64")?,
            None => secret.expose().to_owned(),
        };
        if secret.len() < SECRET {
            return Err(format!("its secret has fewer than {SECRET} bytes").into());
        }
        Ok(Self {
            url: Url::parse(&config.url)?,
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            client: Client::new(config.ca.as_deref(), PATIENCE, ANSWER)?,
            sends: config.sends,
        })
    }
}

impl Deliver for Hook {
    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Fault> {
        let (log, note) = (
            serde_json::Value::from(batch.log),
            serde_json::Value::from(batch.checkpoint),
        );
        let mut body = format!("{{\"log\":{log},\"checkpoint\":{note},\"records\":[");
        for (at, (_, text)) in batch.texts().enumerate() {
            if at > 0 {
                body.push(',');
            }
            body.push_str(&text);
        }
        body.push_str("]}");
        let id = id(batch, &body);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let now = now.to_string();
        let signature = sign(&self.key, &id, &now, &body);
        let headers = [
            ("content-type", "application/json"),
            ("webhook-id", id.as_str()),
            ("webhook-timestamp", now.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        let answer = self.client.post(&self.url, &headers, body.as_bytes())?;
        match answer.status {
            200..=299 => Ok(()),
            // What is in it, or how much.
            status @ (400 | 413 | 422) => {
                Err(Refused(format!("{}: status {status}", self.url)).into())
            }
            status => Err(format!("{}: status {status}", self.url).into()),
        }
    }

    fn takes_records(&self) -> bool {
        self.sends == Sends::Records
    }
}

/// The same for what is sent again as it is, another for everything else: for another history
/// of the same log, too.
fn id(batch: &Batch<'_>, body: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let log = batch.log.replace(|c| !plain(c), "-");
    let hash = digest(&SHA256, body.as_bytes());
    let hash = hash.as_ref().first_chunk().copied().unwrap_or_default();
    let hash = u64::from_be_bytes(hash);
    match (batch.records.first(), batch.records.last()) {
        (Some(first), Some(last)) => {
            format!("{log}-{}-{}-{hash:016x}", first.position, last.position)
        }
        _ => format!("{log}-{}-{hash:016x}", batch.signed),
    }
}

fn sign(key: &hmac::Key, id: &str, time: &str, body: &str) -> String {
    let mut context = hmac::Context::with_key(key);
    for part in [id, ".", time, ".", body] {
        context.update(part.as_bytes());
    }
    format!("v1,{}", STANDARD.encode(context.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_standard() {
        // The example of its documentation.
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let body = "{\"test\": 2432232314}";
        assert_eq!(
            sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn an_id_is_of_what_is_sent_and_fits_a_header() {
        let batch = |log| Batch {
            log,
            records: Vec::new(),
            format: config::Format::Native,
            signed: 7,
            checkpoint: "",
        };
        let one = id(&batch("db.example/ä\u{1}"), "one");
        assert!(one.starts_with("db-example----7-"), "{one}");
        assert_eq!(one, id(&batch("db.example/ä\u{1}"), "one"));
        assert_ne!(one, id(&batch("db.example/ä\u{1}"), "another"));
    }
}
