//! `memcpy`, `memmove`, `memset`, `memcmp`: what the compiler calls for everything that is not a few bytes.
//!
//! Where source and destination are aligned alike, eight bytes go through a floating-point register at a time: 9
//! instructions for 32 bytes. The 750 loads and stores integers at any address but wants words aligned for floating-point
//! accesses, so everything else goes word by word. Only f0 to f3 are used, which the interrupt entry saves; the rest of
//! the code is compiled without floating point.
//!
//! Not for device memory: accesses are repeated, widened and reordered.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .text.copy, "ax"

    .balign 32
    .globl memcpy
    .globl memmove
memmove:
    subf    0, 4, 3
    cmplw   0, 5
    blt     30f                 /* the destination begins inside the source: from the end */
memcpy:
    mr      6, 3
    cmplwi  5, 32
    blt     20f
    xor     0, 3, 4
    andi.   0, 0, 3
    bne     10f
    neg     0, 6                /* bytes to the destination's next multiple of eight */
    andi.   0, 0, 7
    beq     2f
    subf    5, 0, 5
    mtctr   0
    addi    7, 4, -1
    addi    8, 6, -1
1:  lbzu    9, 1(7)
    stbu    9, 1(8)
    bdnz    1b
    addi    4, 7, 1
    addi    6, 8, 1
2:  srwi.   0, 5, 5
    clrlwi  5, 5, 27
    beq     20f
    mtctr   0
    addi    4, 4, -8
    addi    6, 6, -8
3:  lfd     0, 8(4)
    lfd     1, 16(4)
    lfd     2, 24(4)
    lfdu    3, 32(4)
    stfd    0, 8(6)
    stfd    1, 16(6)
    stfd    2, 24(6)
    stfdu   3, 32(6)
    bdnz    3b
    addi    4, 4, 8
    addi    6, 6, 8
    b       20f

10: neg     0, 6                /* bytes to the destination's next word */
    andi.   0, 0, 3
    beq     12f
    subf    5, 0, 5
    mtctr   0
    addi    7, 4, -1
    addi    8, 6, -1
11: lbzu    9, 1(7)
    stbu    9, 1(8)
    bdnz    11b
    addi    4, 7, 1
    addi    6, 8, 1
12: srwi.   0, 5, 4
    clrlwi  5, 5, 28
    beq     20f
    mtctr   0
    addi    4, 4, -4
    addi    6, 6, -4
13: lwz     7, 4(4)
    lwz     8, 8(4)
    lwz     9, 12(4)
    lwzu    10, 16(4)
    stw     7, 4(6)
    stw     8, 8(6)
    stw     9, 12(6)
    stwu    10, 16(6)
    bdnz    13b
    addi    4, 4, 4
    addi    6, 6, 4

20: srwi.   0, 5, 2             /* less than 32 bytes are left */
    clrlwi  5, 5, 30
    beq     22f
    mtctr   0
    addi    4, 4, -4
    addi    6, 6, -4
21: lwzu    9, 4(4)
    stwu    9, 4(6)
    bdnz    21b
    addi    4, 4, 4
    addi    6, 6, 4
22: cmplwi  5, 0
    beqlr
    mtctr   5
    addi    4, 4, -1
    addi    6, 6, -1
23: lbzu    9, 1(4)
    stbu    9, 1(6)
    bdnz    23b
    blr

30: add     4, 4, 5
    add     6, 3, 5
    srwi.   0, 5, 4
    clrlwi  5, 5, 28
    beq     32f
    mtctr   0
31: lwz     7, -4(4)
    lwz     8, -8(4)
    lwz     9, -12(4)
    lwzu    10, -16(4)
    stw     7, -4(6)
    stw     8, -8(6)
    stw     9, -12(6)
    stwu    10, -16(6)
    bdnz    31b
32: cmplwi  5, 0
    beqlr
    mtctr   5
33: lbzu    9, -1(4)
    stbu    9, -1(6)
    bdnz    33b
    blr

    .balign 32
    .globl memset
memset:
    mr      6, 3
    cmplwi  5, 32
    blt     44f
    rlwimi  4, 4, 8, 16, 23     /* the byte into all four of the word */
    rlwimi  4, 4, 16, 0, 15
    neg     0, 6
    andi.   0, 0, 7
    beq     41f
    subf    5, 0, 5
    mtctr   0
    addi    6, 6, -1
40: stbu    4, 1(6)
    bdnz    40b
    addi    6, 6, 1
41: stw     4, 0(6)             /* at least 24 bytes are left */
    stw     4, 4(6)
    lfd     0, 0(6)
    srwi.   0, 5, 5
    clrlwi  5, 5, 27
    beq     44f
    mtctr   0
    addi    6, 6, -8
42: stfd    0, 8(6)
    stfd    0, 16(6)
    stfd    0, 24(6)
    stfdu   0, 32(6)
    bdnz    42b
    addi    6, 6, 8
44: cmplwi  5, 0
    beqlr
    mtctr   5
    addi    6, 6, -1
45: stbu    4, 1(6)
    bdnz    45b
    blr

    .balign 32
    .globl memcmp
    .globl bcmp
memcmp:
bcmp:
    srwi.   0, 5, 2
    clrlwi  5, 5, 30
    beq     51f
    mtctr   0
    addi    3, 3, -4
    addi    4, 4, -4
50: lwzu    6, 4(3)
    lwzu    7, 4(4)
    cmplw   6, 7                /* big-endian: words compare as their bytes do */
    bne     53f
    bdnz    50b
    addi    3, 3, 4
    addi    4, 4, 4
51: cmplwi  5, 0
    beq     54f
    mtctr   5
    addi    3, 3, -1
    addi    4, 4, -1
52: lbzu    6, 1(3)
    lbzu    7, 1(4)
    cmplw   6, 7
    bne     53f
    bdnz    52b
54: li      3, 0
    blr
53: li      3, 1
    bgtlr
    li      3, -1
    blr
    .previous
    "#
);
