//! What NTLMv2 computes (MS-NLMP 3.3.2, 3.4).

use alloc::vec::Vec;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use zeroize::Zeroize;

use super::Rc4;
use super::message::Flags;
use crate::account::upper_case;

/// HMAC-MD5 with a 16-byte key.
pub(crate) fn hmac_md5<'a>(key: &[u8; 16], pieces: impl IntoIterator<Item = &'a [u8]>) -> [u8; 16] {
    let mut block = hmac::digest::common::Key::<Hmac<Md5>>::default();
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    let mut mac = Hmac::<Md5>::new(&block);
    for piece in pieces {
        mac.update(piece);
    }
    mac.finalize().into_bytes().into()
}

/// NTOWFv2: the key of one user in one domain. The user's name counts in upper case, the domain as it was sent.
pub(crate) fn response_key(nt_hash: &[u8; 16], user: &[u16], domain: &[u16]) -> [u8; 16] {
    let mut identity = Vec::with_capacity((user.len() + domain.len()) * 2);
    identity.extend(user.iter().flat_map(|unit| upper_case(*unit).to_le_bytes()));
    identity.extend(domain.iter().flat_map(|unit| unit.to_le_bytes()));
    hmac_md5(nt_hash, [&identity[..]])
}

/// NTProofStr: what the first 16 bytes of an NTLMv2 response must be, given the rest of it.
pub(crate) fn proof(response_key: &[u8; 16], server_challenge: &[u8; 8], rest: &[u8]) -> [u8; 16] {
    hmac_md5(response_key, [&server_challenge[..], rest])
}

/// Who makes a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Signs one side's messages with extended session security (MS-NLMP 3.4.4.2), counting from 0.
pub(crate) struct Signer {
    key: [u8; 16],
    seal: Rc4,
    encrypt_checksum: bool,
    sequence: u32,
}

impl Signer {
    pub(crate) fn new(exported_key: &[u8; 16], flags: Flags, side: Side) -> Signer {
        let (sign, seal): (&[u8], &[u8]) = match side {
            Side::Client => (
                b"session key to client-to-server signing key magic constant\0",
                b"session key to client-to-server sealing key magic constant\0",
            ),
            Side::Server => (
                b"session key to server-to-client signing key magic constant\0",
                b"session key to server-to-client sealing key magic constant\0",
            ),
        };
        let strength = if flags.contains(Flags::NEGOTIATE_128) {
            16
        } else if flags.contains(Flags::NEGOTIATE_56) {
            7
        } else {
            5
        };
        let weakened = exported_key.get(..strength).unwrap_or(exported_key);
        let seal_key: [u8; 16] = Md5::new().chain_update(weakened).chain_update(seal).finalize().into();
        Signer {
            key: Md5::new().chain_update(exported_key).chain_update(sign).finalize().into(),
            seal: Rc4::new(&seal_key),
            encrypt_checksum: flags.contains(Flags::NEGOTIATE_KEY_EXCH),
            sequence: 0,
        }
    }

    /// The 16-byte signature of the next message.
    pub(crate) fn sign(&mut self, message: &[u8]) -> [u8; 16] {
        let sequence = self.sequence.to_le_bytes();
        self.sequence = self.sequence.wrapping_add(1);
        let mac = hmac_md5(&self.key, [&sequence[..], message]);
        let mut signature = [0; 16];
        let (version, rest) = signature.split_at_mut(4);
        let (checksum, number) = rest.split_at_mut(8);
        version.copy_from_slice(&1u32.to_le_bytes());
        for (to, from) in checksum.iter_mut().zip(mac) {
            *to = from;
        }
        if self.encrypt_checksum {
            self.seal.apply(checksum);
        }
        number.copy_from_slice(&sequence);
        signature
    }

    /// Moves the key stream on, as sealing a message does.
    #[cfg(test)]
    pub(crate) fn seal(&mut self, message: &mut [u8]) {
        self.seal.apply(message);
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nt_hash;

    fn utf16(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    const CHALLENGE: [u8; 8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF];

    /// MS-NLMP 4.2.4: user "User", domain "Domain", password "Password".
    #[test]
    fn ntlmv2_example() {
        let key = response_key(&nt_hash("Password"), &utf16("User"), &utf16("Domain"));
        assert_eq!(u128::from_be_bytes(key), 0x0c868a40_3bfd7a93_a3001ef2_2ef02e3f);

        let mut rest = Vec::new();
        rest.extend([1, 1, 0, 0, 0, 0, 0, 0]);
        rest.extend([0; 8]);
        rest.extend([0xAA; 8]);
        rest.extend([0; 4]);
        for (id, text) in [(2u8, "Domain"), (1, "Server")] {
            rest.extend([id, 0, 12, 0]);
            rest.extend(utf16(text).iter().flat_map(|unit| unit.to_le_bytes()));
        }
        rest.extend([0; 8]);
        let proof = proof(&key, &CHALLENGE, &rest);
        assert_eq!(u128::from_be_bytes(proof), 0x68cd0ab8_51e51c96_aabc927b_ebef6a1c);
        let session_base_key = hmac_md5(&key, [&proof[..]]);
        assert_eq!(u128::from_be_bytes(session_base_key), 0x8de40cca_dbc14a82_f15cb0ad_0de95ca3);
        let mut random = [0x55; 16];
        Rc4::new(&session_base_key).apply(&mut random);
        assert_eq!(u128::from_be_bytes(random), 0xc5dad254_4fc97990_94ce1ce9_0bc9d03e);
    }

    /// MS-NLMP 4.2.4.4: "Plaintext" sealed and signed by the client.
    #[test]
    fn signature_example() {
        let flags = Flags::NEGOTIATE_128 | Flags::NEGOTIATE_KEY_EXCH;
        let mut signer = Signer::new(&[0x55; 16], flags, Side::Client);
        let message: Vec<u8> = utf16("Plaintext").iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let mut sealed = message.clone();
        signer.seal(&mut sealed);
        assert_eq!(sealed[..4], [0x54, 0xE5, 0x01, 0x65]);
        assert_eq!(u128::from_be_bytes(signer.sign(&message)), 0x01000000_7fb38ec5_c55d4976_00000000);
    }
}
