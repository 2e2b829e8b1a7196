//! BATs, caches, and the page table of the stack window.
//!
//! | block | effective = physical | cached | executable |
//! |---|---|---|---|
//! | DBAT0, DBAT1 | memory, 2 x 256 MiB | yes, coherent | no |
//! | DBAT2 | PCI memory 0x80000000, 256 MiB | no, guarded | no |
//! | DBAT3 | 0xF0000000, 256 MiB: MPC106 registers, flash | no, guarded | no |
//! | IBAT0 | 0, 4 MiB: vectors and image | yes | yes |
//! | IBAT1 | flash's last mebibyte: the boot block | yes | yes |
//!
//! The image then narrows execution to its own code ([`restrict_execution`]).
//!
//! Everything else is unmapped, but for pages of the stack window (segment 7) that [`map_page`] maps through the hashed
//! page table: a stack's guard page is simply not there. Memory is mapped coherent (M) because the MPC106 wants every
//! access that a bus master might snoop to be global.

use core::arch::asm;

use crate::memory_map::{
    EXECUTABLE, PAGE_TABLE, PAGE_TABLE_LENGTH, PCI_MEMORY, STACK_WINDOW, STACK_WINDOW_PAGES,
};
use crate::{cpu, write_spr};

/// Bytes in a page.
pub const PAGE: usize = 4096;

/// Block length field: 256 MiB.
const LENGTH_256_MIB: u32 = 0x7FF << 2;
/// Block length field: 4 MiB.
const LENGTH_4_MIB: u32 = 0x01F << 2;
/// Block length field: 1 MiB.
const LENGTH_1_MIB: u32 = 0x007 << 2;
/// Upper BAT: valid in supervisor mode.
const SUPERVISOR: u32 = 0x2;
/// Lower BAT: read and write.
const READ_WRITE: u32 = 0x2;
/// Lower BAT and page table: read only.
const READ_ONLY: u32 = 0x3;
/// Lower BAT and page table: memory coherence required.
const COHERENT: u32 = 0x10;
/// Lower BAT: caching inhibited and guarded.
const DEVICE: u32 = 0x28;
/// Virtual segment that all of the stack window lies in.
const STACK_SEGMENT: u32 = 0x7;
/// Segment register: no execution.
const SEGMENT_NO_EXECUTE: u32 = 0x1000_0000;

/// The second-level cache of the board: 512 KiB of pipelined burst SRAM at half the core's clock.
const L2_CONFIGURATION: u32 = 0x2000_0000 | 0x0800_0000 | 0x0100_0000;
/// L2CR: enable.
const L2_ENABLE: u32 = 0x8000_0000;
/// L2CR: global invalidate.
const L2_INVALIDATE: u32 = 0x0020_0000;
/// L2CR: invalidate in progress.
const L2_BUSY: u32 = 0x1;

const _: () = assert!(EXECUTABLE == 4 << 20, "IBAT0 maps 4 MiB");

/// Sets up translation, caches and power management, and turns translation on. May be called again by the image that the
/// boot block started: all of it is set afresh, and stays mapped meanwhile.
///
/// # Safety
///
/// Runs with interrupts off, on a stack and from code inside the blocks of the module's table. The page table's memory
/// is free.
pub unsafe fn enable() {
    // Whoever called runs untranslated or with the same blocks, so a block is rewritten with what it had.
    // SAFETY: the page table's memory is free by the caller's promise.
    unsafe { core::ptr::write_bytes(PAGE_TABLE as *mut u8, 0, PAGE_TABLE_LENGTH as usize) };
    // SAFETY: the blocks map code, stack and devices where they are. A block is invalid while it is halfway.
    unsafe {
        write_spr!(537, COHERENT | READ_WRITE);
        write_spr!(536, LENGTH_256_MIB | SUPERVISOR);
        write_spr!(539, 0x1000_0000 | COHERENT | READ_WRITE);
        write_spr!(538, 0x1000_0000 | LENGTH_256_MIB | SUPERVISOR);
        write_spr!(541, PCI_MEMORY | DEVICE | READ_WRITE);
        write_spr!(540, PCI_MEMORY | LENGTH_256_MIB | SUPERVISOR);
        write_spr!(543, 0xF000_0000 | DEVICE | READ_WRITE);
        write_spr!(542, 0xF000_0000 | LENGTH_256_MIB | SUPERVISOR);
        write_spr!(529, COHERENT | READ_ONLY);
        write_spr!(528, LENGTH_4_MIB | SUPERVISOR);
        write_spr!(531, 0xFFF0_0000 | READ_ONLY);
        write_spr!(530, 0xFFF0_0000 | LENGTH_1_MIB | SUPERVISOR);
        write_spr!(532, 0_u32);
        write_spr!(534, 0_u32);
        asm!("sync", "isync", options(nostack, preserves_flags));
        // Sixteen segments, all without execution; only the stack window's has pages behind it.
        let mut segment: u32 = 0;
        while segment < 16 {
            asm!("mtsrin {}, {}", in(reg) SEGMENT_NO_EXECUTE | segment, in(reg) segment << 28,
                options(nostack, preserves_flags));
            segment += 1;
        }
        write_spr!(25, PAGE_TABLE);
        // The 750's translation caches have 64 sets: an invalidate for each.
        let mut set: u32 = 0;
        while set < 64 {
            asm!("tlbie {}", in(reg) set << 12, options(nostack, preserves_flags));
            set += 1;
        }
        asm!("sync", "isync", options(nostack, preserves_flags));
        cpu::set_machine_state(cpu::MSR_NORMAL);
    }
    enable_caches();
}

/// Takes execution away from everything but the vectors' 128 KiB and the code from `start` (a multiple of a mebibyte) to
/// `end` (at most three mebibytes), rounded up to what three blocks cover. The heap and the stacks hold data only from now
/// on, and the boot block in the flash is no longer reachable but by a reset.
///
/// # Safety
///
/// The caller's code, and all that is ever to run, lies from `start` to `end`.
pub unsafe fn restrict_execution(start: u32, end: u32) {
    const UNIT: u32 = 128 << 10;
    let mut blocks = [(0, 0); 3];
    let mut address = start;
    for (index, block) in blocks.iter_mut().enumerate() {
        let units = end.saturating_sub(address).div_ceil(UNIT).min(8);
        if units > 0 {
            // The largest power of two that is not more; for the last, that is not less. They are aligned, because none is
            // larger than the one before it.
            let length = UNIT * if index == 2 { units.next_power_of_two() } else { 1 << units.ilog2() };
            *block = (address | READ_ONLY | COHERENT, address | (length / UNIT - 1) << 2 | SUPERVISOR);
            address += length;
        }
    }
    // SAFETY: the old first block, which maps this code, goes last, when the others are in place.
    unsafe {
        write_spr!(531, blocks[0].0);
        write_spr!(530, blocks[0].1);
        write_spr!(533, blocks[1].0);
        write_spr!(532, blocks[1].1);
        write_spr!(535, blocks[2].0);
        write_spr!(534, blocks[2].1);
        asm!("sync", "isync", options(nostack, preserves_flags));
        write_spr!(528, SUPERVISOR);
        asm!("sync", "isync", options(nostack, preserves_flags));
    }
}

fn enable_caches() {
    let before = crate::read_spr!(1008);
    let units = cpu::HID0_DOZE | cpu::HID0_DPM | cpu::HID0_SGE | cpu::HID0_BTIC | cpu::HID0_BHT;
    let mut invalidate = 0;
    // A cache that is on already is not invalidated: its lines may be the only copy.
    if before & cpu::HID0_ICE == 0 {
        invalidate |= cpu::HID0_ICFI;
    }
    if before & cpu::HID0_DCE == 0 {
        invalidate |= cpu::HID0_DCFI;
    }
    let caches = cpu::HID0_ICE | cpu::HID0_DCE;
    // SAFETY: the invalidate bits take effect with the enable bits and are cleared by the next write (750 manual, 3.4).
    unsafe {
        asm!("sync", "isync", options(nostack, preserves_flags));
        write_spr!(1008, units | caches | invalidate);
        asm!("sync", "isync", options(nostack, preserves_flags));
        write_spr!(1008, units | caches);
        asm!("sync", "isync", options(nostack, preserves_flags));
    }
    let l2 = || crate::read_spr!(1017);
    if l2() & L2_ENABLE == 0 {
        // SAFETY: the second-level cache is off, so nothing is lost by invalidating it. The wait is bounded: a board
        // without the cache runs on without it.
        unsafe {
            write_spr!(1017, L2_CONFIGURATION);
            asm!("sync", options(nostack, preserves_flags));
            write_spr!(1017, L2_CONFIGURATION | L2_INVALIDATE);
            asm!("sync", options(nostack, preserves_flags));
            let mut patience = 1_000_000;
            while l2() & L2_BUSY != 0 && patience > 0 {
                patience -= 1;
            }
            write_spr!(1017, L2_CONFIGURATION);
            asm!("sync", options(nostack, preserves_flags));
            if patience > 0 {
                write_spr!(1017, L2_CONFIGURATION | L2_ENABLE);
            }
            asm!("sync", "isync", options(nostack, preserves_flags));
        }
    }
}

/// The first entry of the group that page `index` of the stack window hashes to: the segment is fixed and the table has
/// as many groups as the window has pages, so every page has a group of its own.
fn entry(index: usize) -> *mut u32 {
    let group = (STACK_SEGMENT as usize ^ index) & 0x3FF;
    (PAGE_TABLE as usize + group * 64) as *mut u32
}

const _: () = assert!(STACK_WINDOW_PAGES == 1024 && PAGE_TABLE_LENGTH == 1024 * 64);
const _: () = assert!(STACK_WINDOW == STACK_SEGMENT << 28);

/// Maps page `index` of the stack window to the page of memory at `physical`, for reading and writing.
///
/// # Safety
///
/// `index` is below [`STACK_WINDOW_PAGES`] and not mapped; `physical` is page aligned and belongs to the caller.
pub unsafe fn map_page(index: usize, physical: u32) {
    let entry = entry(index);
    let tag = 0x8000_0000 | STACK_SEGMENT << 7 | (index as u32 >> 10);
    // SAFETY: the entry lies in the page table; the lower half is complete before the upper one makes it valid.
    unsafe {
        entry.add(1).write_volatile(physical | 0x180 | COHERENT | READ_WRITE);
        cpu::sync();
        entry.write_volatile(tag);
        cpu::sync();
    }
}

/// Takes page `index` of the stack window away: an access to it is an exception from now on.
///
/// # Safety
///
/// `index` is below [`STACK_WINDOW_PAGES`]; nothing lives there.
pub unsafe fn unmap_page(index: usize) {
    let address = STACK_WINDOW as usize + index * PAGE;
    // SAFETY: the entry lies in the page table; the CPU's copy of it goes as well.
    unsafe {
        entry(index).write_volatile(0);
        cpu::sync();
        asm!("tlbie {}", "sync", "isync", in(reg) address, options(nostack, preserves_flags));
    }
}

/// The memory behind page `index` of the stack window, when it is mapped.
pub fn mapped_page(index: usize) -> Option<u32> {
    if index >= STACK_WINDOW_PAGES {
        return None;
    }
    // SAFETY: the entry lies in the page table.
    let (upper, lower) = unsafe { (entry(index).read_volatile(), entry(index).add(1).read_volatile()) };
    (upper & 0x8000_0000 != 0).then_some(lower & 0xFFFF_F000)
}
