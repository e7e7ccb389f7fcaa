//! Secrets at rest: sealed with XChaCha20-Poly1305 under a key that lives outside the database.
//!
//! The place of a secret (environment and name) is bound in as associated data, so a sealed value moved to another row
//! does not open.

use chacha20poly1305::{
    Key, XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use secrecy::{ExposeSecret, SecretString};

use crate::{Error, Result};

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// How much longer a sealed value is than the value.
pub(crate) const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// Seals and opens values.
pub struct Sealer(XChaCha20Poly1305);

impl Sealer {
    /// Takes the key: 32 bytes from a random source.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(&Key::from(*key)))
    }

    pub(crate) fn seal(&self, place: &str, value: &SecretString) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: value.expose_secret().as_bytes(), aad: place.as_bytes() };
        let sealed =
            self.0.encrypt(&XNonce::from(nonce), payload).expect("a secret is far below the cipher's size limit");
        [nonce.as_slice(), &sealed].concat()
    }

    pub(crate) fn open(&self, place: &str, sealed: &[u8]) -> Result<SecretString> {
        let unreadable = || Error::unreadable("a sealed secret")("it was sealed with another key or for another place");
        let (nonce, message) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(unreadable)?;
        let payload = Payload { msg: message, aad: place.as_bytes() };
        let value = self.0.decrypt(&XNonce::from(*nonce), payload).map_err(|_| unreadable())?;
        String::from_utf8(value).map(SecretString::from).map_err(Error::unreadable("a sealed secret"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_with_its_key_and_in_its_place() {
        let sealer = Sealer::new(&[7; 32]);
        let sealed = sealer.seal("env_1/TOKEN", &SecretString::from("canary"));
        assert_eq!(sealed.len(), "canary".len() + OVERHEAD_BYTES);
        assert!(!sealed.windows(6).any(|bytes| bytes == b"canary"));
        assert_eq!(sealer.open("env_1/TOKEN", &sealed).expect("opens").expose_secret(), "canary");
        assert!(sealer.open("env_2/TOKEN", &sealed).is_err());
        assert!(Sealer::new(&[8; 32]).open("env_1/TOKEN", &sealed).is_err());
        assert!(sealer.open("env_1/TOKEN", &sealed[..10]).is_err());
    }
}
