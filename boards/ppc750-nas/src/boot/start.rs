//! From the reset vector to the image.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::global_asm;
use core::fmt::Write;
use core::panic::PanicInfo;

use drivers::escc::Escc;
use drivers::mpc106::{Address, BASE_ADDRESSES, COMMAND, COMMAND_MEMORY, Mpc106};
use flash_layout::area::FLASH_SIZE;
use flash_layout::image::{self, ImageError, ImageHeader};
use flash_layout::slot::{self, Slot};
use ppc750_nas::memory_map::{
    BOOT_INFORMATION, BOOT_MAGIC, BOOT_STACK_TOP, BootInformation, FLASH, HEATHROW, IMAGE, PCI_CONFIGURATION,
};
use ppc750_nas::mmio::Mmio;
use ppc750_nas::ram::{self, Words};
use ppc750_nas::serial::{self, Serial};
use ppc750_nas::{cpu, crash, exceptions, mmu};

// The flash begins with a name, the reset vector is at 0x100. Exceptions before the vectors in memory are in place stop
// the CPU where they happen: a debugger sees which one by the address.
global_asm!(
    r#"
    .section .head, "ax"
    .ascii  "PowerPC 750 NAS boot block"
    .balign 0x100, 0
    .globl reset
reset:
    b       begin
    .fill   (0x3000 - 0x104) / 4, 4, 0x48000000
begin:
    /* Translation off, exceptions to the flash; data cache off, instruction cache on and empty. */
    li      3, 0x1040
    mtmsr   3
    isync
    li      3, 0
    mtspr   528, 3
    mtspr   530, 3
    mtspr   532, 3
    mtspr   534, 3
    mtspr   536, 3
    mtspr   538, 3
    mtspr   540, 3
    mtspr   542, 3
    isync
    ori     4, 3, 0x8800
    mtspr   1008, 4
    isync
    ori     4, 3, 0x8000
    mtspr   1008, 4
    isync
    /* Time begins here. */
    mtspr   284, 3
    mtspr   285, 3
    mtspr   284, 3
    /* The decrementer counts from somewhere: as far from its interrupt as can be. */
    lis     4, 0x7FFF
    mtdec   4
    /* .data from the flash, .bss to zero. */
    lis     4, __data_load@ha
    addi    4, 4, __data_load@l
    lis     5, __data_start@ha
    addi    5, 5, __data_start@l
    lis     6, __data_end@ha
    addi    6, 6, __data_end@l
1:  cmplw   5, 6
    bge     2f
    lwz     7, 0(4)
    stw     7, 0(5)
    addi    4, 4, 4
    addi    5, 5, 4
    b       1b
2:  lis     5, __bss_start@ha
    addi    5, 5, __bss_start@l
    lis     6, __bss_end@ha
    addi    6, 6, __bss_end@l
3:  cmplw   5, 6
    bge     4f
    stw     3, 0(5)
    addi    5, 5, 4
    b       3b
4:  lis     1, {stack}@h
    ori     1, 1, {stack}@l
    stw     3, 0(1)
    stw     3, 4(1)
    bl      boot_main
5:  b       5b
    .previous
    "#,
    stack = const BOOT_STACK_TOP - 16,
);

/// Where Heathrow sits on this board.
const HEATHROW_ADDRESS: Address = Address { slot: 16, function: 0 };

/// Divisor of the serial chip's clock (3.6864 MHz) for 57,600 baud.
const BAUD_DIVISOR: u16 = 0;

/// Memory as it is before translation and caches are on.
struct PlainMemory;

impl Words for PlainMemory {
    fn read(&self, address: u32) -> u32 {
        // SAFETY: `ram::size` stays above what the boot block uses; an address without memory is harmless to read.
        unsafe { (address as *const u32).read_volatile() }
    }
    fn write(&self, address: u32, value: u32) {
        // SAFETY: as above: nobody lives there, and `ram::size` puts back what was there.
        unsafe { (address as *mut u32).write_volatile(value) };
    }
}

#[unsafe(no_mangle)]
extern "C" fn boot_main() -> ! {
    let ram_bytes = ram::size(&PlainMemory);
    // SAFETY: interrupts are off; code, data and stack lie in the mapped blocks; the page table's memory is free.
    unsafe { mmu::enable() };
    // SAFETY: as above, the memory from 0 is free; interrupts stay off and have no handler.
    unsafe {
        exceptions::install(None);
        // From here on exceptions use the vectors in memory: IP is not part of MSR_NORMAL.
        cpu::set_machine_state(cpu::MSR_NORMAL);
    }
    start_console();
    let _ = write!(Serial, "\r\nboot: {} MiB memory", ram_bytes >> 20);
    // SAFETY: the flash is mapped there and nobody writes to it while this runs.
    let flash = unsafe { core::slice::from_raw_parts(FLASH as *const u8, FLASH_SIZE as usize) };
    match slot::choose(flash, |header, stored| place(header, stored, ram_bytes)) {
        Ok((slot, header, ())) => {
            let _ = write!(
                Serial,
                ", slot {slot:?}, image {} ({} KiB, unpacked {} KiB)\r\n",
                header.name(),
                header.length.div_ceil(1024),
                header.unpacked_length.div_ceil(1024)
            );
            let information = BootInformation {
                magic: BOOT_MAGIC,
                ram_bytes,
                slot: u32::from(slot == Slot::B),
                sequence: header.sequence,
                checksum: header.checksum,
            };
            // SAFETY: the information's place is nobody else's; the image was unpacked and its checksum holds, so that what is
            // at its entry is code.
            unsafe {
                (BOOT_INFORMATION as *mut BootInformation).write(information);
                cpu::synchronize_instructions(header.load_address as usize, header.unpacked_length as usize);
                let entry: extern "C" fn() -> ! = core::mem::transmute(header.entry as usize);
                entry()
            }
        }
        Err([a, b]) => stop(format_args!("no image can be booted. Slot A: {a}. Slot B: {b}.")),
    }
}

/// Unpacks an image to where it is to run.
fn place(header: &ImageHeader, stored: &[u8], ram_bytes: u32) -> Result<(), ImageError> {
    let end = header.load_address.checked_add(header.memory_length);
    if header.load_address < IMAGE || end.is_none_or(|end| end > ram_bytes) {
        return Err(ImageError::Memory);
    }
    // SAFETY: it lies in memory, above everything that the boot block uses; the header's parser has seen to it that the
    // image is not longer than the memory it asks for.
    let target = unsafe {
        core::slice::from_raw_parts_mut(header.load_address as *mut u8, header.unpacked_length as usize)
    };
    image::unpack(header, stored, target)
}

/// Puts Heathrow at its address, so that the serial line works. The image does the rest of PCI.
fn start_console() {
    // SAFETY: the bridge's configuration registers, mapped as a device.
    let bus = Mpc106::new(unsafe { Mmio::new(PCI_CONFIGURATION) });
    bus.write32(HEATHROW_ADDRESS, BASE_ADDRESSES, HEATHROW);
    let command = bus.read16(HEATHROW_ADDRESS, COMMAND);
    bus.write16(HEATHROW_ADDRESS, COMMAND, command | COMMAND_MEMORY);
    Escc::new(serial::registers()).initialize(BAUD_DIVISOR);
    serial::set_ready();
}

/// Says why there is nothing to boot, and waits for somebody to write a new image and switch off and on.
fn stop(reason: core::fmt::Arguments<'_>) -> ! {
    let _ = write!(
        Serial,
        "\r\nboot: {reason}\r\nboot: write a firmware image to the flash (`cargo xtask image`) and power-cycle the board.\r\n"
    );
    cpu::halt()
}

/// The boot block does not allocate; the drivers it links could.
struct NoHeap;

// SAFETY: it never returns memory, so there is nothing to get wrong.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static NO_HEAP: NoHeap = NoHeap;

#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    crash::panic(information)
}
