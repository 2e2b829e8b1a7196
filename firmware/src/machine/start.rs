//! The image's entry.

use alloc::boxed::Box;
use core::arch::global_asm;
use core::panic::PanicInfo;

use drivers::flash;
use ppc750_nas::interrupts;
use ppc750_nas::memory_map::{BOOT_INFORMATION, BOOT_MAGIC, BootInformation, IMAGE, MAXIMUM_RAM, WARM_MARK};
use ppc750_nas::mmio::Mmio;
use ppc750_nas::serial;
use ppc750_nas::{cpu, crash, exceptions, mmu, stacks};

use super::board::NasBoard;
use super::pci::Bus;
use super::{ciphers, console, heap, probe, reset};

// The boot block unpacked the image and jumps to its first byte, with interrupts off. .data came with the image; .bss is
// whatever the memory held. The stack is in .bss.
global_asm!(
    r#"
    .section .text.start, "ax"
    .globl firmware_start
firmware_start:
    lis     5, __bss_start@ha
    addi    5, 5, __bss_start@l
    lis     6, __bss_end@ha
    addi    6, 6, __bss_end@l
    li      3, 0
1:  cmplw   5, 6
    bge     2f
    stw     3, 0(5)
    addi    5, 5, 4
    b       1b
2:  lis     1, FIRST_STACK@ha
    addi    1, 1, FIRST_STACK@l
    addis   1, 1, {size}@ha
    addi    1, 1, {size}@l
    stw     3, 0(1)
    stw     3, 4(1)
    bl      firmware_main
3:  b       3b
    .previous
    "#,
    size = const FIRST_STACK_LENGTH - 16,
);

// Goes on in a function that does not return, on another stack.
global_asm!(
    r#"
    .section .text.start, "ax"
    .globl continue_on
continue_on:
    li      0, 0
    stwu    0, -16(3)
    stw     0, 4(3)
    mr      1, 3
    mr      3, 5
    mtctr   4
    bctrl
    trap
    .previous
    "#
);

unsafe extern "C" {
    fn continue_on(top: usize, body: extern "C" fn(&'static BootInformation) -> !, argument: usize) -> !;
}

/// Bytes of the stack on which the image starts, until there is a heap for guarded stacks.
const FIRST_STACK_LENGTH: usize = 8 * 1024;
/// Bytes of the stack of the scheduler's loop; the chips are started on it.
const LOOP_STACK_LENGTH: usize = 32 * 1024;
/// Bytes of the interrupt handlers' stack.
const INTERRUPT_STACK_LENGTH: usize = 8 * 1024;

#[repr(align(16))]
#[expect(dead_code, reason = "only the assembly above uses it")]
struct FirstStack([u8; FIRST_STACK_LENGTH]);

#[unsafe(no_mangle)]
static mut FIRST_STACK: FirstStack = FirstStack([0; FIRST_STACK_LENGTH]);

unsafe extern "C" {
    static __heap_start: u8;
    static __text_start: u8;
    static __text_end: u8;
}

/// Where the image with all its data ends, and the heap begins.
fn image_end() -> usize {
    core::ptr::addr_of!(__heap_start) as usize
}

#[unsafe(no_mangle)]
extern "C" fn firmware_main() -> ! {
    // SAFETY: interrupts are off; the image lies in the mapped blocks; the page table's memory is nobody's.
    unsafe { mmu::enable() };
    // SAFETY: as above for the vectors; the handler is in place before interrupts are enabled.
    unsafe { exceptions::install(Some(interrupts::handle)) };
    serial::set_ready();
    // SAFETY: all code of the image lies between the linker script's symbols.
    unsafe {
        mmu::restrict_execution(
            core::ptr::addr_of!(__text_start) as u32,
            core::ptr::addr_of!(__text_end) as u32,
        );
    }
    // SAFETY: the boot block wrote it, or something else did: the mark tells.
    let information: &'static BootInformation = unsafe { &*(BOOT_INFORMATION as *const BootInformation) };
    assert!(information.magic == BOOT_MAGIC, "not started by the boot block");
    let heap_start = image_end();
    let heap_end = information.ram_bytes.min(MAXIMUM_RAM) as usize;
    // SAFETY: memory behind the image up to its end is nobody's, and nothing was allocated yet.
    unsafe { heap::initialize(heap_start, heap_end) };

    let stack = |length| match stacks::allocate(length) {
        Some(stack) => stack.as_ptr() as usize + length,
        None => panic!("no memory for a stack"),
    };
    // SAFETY: interrupts are off; both stacks are new and used for nothing else.
    unsafe {
        exceptions::set_interrupt_stack(stack(INTERRUPT_STACK_LENGTH) as u32);
        continue_on(stack(LOOP_STACK_LENGTH), on_guarded_stack, core::ptr::from_ref(information) as usize)
    }
}

extern "C" fn on_guarded_stack(information: &'static BootInformation) -> ! {
    firmware::log_ring::install();
    let warm = take_warm_mark();
    let bus = Bus::enumerate();
    let flash =
        bus.find(flash::VENDOR, flash::DEVICE).find_map(|device| bus.registers(device, flash::WINDOW));
    reset::prepare(flash.as_ref().map_or(0, Mmio::base));
    for device in bus.devices() {
        log::debug!(
            "pci slot {}: {:04x}:{:04x} class {:06x} {:x?}",
            device.address.slot,
            device.vendor,
            device.device,
            device.class,
            device.windows
        );
    }
    interrupts::initialize();
    if !console::start() {
        log::error!("no interrupt for the console");
    }
    // SAFETY: vectors and handler are in place.
    unsafe { cpu::enable_interrupts() };
    probe::run(&bus);
    ciphers::bring();
    let board = NasBoard::start(&bus, flash, information, image_end() - IMAGE as usize, warm);
    let board: &'static NasBoard = Box::leak(Box::new(board));
    let appliance = firmware::Appliance::start(board);
    loop {
        appliance.run(|| false);
    }
}

/// Whether the memory holds the mark of an image that ran before: then this is a restart and not a power-on, and disks
/// may still be at work for somebody who is gone. Leaves the mark for the next.
fn take_warm_mark() -> bool {
    let mark = WARM_MARK as *mut u32;
    // SAFETY: this word of low memory is the mark's and nobody else's.
    unsafe {
        let warm = mark.read_volatile() == BOOT_MAGIC;
        mark.write_volatile(BOOT_MAGIC);
        warm
    }
}

#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    crash::panic(information)
}
