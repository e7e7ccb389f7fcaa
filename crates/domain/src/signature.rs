//! Signatures of webhooks: HMAC-SHA256 over the body, in the forms that senders give it, and Standard Webhooks.
//!
//! All comparisons take the same time wherever the difference is.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What secrets of Standard Webhooks begin with; the key is the base64 after it.
pub const SECRET_PREFIX: &str = "whsec_";

/// How far a signed time may be from ours: what is older may be somebody's who has recorded it.
pub const TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// Takes base64 with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const LENIENT_URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Gives the text of a secret with 32 random bytes.
pub fn generate_secret() -> String {
    let random: [u8; 32] = rand::random();
    format!("{SECRET_PREFIX}{}", BASE64_STANDARD.encode(random))
}

/// Tells whether `given` is the body's HMAC-SHA256 under the text of `secret`: in hex or base64, with `sha256=` before it
/// or not.
pub fn is_signed(secret: &str, body: &[u8], given: &str) -> bool {
    let given = given.trim();
    let digest = given.strip_prefix("sha256=").unwrap_or(given);
    decode(digest).is_some_and(|digest| mac(secret.as_bytes(), &[body]).verify_slice(&digest).is_ok())
}

/// Tells whether a token that was sent is the secret itself, as GitLab does it.
pub fn is_token(secret: &str, given: &str) -> bool {
    // Of the digests, so that not even the lengths are told apart.
    Sha256::digest(secret.as_bytes()).ct_eq(&Sha256::digest(given.as_bytes())).into()
}

/// Signs a message as Standard Webhooks say it.
pub fn sign(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> String {
    let mac = mac(&key(secret), &[format!("{id}.{timestamp}.").as_bytes(), body]);
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

/// Tells whether one of the signatures in `given` is that of Standard Webhooks, made at about `now`.
pub fn is_standard(secret: &str, id: &str, timestamp: &str, body: &[u8], given: &str, now: DateTime<Utc>) -> bool {
    let Some(at) = timestamp.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0)) else {
        return false;
    };
    if (now - at).abs() > TOLERANCE {
        return false;
    }
    let key = key(secret);
    given.split_ascii_whitespace().filter_map(|one| one.strip_prefix("v1,")).any(|signature| {
        let mac = mac(&key, &[format!("{id}.{timestamp}.").as_bytes(), body]);
        decode(signature).is_some_and(|signature| mac.verify_slice(&signature).is_ok())
    })
}

/// Gives the key in a secret: what its base64 means, or its text where it is none.
fn key(secret: &str) -> Vec<u8> {
    let decoded = secret.strip_prefix(SECRET_PREFIX).and_then(|text| LENIENT.decode(text).ok());
    decoded.unwrap_or_else(|| secret.as_bytes().to_vec())
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac
}

fn decode(digest: &str) -> Option<Vec<u8>> {
    match digest.len() {
        64 => hex::decode(digest).ok(),
        _ => LENIENT.decode(digest).or_else(|_| LENIENT_URL_SAFE.decode(digest)).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_signed_in_hex_or_base64_with_the_prefix_or_without() {
        // The example of GitHub's documentation.
        let (secret, body) = ("It's a Secret to Everybody", b"Hello, World!");
        let hex = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let base64 = BASE64_STANDARD.encode(hex::decode(hex).expect("hex"));
        let url_safe = base64.replace('+', "-").replace('/', "_");
        for good in [
            hex.to_owned(),
            format!("sha256={hex}"),
            hex.to_uppercase(),
            base64.clone(),
            format!("sha256={base64}"),
            base64.trim_end_matches('=').to_owned(),
            url_safe,
            format!(" {hex} "),
        ] {
            assert!(is_signed(secret, body, &good), "{good}");
        }
        let other = hex.replace('7', "8");
        for bad in ["", "sha256=", "sha1=757107ea", &hex[..62], &other, "not base64!", &base64[..40]] {
            assert!(!is_signed(secret, body, bad), "{bad}");
        }
        assert!(!is_signed("another", body, hex) && !is_signed(secret, b"Hello", hex));
    }

    #[test]
    fn standard_webhooks_are_signed_as_the_specification_says() {
        // The example of the specification's reference libraries.
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let (id, at, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(secret, id, at, body), signature);
        let now = DateTime::from_timestamp(at, 0).expect("a time");
        let is_good = |id: &str, given: &str, now| is_standard(secret, id, &at.to_string(), body, given, now);
        assert!(is_good(id, signature, now) && is_good(id, &format!("v1,AAAA v1a,x {signature}"), now));
        assert!(!is_good("msg_2", signature, now) && !is_good(id, "v1,AAAA", now) && !is_good(id, "", now));
        // Recorded, and sent again later.
        assert!(is_good(id, signature, now + TOLERANCE) && !is_good(id, signature, now + TOLERANCE * 2));
        assert!(!is_standard(secret, id, "x", body, signature, now));
    }

    #[test]
    fn a_token_is_the_secret_or_not() {
        assert!(is_token("s3cret", "s3cret") && !is_token("s3cret", "s3cre") && !is_token("s3cret", ""));
    }

    #[test]
    fn secrets_differ_and_hold_32_bytes() {
        let (one, other) = (generate_secret(), generate_secret());
        assert_ne!(one, other);
        assert_eq!(key(&one).len(), 32);
    }
}
