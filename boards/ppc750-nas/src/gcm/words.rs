//! Eight words at once, and the turning of 32 blocks into 128 words that have one bit of each.

/// What is loaded and stored at once: one byte of 32 blocks, its highest bit first.
pub(super) type Eight = [u32; 8];

/// 32 blocks of 16 bytes, bit by bit: word 8 b + i (i counting from the highest bit) has that bit of byte b of all blocks,
/// the first block's highest. Read as GCM does, word m is the coefficient of x^m of 32 polynomials.
pub(super) type Slices = [Eight; 16];

/// Loads and stores of eight words: one instruction instead of eight. There are two of each, for two sets of registers, so
/// that what two loads have brought need not be moved before it is used. (A length of 0 stands for 32 bytes.)
#[cfg(target_arch = "powerpc")]
mod multiple {
    use super::Eight;
    use core::arch::asm;

    /// Into registers 14 to 21.
    #[inline(always)]
    pub(in super::super) fn load(from: &Eight) -> Eight {
        let [a, b, c, d, e, f, g, h]: Eight;
        // SAFETY: reads the 32 bytes that `from` is.
        unsafe {
            asm!(
                "lswi 14, {from}, 0", from = in(reg_nonzero) from.as_ptr(),
                out("r14") a, out("r15") b, out("r16") c, out("r17") d, out("r18") e, out("r19") f, out("r20") g, out("r21") h,
                options(nostack, readonly, preserves_flags),
            );
        }
        [a, b, c, d, e, f, g, h]
    }

    /// Into registers 5 to 12.
    #[inline(always)]
    pub(in super::super) fn load_low(from: &Eight) -> Eight {
        let [a, b, c, d, e, f, g, h]: Eight;
        // SAFETY: reads the 32 bytes that `from` is.
        unsafe {
            asm!(
                "lswi 5, {from}, 0", from = in(reg_nonzero) from.as_ptr(),
                out("r5") a, out("r6") b, out("r7") c, out("r8") d, out("r9") e, out("r10") f, out("r11") g, out("r12") h,
                options(nostack, readonly, preserves_flags),
            );
        }
        [a, b, c, d, e, f, g, h]
    }

    /// From registers 14 to 21.
    #[inline(always)]
    pub(in super::super) fn store(to: &mut Eight, [a, b, c, d, e, f, g, h]: Eight) {
        // SAFETY: writes the 32 bytes that `to` is.
        unsafe {
            asm!(
                "stswi 14, {to}, 0", to = in(reg_nonzero) to.as_mut_ptr(),
                in("r14") a, in("r15") b, in("r16") c, in("r17") d, in("r18") e, in("r19") f, in("r20") g, in("r21") h,
                options(nostack, preserves_flags),
            );
        }
    }

    /// From registers 5 to 12.
    #[inline(always)]
    pub(in super::super) fn store_low(to: &mut Eight, [a, b, c, d, e, f, g, h]: Eight) {
        // SAFETY: writes the 32 bytes that `to` is.
        unsafe {
            asm!(
                "stswi 5, {to}, 0", to = in(reg_nonzero) to.as_mut_ptr(),
                in("r5") a, in("r6") b, in("r7") c, in("r8") d, in("r9") e, in("r10") f, in("r11") g, in("r12") h,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// The same for the machines that test it.
#[cfg(not(target_arch = "powerpc"))]
mod multiple {
    use super::Eight;

    pub(in super::super) fn load(from: &Eight) -> Eight {
        *from
    }

    pub(in super::super) fn store(to: &mut Eight, words: Eight) {
        *to = words;
    }

    pub(in super::super) use {load as load_low, store as store_low};
}

pub(super) use multiple::{load, load_low, store, store_low};

#[inline(always)]
pub(super) fn xor(left: Eight, right: Eight) -> Eight {
    core::array::from_fn(|index| left[index] ^ right[index])
}

/// 32 blocks, taken apart into their bits.
#[allow(clippy::needless_range_loop, reason = "rows lie across")]
pub(super) fn slice(blocks: &[[u8; 16]; 32], slices: &mut Slices) {
    for row in 0..8 {
        let words = [row, row + 8, row + 16, row + 24].map(|lane| words_of(&blocks[lane]));
        for word in 0..4 {
            let far = turn_far(words.map(|words| words[word]));
            for (part, value) in far.into_iter().enumerate() {
                slices[4 * word + part][row] = value;
            }
        }
    }
    slices.iter_mut().for_each(turn_near);
}

/// The same number, four bytes wide, for each of 32 lanes: `numbers` becomes its bits.
#[allow(clippy::needless_range_loop, reason = "rows lie across")]
pub(super) fn slice_numbers(numbers: &mut [Eight; 4]) {
    for row in 0..8 {
        let far = turn_far([0, 1, 2, 3].map(|part| numbers[part][row]));
        for (part, value) in far.into_iter().enumerate() {
            numbers[part][row] = value;
        }
    }
    numbers.iter_mut().for_each(turn_near);
}

/// 32 blocks, put together from their bits, which are used up.
pub(super) fn unslice(slices: &mut Slices, blocks: &mut [[u8; 16]; 32]) {
    slices.iter_mut().for_each(turn_near);
    for row in 0..8 {
        for word in 0..4 {
            let far = turn_far([0, 1, 2, 3].map(|part| slices[4 * word + part][row]));
            for (part, value) in far.into_iter().enumerate() {
                blocks[row + 8 * part].as_chunks_mut::<4>().0[word] = value.to_be_bytes();
            }
        }
    }
}

#[inline(always)]
fn words_of(block: &[u8; 16]) -> [u32; 4] {
    let (words, _) = block.as_chunks::<4>();
    [0, 1, 2, 3].map(|word| u32::from_be_bytes(words[word]))
}

/// A step of turning 32 words of 32 bits: the bits of `upper` under `mask` and those of `lower` that lie `distance` higher
/// change places.
#[inline(always)]
fn turn(upper: &mut u32, lower: &mut u32, distance: u32, mask: u32) {
    let difference = (*lower >> distance ^ *upper) & mask;
    *upper ^= difference;
    *lower ^= difference << distance;
}

/// The steps by 16 and by 8, on words that are 8 apart.
#[inline(always)]
fn turn_far(words: [u32; 4]) -> [u32; 4] {
    let [a, b, c, d] = words;
    let (mut a, mut c) = (a & 0xFFFF_0000 | c >> 16, a << 16 | c & 0xFFFF);
    let (mut b, mut d) = (b & 0xFFFF_0000 | d >> 16, b << 16 | d & 0xFFFF);
    turn(&mut a, &mut b, 8, 0x00FF_00FF);
    turn(&mut c, &mut d, 8, 0x00FF_00FF);
    [a, b, c, d]
}

/// The steps by 4, 2 and 1, on words that follow each other.
#[inline(always)]
fn turn_near(words: &mut Eight) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = load(words);
    turn(&mut a, &mut e, 4, 0x0F0F_0F0F);
    turn(&mut b, &mut f, 4, 0x0F0F_0F0F);
    turn(&mut c, &mut g, 4, 0x0F0F_0F0F);
    turn(&mut d, &mut h, 4, 0x0F0F_0F0F);
    turn(&mut a, &mut c, 2, 0x3333_3333);
    turn(&mut b, &mut d, 2, 0x3333_3333);
    turn(&mut e, &mut g, 2, 0x3333_3333);
    turn(&mut f, &mut h, 2, 0x3333_3333);
    turn(&mut a, &mut b, 1, 0x5555_5555);
    turn(&mut c, &mut d, 1, 0x5555_5555);
    turn(&mut e, &mut f, 1, 0x5555_5555);
    turn(&mut g, &mut h, 1, 0x5555_5555);
    store(words, [a, b, c, d, e, f, g, h]);
}
