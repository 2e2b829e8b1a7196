//! Signatures of messages (MS-SMB2 3.1.4.1, 3.1.5.1).

use alloc::sync::Arc;

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use cmac::{Cmac, Mac};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use zeroize::Zeroize;

use super::sha256::HmacSha256;
use crate::environment::Payload;
use crate::reader::Reader;

/// Where the signature lies in an SMB2 header, 16 bytes long.
pub const SIGNATURE_OFFSET: usize = 48;

/// Where the body of a message begins, which is where its signature ends.
const SIGNATURE_END: usize = SIGNATURE_OFFSET + 16;

/// How messages are signed; the values are those of SMB2_SIGNING_CAPABILITIES (MS-SMB2 2.2.3.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum SigningAlgorithm {
    /// SMB 2.0.2 and 2.1, and 3.1.1 where negotiated.
    HmacSha256 = 0,
    /// SMB 3.0 and 3.0.2, and 3.1.1 where nothing else is negotiated.
    AesCmac = 1,
    /// SMB 3.1.1 where negotiated.
    AesGmac = 2,
}

impl SigningAlgorithm {
    /// From its number in SMB2_SIGNING_CAPABILITIES.
    pub const fn from_wire(number: u16) -> Option<SigningAlgorithm> {
        match number {
            0 => Some(SigningAlgorithm::HmacSha256),
            1 => Some(SigningAlgorithm::AesCmac),
            2 => Some(SigningAlgorithm::AesGmac),
            _ => None,
        }
    }
}

/// The signature is not the one that the key gives, or the message is too short to have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSignature;

/// What a session signs with.
#[derive(Clone)]
pub struct SigningKey {
    algorithm: SigningAlgorithm,
    pub(super) key: [u8; 16],
    /// For [`SigningAlgorithm::HmacSha256`]: the key, worked in. Shared by the clones that requests carry.
    prepared: Option<Arc<HmacSha256>>,
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl core::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "SigningKey({:?})", self.algorithm)
    }
}

impl SigningKey {
    /// From an algorithm and a derived key.
    pub fn new(algorithm: SigningAlgorithm, key: [u8; 16]) -> SigningKey {
        let prepared = (algorithm == SigningAlgorithm::HmacSha256).then(|| Arc::new(HmacSha256::new(&key)));
        SigningKey { algorithm, key, prepared }
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// Writes the signature into `head`, the start of one message (of a compound: of one element, padding included),
    /// whose rest is `payload`. The caller has set SMB2_FLAGS_SIGNED. A head shorter than a header stays as it is.
    pub fn sign(&self, head: &mut [u8], payload: Option<&dyn Payload>) {
        let signature = self.signature(head, payload);
        if let (Some(signature), Some(field)) = (signature, head.get_mut(SIGNATURE_OFFSET..SIGNATURE_END)) {
            field.copy_from_slice(&signature);
        }
    }

    /// Checks the signature of one message (of a compound: of one element, padding included), in constant time.
    pub fn verify(&self, message: &[u8]) -> Result<(), BadSignature> {
        let found = message.get(SIGNATURE_OFFSET..SIGNATURE_END).ok_or(BadSignature)?;
        let wanted = self.signature(message, None).ok_or(BadSignature)?;
        if super::equal(found, &wanted) { Ok(()) } else { Err(BadSignature) }
    }

    /// The signature over `head`, its signature field taken as zeros, and `payload`.
    fn signature(&self, head: &[u8], payload: Option<&dyn Payload>) -> Option<[u8; 16]> {
        let (before, after) = (head.get(..SIGNATURE_OFFSET)?, head.get(SIGNATURE_END..)?);
        let mut state = self.start(before)?;
        state.update(before);
        state.update(&[0; 16]);
        state.update(after);
        if let Some(payload) = payload {
            payload.for_each(&mut |piece| state.update(piece));
        }
        Some(state.finish())
    }

    fn start(&self, header: &[u8]) -> Option<State> {
        Some(match self.algorithm {
            SigningAlgorithm::HmacSha256 => State::HmacSha256(HmacSha256::clone(self.prepared.as_ref()?)),
            SigningAlgorithm::AesCmac => State::AesCmac(Cmac::new(&self.key.into())),
            SigningAlgorithm::AesGmac => State::AesGmac(Gmac::new(&self.key, &nonce(header)?)),
        })
    }
}

/// GMAC's nonce: the MessageId, then a bit for "sent by the server" and a bit for "is a CANCEL request".
///
/// Both are read from the header; the engine refuses requests that claim to be sent by a server.
fn nonce(header: &[u8]) -> Option<[u8; 12]> {
    const SERVER_TO_REDIR: u32 = 1;
    const CANCEL: u16 = 0x000C;
    let header = Reader::new(header);
    let command = header.sub(12, 2).ok()?.u16().ok()?;
    let flags = header.sub(16, 4).ok()?.u32().ok()?;
    let message = header.sub(24, 8).ok()?.u64().ok()?;
    let from_server = flags & SERVER_TO_REDIR;
    let cancel = if command == CANCEL && from_server == 0 { 2 } else { 0 };
    let mut nonce = [0; 12];
    let (identifier, role) = nonce.split_at_mut(8);
    identifier.copy_from_slice(&message.to_le_bytes());
    role.copy_from_slice(&(from_server | cancel).to_le_bytes());
    Some(nonce)
}

/// One signature in the making. On the stack, and only while a message is signed: the sizes may differ.
#[allow(clippy::large_enum_variant)]
enum State {
    HmacSha256(HmacSha256),
    AesCmac(Cmac<Aes128>),
    AesGmac(Gmac),
}

impl State {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            State::HmacSha256(state) => state.update(bytes),
            State::AesCmac(state) => state.update(bytes),
            State::AesGmac(state) => state.update(bytes),
        }
    }

    fn finish(self) -> [u8; 16] {
        match self {
            State::HmacSha256(state) => {
                let mut signature = [0; 16];
                for (to, from) in signature.iter_mut().zip(state.finish()) {
                    *to = from;
                }
                signature
            }
            State::AesCmac(state) => state.finalize().into_bytes().into(),
            State::AesGmac(state) => state.finish(),
        }
    }
}

/// AES-128-GCM over nothing but associated data (NIST SP 800-38D), which comes in pieces.
struct Gmac {
    hash: GHash,
    /// The encrypted first counter block, which masks the hash.
    mask: [u8; 16],
    /// Bytes that do not make a block yet.
    pending: [u8; 16],
    pending_length: usize,
    length: u64,
}

impl Gmac {
    fn new(key: &[u8; 16], nonce: &[u8; 12]) -> Gmac {
        let cipher = Aes128::new(&(*key).into());
        let mut hash_key = ghash::Key::default();
        cipher.encrypt_block(&mut hash_key);
        let mut mask = [0; 16];
        let (start, counter) = mask.split_at_mut(12);
        start.copy_from_slice(nonce);
        counter.copy_from_slice(&1u32.to_be_bytes());
        let mut mask = mask.into();
        cipher.encrypt_block(&mut mask);
        Gmac {
            hash: GHash::new(&hash_key),
            mask: mask.into(),
            pending: [0; 16],
            pending_length: 0,
            length: 0,
        }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        self.length = self.length.wrapping_add(bytes.len() as u64);
        if self.pending_length > 0 {
            let room = self.pending.get_mut(self.pending_length..).unwrap_or(&mut []);
            let taken = room.len().min(bytes.len());
            for (to, from) in room.iter_mut().zip(bytes) {
                *to = *from;
            }
            self.pending_length += taken;
            bytes = bytes.get(taken..).unwrap_or(&[]);
            if self.pending_length < self.pending.len() {
                return;
            }
            self.hash.update(&[self.pending.into()]);
            self.pending_length = 0;
        }
        let (blocks, rest) = ghash::Block::slice_as_chunks(bytes);
        self.hash.update(blocks);
        for (to, from) in self.pending.iter_mut().zip(rest) {
            *to = *from;
        }
        self.pending_length = rest.len();
    }

    fn finish(mut self) -> [u8; 16] {
        if let Some(pending) = self.pending.get(..self.pending_length)
            && !pending.is_empty()
        {
            self.hash.update_padded(pending);
        }
        // Bits of associated data, then bits of text: none.
        let lengths = u128::from(self.length.wrapping_mul(8)) << 64;
        self.hash.update(&[lengths.to_be_bytes().into()]);
        let mut tag: [u8; 16] = self.hash.finalize().into();
        for (tag, mask) in tag.iter_mut().zip(self.mask) {
            *tag ^= mask;
        }
        tag
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::super::tests::hex;
    use super::*;

    /// A payload in odd pieces.
    struct Pieces(Vec<Vec<u8>>);

    impl Payload for Pieces {
        fn len(&self) -> usize {
            self.0.iter().map(Vec::len).sum()
        }

        fn for_each(&self, visit: &mut dyn FnMut(&[u8])) {
            self.0.iter().for_each(|piece| visit(piece));
        }
    }

    const ALGORITHMS: [SigningAlgorithm; 3] =
        [SigningAlgorithm::HmacSha256, SigningAlgorithm::AesCmac, SigningAlgorithm::AesGmac];

    fn message() -> Vec<u8> {
        let mut message = vec![0; 64];
        message[..4].copy_from_slice(b"\xFESMB");
        message[24] = 9;
        message.extend((0..1000u32).map(|value| (value * 7) as u8));
        message
    }

    #[test]
    fn what_is_signed_in_pieces_verifies_as_a_whole() {
        for algorithm in ALGORITHMS {
            let key = SigningKey::new(algorithm, [0x42; 16]);
            for cuts in [vec![64], vec![64, 65], vec![70, 71, 90, 91, 500], vec![80, 96, 100]] {
                let message = message();
                let mut head = message[..cuts[0]].to_vec();
                let ends = cuts[1..].iter().copied().chain([message.len()]);
                let pieces = cuts.iter().zip(ends).map(|(start, end)| message[*start..end].to_vec());
                let pieces = Pieces(pieces.collect());
                key.sign(&mut head, Some(&pieces));
                pieces.for_each(&mut |piece| head.extend(piece));
                assert_eq!(key.verify(&head), Ok(()), "{algorithm:?}");
                for at in [0, 12, 24, 48, 63, 64, 1000] {
                    head[at] ^= 0x10;
                    assert_eq!(key.verify(&head), Err(BadSignature), "{algorithm:?} {at}");
                    head[at] ^= 0x10;
                }
            }
        }
    }

    #[test]
    fn short_messages_have_no_signature() {
        for algorithm in ALGORITHMS {
            let key = SigningKey::new(algorithm, [1; 16]);
            let mut short = [0; 63];
            key.sign(&mut short, None);
            assert_eq!(short, [0; 63]);
            assert_eq!(key.verify(&short), Err(BadSignature));
            assert_eq!(key.verify(&[]), Err(BadSignature));
        }
    }

    /// RFC 4493 section 4, example 4; RFC 4231 test case 1 is what hmac and sha2 test themselves.
    #[test]
    fn aes_cmac_of_rfc_4493() {
        let key = hex("2b7e151628aed2a6abf7158809cf4f3c").try_into().unwrap();
        let mut state = SigningKey::new(SigningAlgorithm::AesCmac, key).start(&[0; 64]).unwrap();
        state.update(&hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51
            30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"));
        assert_eq!(state.finish()[..], hex("51f0bebf7e3b9d92fc49741779363cfe"));
    }

    /// Test case 1 of the GCM specification (nothing at all), and an AES-GCM of another implementation over AAD only.
    #[test]
    fn gmac_is_gcm_without_text() {
        let state = Gmac::new(&[0; 16], &[0; 12]);
        assert_eq!(state.finish()[..], hex("58e2fccefa7e3061367f1d57a4e7455a"));

        use aes_gcm::aead::AeadInOut;
        let data = message();
        let nonce = nonce(&data[..48]).unwrap();
        assert_eq!(nonce[..], hex("090000000000000000000000"));
        let mut text: [u8; 0] = [];
        let tag = aes_gcm::Aes128Gcm::new(&[0x42; 16].into())
            .encrypt_inout_detached(&nonce.into(), &data, text.as_mut_slice().into())
            .unwrap();
        let mut state = Gmac::new(&[0x42; 16], &nonce);
        data.chunks(13).for_each(|piece| state.update(piece));
        assert_eq!(state.finish()[..], tag[..]);
    }

    #[test]
    fn the_nonce_tells_direction_and_cancel() {
        let mut header = message();
        header[12] = 0x0C;
        assert_eq!(nonce(&header).unwrap()[8..], [2, 0, 0, 0]);
        header[16] = 1;
        assert_eq!(nonce(&header).unwrap()[8..], [1, 0, 0, 0]);
    }
}
