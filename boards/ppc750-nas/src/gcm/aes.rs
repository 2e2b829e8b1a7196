//! AES (FIPS 197) on 32 blocks at once, bit by bit: every step is the same for all data and all keys.

use super::words::{Eight, Slices, load, load_low, store, store_low, xor};

/// A key's schedule, each bit spread over a word.
pub(super) struct Schedule {
    keys: [Slices; 15],
    rounds: usize,
}

impl Drop for Schedule {
    fn drop(&mut self) {
        super::wipe(self.keys.as_flattened_mut().as_flattened_mut());
    }
}

impl Schedule {
    /// FIPS 197, 5.2. False for a key that has not 16 or 32 bytes.
    pub(super) fn prepare(&mut self, key: &[u8]) -> bool {
        let (key_words, rest) = key.as_chunks::<4>();
        if !matches!(key_words.len(), 4 | 8) || !rest.is_empty() {
            return false;
        }
        let key_length = key_words.len();
        let rounds = key_length + 6;
        let mut words = [0; 60];
        for (word, bytes) in words.iter_mut().zip(key_words) {
            *word = u32::from_be_bytes(*bytes);
        }
        let mut constant = 1u32;
        for index in key_length..4 * (rounds + 1) {
            let mut word = words[index - 1];
            if index % key_length == 0 {
                word = substitute_word(word.rotate_left(8)) ^ (constant << 24);
                constant = (constant << 1) ^ ((constant >> 7) * 0x11B);
            } else if key_length == 8 && index % key_length == 4 {
                word = substitute_word(word);
            }
            words[index] = words[index - key_length] ^ word;
        }
        for (slices, round) in self.keys.iter_mut().zip(words.as_chunks::<4>().0) {
            for (place, byte) in slices.iter_mut().zip(round.map(u32::to_be_bytes).as_flattened()) {
                *place = super::spread(*byte);
            }
        }
        self.rounds = rounds;
        super::wipe(&mut words);
        true
    }

    /// Encrypts 32 blocks (FIPS 197, 5.1).
    pub(super) fn encrypt(&self, state: &mut Slices) {
        let mut shifted = [[0; 8]; 16];
        for (place, byte) in shifted.iter_mut().enumerate() {
            let from = shifted_from(place);
            *byte = substitute_with_key(&state[from], &self.keys[0][from]);
        }
        self.finish(1, &mut shifted, state);
    }

    /// The start of encrypting blocks that all begin with `constant`.
    pub(super) fn begin(&self, constant: &[u8; 12]) -> Begun {
        let mut first = [[0; 8]; 16];
        for (place, byte) in first.iter_mut().enumerate() {
            let from = shifted_from(place);
            if let Some(constant) = constant.get(from) {
                *byte = substitute_with_key(&super::spread(*constant), &self.keys[0][from]);
            }
        }
        Begun { first, upper: None, second: [[0; 8]; 16] }
    }

    /// Encrypts 32 blocks that begin as `begun` and end in `counters`.
    pub(super) fn encrypt_counters(&self, begun: &mut Begun, counters: &[Eight; 4], state: &mut Slices) {
        let [_, key, ..] = &self.keys;
        let [upper @ .., lowest] = counters;
        if begun.upper.as_ref() != Some(upper) {
            begun.upper = Some(*upper);
            for (part, counter) in upper.iter().enumerate() {
                let from = 12 + part;
                begun.first[shifted_to(from)] = substitute_with_key(counter, &self.keys[0][from]);
            }
            mix_columns(&begun.first, key, state);
            substitute_and_shift(state, &mut begun.second);
        }
        // Of the first two rounds only what comes of the lowest byte is left.
        begun.first[shifted_to(15)] = substitute_with_key(lowest, &self.keys[0][15]);
        mix_first_column(&begun.first, key, state);
        let mut shifted = begun.second;
        for from in 0..4 {
            shifted[shifted_to(from)] = substitute_with_key(&state[from], &[0; 8]);
        }
        self.finish(2, &mut shifted, state);
    }

    /// All behind the SHIFTROWS of a round.
    fn finish(&self, round: usize, shifted: &mut Slices, state: &mut Slices) {
        let Some([middle @ .., last]) = self.keys.get(round..=self.rounds) else { return };
        for key in middle {
            mix_columns(shifted, key, state);
            substitute_and_shift(state, shifted);
        }
        for ((to, from), key) in state.iter_mut().zip(shifted).zip(last) {
            store_low(to, xor(load_low(from), load(key)));
        }
    }
}

/// What counting up leaves as it is. The first SHIFTROWS brings the lowest byte of the counter into the first column, where
/// MIXCOLUMNS keeps it: the other columns stay the same for 256 blocks, up to the second SUBBYTES.
pub(super) struct Begun {
    /// After the first SUBBYTES and SHIFTROWS.
    first: Slices,
    /// The counter's other bytes, once there was one.
    upper: Option<[Eight; 3]>,
    /// After the second, with those bytes.
    second: Slices,
}

/// Where SHIFTROWS puts a byte.
const fn shifted_to(from: usize) -> usize {
    from * 13 % 16
}

/// SHIFTROWS: row r of column c comes from column c + r.
const fn shifted_from(place: usize) -> usize {
    place * 5 % 16
}

/// ADDROUNDKEY and SUBBYTES of one byte, where it is not worth a copy of the circuit.
#[inline(never)]
fn substitute_with_key(byte: &Eight, key: &Eight) -> Eight {
    substitute(xor(*byte, *key))
}

/// SUBBYTES and SHIFTROWS.
#[inline(never)]
fn substitute_and_shift(from: &Slices, to: &mut Slices) {
    for (place, byte) in to.iter_mut().enumerate() {
        store(byte, substitute(load(&from[shifted_from(place)])));
    }
}

#[cfg(target_arch = "powerpc")]
use super::assembly::mix;

/// MIXCOLUMNS and ADDROUNDKEY.
fn mix_columns(from: &Slices, key: &Slices, to: &mut Slices) {
    mix(from, key, to, 4);
}

/// The same for the first column alone.
fn mix_first_column(from: &Slices, key: &Slices, to: &mut Slices) {
    mix(from, key, to, 1);
}

#[cfg(not(target_arch = "powerpc"))]
fn mix(from: &Slices, key: &Slices, to: &mut Slices, columns: usize) {
    for place in 0..4 * columns {
        let other = |rows: usize| from[place / 4 * 4 + (place + rows) % 4];
        let a = from[place];
        // 2 a + 3 b + c + d = 2 (a + b) + b + c + d.
        let [s7, s6, s5, s4, s3, s2, s1, s0] = xor(a, other(1));
        let twice = [s6, s5, s4, s3 ^ s7, s2 ^ s7, s1, s0 ^ s7, s7];
        to[place] = xor(xor(xor(twice, other(1)), xor(other(2), other(3))), key[place]);
    }
}

/// The S-box of four bytes.
fn substitute_word(word: u32) -> u32 {
    let bits: Eight = core::array::from_fn(|bit| word >> (7 - bit) & 0x0101_0101);
    let bits = substitute_with_key(&bits, &[0; 8]);
    (0..8).fold(0, |word, bit| word | (bits[bit] & 0x0101_0101) << (7 - bit))
}

/// The S-box (FIPS 197, 5.1.1) as the circuit of J. Boyar and R. Peralta, "A depth-16 circuit for the AES S-box" (2011),
/// in the names of that paper: 113 gates, a word of each is an instruction.
#[inline(always)]
fn substitute(bits: Eight) -> Eight {
    let [u0, u1, u2, u3, u4, u5, u6, u7] = bits;
    let y14 = u3 ^ u5;
    let y13 = u0 ^ u6;
    let y9 = u0 ^ u3;
    let y8 = u0 ^ u5;
    let t0 = u1 ^ u2;
    let y1 = t0 ^ u7;
    let y4 = y1 ^ u3;
    let y12 = y13 ^ y14;
    let y2 = y1 ^ u0;
    let y5 = y1 ^ u6;
    let y3 = y5 ^ y8;
    let t1 = u4 ^ y12;
    let y15 = t1 ^ u5;
    let y20 = t1 ^ u1;
    let y6 = y15 ^ u7;
    let y10 = y15 ^ t0;
    let y11 = y20 ^ y9;
    let y7 = u7 ^ y11;
    let y17 = y10 ^ y11;
    let y19 = y10 ^ y8;
    let y16 = t0 ^ y11;
    let y21 = y13 ^ y16;
    let y18 = u0 ^ y16;

    let t2 = y12 & y15;
    let t3 = y3 & y6;
    let t4 = t3 ^ t2;
    let t5 = y4 & u7;
    let t6 = t5 ^ t2;
    let t7 = y13 & y16;
    let t8 = y5 & y1;
    let t9 = t8 ^ t7;
    let t10 = y2 & y7;
    let t11 = t10 ^ t7;
    let t12 = y9 & y11;
    let t13 = y14 & y17;
    let t14 = t13 ^ t12;
    let t15 = y8 & y10;
    let t16 = t15 ^ t12;
    let t17 = t4 ^ t14;
    let t18 = t6 ^ t16;
    let t19 = t9 ^ t14;
    let t20 = t11 ^ t16;
    let t21 = t17 ^ y20;
    let t22 = t18 ^ y19;
    let t23 = t19 ^ y21;
    let t24 = t20 ^ y18;
    let t25 = t21 ^ t22;
    let t26 = t21 & t23;
    let t27 = t24 ^ t26;
    let t28 = t25 & t27;
    let t29 = t28 ^ t22;
    let t30 = t23 ^ t24;
    let t31 = t22 ^ t26;
    let t32 = t31 & t30;
    let t33 = t32 ^ t24;
    let t34 = t23 ^ t33;
    let t35 = t27 ^ t33;
    let t36 = t24 & t35;
    let t37 = t36 ^ t34;
    let t38 = t27 ^ t36;
    let t39 = t29 & t38;
    let t40 = t25 ^ t39;
    let t41 = t40 ^ t37;
    let t42 = t29 ^ t33;
    let t43 = t29 ^ t40;
    let t44 = t33 ^ t37;
    let t45 = t42 ^ t41;
    let z0 = t44 & y15;
    let z1 = t37 & y6;
    let z2 = t33 & u7;
    let z3 = t43 & y16;
    let z4 = t40 & y1;
    let z5 = t29 & y7;
    let z6 = t42 & y11;
    let z7 = t45 & y17;
    let z8 = t41 & y10;
    let z9 = t44 & y12;
    let z10 = t37 & y3;
    let z11 = t33 & y4;
    let z12 = t43 & y13;
    let z13 = t40 & y5;
    let z14 = t29 & y2;
    let z15 = t42 & y9;
    let z16 = t45 & y14;
    let z17 = t41 & y8;

    let t46 = z15 ^ z16;
    let t47 = z10 ^ z11;
    let t48 = z5 ^ z13;
    let t49 = z9 ^ z10;
    let t50 = z2 ^ z12;
    let t51 = z2 ^ z5;
    let t52 = z7 ^ z8;
    let t53 = z0 ^ z3;
    let t54 = z6 ^ z7;
    let t55 = z16 ^ z17;
    let t56 = z12 ^ t48;
    let t57 = t50 ^ t53;
    let t58 = z4 ^ t46;
    let t59 = z3 ^ t54;
    let t60 = t46 ^ t57;
    let t61 = z14 ^ t57;
    let t62 = t52 ^ t58;
    let t63 = t49 ^ t58;
    let t64 = z4 ^ t59;
    let t65 = t61 ^ t62;
    let t66 = z1 ^ t63;
    let s0 = t59 ^ t63;
    let s6 = !(t56 ^ t62);
    let s7 = !(t48 ^ t60);
    let t67 = t64 ^ t65;
    let s3 = t53 ^ t66;
    let s4 = t51 ^ t66;
    let s5 = t47 ^ t65;
    let s1 = !(t64 ^ s3);
    let s2 = !(t55 ^ t67);
    [s0, s1, s2, s3, s4, s5, s6, s7]
}

#[cfg(test)]
mod tests {
    use super::super::words::{slice, unslice};
    use super::*;

    /// FIPS 197, 5.1.1: the inverse in GF(2^8), then the affine map.
    fn by_definition(byte: u8) -> u8 {
        fn times(mut a: u16, mut b: u16) -> u16 {
            let mut product = 0;
            while b > 0 {
                product ^= a * (b & 1);
                a = (a << 1) ^ ((a >> 7) * 0x11B);
                b >>= 1;
            }
            product
        }
        let inverse = (0..254).fold(1, |power, _| times(power, byte.into())) as u8;
        (0..5).fold(0x63, |sum, turns| sum ^ inverse.rotate_left(turns))
    }

    #[test]
    fn the_circuit_is_the_s_box() {
        for byte in 0..=255u8 {
            let word = u32::from_be_bytes([byte, byte ^ 0xFF, 0, byte.rotate_left(3)]);
            let wanted = word.to_be_bytes().map(by_definition);
            assert_eq!(substitute_word(word).to_be_bytes(), wanted, "{byte:02X}");
        }
    }

    /// FIPS 197, appendix C.1 and C.3.
    #[test]
    fn the_standards_examples() {
        let key: [u8; 32] = core::array::from_fn(|index| index as u8);
        let plain: [u8; 16] = core::array::from_fn(|index| index as u8 * 0x11);
        let mut schedule = Schedule { keys: [[[0; 8]; 16]; 15], rounds: 0 };
        let wanted: [(usize, u128); 2] =
            [(16, 0x69C4E0D86A7B0430D8CDB78070B4C55A), (32, 0x8EA2B7CA516745BFEAFC49904B496089)];
        for (length, wanted) in wanted {
            let mut blocks = [[0; 16]; 32];
            blocks[0] = plain;
            blocks[31] = plain;
            let mut slices = [[0; 8]; 16];
            slice(&blocks, &mut slices);
            assert!(schedule.prepare(&key[..length]));
            schedule.encrypt(&mut slices);
            unslice(&mut slices, &mut blocks);
            assert_eq!(blocks[0], wanted.to_be_bytes());
            assert_eq!(blocks[31], blocks[0]);
            assert_ne!(blocks[1], blocks[0]);
        }
        assert!(!schedule.prepare(&key[..24]));
        assert!(!schedule.prepare(&key[..17]));
    }
}
