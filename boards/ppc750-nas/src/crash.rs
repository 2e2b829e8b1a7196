//! What is printed when nothing else works any more.
//!
//! A panic or an unexpected exception writes its report to the serial line by polling and keeps a copy, which goes to
//! the flash when the image has said how ([`set_hooks`]); then the board restarts. A second failure on the way skips
//! what failed the first time.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use crate::exceptions::{self, Registers};
use crate::memory_map::{EARLY_CRASHES, MAXIMUM_RAM, STACK_WINDOW, STACK_WINDOW_PAGES};
use crate::{cpu, mmu, serial};

/// Bytes of a report that are kept for the flash.
const KEPT: usize = 4096;
/// Seconds from the start for which a crash counts as early.
const EARLY: u32 = 60;
/// Early crashes in a row after which the board takes its time.
const TOLERATED: u32 = 3;
/// Marks a valid count of early crashes.
const EARLY_MARK: u32 = 0x4352_0000;
/// Return addresses in a backtrace.
const DEPTH: usize = 48;

static RECORD: AtomicUsize = AtomicUsize::new(0);
static RESET: AtomicUsize = AtomicUsize::new(0);
/// How many failures there have been since power-on.
static FAILURES: AtomicU32 = AtomicU32::new(0);
static RECORDED: AtomicBool = AtomicBool::new(false);

/// Says what to do with a report (seconds since power-on, text), and how to pull the reset line.
pub fn set_hooks(record: fn(u32, &str), reset: fn()) {
    RECORD.store(record as usize, Ordering::Relaxed);
    RESET.store(reset as usize, Ordering::Relaxed);
}

struct Report {
    kept: [u8; KEPT],
    length: usize,
}

static mut REPORT: Report = Report { kept: [0; KEPT], length: 0 };

impl Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        serial::write(text);
        for byte in text.bytes() {
            // The end of a long report is cut off, not its beginning.
            if let Some(place) = self.kept.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
        }
        Ok(())
    }
}

/// Interrupts off, and the report: or, when this is not the first failure, straight to the restart.
fn begin() -> &'static mut Report {
    // SAFETY: only EE changes; nothing that waits for an interrupt runs any more.
    unsafe { cpu::set_machine_state(cpu::machine_state() & !cpu::MSR_EE) };
    if FAILURES.fetch_add(1, Ordering::Relaxed) > 0 {
        serial::write("\r\nfailed again while reporting\r\n");
        restart();
    }
    // SAFETY: interrupts are off and the counter lets only the first caller come here, once.
    unsafe { &mut *core::ptr::addr_of_mut!(REPORT) }
}

/// Counts this crash when it came soon after the start, and returns how many such there were in a row: an image that
/// crashes again and again must not wear the flash out.
fn count_early(seconds: u32) -> u32 {
    let word = EARLY_CRASHES as *mut u32;
    // SAFETY: this word of low memory is the counter's and nobody else's.
    unsafe {
        let before = word.read_volatile();
        let before = if before & 0xFFFF_0000 == EARLY_MARK { before & 0xFFFF } else { 0 };
        let count = if seconds < EARLY { (before + 1).min(0xFFFF) } else { 0 };
        word.write_volatile(EARLY_MARK | count);
        count
    }
}

fn finish(report: &mut Report) -> ! {
    let hook = RECORD.load(Ordering::Relaxed);
    let seconds = (crate::time::ticks_to_microseconds(cpu::timebase()) / 1_000_000) as u32;
    let in_a_row = count_early(seconds);
    if hook != 0 && in_a_row <= TOLERATED && !RECORDED.swap(true, Ordering::Relaxed) {
        // SAFETY: only `set_hooks` stores here.
        let hook: fn(u32, &str) = unsafe { core::mem::transmute(hook) };
        let text = report.kept.get(..report.length).and_then(|kept| core::str::from_utf8(kept).ok());
        hook(seconds, text.unwrap_or("(not UTF-8)"));
    }
    if in_a_row > TOLERATED {
        serial::write("this happens again and again: waiting a minute\r\n");
        cpu::spin_microseconds(60_000_000);
    }
    serial::write("restarting\r\n");
    restart()
}

/// Restarts the board: by its reset line, else from the reset vector.
pub fn restart() -> ! {
    let hook = RESET.swap(0, Ordering::Relaxed);
    if hook != 0 {
        // SAFETY: only `set_hooks` stores here.
        let hook: fn() = unsafe { core::mem::transmute(hook) };
        hook();
        cpu::spin_microseconds(500_000);
    }
    cpu::jump_to_reset()
}

/// Reports a panic, records it and restarts.
pub fn panic(information: &PanicInfo<'_>) -> ! {
    let report = begin();
    let _ = write!(report, "\r\n*** {information}\r\n");
    let stack: u32;
    // SAFETY: reading the stack pointer.
    unsafe { core::arch::asm!("mr {}, 1", out(reg) stack, options(nomem, nostack, preserves_flags)) };
    backtrace(report, stack);
    finish(report)
}

/// Reports an unexpected exception, records it and restarts.
pub fn exception(registers: &Registers) -> ! {
    let report = begin();
    let _ = write!(
        report,
        "\r\n*** {} exception at {:08x}\r\n",
        exceptions::name(registers.vector),
        registers.instruction
    );
    if registers.vector == 0x300 {
        let _ = write!(
            report,
            "data address {:08x}, status {:08x}\r\n",
            registers.data_address, registers.data_status
        );
        if (STACK_WINDOW..STACK_WINDOW + ((STACK_WINDOW_PAGES * mmu::PAGE) as u32))
            .contains(&registers.data_address)
        {
            let _ = report.write_str("that is the guard page of a stack: it overflowed\r\n");
        }
    }
    for (index, value) in registers.general.iter().enumerate() {
        let end = if index % 4 == 3 { "\r\n" } else { "  " };
        let _ = write!(report, "r{index:<2} {value:08x}{end}");
    }
    let _ = write!(
        report,
        "cr  {:08x}  lr  {:08x}  ctr {:08x}  xer {:08x}\r\nmsr {:08x}  vector {:04x}\r\n",
        registers.condition,
        registers.link,
        registers.count,
        registers.fixed_point,
        registers.machine_state,
        registers.vector
    );
    let _ = write!(report, "backtrace {:08x} {:08x}", registers.instruction, registers.link);
    chain(report, registers.general[1]);
    finish(report)
}

fn backtrace(report: &mut Report, stack: u32) {
    let _ = report.write_str("backtrace");
    chain(report, stack);
}

/// Walks the back chain from `stack` up: each frame begins with the address of the one before, whose second word is
/// where the function returned to (System V ABI, PowerPC, 3-17).
fn chain(report: &mut Report, stack: u32) {
    let mut frame = stack;
    for _ in 0..DEPTH {
        let Some(caller) = read(frame) else { break };
        let Some(address) = read(caller.wrapping_add(4)) else { break };
        let _ = write!(report, " {address:08x}");
        frame = caller;
    }
    let _ = report.write_str("\r\n");
}

/// A word of memory or of a mapped stack page; never faults.
fn read(address: u32) -> Option<u32> {
    let memory = (0x1000..MAXIMUM_RAM).contains(&address);
    let window = address >= STACK_WINDOW
        && mmu::mapped_page(((address - STACK_WINDOW) as usize) / mmu::PAGE).is_some();
    // SAFETY: memory and mapped stack pages can be read; the word is aligned.
    (address.is_multiple_of(4) && (memory || window))
        .then(|| unsafe { (address as *const u32).read_volatile() })
}
