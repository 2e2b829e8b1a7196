//! How much memory there is: by trying.

use ppc750_nas::memory_map::{BOOT_STACK_TOP, MAXIMUM_RAM};

/// Steps in which memory may be fitted.
const STEP: u32 = 1 << 20;
const PATTERN: u32 = 0x3C5A_A5C3;

/// Bytes of memory from address 0 on, found by writing one word of each mebibyte and putting back what was there.
///
/// The end of memory shows in one of two ways: the word does not come back, or it comes back at an address below as well,
/// because the controller does not look at all address lines. The word before the last one written is looked at in
/// between, so that what is read is not just what still hangs on the bus.
///
/// # Safety
///
/// Runs with the data cache off, so that every access goes to memory; nobody else uses memory meanwhile. The boot block's
/// own data and stack are not touched.
pub unsafe fn size() -> u32 {
    // One word that every probe of an address line could fold down to: the first of the second mebibyte, which is not in
    // use yet, and the same offset is probed in each step.
    const OFFSET: u32 = 0x0008_0000;
    const _: () = assert!(OFFSET >= BOOT_STACK_TOP);
    let word = |address: u32| address as *mut u32;
    // SAFETY: by the caller's promise nobody lives at these words, and each gets its old content back.
    unsafe {
        let first = word(OFFSET);
        let first_before = first.read_volatile();
        let mut end = STEP;
        while end < MAXIMUM_RAM {
            let place = word(end + OFFSET);
            let before = place.read_volatile();
            first.write_volatile(!PATTERN);
            place.write_volatile(PATTERN ^ end);
            let folded = first.read_volatile() != !PATTERN;
            let held = place.read_volatile() == PATTERN ^ end;
            place.write_volatile(before);
            if folded || !held {
                break;
            }
            end += STEP;
        }
        first.write_volatile(first_before);
        end
    }
}
