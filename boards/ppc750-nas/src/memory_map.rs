//! What lies where. Physical and effective addresses are equal, but for the stack window.

/// Exception vectors: the CPU's own layout, 0x100 to 0x1800.
pub const VECTORS: u32 = 0x0000_0000;
/// Registers saved by an interrupt (`exceptions`); interrupts do not nest, so one place is enough. Below 0x8000, so that
/// a store reaches it without a base register.
pub const INTERRUPT_FRAME: u32 = 0x3000;
/// Registers saved by an unexpected exception.
pub const FATAL_FRAME: u32 = 0x3100;
/// What the boot block tells the image: [`BootInformation`].
pub const BOOT_INFORMATION: u32 = 0x3400;
/// A word that survives a restart but not a power-off: the image leaves its mark there.
pub const WARM_MARK: u32 = 0x3500;
/// A word that survives a restart: how many crashes in a row came soon after the start, marked in its upper half.
pub const EARLY_CRASHES: u32 = 0x3504;
/// Top of the stack on which unexpected exceptions are reported: usable when every other stack is broken. 16 KiB.
pub const FATAL_STACK_TOP: u32 = 0x8000;
/// Top of the interrupt handlers' stack until guarded stacks exist. 16 KiB.
pub const INTERRUPT_STACK_TOP: u32 = 0xC000;
/// The hashed page table: 64 KiB, aligned to its size.
pub const PAGE_TABLE: u32 = 0x0001_0000;
/// Bytes of the page table: the smallest that the CPU knows, 1024 groups of 8 entries.
pub const PAGE_TABLE_LENGTH: u32 = 0x1_0000;
/// The boot block's data, then its stack.
pub const BOOT_DATA: u32 = 0x0002_0000;
/// Top of the boot block's stack.
pub const BOOT_STACK_TOP: u32 = 0x0004_0000;
/// Where the firmware image is linked. The memory before it belongs to the tables above.
pub const IMAGE: u32 = 0x0010_0000;
/// Memory from 0 that may hold code.
pub const EXECUTABLE: u32 = 0x0040_0000;
/// The most memory that the board uses; more is left alone.
pub const MAXIMUM_RAM: u32 = 512 << 20;

/// Effective addresses of guarded stacks: mapped page by page.
pub const STACK_WINDOW: u32 = 0x7000_0000;
/// Pages in the stack window.
pub const STACK_WINDOW_PAGES: usize = 1024;

/// PCI memory space: where base address registers are put.
pub const PCI_MEMORY: u32 = 0x8000_0000;
/// Bytes of PCI memory space that the data BAT covers.
pub const PCI_MEMORY_LENGTH: u32 = 0x1000_0000;
/// The Heathrow I/O chip: the first base address register assigned, in the boot block as well as in the image.
pub const HEATHROW: u32 = PCI_MEMORY;
/// The MPC106's configuration address register; the data register lies 0x200000 above it.
pub const PCI_CONFIGURATION: u32 = 0xFEC0_0000;
/// The boot flash, read only.
pub const FLASH: u32 = 0xFFC0_0000;

/// Offset of the interrupt controller within Heathrow.
pub const HEATHROW_INTERRUPTS: u32 = 0x0_0000;
/// Offset of the serial controller within Heathrow.
pub const HEATHROW_ESCC: u32 = 0x1_3000;
/// Offset of the VIA with the CUDA microcontroller behind it within Heathrow.
pub const HEATHROW_VIA: u32 = 0x1_6000;

/// What the boot block tells the image it enters, at [`BOOT_INFORMATION`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BootInformation {
    /// [`BOOT_MAGIC`].
    pub magic: u32,
    /// Bytes of memory from address 0 on.
    pub ram_bytes: u32,
    /// The slot that the image came from: 0 is A, 1 is B.
    pub slot: u32,
    /// The image's sequence number.
    pub sequence: u32,
    /// CRC-32 of the image.
    pub checksum: u32,
}

/// Marks a filled [`BootInformation`].
pub const BOOT_MAGIC: u32 = u32::from_be_bytes(*b"BOOT");
