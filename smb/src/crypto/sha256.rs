//! HMAC-SHA256 (RFC 2104, FIPS 180-4) around a compression function that the embedder may bring.
//!
//! Signing is nearly all that a signed read or write costs, so a machine that has something faster than RustCrypto's
//! portable code (which is the default) names it once with [`use_sha256`].

use spin::Once;
use zeroize::Zeroize;

/// Takes whole blocks into the hash's state (FIPS 180-4, 6.2.2), in a time that depends on their number only.
pub type Compress = fn(&mut [u32; 8], &[[u8; 64]]);

static COMPRESS: Once<Compress> = Once::new();

/// Names the compression function for all hashes made from now on. The first call counts; before it RustCrypto's is used.
pub fn use_sha256(compress: Compress) {
    COMPRESS.call_once(|| compress);
}

/// The fractions of the square roots of the first 8 primes (FIPS 180-4, 5.3.3).
#[rustfmt::skip]
const INITIAL: [u32; 8] = [
    0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19,
];

/// An authentication code in the making. One that has taken nothing yet is the key, worked in: its clones save two blocks
/// for every message.
#[derive(Clone)]
pub(super) struct HmacSha256 {
    compress: Compress,
    inner: [u32; 8],
    /// The state after the key's outer block.
    outer: [u32; 8],
    /// Bytes that do not make a block yet.
    block: [u8; 64],
    filled: usize,
    /// Bytes hashed, the key's block included.
    length: u64,
}

impl Drop for HmacSha256 {
    fn drop(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
        self.block.zeroize();
    }
}

impl HmacSha256 {
    /// With a key of a session.
    pub(super) fn new(key: &[u8; 16]) -> HmacSha256 {
        let compress = COMPRESS.get().copied().unwrap_or(sha2::block_api::compress256);
        let after = |pad: u8| {
            let mut block = [pad; 64];
            for (byte, key) in block.iter_mut().zip(key) {
                *byte ^= *key;
            }
            let mut state = INITIAL;
            compress(&mut state, &[block]);
            block.zeroize();
            state
        };
        HmacSha256 { compress, inner: after(0x36), outer: after(0x5C), block: [0; 64], filled: 0, length: 64 }
    }

    /// Takes more of the message.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.length = self.length.wrapping_add(bytes.len() as u64);
        if self.filled > 0 {
            let room = self.block.get_mut(self.filled..).unwrap_or(&mut []);
            let taken = room.len().min(bytes.len());
            for (to, from) in room.iter_mut().zip(bytes) {
                *to = *from;
            }
            self.filled += taken;
            bytes = bytes.get(taken..).unwrap_or(&[]);
            if self.filled < self.block.len() {
                return;
            }
            (self.compress)(&mut self.inner, &[self.block]);
            self.filled = 0;
        }
        let (blocks, rest) = bytes.as_chunks::<64>();
        if !blocks.is_empty() {
            (self.compress)(&mut self.inner, blocks);
        }
        for (to, from) in self.block.iter_mut().zip(rest) {
            *to = *from;
        }
        self.filled = rest.len();
    }

    /// The code.
    pub(super) fn finish(mut self) -> [u8; 32] {
        let bits = self.length.wrapping_mul(8);
        pad(self.compress, &mut self.inner, self.block, self.filled, bits);
        let mut block = [0; 64];
        for (place, word) in block.chunks_exact_mut(4).zip(self.inner) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        pad(self.compress, &mut self.outer, block, 32, (64 + 32) * 8);
        let mut code = [0; 32];
        for (place, word) in code.chunks_exact_mut(4).zip(self.outer) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        code
    }
}

/// Ends a hash of `bits` bits, of which the last `filled` bytes are in `block` (FIPS 180-4, 5.1.1).
fn pad(compress: Compress, state: &mut [u32; 8], mut block: [u8; 64], filled: usize, bits: u64) {
    for (index, byte) in block.iter_mut().enumerate().skip(filled) {
        *byte = if index == filled { 0x80 } else { 0 };
    }
    if filled >= 56 {
        compress(state, &[block]);
        block = [0; 64];
    }
    let (_, length) = block.split_at_mut(56);
    length.copy_from_slice(&bits.to_be_bytes());
    compress(state, &[block]);
    block.zeroize();
}

#[cfg(test)]
mod tests {
    use super::super::tests::hex;
    use super::*;
    use alloc::vec::Vec;
    use hmac::{Hmac, KeyInit, Mac};

    #[test]
    fn an_example_of_rfc_4231() {
        // Test case 2: zeros behind a short key do not change it.
        let mut key = [0; 16];
        key[..4].copy_from_slice(b"Jefe");
        let mut code = HmacSha256::new(&key);
        code.update(b"what do ya want ");
        code.update(b"for nothing?");
        let wanted = hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert_eq!(code.finish()[..], wanted[..]);
    }

    #[test]
    fn agrees_with_rustcrypto_however_it_comes_in_pieces() {
        let key = [0xA7; 16];
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        for length in (0..200).chain([500, 1000]) {
            let bytes = &bytes[..length];
            let mut judge = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
            judge.update(bytes);
            let wanted: [u8; 32] = judge.finalize().into_bytes().into();
            for piece in [1, 7, 48, 63, 64, 65, 128, 1000] {
                let mut code = HmacSha256::new(&key);
                for piece in bytes.chunks(piece) {
                    code.update(piece);
                }
                assert_eq!(code.finish(), wanted, "{length} in pieces of {piece}");
            }
        }
    }
}
