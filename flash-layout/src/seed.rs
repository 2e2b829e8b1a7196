//! The random generator's seed across power cycles.
//!
//! The region is two erase blocks of 1,024 slots of 64 bytes, filled in order:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic `NASE` |
//! | 4 | 40 | seed |
//! | 44 | 4 | CRC-32 of bytes 0 to 43 |
//! | 48 | 8 | ones: fresh; anything else: taken |
//! | 56 | 8 | not used, ones |
//!
//! A start stores a successor, then marks the seeds that it found as taken, and only then uses what they made of the
//! generator. When no slot is erased, the block without a fresh seed is. What a power cut leaves, step by step:
//!
//! | cut | the next start finds |
//! |---|---|
//! | before or while the successor is written | the old seed; a slot that is half written counts as taken |
//! | while a block is erased | the old seed, in the other block |
//! | after the successor is whole, before the old seed is marked | both, and goes through both: nothing was used yet |
//! | while the old seed is marked | the successor: one cleared bit of the mark is enough |
//!
//! So once a seed was stored there is always a fresh one, and none serves two power-ons.

use embedded_storage::nor_flash::NorFlash;

use crate::area::{Area, ERASE_BLOCK, SEED};
use crate::bytes::{array, put, u32_at};

/// Bytes of a seed.
pub const SEED_LENGTH: usize = 40;

const MAGIC: [u8; 4] = *b"NASE";
const SLOT_LENGTH: u32 = 64;
const CHECKSUM: usize = 44;
const TAKEN: u32 = 48;

const BLOCKS: [Area; 2] = [
    Area { offset: SEED.offset, length: ERASE_BLOCK },
    Area { offset: SEED.offset + ERASE_BLOCK, length: ERASE_BLOCK },
];
const _: () = assert!(SEED.length == 2 * ERASE_BLOCK);

/// What a slot holds.
enum Slot {
    Erased,
    Fresh([u8; SEED_LENGTH]),
    /// Taken, half written, or never a slot.
    Spent,
}

fn slots(area: Area) -> impl Iterator<Item = u32> {
    (area.offset..area.end()).step_by(SLOT_LENGTH as usize)
}

fn read<F: NorFlash>(flash: &mut F, offset: u32) -> Result<Slot, F::Error> {
    let mut slot = [0; SLOT_LENGTH as usize];
    flash.read(offset, &mut slot)?;
    if array::<8>(&slot, TAKEN as usize) != Some([0xFF; 8]) {
        return Ok(Slot::Spent);
    }
    if slot == [0xFF; SLOT_LENGTH as usize] {
        return Ok(Slot::Erased);
    }
    let whole = slot.first_chunk() == Some(&MAGIC)
        && slot.first_chunk::<CHECKSUM>().map(|covered| crate::bytes::crc32(covered))
            == u32_at(&slot, CHECKSUM);
    Ok(array(&slot, MAGIC.len()).filter(|_| whole).map_or(Slot::Spent, Slot::Fresh))
}

/// At the start: gives `mix` each fresh seed, stores what `successor` then makes of them for the next power-on, and marks
/// those given as taken. Says whether there was one. What was mixed must not be used before this returns.
pub fn renew<F: NorFlash>(
    flash: &mut F,
    mut mix: impl FnMut(&[u8; SEED_LENGTH]),
    successor: impl FnOnce() -> [u8; SEED_LENGTH],
) -> Result<bool, F::Error> {
    let mut found = false;
    for offset in slots(SEED) {
        if let Slot::Fresh(seed) = read(flash, offset)? {
            mix(&seed);
            found = true;
        }
    }
    let stored = put_in_place(flash, &successor());
    // Also when there is no successor: these seeds are about to be used.
    let mut marked = Ok(());
    for offset in slots(SEED) {
        if stored.as_ref().is_ok_and(|&new| new == offset) {
            continue;
        }
        if let Slot::Fresh(_) = read(flash, offset)? {
            marked = marked.and(flash.write(offset + TAKEN, &[0; 8]));
        }
    }
    stored.and(marked).map(|()| found)
}

/// Keeps `seed` for the next power-on, beside what is there. It must not be what the running generator was started from.
pub fn store<F: NorFlash>(flash: &mut F, seed: &[u8; SEED_LENGTH]) -> Result<(), F::Error> {
    put_in_place(flash, seed).map(drop)
}

/// Writes a seed to the first erased slot and says where that is.
fn put_in_place<F: NorFlash>(flash: &mut F, seed: &[u8; SEED_LENGTH]) -> Result<u32, F::Error> {
    const { assert!(F::WRITE_SIZE <= 8 && 8 % F::WRITE_SIZE == 0 && 8 % F::READ_SIZE == 0) };
    let mut erased = None;
    let mut spent = None;
    'blocks: for block in BLOCKS {
        let mut fresh = false;
        for offset in slots(block) {
            match read(flash, offset)? {
                Slot::Erased => {
                    erased = Some(offset);
                    break 'blocks;
                }
                Slot::Fresh(_) => fresh = true,
                Slot::Spent => {}
            }
        }
        if !fresh {
            spent = spent.or(Some(block));
        }
    }
    let target = match erased {
        Some(offset) => offset,
        None => {
            // Fresh seeds in both full blocks: either will do, the other keeps its own.
            let block = spent.unwrap_or(BLOCKS[0]);
            flash.erase(block.offset, block.end())?;
            block.offset
        }
    };
    let mut bytes = [0; TAKEN as usize];
    put(&mut bytes, 0, &MAGIC);
    put(&mut bytes, MAGIC.len(), seed);
    let checksum = bytes.first_chunk::<CHECKSUM>().map_or(0, |covered| crate::bytes::crc32(covered));
    put(&mut bytes, CHECKSUM, &checksum.to_be_bytes());
    flash.write(target, &bytes)?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ram_flash::{RamFlash, RamFlashError};

    /// A power-on as the firmware does it. The generator is a plain sum, so that seeds of equal origin are equal.
    #[derive(Default)]
    struct Machine {
        flash: Option<RamFlash>,
        starts: u64,
        /// Every seed that a power-on went on with.
        used: Vec<[u8; SEED_LENGTH]>,
        /// What the last power-on was given.
        given: Vec<[u8; SEED_LENGTH]>,
    }

    fn seed(number: u64) -> [u8; SEED_LENGTH] {
        let mut seed = [0x5A; SEED_LENGTH];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        seed
    }

    impl Machine {
        fn new(flash: RamFlash) -> Self {
            Self { flash: Some(flash), ..Self::default() }
        }

        fn flash(&mut self) -> &mut RamFlash {
            self.flash.as_mut().unwrap()
        }

        /// One start; power is cut after so many steps. Whether it came through.
        fn start(&mut self, steps: u32) -> bool {
            self.starts += 1;
            let number = self.starts;
            self.given.clear();
            let Self { flash, given, .. } = self;
            let flash = flash.as_mut().unwrap();
            flash.cut_after(steps);
            let result = renew(flash, |seed| given.push(*seed), || seed(number));
            flash.restore();
            match result {
                Ok(found) => {
                    assert_eq!(found, !self.given.is_empty());
                    for seed in &self.given {
                        assert!(!self.used.contains(seed), "start {number} uses a seed a second time");
                    }
                    self.used.extend_from_slice(&self.given);
                    true
                }
                Err(error) => {
                    assert_eq!(error, RamFlashError::PowerCut);
                    false
                }
            }
        }

        fn fresh(&mut self) -> usize {
            let flash = self.flash();
            slots(SEED).filter(|&offset| matches!(read(flash, offset), Ok(Slot::Fresh(_)))).count()
        }

        /// The seeds' blocks as they are.
        fn area(&mut self) -> Vec<u8> {
            self.flash().bytes[SEED.offset as usize..SEED.end() as usize].to_vec()
        }

        fn put_area(&mut self, bytes: &[u8]) {
            self.flash().bytes[SEED.offset as usize..SEED.end() as usize].copy_from_slice(bytes);
        }
    }

    /// More steps than a start takes.
    const WHOLE: u32 = 1000;

    #[test]
    fn each_start_is_given_what_the_last_one_left_and_nothing_else() {
        let mut machine = Machine::new(RamFlash::erased());
        assert!(machine.start(WHOLE) && machine.given.is_empty(), "the first has none");
        for number in 1..2048 + 1100 {
            assert!(machine.start(WHOLE));
            assert_eq!(machine.given, [seed(number)]);
        }
    }

    #[test]
    fn what_an_orderly_end_leaves_is_used_too() {
        let mut machine = Machine::new(RamFlash::erased());
        for run in 0..2100 {
            assert!(machine.start(WHOLE));
            assert_eq!(machine.given.len(), if run == 0 { 0 } else { 1 + usize::from(run % 3 != 1) });
            // Two runs of three end in good order.
            if run % 3 > 0 {
                store(machine.flash(), &seed(1 << 32 | run)).unwrap();
            }
        }
    }

    /// Goes through a power cut at each step of one start, each followed by one at each step of the next, and by a whole one.
    fn cut_everywhere(machine: &mut Machine) {
        let before = machine.area();
        let used = machine.used.len();
        let mut steps = 0;
        loop {
            machine.put_area(&before);
            machine.used.truncate(used);
            let whole = machine.start(steps);
            assert!(machine.fresh() > 0, "no seed after {steps} steps");
            let (once, used_once) = (machine.area(), machine.used.len());
            for again in 0..WHOLE {
                machine.put_area(&once);
                machine.used.truncate(used_once);
                let whole = machine.start(again);
                assert!(machine.fresh() > 0, "no seed after {steps} steps and {again} of the next start");
                assert!(machine.start(WHOLE) && !machine.given.is_empty());
                if whole {
                    break;
                }
            }
            if whole {
                break;
            }
            steps += 1;
        }
        assert!(steps >= 12 + 2, "the successor and the mark are {steps} steps");
        machine.put_area(&before);
        machine.used.truncate(used);
    }

    #[test]
    fn a_power_cut_anywhere_leaves_a_seed_and_none_is_used_twice() {
        let mut machine = Machine::new(RamFlash::erased());
        assert!(machine.start(WHOLE));
        cut_everywhere(&mut machine);
        // Up to each of the wraps, and over it: the first into the block that was never used, then two with an erase.
        for wrap in 0..4 {
            while machine.used.len() < wrap * 1024 + 1021 {
                assert!(machine.start(WHOLE));
            }
            for _ in 0..3 {
                cut_everywhere(&mut machine);
                assert!(machine.start(WHOLE));
            }
        }
    }

    #[test]
    fn many_starts_in_a_row_that_are_cut_off() {
        let mut machine = Machine::new(RamFlash::erased());
        store(machine.flash(), &seed(0)).unwrap();
        // 17 and 24 have no common factor with most lengths: the cut wanders over the steps, and the slots over the blocks.
        let mut whole = 0;
        for round in 0..4000u32 {
            whole += u32::from(machine.start(round * 17 % 24));
            assert!(machine.fresh() > 0, "{round}");
        }
        assert!(whole > 500 && machine.start(WHOLE), "{whole}");
    }

    #[test]
    fn the_single_block_of_older_firmware_is_read() {
        let mut flash = RamFlash::erased();
        let mut put = |index: u32, number: u64, taken: bool| {
            let mut slot = [0xFF; SLOT_LENGTH as usize];
            slot[..4].copy_from_slice(b"NASE");
            slot[4..44].copy_from_slice(&seed(number));
            let checksum = crate::bytes::crc32(&slot[..44]);
            slot[44..48].copy_from_slice(&checksum.to_be_bytes());
            slot[48..56].fill(if taken { 0 } else { 0xFF });
            flash.write(0x36_0000 + index * SLOT_LENGTH, &slot).unwrap();
        };
        for index in 0..1022 {
            put(index, u64::from(index) << 32, true);
        }
        put(1022, 7 << 32, false);
        put(1023, 8 << 32, false);
        let mut machine = Machine::new(flash);
        cut_everywhere(&mut machine);
        assert!(machine.start(WHOLE));
        assert_eq!(machine.fresh(), 1);
    }

    #[test]
    fn a_flash_that_takes_nothing_does_not_hand_out_its_seed_as_if_it_were_marked() {
        let mut machine = Machine::new(RamFlash::erased());
        assert!(machine.start(WHOLE));
        assert!(!machine.start(0), "said as an error");
    }
}
