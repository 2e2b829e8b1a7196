//! Keys, signatures and encryption of messages (MS-SMB2 3.1.4).
//!
//! Everything that must not take a time that depends on a secret comes from RustCrypto's constant-time implementations
//! (or ones the embedder answers for, [`use_sha256`], [`use_aes_gcm`]) or ends in [`equal`]. Keys are wiped when they are dropped.

mod derivation;
mod preauthentication;
mod sha256;
mod sha512;
mod signing;
mod transform;

pub use derivation::{KeyDerivation, SessionKeys};
pub use preauthentication::PreauthenticationHash;
pub use sha256::{Compress, use_sha256};
pub use signing::{BadSignature, SIGNATURE_OFFSET, SigningAlgorithm, SigningKey};
pub use transform::{
    Cipher, CipherKey, GcmKey, MakeGcmKey, SealError, TRANSFORM_HEADER_SIZE, TransformHeader, use_aes_gcm,
};

/// Whether two byte strings are the same, in a time that depends on their lengths only.
pub fn equal(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let difference = left.iter().zip(right).fold(0u8, |difference, (a, b)| {
        // Keeps the compiler from leaving the loop at the first difference.
        core::hint::black_box(difference | (a ^ b))
    });
    difference == 0
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    #[test]
    fn equal_means_equal() {
        assert!(super::equal(b"", b""));
        assert!(super::equal(b"abc", b"abc"));
        assert!(!super::equal(b"abc", b"abd"));
        assert!(!super::equal(b"abc", b"ab"));
    }

    /// Bytes from hexadecimal digits; white space is passed over.
    pub(super) fn hex(digits: &str) -> Vec<u8> {
        let digits: Vec<u8> = digits.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }
}
