//! The loops that every byte goes through: copy, fill, compare and the Internet checksum, in the 750's own words.
//!
//! What the compiler's library brings moves one word in four instructions, and misaligned ones in eight. Here load and store
//! multiple move 64 bytes in two. They want word-aligned addresses (an alignment exception otherwise); single words may
//! lie anywhere: the 750 does two accesses when one crosses a doubleword.
//!
//! On the board these are the `memcpy`, `memmove`, `memset` and `memcmp` that the compiler calls, in place of its
//! library's weak ones. On a PowerPC host the tests call them by their own names.

use core::arch::global_asm;

/// On the board the functions go by the names that the compiler calls, too. An alias must be made where its target is.
#[cfg(target_os = "none")]
macro_rules! compiler_names {
    () => {
        r#"
    .globl memcpy
    .set memcpy, nas_memcpy
    .globl memmove
    .set memmove, nas_memmove
    .globl memset
    .set memset, nas_memset
    .globl memcmp
    .set memcmp, nas_memcmp
    .globl bcmp
    .set bcmp, nas_memcmp
        "#
    };
}
#[cfg(not(target_os = "none"))]
macro_rules! compiler_names {
    () => {
        ""
    };
}

// r3 to r12 are free to use, r14 to r31 are not: `lmw 16` works on 16 registers that are saved on the stack first. CTR, CR0, CR7
// and the carry are free. Labels are numeric, so nothing clashes.
global_asm!(
    r#"
    .section .text.nas_memory, "ax"
    .balign 32
    .globl nas_memcpy
    .type nas_memcpy, @function
nas_memcpy:
    /* r3 to, r4 from, r5 length; r3 is returned. r6 walks through the target. */
    mr      6, 3
    cmplwi  5, 128
    or      0, 3, 4
    blt     2f
    andi.   0, 0, 3
    bne     5f
    /* 128 bytes at a time with all addresses on words. */
    stwu    1, -80(1)
    stmw    16, 16(1)
    srwi    0, 5, 7
    mtctr   0
    clrlwi  5, 5, 25
1:  lmw     16, 0(4)
    stmw    16, 0(6)
    lmw     16, 64(4)
    stmw    16, 64(6)
    addi    4, 4, 128
    addi    6, 6, 128
    bdnz    1b
    lmw     16, 16(1)
    addi    1, 1, 80
    /* Less than 128 bytes: 16 at a time. */
2:  srwi.   0, 5, 4
    beq     4f
    mtctr   0
3:  lwz     7, 0(4)
    lwz     8, 4(4)
    lwz     9, 8(4)
    lwz     10, 12(4)
    stw     7, 0(6)
    stw     8, 4(6)
    stw     9, 8(6)
    stw     10, 12(6)
    addi    4, 4, 16
    addi    6, 6, 16
    bdnz    3b
    /* The last 0 to 15, by the bits of the length. */
4:  mtcrf   0x01, 5
    bf      28, 41f
    lwz     7, 0(4)
    lwz     8, 4(4)
    stw     7, 0(6)
    stw     8, 4(6)
    addi    4, 4, 8
    addi    6, 6, 8
41: bf      29, 42f
    lwz     7, 0(4)
    stw     7, 0(6)
    addi    4, 4, 4
    addi    6, 6, 4
42: bf      30, 43f
    lhz     7, 0(4)
    sth     7, 0(6)
    addi    4, 4, 2
    addi    6, 6, 2
43: bflr    31
    lbz     7, 0(4)
    stb     7, 0(6)
    blr
    /* Long and off the words. If both are off alike, up to three bytes put them right. */
5:  xor     0, 3, 4
    andi.   0, 0, 3
    bne     7f
    neg     0, 3
    clrlwi  0, 0, 30
    mtctr   0
    subf    5, 0, 5
6:  lbz     7, 0(4)
    stb     7, 0(6)
    addi    4, 4, 1
    addi    6, 6, 1
    bdnz    6b
    cmplwi  5, 128
    blt     2b
    stwu    1, -80(1)
    stmw    16, 16(1)
    srwi    0, 5, 7
    mtctr   0
    clrlwi  5, 5, 25
    b       1b
    /* Never aligned to each other: the source on a word, the target by single words wherever they lie. */
7:  neg     0, 4
    clrlwi. 0, 0, 30
    beq     9f
    mtctr   0
    subf    5, 0, 5
8:  lbz     7, 0(4)
    stb     7, 0(6)
    addi    4, 4, 1
    addi    6, 6, 1
    bdnz    8b
9:  stwu    1, -80(1)
    stmw    16, 16(1)
    srwi    0, 5, 6
    mtctr   0
    clrlwi  5, 5, 26
10: lmw     16, 0(4)
    stw     16, 0(6)
    stw     17, 4(6)
    stw     18, 8(6)
    stw     19, 12(6)
    stw     20, 16(6)
    stw     21, 20(6)
    stw     22, 24(6)
    stw     23, 28(6)
    stw     24, 32(6)
    stw     25, 36(6)
    stw     26, 40(6)
    stw     27, 44(6)
    stw     28, 48(6)
    stw     29, 52(6)
    stw     30, 56(6)
    stw     31, 60(6)
    addi    4, 4, 64
    addi    6, 6, 64
    bdnz    10b
    lmw     16, 16(1)
    addi    1, 1, 80
    b       2b

    .balign 32
    .globl nas_memmove
    .type nas_memmove, @function
nas_memmove:
    /* The copy above reads each piece before it writes it and goes up: right unless the target begins inside the source. */
    subf    0, 4, 3
    cmplw   0, 5
    bge     nas_memcpy
    add     4, 4, 5
    add     6, 3, 5
    srwi.   0, 5, 4
    beq     2f
    mtctr   0
1:  lwz     7, -4(4)
    lwz     8, -8(4)
    lwz     9, -12(4)
    lwz     10, -16(4)
    stw     7, -4(6)
    stw     8, -8(6)
    stw     9, -12(6)
    stw     10, -16(6)
    addi    4, 4, -16
    addi    6, 6, -16
    bdnz    1b
2:  mtcrf   0x01, 5
    bf      28, 21f
    lwz     7, -4(4)
    lwz     8, -8(4)
    stw     7, -4(6)
    stw     8, -8(6)
    addi    4, 4, -8
    addi    6, 6, -8
21: bf      29, 22f
    lwz     7, -4(4)
    stw     7, -4(6)
    addi    4, 4, -4
    addi    6, 6, -4
22: bf      30, 23f
    lhz     7, -2(4)
    sth     7, -2(6)
    addi    4, 4, -2
    addi    6, 6, -2
23: bflr    31
    lbz     7, -1(4)
    stb     7, -1(6)
    blr

    .balign 32
    .globl nas_memset
    .type nas_memset, @function
nas_memset:
    /* r3 to, r4 byte, r5 length; r3 is returned. */
    mr      6, 3
    rlwimi  4, 4, 8, 16, 23
    rlwimi  4, 4, 16, 0, 15
    cmplwi  5, 128
    blt     3f
    andi.   0, 3, 3
    bne     4f
1:  stwu    1, -80(1)
    stmw    16, 16(1)
    srwi    0, 5, 6
    mtctr   0
    clrlwi  5, 5, 26
    mr      16, 4
    mr      17, 4
    mr      18, 4
    mr      19, 4
    mr      20, 4
    mr      21, 4
    mr      22, 4
    mr      23, 4
    mr      24, 4
    mr      25, 4
    mr      26, 4
    mr      27, 4
    mr      28, 4
    mr      29, 4
    mr      30, 4
    mr      31, 4
2:  stmw    16, 0(6)
    addi    6, 6, 64
    bdnz    2b
    lmw     16, 16(1)
    addi    1, 1, 80
3:  srwi.   0, 5, 4
    beq     6f
    mtctr   0
5:  stw     4, 0(6)
    stw     4, 4(6)
    stw     4, 8(6)
    stw     4, 12(6)
    addi    6, 6, 16
    bdnz    5b
6:  mtcrf   0x01, 5
    bf      28, 61f
    stw     4, 0(6)
    stw     4, 4(6)
    addi    6, 6, 8
61: bf      29, 62f
    stw     4, 0(6)
    addi    6, 6, 4
62: bf      30, 63f
    sth     4, 0(6)
    addi    6, 6, 2
63: bflr    31
    stb     4, 0(6)
    blr
    /* Up to three bytes to the next word. */
4:  neg     0, 3
    clrlwi  0, 0, 30
    mtctr   0
    subf    5, 0, 5
41: stb     4, 0(6)
    addi    6, 6, 1
    bdnz    41b
    cmplwi  5, 128
    bge     1b
    b       3b

    .balign 32
    .globl nas_memcmp
    .type nas_memcmp, @function
nas_memcmp:
    /* Words compare as their bytes do: the machine is big-endian. */
    srwi.   0, 5, 3
    beq     2f
    mtctr   0
1:  lwz     7, 0(3)
    lwz     8, 0(4)
    lwz     9, 4(3)
    lwz     10, 4(4)
    cmplw   7, 8
    bne     4f
    cmplw   9, 10
    bne     4f
    addi    3, 3, 8
    addi    4, 4, 8
    bdnz    1b
2:  clrlwi. 0, 5, 29
    beq     5f
    mtctr   0
3:  lbz     7, 0(3)
    lbz     8, 0(4)
    cmplw   7, 8
    bne     4f
    addi    3, 3, 1
    addi    4, 4, 1
    bdnz    3b
5:  li      3, 0
    blr
4:  li      3, 1
    bgtlr
    li      3, -1
    blr

    .balign 32
    .globl nas_checksum
    .type nas_checksum, @function
nas_checksum:
    /* r3 bytes, r4 length, r5 sum so far; the sum is returned. The carry goes round from word to word. */
    addic   5, 5, 0
    cmplwi  4, 64
    blt     2f
    andi.   0, 3, 3
    bne     2f
    stwu    1, -80(1)
    stmw    16, 16(1)
    srwi    0, 4, 6
    mtctr   0
    clrlwi  4, 4, 26
1:  lmw     16, 0(3)
    adde    5, 5, 16
    adde    5, 5, 17
    adde    5, 5, 18
    adde    5, 5, 19
    adde    5, 5, 20
    adde    5, 5, 21
    adde    5, 5, 22
    adde    5, 5, 23
    adde    5, 5, 24
    adde    5, 5, 25
    adde    5, 5, 26
    adde    5, 5, 27
    adde    5, 5, 28
    adde    5, 5, 29
    adde    5, 5, 30
    adde    5, 5, 31
    addi    3, 3, 64
    bdnz    1b
    lmw     16, 16(1)
    addi    1, 1, 80
    /* Less than 64 bytes, or off the words. */
2:  srwi.   0, 4, 4
    beq     4f
    mtctr   0
3:  lwz     7, 0(3)
    lwz     8, 4(3)
    lwz     9, 8(3)
    lwz     10, 12(3)
    adde    5, 5, 7
    adde    5, 5, 8
    adde    5, 5, 9
    adde    5, 5, 10
    addi    3, 3, 16
    bdnz    3b
4:  mtcrf   0x01, 4
    bf      28, 41f
    lwz     7, 0(3)
    lwz     8, 4(3)
    adde    5, 5, 7
    adde    5, 5, 8
    addi    3, 3, 8
41: bf      29, 42f
    lwz     7, 0(3)
    adde    5, 5, 7
    addi    3, 3, 4
42: bf      30, 43f
    lhz     7, 0(3)
    slwi    7, 7, 16
    adde    5, 5, 7
    addi    3, 3, 2
43: bf      31, 44f
    lbz     7, 0(3)
    slwi    7, 7, 24
    adde    5, 5, 7
    /* The last carry may make another. */
44: addze   5, 5
    addze   3, 5
    blr

    .balign 32
    .globl nas_copy_with_checksum
    .type nas_copy_with_checksum, @function
nas_copy_with_checksum:
    /* r3 to, r4 from, r5 length, r6 sum so far; the sum is returned. */
    addic   6, 6, 0
    cmplwi  5, 64
    blt     3f
    andi.   0, 4, 3
    bne     3f
    stwu    1, -80(1)
    stmw    16, 16(1)
    srwi    0, 5, 6
    mtctr   0
    clrlwi  5, 5, 26
    andi.   0, 3, 3
    bne     2f
1:  lmw     16, 0(4)
    adde    6, 6, 16
    adde    6, 6, 17
    adde    6, 6, 18
    adde    6, 6, 19
    adde    6, 6, 20
    adde    6, 6, 21
    adde    6, 6, 22
    adde    6, 6, 23
    adde    6, 6, 24
    adde    6, 6, 25
    adde    6, 6, 26
    adde    6, 6, 27
    adde    6, 6, 28
    adde    6, 6, 29
    adde    6, 6, 30
    adde    6, 6, 31
    stmw    16, 0(3)
    addi    4, 4, 64
    addi    3, 3, 64
    bdnz    1b
    lmw     16, 16(1)
    addi    1, 1, 80
    b       3f
    /* Only the source lies on words. */
2:  lmw     16, 0(4)
    adde    6, 6, 16
    adde    6, 6, 17
    adde    6, 6, 18
    adde    6, 6, 19
    adde    6, 6, 20
    adde    6, 6, 21
    adde    6, 6, 22
    adde    6, 6, 23
    adde    6, 6, 24
    adde    6, 6, 25
    adde    6, 6, 26
    adde    6, 6, 27
    adde    6, 6, 28
    adde    6, 6, 29
    adde    6, 6, 30
    adde    6, 6, 31
    stw     16, 0(3)
    stw     17, 4(3)
    stw     18, 8(3)
    stw     19, 12(3)
    stw     20, 16(3)
    stw     21, 20(3)
    stw     22, 24(3)
    stw     23, 28(3)
    stw     24, 32(3)
    stw     25, 36(3)
    stw     26, 40(3)
    stw     27, 44(3)
    stw     28, 48(3)
    stw     29, 52(3)
    stw     30, 56(3)
    stw     31, 60(3)
    addi    4, 4, 64
    addi    3, 3, 64
    bdnz    2b
    lmw     16, 16(1)
    addi    1, 1, 80
    /* Less than 64 bytes, or a source off the words. */
3:  srwi.   0, 5, 4
    beq     5f
    mtctr   0
4:  lwz     7, 0(4)
    lwz     8, 4(4)
    lwz     9, 8(4)
    lwz     10, 12(4)
    adde    6, 6, 7
    stw     7, 0(3)
    adde    6, 6, 8
    stw     8, 4(3)
    adde    6, 6, 9
    stw     9, 8(3)
    adde    6, 6, 10
    stw     10, 12(3)
    addi    4, 4, 16
    addi    3, 3, 16
    bdnz    4b
5:  mtcrf   0x01, 5
    bf      28, 51f
    lwz     7, 0(4)
    lwz     8, 4(4)
    adde    6, 6, 7
    stw     7, 0(3)
    adde    6, 6, 8
    stw     8, 4(3)
    addi    4, 4, 8
    addi    3, 3, 8
51: bf      29, 52f
    lwz     7, 0(4)
    adde    6, 6, 7
    stw     7, 0(3)
    addi    4, 4, 4
    addi    3, 3, 4
52: bf      30, 53f
    lhz     7, 0(4)
    sth     7, 0(3)
    slwi    7, 7, 16
    adde    6, 6, 7
    addi    4, 4, 2
    addi    3, 3, 2
53: bf      31, 54f
    lbz     7, 0(4)
    stb     7, 0(3)
    slwi    7, 7, 24
    adde    6, 6, 7
54: addze   6, 6
    addze   3, 6
    blr
    "#,
    compiler_names!(),
    ".previous"
);

unsafe extern "C" {
    fn nas_checksum(bytes: *const u8, length: usize, sum: u32) -> u32;
    fn nas_copy_with_checksum(to: *mut u8, from: *const u8, length: usize, sum: u32) -> u32;
}

/// Adds `bytes` to the sum of the Internet checksum (RFC 1071): big-endian 16-bit words modulo 0xFFFF, two at a time; an odd
/// byte at the end is the upper half of a word.
/// Fastest when `bytes` lies on a word.
pub fn checksum(sum: u32, bytes: &[u8]) -> u32 {
    // SAFETY: reads `bytes` and nothing else.
    unsafe { nas_checksum(bytes.as_ptr(), bytes.len(), sum) }
}

/// Copies `from` to the equally long `to` and adds it as [`checksum`] does. Of unequal slices, the common length is
/// copied. Fastest when both lie on words, next when `from` does.
pub fn copy_with_checksum(sum: u32, to: &mut [u8], from: &[u8]) -> u32 {
    let length = to.len().min(from.len());
    // SAFETY: reads and writes `length` bytes, which both have; they are borrowed apart.
    unsafe { nas_copy_with_checksum(to.as_mut_ptr(), from.as_ptr(), length, sum) }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    unsafe extern "C" {
        fn nas_memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
        fn nas_memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
        fn nas_memset(to: *mut u8, byte: i32, length: usize) -> *mut u8;
        fn nas_memcmp(one: *const u8, other: *const u8, length: usize) -> i32;
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
    }

    fn lengths() -> impl Iterator<Item = usize> {
        (0..300).chain([511, 512, 513, 1000, 1460, 4096, 5000])
    }

    #[test]
    fn copies_are_exact() {
        let from = pattern(6000);
        for length in lengths() {
            for (to_offset, from_offset) in [(0, 0), (4, 8), (1, 1), (3, 3), (2, 0), (0, 3), (1, 2), (7, 6)] {
                let mut to = std::vec![0xEE; 6000];
                // SAFETY: both ranges lie in their vectors.
                let back = unsafe {
                    nas_memcpy(to.as_mut_ptr().add(to_offset), from.as_ptr().add(from_offset), length)
                };
                assert_eq!(back, to[to_offset..].as_mut_ptr());
                assert_eq!(to[to_offset..to_offset + length], from[from_offset..from_offset + length]);
                assert!(to[..to_offset].iter().all(|byte| *byte == 0xEE));
                assert!(to[to_offset + length..].iter().all(|byte| *byte == 0xEE));
            }
        }
    }

    #[test]
    fn moves_may_overlap() {
        for length in lengths() {
            for (to, from) in [
                (0, 0),
                (10, 0),
                (0, 10),
                (1, 0),
                (0, 1),
                (64, 0),
                (0, 64),
                (16, 0),
                (3, 7),
                (9, 5),
                (200, 0),
            ] {
                let mut bytes = pattern(6000);
                let mut expected = bytes.clone();
                expected.copy_within(from..from + length, to);
                // SAFETY: both ranges lie in the vector.
                unsafe { nas_memmove(bytes.as_mut_ptr().add(to), bytes.as_ptr().add(from), length) };
                assert!(bytes == expected, "{length} from {from} to {to}");
            }
        }
    }

    #[test]
    fn fills_are_exact() {
        for length in lengths() {
            for offset in 0..5 {
                let mut bytes = std::vec![0xEE; 6000];
                // SAFETY: the range lies in the vector.
                unsafe { nas_memset(bytes.as_mut_ptr().add(offset), 0x1A5, length) };
                assert!(bytes[offset..offset + length].iter().all(|byte| *byte == 0xA5));
                assert!(bytes[..offset].iter().all(|byte| *byte == 0xEE));
                assert!(bytes[offset + length..].iter().all(|byte| *byte == 0xEE));
            }
        }
    }

    #[test]
    fn comparison_is_by_bytes() {
        for length in (0..70).chain([1000]) {
            for offset in 0..4 {
                let one = pattern(1100);
                let mut other = pattern(1100);
                other.rotate_right(offset);
                // SAFETY: both ranges lie in their vectors.
                let compare =
                    |other: &[u8]| unsafe { nas_memcmp(one.as_ptr(), other[offset..].as_ptr(), length) };
                assert_eq!(compare(&other), 0);
                for at in 0..length {
                    let kept = other[offset + at];
                    other[offset + at] = kept.wrapping_add(1);
                    assert_eq!(compare(&other).signum(), if kept == 255 { 1 } else { -1 });
                    other[offset + at] = kept.wrapping_sub(1);
                    assert_eq!(compare(&other).signum(), if kept == 0 { -1 } else { 1 });
                    other[offset + at] = kept;
                }
            }
        }
    }

    #[test]
    fn sums_are_ones_complement() {
        let patterns = [pattern(4100), std::vec![0xFF; 4100], std::vec![0; 4100]];
        for (bytes, start) in
            patterns.iter().flat_map(|bytes| [0, 1, 0xFFFF_FFFF, 0x8000_0000].map(|start| (bytes, start)))
        {
            for length in (0..200).chain([1460, 1461, 4095]) {
                for (to_offset, from_offset) in [(0, 0), (2, 0), (0, 2), (1, 3)] {
                    let from = &bytes[from_offset..from_offset + length];
                    let mut to = std::vec![0xEE; 4100];
                    let sum = checksum(start, from);
                    let slow = from.chunks(2).fold(u64::from(start), |sum, bytes| {
                        sum + u64::from(bytes[0]) * 256 + u64::from(*bytes.get(1).unwrap_or(&0))
                    });
                    assert_eq!(u64::from(sum) % 0xFFFF, slow % 0xFFFF, "{length}");
                    assert_eq!(copy_with_checksum(start, &mut to[to_offset..to_offset + length], from), sum);
                    assert_eq!(&to[to_offset..to_offset + length], from);
                    assert!(to[to_offset + length..].iter().all(|byte| *byte == 0xEE));
                }
            }
        }
    }
}
