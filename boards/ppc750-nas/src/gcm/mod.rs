//! AES-GCM (NIST SP 800-38D) with no table look-up, no multiplication and no branch on a secret: 32 blocks at once, each word
//! holding one bit of all of them. What a 750 lacks for this are wide registers; what it has are 32 of them.
//!
//! A message's blocks (associated data, text, lengths) are dealt to 32 lanes such that the last comes to lie in the last lane.
//! The hash of each lane is multiplied by H^32 from group to group, and at the end by what that lane still lacks.
//!
//! Guest instructions a byte: 51 for AES-128, 20 for the hash, 8 for taking blocks apart and putting them together.
//! RustCrypto's portable code takes 229 in all.

mod aes;
#[cfg(target_arch = "powerpc")]
mod assembly;
mod ghash;
mod words;

use aes::Schedule;
use ghash::{Factor, coefficients, square};
use words::{Slices, load, load_low, slice, slice_numbers, store_low, unslice, xor};

/// Lanes.
const LANES: usize = 32;
/// The associated data's length: what an SMB2 TRANSFORM_HEADER has behind its signature.
const DATA: usize = 32;
/// Lanes before the text: the associated data's blocks. Counter 1 falls on the second: it encrypts the tag.
const BEFORE: usize = DATA / 16;

/// A key, ready for use: 25 KiB of tables that are read the same way whatever the data.
pub struct Key {
    schedule: Schedule,
    /// H^32 in all lanes.
    step: Factor,
    /// H^32 in the first lane to H in the last.
    end: Factor,
}

impl Key {
    /// Works in a key of 16 or 32 bytes. False for any other. All of `self` may be zeros before.
    pub fn prepare(&mut self, key: &[u8]) -> bool {
        if !self.schedule.prepare(key) {
            return false;
        }
        let mut hash_key = [[0; 8]; 16];
        self.schedule.encrypt(&mut hash_key);
        // By squaring and multiplying, the exponents of all lanes at once.
        self.step.prepare(&hash_key);
        let mut powers = [[0; 8]; 16];
        powers[0][0] = u32::MAX;
        for bit in (0..=LANES.ilog2()).rev() {
            powers = square(&powers);
            let (mut product, mut times) = ([[0; 8]; 16], [[0; 8]; 16]);
            self.step.times(&powers, &mut product);
            coefficients(&product, &mut times);
            let lanes = (0..LANES as u32).fold(0, |lanes, lane| lanes << 1 | (32 - lane) >> bit & 1);
            for (power, times) in powers.as_flattened_mut().iter_mut().zip(times.as_flattened()) {
                *power = *power & !lanes | times & lanes;
            }
        }
        self.end.prepare(&powers);
        let mut step = hash_key;
        for _ in 0..LANES.ilog2() {
            step = square(&step);
        }
        self.step.prepare(&step);
        for secret in [&mut hash_key, &mut step, &mut powers] {
            wipe(secret.as_flattened_mut());
        }
        true
    }

    /// Encrypts `text` in place and gives the tag. A nonce must not be used twice.
    pub fn seal(&self, nonce: &[u8; 12], data: &[u8; DATA], text: &mut [u8]) -> [u8; 16] {
        self.run(nonce, data, text, true)
    }

    /// Decrypts `text` in place and gives the tag that it should have: to be compared in constant time before the text is used.
    pub fn open(&self, nonce: &[u8; 12], data: &[u8; DATA], text: &mut [u8]) -> [u8; 16] {
        self.run(nonce, data, text, false)
    }

    fn run(&self, nonce: &[u8; 12], data: &[u8; DATA], text: &mut [u8], sealing: bool) -> [u8; 16] {
        let used = BEFORE + text.len().div_ceil(16) + 1;
        // Lanes that stay empty, before all others.
        let empty = used.next_multiple_of(LANES) - used;
        let mut begun = self.schedule.begin(nonce);
        let edges = Edges::new(data, text.len(), empty);
        let mut tag = [0; 16];
        let mut product = [[0; 8]; 16];
        for first in (0..used + empty).step_by(LANES) {
            // The counter of a block is its place: 1 for the tag's own, 2 for the first of the text.
            let counter = (first as u32).wrapping_sub(empty as u32);
            let mut stream = [[0; 8]; 16];
            self.schedule.encrypt_counters(&mut begun, &numbers(counter), &mut stream);

            let (mut slices, mut sum);
            let start = first.checked_sub(empty + BEFORE).map(|start| start * 16);
            let whole = start.and_then(|start| text.get_mut(start..start + 16 * LANES));
            if let Some([blocks]) = whole.map(|bytes| bytes.as_chunks_mut().0.as_chunks_mut::<LANES>().0) {
                slices = [[0; 8]; 16];
                slice(blocks, &mut slices);
                sum = slices;
                add(&mut slices, &stream);
                if sealing {
                    sum = slices;
                }
                unslice(&mut slices, blocks);
            } else {
                let mut blocks = [[0; 16]; LANES];
                edges.fill(first, text, &mut blocks);
                slices = [[0; 8]; 16];
                slice(&blocks, &mut slices);
                sum = slices;
                if let Some(lane) = (empty + 1).checked_sub(first).filter(|lane| *lane < LANES) {
                    tag = lane_of(&stream, lane);
                }
                edges.mask(first, &mut stream);
                add(&mut slices, &stream);
                if sealing {
                    sum = slices;
                }
                unslice(&mut slices, &mut blocks);
                edges.take(first, &blocks, text);
            }
            coefficients(&product, &mut sum);
            let factor = if first + LANES == used + empty { &self.end } else { &self.step };
            factor.times(&sum, &mut product);
        }
        let mut sum = [[0; 8]; 16];
        coefficients(&product, &mut sum);
        let mut blocks = [[0; 16]; LANES];
        unslice(&mut sum, &mut blocks);
        for block in &blocks {
            for (tag, byte) in tag.iter_mut().zip(block) {
                *tag ^= byte;
            }
        }
        tag
    }
}

/// What lies in the lanes of the groups that are not text alone.
struct Edges<'a> {
    data: &'a [u8; DATA],
    lengths: [u8; 16],
    /// Bytes of text.
    length: usize,
    empty: usize,
}

impl Edges<'_> {
    fn new(data: &[u8; DATA], length: usize, empty: usize) -> Edges<'_> {
        let mut lengths = [0; 16];
        lengths[..8].copy_from_slice(&(DATA as u64 * 8).to_be_bytes());
        lengths[8..].copy_from_slice(&(length as u64 * 8).to_be_bytes());
        Edges { data, lengths, length, empty }
    }

    /// Where the text of a lane lies, counted from the first of all groups.
    fn text(&self, lane: usize) -> Option<core::ops::Range<usize>> {
        let start = lane.checked_sub(self.empty + BEFORE)? * 16;
        (start < self.length).then(|| start..self.length.min(start + 16))
    }

    fn fill(&self, first: usize, text: &[u8], blocks: &mut [[u8; 16]; LANES]) {
        for (lane, block) in (first..).zip(blocks) {
            if let Some(place) = self.text(lane) {
                block[..place.len()].copy_from_slice(&text[place]);
            } else if let Some(before) = lane.checked_sub(self.empty) {
                *block = *self.data.as_chunks().0.get(before).unwrap_or(&self.lengths);
            }
        }
    }

    fn take(&self, first: usize, blocks: &[[u8; 16]; LANES], text: &mut [u8]) {
        for (lane, block) in (first..).zip(blocks) {
            if let Some(place) = self.text(lane) {
                let length = place.len();
                text[place].copy_from_slice(&block[..length]);
            }
        }
    }

    /// Leaves of a key stream what falls on text.
    fn mask(&self, first: usize, stream: &mut Slices) {
        for (byte, words) in stream.iter_mut().enumerate() {
            let lanes = (first..first + LANES)
                .map(|lane| self.text(lane).is_some_and(|place| byte < place.len()))
                .fold(0, |lanes, is_text| lanes << 1 | u32::from(is_text));
            for word in words {
                *word &= lanes;
            }
        }
    }
}

/// A byte that is the same in all lanes.
fn spread(byte: u8) -> [u32; 8] {
    core::array::from_fn(|bit| (u32::from(byte >> (7 - bit)) & 1).wrapping_neg())
}

/// The numbers `first`, `first + 1` and so on, lane by lane, as four bytes.
fn numbers(first: u32) -> [[u32; 8]; 4] {
    let mut numbers: [[u32; 8]; 4] = core::array::from_fn(|part| {
        core::array::from_fn(|index| first.wrapping_add((8 * part + index) as u32))
    });
    slice_numbers(&mut numbers);
    numbers
}

/// One lane's block.
fn lane_of(slices: &Slices, lane: usize) -> [u8; 16] {
    slices.map(|words| words.iter().fold(0, |byte, word| byte << 1 | (word >> (LANES - 1 - lane)) as u8 & 1))
}

fn add(to: &mut Slices, other: &Slices) {
    for (to, other) in to.iter_mut().zip(other) {
        store_low(to, xor(load_low(to), load(other)));
    }
}

/// Overwrites secrets in a way that the compiler keeps.
fn wipe<T: Default + Copy>(secrets: &mut [T]) {
    for secret in secrets {
        // SAFETY: a place of this slice, and a value of its type.
        unsafe { core::ptr::write_volatile(secret, T::default()) };
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::boxed::Box;
    use std::vec::Vec;

    use aes_gcm::aead::{AeadInOut, KeyInit};

    use super::*;

    /// Bytes without a pattern, the same each time.
    fn bytes(seed: u32, length: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 11) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn prepared(key: &[u8]) -> Box<Key> {
        // SAFETY: numbers, which may be zero.
        let mut place = unsafe { Box::<Key>::new_zeroed().assume_init() };
        assert!(place.prepare(key));
        place
    }

    fn judge(key: &[u8], nonce: &[u8; 12], data: &[u8], text: &mut [u8]) -> [u8; 16] {
        let nonce = &(*nonce).into();
        let tag = match key.len() {
            16 => aes_gcm::Aes128Gcm::new_from_slice(key).unwrap().encrypt_inout_detached(
                nonce,
                data,
                text.into(),
            ),
            _ => aes_gcm::Aes256Gcm::new_from_slice(key).unwrap().encrypt_inout_detached(
                nonce,
                data,
                text.into(),
            ),
        };
        tag.unwrap().into()
    }

    /// Text whose blocks end before, at and behind the last of one, two, three groups of lanes.
    #[test]
    fn agrees_with_rustcrypto_at_all_lengths() {
        let lengths = (0..70)
            .chain(440..500)
            .chain([511, 512, 513, 527, 528, 544, 960, 976, 992, 1008, 1009, 4096, 5000]);
        for (seed, length) in lengths.enumerate() {
            for key_length in [16, 32] {
                let key = bytes(seed as u32, key_length);
                let nonce = *bytes(7 + seed as u32, 12).first_chunk().unwrap();
                let data = *bytes(8 + seed as u32, 32).first_chunk().unwrap();
                let plain = bytes(9 + seed as u32, length);
                let mut wanted = plain.clone();
                let wanted_tag = judge(&key, &nonce, &data, &mut wanted);
                let key = prepared(&key);
                let mut text = plain.clone();
                let tag = key.seal(&nonce, &data, &mut text);
                assert!(text == wanted, "{length}");
                assert_eq!(tag, wanted_tag, "{length}");
                assert_eq!(key.open(&nonce, &data, &mut text), tag, "{length}");
                assert!(text == plain, "{length}");
            }
        }
    }

    #[test]
    fn text_may_lie_anywhere() {
        let key = prepared(&[3; 16]);
        let mut wanted = std::vec![0; 1600];
        key.seal(&[5; 12], &[6; 32], &mut wanted);
        for offset in 1..8 {
            let mut text = std::vec![0; 1600 + offset];
            key.seal(&[5; 12], &[6; 32], &mut text[offset..]);
            assert!(text[offset..] == wanted[..], "{offset}");
        }
    }
}
