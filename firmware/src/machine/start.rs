//! The image's entry.

use core::arch::global_asm;
use core::fmt::Write;
use core::panic::PanicInfo;

use drivers::escc::Console;
use ppc750_nas::interrupts::{self, Source};
use ppc750_nas::memory_map::{BOOT_INFORMATION, BOOT_MAGIC, BootInformation, MAXIMUM_RAM};
use ppc750_nas::mmio::Mmio;
use ppc750_nas::serial::{self, Serial};
use ppc750_nas::{cpu, crash, exceptions, mmu};

use super::{Bus, heap, probe};

// The boot block copied the image and jumps to its first byte, with interrupts off. .data came with the image; .bss is
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

/// Bytes of the stack on which the image starts and the scheduler's loop runs.
const FIRST_STACK_LENGTH: usize = 32 * 1024;

#[repr(align(16))]
#[expect(dead_code, reason = "only the assembly above uses it")]
struct FirstStack([u8; FIRST_STACK_LENGTH]);

#[unsafe(no_mangle)]
static mut FIRST_STACK: FirstStack = FirstStack([0; FIRST_STACK_LENGTH]);

unsafe extern "C" {
    static __heap_start: u8;
}

// SAFETY: Heathrow lies there by the board's memory map, and the boot block put it there.
static CONSOLE: Console<Mmio> = Console::new(serial::registers());

struct ConsoleSource;

impl Source for ConsoleSource {
    fn acknowledge(&self) -> u32 {
        let serviced = CONSOLE.service();
        if serviced.received || serviced.transmitted { firmware::board::events::CONSOLE } else { 0 }
    }
}

#[unsafe(no_mangle)]
extern "C" fn firmware_main() -> ! {
    // SAFETY: interrupts are off; the image lies in the mapped blocks; the page table's memory is nobody's.
    unsafe { mmu::enable() };
    // SAFETY: as above for the vectors; the handler is in place before interrupts are enabled.
    unsafe { exceptions::install(Some(interrupts::handle)) };
    serial::set_ready();
    // SAFETY: the boot block wrote it, or something else did: the mark tells.
    let information = unsafe { (BOOT_INFORMATION as *const BootInformation).read() };
    assert!(information.magic == BOOT_MAGIC, "not started by the boot block");
    let heap_start = core::ptr::addr_of!(__heap_start) as usize;
    let heap_end = information.ram_bytes.min(MAXIMUM_RAM) as usize;
    // SAFETY: memory behind the image up to its end is nobody's, and nothing was allocated yet.
    unsafe { heap::initialize(heap_start, heap_end) };

    let bus = Bus::enumerate();
    interrupts::initialize();
    let _ = write!(
        Serial,
        "CPU {:08x}, {} MiB memory, image {} KiB\r\n",
        cpu::processor_version(),
        information.ram_bytes >> 20,
        (heap_start - 0x10_0000) >> 10
    );
    for device in bus.devices() {
        let _ = write!(
            Serial,
            "pci {:2} {:04x}:{:04x} class {:06x}",
            device.address.slot, device.vendor, device.device, device.class
        );
        for window in &device.windows {
            let _ = write!(Serial, "  bar{} {:08x}+{:x}", window.register, window.base, window.length);
        }
        let _ = write!(Serial, "\r\n");
    }
    CONSOLE.start(0);
    let _ = interrupts::register(interrupts::INPUT_ESCC, &ConsoleSource);
    // SAFETY: vectors and handler are in place.
    unsafe { cpu::enable_interrupts() };
    probe::run(&bus);
    loop {
        cpu::idle(interrupts::events_pending);
        if interrupts::take_events() != 0 {
            let mut bytes = [0; 64];
            let count = CONSOLE.read(&mut bytes);
            match bytes.first() {
                Some(b'!') if count > 0 => panic!("somebody asked for it"),
                Some(b'@') if count > 0 => {
                    // SAFETY: none: it is meant to fail, to show the report.
                    unsafe { (0x6000_0000 as *mut u32).write_volatile(1) };
                }
                _ => {}
            }
            CONSOLE.write(&bytes[..count]);
            cpu::without_interrupts(|| CONSOLE.service());
        }
    }
}

#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    crash::panic(information)
}
