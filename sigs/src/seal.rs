//! Seals: ed25519 signatures over the exact bytes of a statement, under a prefix that says what kind it is.
//!
//! A sealed file is JSON that carries the statement as a string, so that what was signed is never re-encoded
//! (`docs/formats/manifest.md`). A key is trusted because an admin added it on boss, never because it came along.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use ed25519_dalek::{Signature as RawSignature, Signer as _, SigningKey as RawSigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use crate::digest::{Digest, Root};
use crate::units::ByteLen;

/// The only format of a sealed file there is so far.
pub const SEALED_FORMAT: &str = "ebb.sealed/1";
/// The most bytes a sealed file may have.
pub const MAX_SEALED_BYTES: usize = 16 << 20;

/// What a statement is about; part of what is signed, so that none can pass for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SealKind {
    /// A base image, by an admin key.
    Base,
    /// A swap point, by a boss key.
    SwapPoint,
    /// Leave to write to a disk, by a boss key.
    Permit,
    /// The head of a transcript, by a boss key.
    Head,
}

impl SealKind {
    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::Base => b"ebb.seal.1\0base\0",
            Self::SwapPoint => b"ebb.seal.1\0swap-point\0",
            Self::Permit => b"ebb.seal.1\0permit\0",
            Self::Head => b"ebb.seal.1\0head\0",
        }
    }

    fn message(self, statement: &str) -> Vec<u8> {
        let mut message = self.prefix().to_vec();
        message.extend_from_slice(&ByteLen::of(statement.as_bytes()).get().to_le_bytes());
        message.extend_from_slice(statement.as_bytes());
        message
    }
}

/// Names a key: the first 16 bytes of the SHA-256 of its public half.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 16]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = SealError;
    fn from_str(text: &str) -> Result<Self, SealError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| SealError::Key("a key id is written as 32 hexadecimal digits".into()))?;
        Ok(Self(bytes))
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Why a seal was refused, or a key.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Not a key file.
    #[error("{0}")]
    Key(String),
    /// Not a sealed file of the right shape.
    #[error("parse the sealed file")]
    Json(#[from] serde_json::Error),
    /// The right shape, but not acceptable.
    #[error("the sealed file is refused: {0}")]
    Refused(String),
    /// No seal on it was made by a key that is trusted.
    #[error("no seal by a trusted key: it carries seals by {found}")]
    Untrusted {
        /// The keys it carries seals by.
        found: String,
    },
    /// A seal names a trusted key and does not verify.
    #[error("the seal by key {key} does not fit the statement: it was altered, or the seal belongs to another")]
    Forged {
        /// The key.
        key: KeyId,
    },
}

/// The secret half of a key pair. Its memory is cleared when it is dropped.
pub struct SigningKey(RawSigningKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

impl SigningKey {
    /// Makes a key from 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(RawSigningKey::from_bytes(seed))
    }

    /// Reads a PKCS#8 PEM file, as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// [`SealError::Key`] when it is not one.
    pub fn from_pem(pem: &str) -> Result<Self, SealError> {
        RawSigningKey::from_pkcs8_pem(pem)
            .map(Self)
            .map_err(|error| SealError::Key(format!("this is not an ed25519 secret key in PKCS#8 PEM: {error}")))
    }

    /// Returns the PKCS#8 PEM text.
    ///
    /// # Errors
    /// [`SealError::Key`] when it cannot be encoded.
    pub fn to_pem(&self) -> Result<String, SealError> {
        let pem = self.0.to_pkcs8_pem(ed25519_dalek::pkcs8::spki::der::pem::LineEnding::LF);
        pem.map(|pem| pem.to_string()).map_err(|error| SealError::Key(format!("encode the secret key: {error}")))
    }

    /// Returns the public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }
}

/// The public half of a key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo PEM file, as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// [`SealError::Key`] when it is not one.
    pub fn from_pem(pem: &str) -> Result<Self, SealError> {
        let key = VerifyingKey::from_public_key_pem(pem)
            .map_err(|error| SealError::Key(format!("this is not an ed25519 public key in PEM: {error}")))?;
        if key.is_weak() { Err(SealError::Key("this public key is weak".into())) } else { Ok(Self(key)) }
    }

    /// Returns the PEM text.
    ///
    /// # Errors
    /// [`SealError::Key`] when it cannot be encoded.
    pub fn to_pem(&self) -> Result<String, SealError> {
        self.0
            .to_public_key_pem(ed25519_dalek::pkcs8::spki::der::pem::LineEnding::LF)
            .map_err(|error| SealError::Key(format!("encode the public key: {error}")))
    }

    /// Returns the key's name.
    pub fn id(&self) -> KeyId {
        let digest: [u8; 32] = Sha256::digest(self.0.as_bytes()).into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        KeyId(id)
    }
}

/// The keys a party trusts for one kind of statement.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(BTreeMap<KeyId, PublicKey>);

impl TrustedKeys {
    /// Trusts exactly these keys.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self(keys.into_iter().map(|key| (key.id(), key)).collect())
    }
}

/// One signature over the statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Who made it.
    pub key: KeyId,
    /// 64 bytes, hexadecimal.
    pub signature: String,
}

/// A statement with its seals, as it is stored and sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// [`SEALED_FORMAT`].
    pub format: String,
    /// What the statement is about.
    pub kind: SealKind,
    /// The exact text that was signed.
    pub statement: String,
    /// One or more signatures.
    pub seals: Vec<Seal>,
}

impl Sealed {
    /// Signs a statement.
    pub fn sign(kind: SealKind, statement: String, key: &SigningKey) -> Self {
        let signature = key.0.sign(&kind.message(&statement));
        let seal = Seal { key: key.public().id(), signature: hex::encode(signature.to_bytes()) };
        Self { format: SEALED_FORMAT.into(), kind, statement, seals: vec![seal] }
    }

    /// Parses a sealed file. It is not trusted yet.
    ///
    /// # Errors
    /// [`SealError`] when it is malformed or too long.
    pub fn parse(bytes: &[u8]) -> Result<Self, SealError> {
        if bytes.len() > MAX_SEALED_BYTES {
            return Err(SealError::Refused(format!("it has {} bytes", bytes.len())));
        }
        let sealed: Self = serde_json::from_slice(bytes)?;
        if sealed.format != SEALED_FORMAT {
            return Err(SealError::Refused(format!("the format {:?} is not known here", sealed.format)));
        }
        if sealed.seals.is_empty() || sealed.seals.len() > 16 {
            return Err(SealError::Refused(format!("{} seals", sealed.seals.len())));
        }
        Ok(sealed)
    }

    /// Returns the JSON to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings are always JSON")
    }

    /// Returns the statement once a trusted key has sealed it for this purpose.
    ///
    /// # Errors
    /// [`SealError::Untrusted`], [`SealError::Forged`], or [`SealError::Refused`] for another kind of statement.
    pub fn verify(&self, kind: SealKind, trusted: &TrustedKeys) -> Result<&str, SealError> {
        if self.kind != kind {
            return Err(SealError::Refused(format!("it is a statement of kind {:?}, not {kind:?}", self.kind)));
        }
        let known = self.seals.iter().find_map(|seal| Some((seal, trusted.0.get(&seal.key)?)));
        let Some((seal, key)) = known else {
            let found: Vec<_> = self.seals.iter().map(|seal| seal.key.to_string()).collect();
            return Err(SealError::Untrusted { found: found.join(", ") });
        };
        let forged = || SealError::Forged { key: seal.key };
        let mut bytes = [0; 64];
        hex::decode_to_slice(&seal.signature, &mut bytes).map_err(|_| forged())?;
        key.0.verify_strict(&kind.message(&self.statement), &RawSignature::from_bytes(&bytes)).map_err(|_| forged())?;
        Ok(&self.statement)
    }
}

/// What an admin says of a base image: its name, the exact file, and the state it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseStatement {
    /// The name it was sealed for.
    pub name: String,
    /// The digest of the `.zdi` file.
    pub zdi: Digest,
    /// The size of the `.zdi` file.
    pub zdi_bytes: ByteLen,
    /// The digest of the `.sig` file.
    pub sig: Digest,
    /// The root of the state.
    pub target_root: Root,
    /// The exact bytes of the manifest inside the `.zdi` file.
    pub manifest: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_key_the_exact_text_and_the_right_kind_pass() {
        let key = SigningKey::from_seed(&[1; 32]);
        let other = SigningKey::from_seed(&[2; 32]);
        let trusted = TrustedKeys::new([key.public()]);
        let sealed = Sealed::sign(SealKind::Base, "{\"a\":1}".into(), &key);
        let sealed = Sealed::parse(&sealed.to_bytes()).unwrap();
        assert_eq!(sealed.verify(SealKind::Base, &trusted).unwrap(), "{\"a\":1}");
        assert!(matches!(sealed.verify(SealKind::Permit, &trusted), Err(SealError::Refused(_))));

        let mut altered = sealed.clone();
        altered.statement = "{\"a\":2}".into();
        assert!(matches!(altered.verify(SealKind::Base, &trusted), Err(SealError::Forged { .. })));

        let mut relabelled = sealed.clone();
        relabelled.kind = SealKind::Permit;
        assert!(matches!(relabelled.verify(SealKind::Permit, &trusted), Err(SealError::Forged { .. })));

        let foreign = Sealed::sign(SealKind::Base, sealed.statement.clone(), &other);
        assert!(matches!(foreign.verify(SealKind::Base, &trusted), Err(SealError::Untrusted { .. })));
    }

    #[test]
    fn keys_survive_their_files() {
        let key = SigningKey::from_seed(&[3; 32]);
        let again = SigningKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(PublicKey::from_pem(&key.public().to_pem().unwrap()).unwrap(), key.public());
        assert!(PublicKey::from_pem("nonsense").is_err());
    }
}
