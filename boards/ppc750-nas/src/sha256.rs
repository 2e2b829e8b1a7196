//! SHA-256's compression function (FIPS 180-4, 6.2.2) in the 750's own words: 34 instructions a byte, where the compiler
//! makes 40 of the portable code. Nearly all that a signed read or write costs is this loop.
//!
//! State, message schedule and everything between stay in registers, which is just enough of them; nothing depends on the
//! data but values (no branch, no address), so it takes the same time for all.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .text.nas_sha256, "ax"

    /* One round, 24 instructions. bc holds b ^ c and ends as part of Maj, ab gets a ^ b: the next round's bc. The big sigmas
       are nested: ror 6 ^ ror 11 ^ ror 25 = ror 6 (e ^ ror 5 (e ^ ror 14 e)). */
    .macro round a, b, c, d, e, f, g, h, w, ab, bc
    rotlwi  0, \e, 18
    lwzu    5, 4(3)
    xor     0, 0, \e
    add     \h, \h, 5
    xor     5, \f, \g
    rotlwi  0, 0, 27
    and     5, 5, \e
    xor     0, 0, \e
    add     \h, \h, \w
    xor     5, 5, \g
    rotlwi  0, 0, 26
    add     \h, \h, 5
    add     \h, \h, 0
    add     \d, \d, \h
    rotlwi  0, \a, 23
    xor     \ab, \a, \b
    xor     0, 0, \a
    and     \bc, \bc, \ab
    rotlwi  0, 0, 21
    xor     \bc, \bc, \b
    xor     0, 0, \a
    add     \h, \h, \bc
    rotlwi  0, 0, 30
    add     \h, \h, 0
    .endm

    /* w0 becomes the word of the schedule sixteen further on: 13 instructions. */
    .macro extend w0, w1, w9, w14
    rotlwi  0, \w1, 25
    rotlwi  5, \w1, 14
    xor     0, 0, 5
    srwi    5, \w1, 3
    xor     0, 0, 5
    add     \w0, \w0, \w9
    add     \w0, \w0, 0
    rotlwi  0, \w14, 15
    rotlwi  5, \w14, 13
    xor     0, 0, 5
    srwi    5, \w14, 10
    xor     0, 0, 5
    add     \w0, \w0, 0
    .endm

    .macro step more, a, b, c, d, e, f, g, h, w0, w1, w9, w14, ab, bc
    .if \more
    extend  \w0, \w1, \w9, \w14
    .endif
    round   \a, \b, \c, \d, \e, \f, \g, \h, \w0, \ab, \bc
    .endm

    .macro sixteen more
    step    \more, 6, 7, 8, 9, 10, 11, 12, 14, 16, 17, 25, 30, 4, 15
    step    \more, 14, 6, 7, 8, 9, 10, 11, 12, 17, 18, 26, 31, 15, 4
    step    \more, 12, 14, 6, 7, 8, 9, 10, 11, 18, 19, 27, 16, 4, 15
    step    \more, 11, 12, 14, 6, 7, 8, 9, 10, 19, 20, 28, 17, 15, 4
    step    \more, 10, 11, 12, 14, 6, 7, 8, 9, 20, 21, 29, 18, 4, 15
    step    \more, 9, 10, 11, 12, 14, 6, 7, 8, 21, 22, 30, 19, 15, 4
    step    \more, 8, 9, 10, 11, 12, 14, 6, 7, 22, 23, 31, 20, 4, 15
    step    \more, 7, 8, 9, 10, 11, 12, 14, 6, 23, 24, 16, 21, 15, 4
    step    \more, 6, 7, 8, 9, 10, 11, 12, 14, 24, 25, 17, 22, 4, 15
    step    \more, 14, 6, 7, 8, 9, 10, 11, 12, 25, 26, 18, 23, 15, 4
    step    \more, 12, 14, 6, 7, 8, 9, 10, 11, 26, 27, 19, 24, 4, 15
    step    \more, 11, 12, 14, 6, 7, 8, 9, 10, 27, 28, 20, 25, 15, 4
    step    \more, 10, 11, 12, 14, 6, 7, 8, 9, 28, 29, 21, 26, 4, 15
    step    \more, 9, 10, 11, 12, 14, 6, 7, 8, 29, 30, 22, 27, 15, 4
    step    \more, 8, 9, 10, 11, 12, 14, 6, 7, 30, 31, 23, 28, 4, 15
    step    \more, 7, 8, 9, 10, 11, 12, 14, 6, 31, 16, 24, 29, 15, 4
    .endm

    .balign 32
    .globl nas_sha256
    .type nas_sha256, @function
nas_sha256:
    /* r3 state, r4 blocks, r5 number of blocks (not 0). */
    stwu    1, -112(1)
    stmw    14, 32(1)
    stw     3, 16(1)
    stw     4, 20(1)
    mtctr   5
    mflr    0
    bcl     20, 31, 1f
1:  mflr    3
    mtlr    0
    addi    3, 3, 3f - 1b - 4
2:  lwz     5, 16(1)
    lwz     4, 20(1)
    lwz     6, 0(5)
    lwz     7, 4(5)
    lwz     8, 8(5)
    lwz     9, 12(5)
    lwz     10, 16(5)
    lwz     11, 20(5)
    lwz     12, 24(5)
    lwz     14, 28(5)
    /* The block's words are the machine's: both are big-endian. */
    lmw     16, 0(4)
    addi    4, 4, 64
    stw     4, 20(1)
    xor     15, 7, 8
    sixteen 0
    sixteen 1
    sixteen 1
    sixteen 1
    lwz     5, 16(1)
    addi    3, 3, -256
    lmw     24, 0(5)
    add     24, 24, 6
    add     25, 25, 7
    add     26, 26, 8
    add     27, 27, 9
    add     28, 28, 10
    add     29, 29, 11
    add     30, 30, 12
    add     31, 31, 14
    stmw    24, 0(5)
    bdnz    2b
    lmw     14, 32(1)
    addi    1, 1, 112
    blr
    .balign 4
3:
    .long   0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5
    .long   0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174
    .long   0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da
    .long   0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967
    .long   0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85
    .long   0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070
    .long   0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3
    .long   0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
    .previous
    "#,
    options(raw)
);

unsafe extern "C" {
    fn nas_sha256(state: *mut u32, blocks: *const u8, count: usize);
}

/// Takes `blocks` into `state`. Blocks that do not lie on a word are moved there one by one.
pub fn compress(state: &mut [u32; 8], blocks: &[[u8; 64]]) {
    if blocks.is_empty() {
        return;
    }
    if blocks.as_ptr().addr().is_multiple_of(4) {
        // SAFETY: as many blocks as there are, on a word; `state` is eight words.
        unsafe { nas_sha256(state.as_mut_ptr(), blocks.as_ptr().cast(), blocks.len()) };
        return;
    }
    #[repr(align(4))]
    struct Aligned([u8; 64]);
    let mut aligned = Aligned([0; 64]);
    for block in blocks {
        aligned.0 = *block;
        // SAFETY: one block, aligned; `state` is eight words.
        unsafe { nas_sha256(state.as_mut_ptr(), aligned.0.as_ptr(), 1) };
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// FIPS 180-4, 5.3.3.
    const START: [u32; 8] =
        [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

    #[test]
    fn the_standards_examples() {
        let mut block = [0; 64];
        block[..4].copy_from_slice(b"abc\x80");
        block[63] = 24;
        let mut state = START;
        compress(&mut state, &[block]);
        assert_eq!(
            state,
            [0xba7816bf, 0x8f01cfea, 0x414140de, 0x5dae2223, 0xb00361a3, 0x96177a9c, 0xb410ff61, 0xf20015ad]
        );
        let mut blocks = [[0; 64]; 2];
        blocks[0][..56].copy_from_slice(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq");
        blocks[0][56] = 0x80;
        blocks[1][62] = 0x01;
        blocks[1][63] = 0xC0;
        let mut state = START;
        compress(&mut state, &blocks);
        assert_eq!(
            state,
            [0x248d6a61, 0xd20638b8, 0xe5c02693, 0x0c3e6039, 0xa33ce459, 0x64ff2167, 0xf6ecedd4, 0x19db06c1]
        );
    }

    #[test]
    fn agrees_with_the_portable_code_wherever_blocks_lie() {
        let bytes: Vec<u8> =
            (0..64 * 9 + 3u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        for offset in 0..4 {
            for count in 0..9 {
                let (blocks, _) = bytes[offset..offset + count * 64].as_chunks::<64>();
                let mut state = START;
                let mut portable = START;
                compress(&mut state, blocks);
                sha2::block_api::compress256(&mut portable, blocks);
                assert_eq!(state, portable, "{offset} {count}");
            }
        }
    }
}
