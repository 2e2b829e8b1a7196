//! The two steps for which the compiler runs out of registers, in the 750's own words. Loads and stores are multiple: the words
//! of a byte's bits, or of a leaf's entries, follow each other. Neither branches or chooses an address by data.

use core::arch::global_asm;

use super::ghash::Leaf;
use super::words::{Eight, Slices};

global_asm!(
    r#"
    .section .text.nas_gcm, "ax"

    .macro eight_xor to0, to1, to2, to3, to4, to5, to6, to7, a0, a1, a2, a3, a4, a5, a6, a7
    xor     \to0, \to0, \a0
    xor     \to1, \to1, \a1
    xor     \to2, \to2, \a2
    xor     \to3, \to3, \a3
    xor     \to4, \to4, \a4
    xor     \to5, \to5, \a5
    xor     \to6, \to6, \a6
    xor     \to7, \to7, \a7
    .endm

    /* A Hankel matrix of size 4 times a, b, c, d: 24 instructions and 3 for its nine entries. Uses r0, r14 to r22 and
       scratch; leaves the product in r14 ^ r17, r16 ^ r18, r14 ^ r20, r16 ^ r21. */
    .macro four a, b, c, d, scratch
    lswi    14, 3, 0
    lwz     22, 32(3)
    addi    3, 3, 36
    xor     0, \a, \c
    xor     \scratch, \b, \d
    and     14, 14, 0
    and     0, 15, 0
    and     15, 15, \scratch
    and     16, 16, \scratch
    xor     14, 14, 15
    xor     16, 16, 0
    and     0, 18, \b
    and     17, 17, \a
    and     18, 18, \a
    and     19, 19, \b
    xor     17, 17, 0
    xor     18, 18, 19
    and     0, 21, \d
    and     20, 20, \c
    and     21, 21, \c
    and     22, 22, \d
    xor     20, 20, 0
    xor     21, 21, 22
    .endm

    /* One of size 8 times r24 to r31, into r5 to r12. */
    .macro eight
    xor     9, 24, 28
    xor     10, 25, 29
    xor     11, 26, 30
    xor     12, 27, 31
    four    9, 10, 11, 12, 5
    xor     9, 14, 17
    xor     10, 16, 18
    xor     11, 14, 20
    xor     12, 16, 21
    four    24, 25, 26, 27, 5
    xor     5, 14, 17
    xor     6, 16, 18
    xor     7, 14, 20
    xor     8, 16, 21
    xor     5, 5, 9
    xor     6, 6, 10
    xor     7, 7, 11
    xor     8, 8, 12
    four    28, 29, 30, 31, 24
    xor     9, 9, 14
    xor     10, 10, 16
    xor     11, 11, 14
    xor     12, 12, 16
    xor     9, 9, 17
    xor     10, 10, 18
    xor     11, 11, 20
    xor     12, 12, 21
    .endm

    .balign 32
    .globl nas_gcm_sixteen
    .type nas_gcm_sixteen, @function
nas_gcm_sixteen:
    /* r3 three leaves, r4 16 values, r5 16 words of the product. */
    stwu    1, -96(1)
    stmw    14, 16(1)
    mr      23, 5
    addi    5, 4, 32
    lmw     24, 0(4)
    lswi    14, 5, 0
    eight_xor 24, 25, 26, 27, 28, 29, 30, 31, 14, 15, 16, 17, 18, 19, 20, 21
    eight
    /* (a + b) is needed for both halves: kept in the second. */
    addi    23, 23, 32
    stswi   5, 23, 0
    lmw     24, 0(4)
    eight
    lswi    14, 23, 0
    eight_xor 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21
    addi    14, 23, -32
    stswi   5, 14, 0
    lmw     24, 32(4)
    eight
    lswi    14, 23, 0
    eight_xor 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21
    stswi   5, 23, 0
    lmw     14, 16(1)
    addi    1, 1, 96
    blr

    /* A row of a column: 2 a + 3 b + c + d + key = (a + b + c + d) + a + 2 (a + b) + key. The sum of all is in r6 to r12 and
       r23. */
    .macro row this, next
    lmw     24, \this(3)
    addi    22, 3, \next
    lswi    14, 22, 0
    eight_xor 14, 15, 16, 17, 18, 19, 20, 21, 24, 25, 26, 27, 28, 29, 30, 31
    eight_xor 24, 25, 26, 27, 28, 29, 30, 31, 6, 7, 8, 9, 10, 11, 12, 23
    eight_xor 24, 25, 26, 27, 28, 29, 30, 31, 15, 16, 17, 18, 19, 20, 21, 14
    addi    22, 4, \this
    xor     27, 27, 14
    xor     28, 28, 14
    xor     30, 30, 14
    lswi    14, 22, 0
    eight_xor 24, 25, 26, 27, 28, 29, 30, 31, 14, 15, 16, 17, 18, 19, 20, 21
    stmw    24, \this(5)
    .endm

    .balign 32
    .globl nas_gcm_mix
    .type nas_gcm_mix, @function
nas_gcm_mix:
    /* r3 16 bytes of 32 blocks, r4 a round's key, r5 the result, r6 the number of columns. */
    stwu    1, -96(1)
    stmw    14, 16(1)
    mtctr   6
1:  lmw     24, 0(3)
    addi    22, 3, 32
    lswi    14, 22, 0
    xor     6, 24, 14
    xor     7, 25, 15
    xor     8, 26, 16
    xor     9, 27, 17
    xor     10, 28, 18
    xor     11, 29, 19
    xor     12, 30, 20
    xor     23, 31, 21
    lmw     24, 64(3)
    addi    22, 3, 96
    lswi    14, 22, 0
    eight_xor 6, 7, 8, 9, 10, 11, 12, 23, 24, 25, 26, 27, 28, 29, 30, 31
    eight_xor 6, 7, 8, 9, 10, 11, 12, 23, 14, 15, 16, 17, 18, 19, 20, 21
    row     0, 32
    row     32, 64
    row     64, 96
    row     96, 0
    addi    3, 3, 128
    addi    4, 4, 128
    addi    5, 5, 128
    bdnz    1b
    lmw     14, 16(1)
    addi    1, 1, 96
    blr
    .previous
    "#,
    options(raw)
);

unsafe extern "C" {
    fn nas_gcm_sixteen(leaves: *const Leaf, values: *const Eight, product: *mut Eight);
    fn nas_gcm_mix(from: *const Eight, key: *const Eight, to: *mut Eight, columns: usize);
}

/// A Hankel matrix of size 16 times `values`.
pub(super) fn sixteen(leaves: &[Leaf; 3], values: &[Eight; 2], product: &mut [Eight; 2]) {
    // SAFETY: the function reads and writes what these are, and keeps the registers that are to be kept.
    unsafe { nas_gcm_sixteen(leaves.as_ptr(), values.as_ptr(), product.as_mut_ptr()) };
}

/// MIXCOLUMNS and ADDROUNDKEY of the first `columns` columns.
pub(super) fn mix(from: &Slices, key: &Slices, to: &mut Slices, columns: usize) {
    assert!((1..=4).contains(&columns));
    // SAFETY: as above; there are as many columns.
    unsafe { nas_gcm_mix(from.as_ptr(), key.as_ptr(), to.as_mut_ptr(), columns) };
}
