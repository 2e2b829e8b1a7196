//! The random generator's seed across power cycles.
//!
//! The region is 1,024 slots of 64 bytes, filled in order:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic `NASE` |
//! | 4 | 40 | seed |
//! | 44 | 4 | CRC-32 of bytes 0 to 43 |
//! | 48 | 8 | ones: fresh; zeros: taken |
//! | 56 | 8 | not used, ones |
//!
//! A seed is marked as taken before it is handed out, so no two power-ons ever start from the same one. When the
//! block is full the next [`store`] erases it. A power cut between taking and storing leaves no fresh seed: the
//! generator then starts from interrupt jitter alone, as on the first power-on.

use embedded_storage::nor_flash::NorFlash;

use crate::area::SEED;
use crate::bytes::{array, put, u32_at};

/// Bytes of a seed.
pub const SEED_LENGTH: usize = 40;

const MAGIC: [u8; 4] = *b"NASE";
const SLOT_LENGTH: u32 = 64;
const CHECKSUM: usize = 44;
const TAKEN: u32 = 48;

/// The fresh seed, if there is one; it will not be handed out again.
pub fn take<F: NorFlash>(flash: &mut F) -> Result<Option<[u8; SEED_LENGTH]>, F::Error> {
    let mut found = None;
    for offset in (SEED.offset..SEED.end()).step_by(SLOT_LENGTH as usize) {
        let mut slot = [0; SLOT_LENGTH as usize];
        flash.read(offset, &mut slot)?;
        let whole = slot.first_chunk() == Some(&MAGIC)
            && slot.first_chunk::<CHECKSUM>().map(|covered| crate::bytes::crc32(covered))
                == u32_at(&slot, CHECKSUM);
        let fresh = array::<8>(&slot, TAKEN as usize) == Some([0xFF; 8]);
        if whole && fresh {
            // Also those that an interrupted `store` left beside a newer one are used up.
            flash.write(offset + TAKEN, &[0; 8])?;
            found = array(&slot, MAGIC.len());
        }
    }
    Ok(found)
}

/// Keeps `seed` for the next power-on. It must not be what the running generator was started from.
pub fn store<F: NorFlash>(flash: &mut F, seed: &[u8; SEED_LENGTH]) -> Result<(), F::Error> {
    const { assert!(F::WRITE_SIZE <= 8 && 8 % F::WRITE_SIZE == 0 && 8 % F::READ_SIZE == 0) };
    let mut target = None;
    for offset in (SEED.offset..SEED.end()).step_by(SLOT_LENGTH as usize) {
        let mut slot = [0; SLOT_LENGTH as usize];
        flash.read(offset, &mut slot)?;
        if slot == [0xFF; SLOT_LENGTH as usize] {
            target = Some(offset);
            break;
        }
    }
    let target = match target {
        Some(offset) => offset,
        None => {
            flash.erase(SEED.offset, SEED.end())?;
            SEED.offset
        }
    };
    let mut bytes = [0; TAKEN as usize];
    put(&mut bytes, 0, &MAGIC);
    put(&mut bytes, MAGIC.len(), seed);
    let checksum = bytes.first_chunk::<CHECKSUM>().map_or(0, |covered| crate::bytes::crc32(covered));
    put(&mut bytes, CHECKSUM, &checksum.to_be_bytes());
    flash.write(target, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ram_flash::RamFlash;

    #[test]
    fn a_seed_is_handed_out_once() {
        let mut flash = RamFlash::erased();
        assert_eq!(take(&mut flash), Ok(None));
        for round in 0..2100u32 {
            let seed = [round as u8; SEED_LENGTH];
            store(&mut flash, &seed).unwrap();
            assert_eq!(take(&mut flash), Ok(Some(seed)), "{round}");
            assert_eq!(take(&mut flash), Ok(None));
        }
    }

    #[test]
    fn every_start_finds_a_seed_however_the_last_run_ended() {
        let mut flash = RamFlash::erased();
        store(&mut flash, &[0; SEED_LENGTH]).unwrap();
        for run in 0..2000u32 {
            assert!(take(&mut flash).unwrap().is_some(), "{run}");
            store(&mut flash, &[run as u8; SEED_LENGTH]).unwrap();
            // Two runs of three end in good order.
            if run % 3 > 0 {
                store(&mut flash, &[!run as u8; SEED_LENGTH]).unwrap();
            }
        }
    }

    #[test]
    fn the_newest_counts_and_the_rest_is_used_up() {
        let mut flash = RamFlash::erased();
        store(&mut flash, &[1; SEED_LENGTH]).unwrap();
        store(&mut flash, &[2; SEED_LENGTH]).unwrap();
        assert_eq!(take(&mut flash), Ok(Some([2; SEED_LENGTH])));
        assert_eq!(take(&mut flash), Ok(None));
    }

    #[test]
    fn a_power_cut_never_gives_the_same_seed_twice() {
        let mut start = RamFlash::erased();
        store(&mut start, &[1; SEED_LENGTH]).unwrap();
        for steps in 0..20 {
            let mut flash = start.clone();
            flash.cut_after(steps);
            let first = take(&mut flash).ok().flatten();
            let _ = store(&mut flash, &[2; SEED_LENGTH]);
            flash.restore();
            let second = take(&mut flash).unwrap();
            assert!(first.is_none() || first != second, "{steps}");
        }
    }
}
