//! Exception vectors, the interrupt entry and the fatal entry.
//!
//! The vectors lie at 0x100 to 0x1800 in memory, filled at run time: four instructions each. External and decrementer
//! interrupts go to `interrupt_entry`, which saves what a function call may change (r0, r1, r3-r12, CR, LR, CTR, XER; no
//! code uses floating point, and it is off) to a fixed place, switches to the interrupt stack and calls the handler with
//! interrupts off. Interrupts therefore never nest. Everything else goes to `fatal_entry`,
//! which saves all registers and reports them: nothing here is expected to fault.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::cpu;
use crate::memory_map::{FATAL_FRAME, FATAL_STACK_TOP, INTERRUPT_FRAME, INTERRUPT_STACK_TOP, VECTORS};

/// The registers at an unexpected exception, as `fatal_entry` stores them.
#[repr(C)]
pub struct Registers {
    /// r0 to r31.
    pub general: [u32; 32],
    /// Condition register.
    pub condition: u32,
    /// Link register.
    pub link: u32,
    /// Count register.
    pub count: u32,
    /// Fixed-point exception register.
    pub fixed_point: u32,
    /// Where the exception happened (SRR0).
    pub instruction: u32,
    /// Machine state at that time, with the cause in its upper half (SRR1).
    pub machine_state: u32,
    /// Data address of the failed access (DAR).
    pub data_address: u32,
    /// Why it failed (DSISR).
    pub data_status: u32,
    /// Vector of the exception.
    pub vector: u32,
}

/// Which interrupt was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The interrupt controller's line.
    External,
    /// The decrementer went below zero.
    Decrementer,
}

/// The handler: a `fn(Interrupt)`.
static HANDLER: AtomicUsize = AtomicUsize::new(0);
/// Where the handler's stack begins; read by `interrupt_entry`.
#[unsafe(no_mangle)]
static INTERRUPT_STACK: AtomicU32 = AtomicU32::new(INTERRUPT_STACK_TOP - 16);

const VECTOR_NUMBERS: [u32; 15] = [
    0x100, 0x200, 0x300, 0x400, 0x500, 0x600, 0x700, 0x800, 0x900, 0xC00, 0xD00, 0xF00, 0x1300, 0x1400,
    0x1700,
];

/// The name of an exception by its vector (750 manual, table 4-2).
pub fn name(vector: u32) -> &'static str {
    match vector {
        0x100 => "system reset",
        0x200 => "machine check",
        0x300 => "data storage",
        0x400 => "instruction storage",
        0x500 => "external interrupt",
        0x600 => "alignment",
        0x700 => "program",
        0x800 => "floating point unavailable",
        0x900 => "decrementer",
        0xC00 => "system call",
        0xD00 => "trace",
        0xF00 => "performance monitor",
        0x1300 => "instruction breakpoint",
        0x1400 => "system management",
        0x1700 => "thermal",
        _ => "unknown",
    }
}

unsafe extern "C" {
    fn interrupt_entry();
    fn decrementer_entry();
    fn fatal_entry();
}

global_asm!(
    r#"
    .section .text.exceptions, "ax"
    .balign 32
    .globl decrementer_entry
decrementer_entry:
    stw     3, {iframe}+12(0)
    li      3, 1
    b       1f
    .globl interrupt_entry
interrupt_entry:
    stw     3, {iframe}+12(0)
    li      3, 0
1:  stw     0, {iframe}+0(0)
    stw     1, {iframe}+4(0)
    stw     4, {iframe}+16(0)
    stw     5, {iframe}+20(0)
    stw     6, {iframe}+24(0)
    stw     7, {iframe}+28(0)
    stw     8, {iframe}+32(0)
    stw     9, {iframe}+36(0)
    stw     10, {iframe}+40(0)
    stw     11, {iframe}+44(0)
    stw     12, {iframe}+48(0)
    mfcr    4
    mflr    5
    mfctr   6
    mfxer   7
    mfsrr0  8
    mfsrr1  9
    stw     4, {iframe}+52(0)
    stw     5, {iframe}+56(0)
    stw     6, {iframe}+60(0)
    stw     7, {iframe}+64(0)
    stw     8, {iframe}+68(0)
    stw     9, {iframe}+72(0)
    /* Translation on, interrupts off: ME | IR | DR, and RI now that SRR0 and SRR1 are saved. */
    lis     4, INTERRUPT_STACK@ha
    lwz     4, INTERRUPT_STACK@l(4)
    li      10, {normal}
    mtmsr   10
    isync
    /* The back chain leads from here to what was interrupted. */
    stw     1, 0(4)
    mr      1, 4
    bl      board_interrupt
    /* A reservation of the interrupted code must not survive; the handler's own word is as good as any. */
    li      4, {iframe}+76
    stwcx.  4, 0, 4
    li      10, {quiet}
    mtmsr   10
    isync
    lwz     4, {iframe}+52(0)
    lwz     5, {iframe}+56(0)
    lwz     6, {iframe}+60(0)
    lwz     7, {iframe}+64(0)
    lwz     8, {iframe}+68(0)
    lwz     9, {iframe}+72(0)
    mtcr    4
    mtlr    5
    mtctr   6
    mtxer   7
    mtsrr0  8
    mtsrr1  9
    lwz     0, {iframe}+0(0)
    lwz     1, {iframe}+4(0)
    lwz     3, {iframe}+12(0)
    lwz     4, {iframe}+16(0)
    lwz     5, {iframe}+20(0)
    lwz     6, {iframe}+24(0)
    lwz     7, {iframe}+28(0)
    lwz     8, {iframe}+32(0)
    lwz     9, {iframe}+36(0)
    lwz     10, {iframe}+40(0)
    lwz     11, {iframe}+44(0)
    lwz     12, {iframe}+48(0)
    rfi

    .globl fatal_entry
fatal_entry:
    /* r3 holds the vector and is saved already. */
    stw     3, {fframe}+160(0)
    stw     0, {fframe}+0(0)
    stw     1, {fframe}+4(0)
    stw     2, {fframe}+8(0)
    li      3, {fframe}
    stmw    4, 16(3)
    mfcr    4
    stw     4, {fframe}+128(0)
    mflr    4
    stw     4, {fframe}+132(0)
    mfctr   4
    stw     4, {fframe}+136(0)
    mfxer   4
    stw     4, {fframe}+140(0)
    mfsrr0  4
    stw     4, {fframe}+144(0)
    mfsrr1  4
    stw     4, {fframe}+148(0)
    mfspr   4, 19
    stw     4, {fframe}+152(0)
    mfspr   4, 18
    stw     4, {fframe}+156(0)
    li      4, {quiet}
    mtmsr   4
    isync
    stw     1, {fstack}(0)
    li      1, {fstack}
    bl      board_fatal
2:  b       2b
    .previous
    "#,
    iframe = const INTERRUPT_FRAME,
    fframe = const FATAL_FRAME,
    fstack = const FATAL_STACK_TOP - 32,
    normal = const cpu::MSR_NORMAL,
    quiet = const cpu::MSR_NORMAL & !cpu::MSR_RI,
);

const _: () = assert!(FATAL_STACK_TOP - 4 < 0x8000 && cpu::MSR_NORMAL < 0x8000);
const _: () = assert!(core::mem::size_of::<Registers>() == 164);

/// Fills the vectors. Unexpected exceptions are reported from now on, interrupts go to `handler`; without a handler an
/// interrupt is as unexpected as the rest.
///
/// # Safety
///
/// Interrupts are off, memory from 0 to the image is free for the purpose, and the MMU is set up by [`crate::mmu::enable`].
pub unsafe fn install(handler: Option<fn(Interrupt)>) {
    if let Some(handler) = handler {
        HANDLER.store(handler as usize, Ordering::Relaxed);
    }
    for vector in VECTOR_NUMBERS {
        let place = (VECTORS + vector) as *mut u32;
        let target = match (vector, handler.is_some()) {
            (0x500, true) => interrupt_entry as *const () as u32,
            (0x900, true) => decrementer_entry as *const () as u32,
            _ => {
                // stw r3, frame+12(0); li r3, vector
                // SAFETY: vector space belongs to the caller; three words fit into the vector's 64.
                unsafe {
                    place.write_volatile(0x9060_0000 | (FATAL_FRAME + 12));
                    place.add(1).write_volatile(0x3860_0000 | vector);
                    place.add(2).write_volatile(branch_absolute(fatal_entry as *const () as u32));
                }
                continue;
            }
        };
        // SAFETY: as above.
        unsafe { place.write_volatile(branch_absolute(target)) };
    }
    // SAFETY: the vectors are memory.
    unsafe { cpu::synchronize_instructions(VECTORS as usize, 0x1800) };
}

/// `ba target`: reaches the first and the last 32 MiB, which is where image and boot block are.
fn branch_absolute(target: u32) -> u32 {
    0x4800_0002 | (target & 0x03FF_FFFC)
}

/// Moves the interrupt stack; `top` is where it begins.
///
/// # Safety
///
/// Interrupts are off; `top` is 16-byte aligned and the memory below it is a stack that nobody else uses.
pub unsafe fn set_interrupt_stack(top: u32) {
    INTERRUPT_STACK.store(top - 16, Ordering::Relaxed);
}

#[unsafe(no_mangle)]
extern "C" fn board_interrupt(which: u32) {
    let handler = HANDLER.load(Ordering::Relaxed);
    if which == 1 {
        // One shot: it would come again only when the count has wrapped, and the handler may set it anew.
        cpu::set_decrementer(i32::MAX as u32);
    }
    if handler != 0 {
        // SAFETY: only `install` stores here, and only a `fn(Interrupt)`.
        let handler: fn(Interrupt) = unsafe { core::mem::transmute(handler) };
        handler(if which == 1 { Interrupt::Decrementer } else { Interrupt::External });
    }
}

#[unsafe(no_mangle)]
extern "C" fn board_fatal() -> ! {
    // SAFETY: fatal_entry filled the frame before it called, and nothing writes to it until the next exception.
    let registers = unsafe { &*(FATAL_FRAME as *const Registers) };
    crate::crash::exception(registers)
}
