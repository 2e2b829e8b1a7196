//! The 750's special registers, interrupts on and off, idling.

use core::arch::asm;

/// External and decrementer interrupts are taken.
pub const MSR_EE: u32 = 0x8000;
/// Machine checks are exceptions and not a stop.
pub const MSR_ME: u32 = 0x1000;
/// Exceptions go to the vectors in the flash.
pub const MSR_IP: u32 = 0x40;
/// Instruction addresses are translated.
pub const MSR_IR: u32 = 0x20;
/// Data addresses are translated.
pub const MSR_DR: u32 = 0x10;
/// An exception can be returned from.
pub const MSR_RI: u32 = 0x2;
/// Power management: stop until an interrupt.
pub const MSR_POW: u32 = 0x4_0000;
/// How the machine runs when interrupts are off.
pub const MSR_NORMAL: u32 = MSR_ME | MSR_IR | MSR_DR | MSR_RI;

/// HID0: MSR[POW] stops the CPU but leaves it snooping the bus, which bus masters need, and the timebase running.
pub const HID0_DOZE: u32 = 0x0080_0000;
/// HID0: units without work are stopped.
pub const HID0_DPM: u32 = 0x0010_0000;
/// HID0: instruction cache enable.
pub const HID0_ICE: u32 = 0x8000;
/// HID0: data cache enable.
pub const HID0_DCE: u32 = 0x4000;
/// HID0: instruction cache flash invalidate.
pub const HID0_ICFI: u32 = 0x800;
/// HID0: data cache flash invalidate.
pub const HID0_DCFI: u32 = 0x400;
/// HID0: store gathering.
pub const HID0_SGE: u32 = 0x80;
/// HID0: branch target instruction cache.
pub const HID0_BTIC: u32 = 0x20;
/// HID0: branch history table.
pub const HID0_BHT: u32 = 0x4;

/// Bytes in a cache line.
pub const CACHE_LINE: usize = 32;

/// Reads a special-purpose register by number.
#[macro_export]
macro_rules! read_spr {
    ($number:literal) => {{
        let value: u32;
        // SAFETY: reading a supervisor register of the 750 has no side effect.
        unsafe {
            core::arch::asm!(concat!("mfspr {}, ", $number), out(reg) value, options(nomem, nostack, preserves_flags));
        }
        value
    }};
}

/// Writes a special-purpose register by number. An unsafe operation: what it means depends on the register.
#[macro_export]
macro_rules! write_spr {
    ($number:literal, $value:expr) => {
        core::arch::asm!(concat!("mtspr ", $number, ", {}"), in(reg) $value, options(nostack, preserves_flags))
    };
}

/// Processor version: what the CPU is.
pub fn processor_version() -> u32 {
    read_spr!(287)
}

/// The machine state register.
#[inline]
pub fn machine_state() -> u32 {
    let value: u32;
    // SAFETY: reading the machine state has no side effect.
    unsafe { asm!("mfmsr {}", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets the machine state register.
///
/// # Safety
///
/// The new state must map code, stack and data where they are now.
#[inline]
pub unsafe fn set_machine_state(value: u32) {
    // SAFETY: the caller's promise; isync makes the following instructions be fetched in the new state.
    unsafe { asm!("mtmsr {}", "isync", in(reg) value, options(nostack, preserves_flags)) };
}

/// Runs `body` with external and decrementer interrupts off, and puts back what was before.
#[inline]
pub fn without_interrupts<T>(body: impl FnOnce() -> T) -> T {
    let state = machine_state();
    // SAFETY: only EE changes, the mapping stays.
    unsafe { set_machine_state(state & !MSR_EE) };
    let result = body();
    // SAFETY: the state that was there on entry.
    unsafe { set_machine_state(state) };
    result
}

/// Takes interrupts from now on.
///
/// # Safety
///
/// The vectors and the interrupt handler are in place.
pub unsafe fn enable_interrupts() {
    // SAFETY: only EE changes; the caller promises handlers.
    unsafe { set_machine_state(machine_state() | MSR_EE) };
}

/// Stops the CPU until an interrupt has been taken, unless `stay_awake` says no.
///
/// `stay_awake` is asked with interrupts off, and the instruction that stops the CPU is the one that turns them on: what
/// an interrupt handler changes between the question and the stop wakes the CPU again. May return without an interrupt.
#[inline]
pub fn idle(stay_awake: impl FnOnce() -> bool) {
    let state = machine_state();
    // SAFETY: only EE changes.
    unsafe { set_machine_state(state & !MSR_EE) };
    if stay_awake() {
        // SAFETY: the state that was there on entry.
        unsafe { set_machine_state(state) };
        return;
    }
    // SAFETY: HID0[DOZE] is set by `mmu::enable`; the sync empties the bus queue as the 750 manual's power chapter asks
    // before POW. rfi of the waking interrupt returns behind it with POW clear.
    unsafe {
        asm!("sync", "mtmsr {}", "isync", in(reg) state | MSR_EE | MSR_POW, options(nostack, preserves_flags));
    }
}

/// Stops the CPU for good: asleep with interrupts off.
pub fn halt() -> ! {
    let state = machine_state() & !MSR_EE;
    loop {
        // SAFETY: only EE and POW change.
        unsafe {
            asm!("sync", "mtmsr {}", "isync", in(reg) state | MSR_POW, options(nostack, preserves_flags))
        };
    }
}

/// Ticks since power-on; see [`crate::time`].
#[inline]
pub fn timebase() -> u64 {
    loop {
        let (high, low, again): (u32, u32, u32);
        // SAFETY: reading the timebase has no side effect.
        unsafe {
            asm!("mftbu {0}", "mftb {1}", "mftbu {2}", out(reg) high, out(reg) low, out(reg) again,
                options(nomem, nostack, preserves_flags));
        }
        if high == again {
            return u64::from(high) << 32 | u64::from(low);
        }
    }
}

/// The timebase's low half: enough for intervals below four minutes, and for entropy.
#[inline]
pub fn timebase_low() -> u32 {
    let low: u32;
    // SAFETY: reading the timebase has no side effect.
    unsafe { asm!("mftb {}", out(reg) low, options(nomem, nostack, preserves_flags)) };
    low
}

/// Lets the decrementer interrupt after `ticks`, once. At most `i32::MAX` (129 seconds): more is cut to that.
#[inline]
pub fn set_decrementer(ticks: u32) {
    let ticks = ticks.min(i32::MAX as u32);
    // SAFETY: the decrementer only ever causes its interrupt.
    unsafe { write_spr!(22, ticks) };
}

/// Waits by looking at the timebase. For chips that need a pause of microseconds during start.
pub fn spin_microseconds(microseconds: u32) {
    let ticks = crate::time::microseconds_to_ticks(u64::from(microseconds));
    let start = timebase_low();
    while timebase_low().wrapping_sub(start) < ticks {}
}

/// Makes instructions that were written as data visible to the instruction fetch.
///
/// # Safety
///
/// `start` and `length` name memory.
pub unsafe fn synchronize_instructions(start: usize, length: usize) {
    let first = start & !(CACHE_LINE - 1);
    let end = start + length;
    let mut line = first;
    while line < end {
        // SAFETY: memory by the caller's promise; dcbst does not change it.
        unsafe { asm!("dcbst 0, {}", in(reg) line, options(nostack, preserves_flags)) };
        line += CACHE_LINE;
    }
    // SAFETY: ordering only.
    unsafe { asm!("sync", options(nostack, preserves_flags)) };
    let mut line = first;
    while line < end {
        // SAFETY: invalidating instruction lines is harmless.
        unsafe { asm!("icbi 0, {}", in(reg) line, options(nostack, preserves_flags)) };
        line += CACHE_LINE;
    }
    // SAFETY: ordering only.
    unsafe { asm!("sync", "isync", options(nostack, preserves_flags)) };
}

/// Orders all earlier storage accesses before all later ones.
#[inline]
pub fn sync() {
    // SAFETY: ordering only.
    unsafe { asm!("sync", options(nostack, preserves_flags)) };
}

/// Starts over at the reset vector in the flash, with translation off: what is left when the reset line cannot be pulled.
pub fn jump_to_reset() -> ! {
    // SAFETY: the boot block expects nothing of the machine's state but MSR[IP] and translation off, which rfi sets.
    unsafe {
        asm!(
            "mtmsr {ri}",
            "isync",
            "mtsrr0 {vector}",
            "mtsrr1 {state}",
            "rfi",
            ri = in(reg) MSR_IR | MSR_DR,
            vector = in(reg) 0xFFF0_0100_u32,
            state = in(reg) MSR_IP,
            options(noreturn, nostack)
        );
    }
}
