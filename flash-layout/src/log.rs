//! A log of key/value records over two halves of NOR flash, safe against a power cut at any moment.
//!
//! Each half starts with a header of 16 bytes; the half whose header is whole and has the higher generation is the
//! one in use. A record is a header of 16 bytes and a body (key, then value), padded with ones to 8 bytes:
//!
//! | offset | half header | record header |
//! |---|---|---|
//! | 0 | magic `NASC` | magic 0xA5 |
//! | 1 | | kind |
//! | 2 | | bytes of key |
//! | 3 | | 0: the key has this value; 1: the key is removed |
//! | 4 | generation | bytes of value (2), zero (2) |
//! | 8 | zero | CRC-32 of the body |
//! | 12 | CRC-32 of bytes 0-11 | CRC-32 of bytes 0-11 |
//!
//! The newest whole record of a key counts. Writing appends: the header first, so that the length of a body that
//! was cut off is known, then the body. When a half is full the live records are copied to the other half, which
//! was erased before, and its header is written last:
//!
//! | power fails while | next start uses |
//! |---|---|
//! | a record is appended | all records before it: the checksum of the new one fails and it is skipped |
//! | the other half is erased, or filled | this half: the other has no valid header, or the older generation |
//! | the other half's header is written | this half: that header's checksum fails |
//! | after that | the other half, which holds the same |

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use embedded_storage::nor_flash::NorFlash;

use crate::area::{Area, ERASE_BLOCK};
use crate::bytes::{put, u16_at, u32_at};

/// The longest key in bytes.
pub const KEY_LIMIT: usize = 64;

/// The longest value in bytes.
pub const VALUE_LIMIT: usize = 4096;

/// Records start at, and are padded to, multiples of this; flash programmable in any unit that divides it will do.
const GRAIN: u32 = 8;

const HALF_MAGIC: [u8; 4] = *b"NASC";
const RECORD_MAGIC: u8 = 0xA5;
const HEADER_LENGTH: u32 = 16;
/// Where a header's own checksum is; it covers everything before.
const HEADER_CHECKSUM: usize = 12;

/// What a record is about; the meaning of the number is the user's.
pub type Kind = u8;

/// Why the log would not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogError<E> {
    /// The flash failed.
    Flash(E),
    /// The live records and the new one together do not fit into one half.
    Full,
    /// The key or the value is longer than its limit.
    TooLong,
    /// The flash does not hold what was programmed.
    Verify,
}

impl<E> From<E> for LogError<E> {
    fn from(error: E) -> Self {
        Self::Flash(error)
    }
}

/// Where a live value lies.
#[derive(Clone, Copy, Debug)]
struct Location {
    /// Of the record's header, from the start of the flash.
    offset: u32,
    key_length: u8,
    value_length: u16,
}

impl Location {
    /// Bytes of header, body and padding.
    fn record_length(self) -> u32 {
        HEADER_LENGTH + body_length(self.key_length, self.value_length)
    }
}

/// Bytes of key and value with padding: at most 4,160.
fn body_length(key_length: u8, value_length: u16) -> u32 {
    (u32::from(key_length) + u32::from(value_length)).next_multiple_of(GRAIN)
}

/// The log, and an index in memory of what is live.
#[derive(Debug)]
pub struct Log<F> {
    flash: F,
    halves: [Area; 2],
    /// Which half is in use and its generation; `None` before the first write to an empty log.
    active: Option<(usize, u32)>,
    /// Where the next record goes, from the start of the flash.
    end: u32,
    live: BTreeMap<(Kind, Vec<u8>), Location>,
    skipped: u32,
}

impl<F: NorFlash> Log<F> {
    /// Reads the log in `region`, which has two or more erase blocks, an even number. Changes nothing: a region
    /// without a valid half is an empty log, and is formatted by the first write.
    pub fn open(flash: F, region: Area) -> Result<Self, LogError<F::Error>> {
        const {
            assert!(
                F::ERASE_SIZE <= ERASE_BLOCK as usize && (ERASE_BLOCK as usize).is_multiple_of(F::ERASE_SIZE)
            );
            assert!(
                (GRAIN as usize).is_multiple_of(F::WRITE_SIZE)
                    && (GRAIN as usize).is_multiple_of(F::READ_SIZE)
            );
        }
        let length = region.length / 2 / ERASE_BLOCK * ERASE_BLOCK;
        let halves = [Area { length, ..region }, Area { offset: region.offset + length, length }];
        let mut log = Self { flash, halves, active: None, end: 0, live: BTreeMap::new(), skipped: 0 };
        for (index, half) in halves.into_iter().enumerate() {
            let Some(generation) = log.half_generation(half)? else { continue };
            // Newer modulo 2^32, as the images' sequence numbers.
            let newer = log.active.is_none_or(|(_, other)| generation.wrapping_sub(other) < 1 << 31);
            if newer {
                log.active = Some((index, generation));
            }
        }
        if let Some((index, _)) = log.active {
            log.scan(halves[index & 1])?;
        }
        Ok(log)
    }

    /// Gives the flash back.
    pub fn into_flash(self) -> F {
        self.flash
    }

    /// The flash underneath, for the other regions.
    pub fn flash(&mut self) -> &mut F {
        &mut self.flash
    }

    /// Damaged records that were passed over when the log was opened.
    #[must_use]
    pub fn skipped(&self) -> u32 {
        self.skipped
    }

    /// Bytes of a half that are written, of how many.
    #[must_use]
    pub fn usage(&self) -> (u32, u32) {
        let used = self.active.map_or(0, |(index, _)| self.end - self.halves[index & 1].offset);
        (used, self.halves[0].length)
    }

    /// The keys of `kind` that have a value, in the order of their bytes.
    pub fn keys(&self, kind: Kind) -> impl Iterator<Item = &[u8]> {
        self.live
            .range((kind, Vec::new())..)
            .take_while(move |((other, _), _)| *other == kind)
            .map(|((_, key), _)| key.as_slice())
    }

    /// The newest value of `key`, if it has one.
    pub fn get(&mut self, kind: Kind, key: &[u8]) -> Result<Option<Vec<u8>>, LogError<F::Error>> {
        let Some(location) = self.live.get(&(kind, key.to_vec())).copied() else { return Ok(None) };
        let mut body = vec![0; body_length(location.key_length, location.value_length) as usize];
        self.flash.read(location.offset + HEADER_LENGTH, &mut body)?;
        let value = usize::from(location.key_length)
            ..usize::from(location.key_length) + usize::from(location.value_length);
        Ok(body.get(value).map(<[u8]>::to_vec))
    }

    /// Gives `key` a value. When this returns, the value survives a power cut; when power fails before, the old
    /// value does. A value that is there already is not written again.
    pub fn set(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Result<(), LogError<F::Error>> {
        if self.get(kind, key)?.as_deref() == Some(value) {
            return Ok(());
        }
        self.append(kind, key, Some(value))
    }

    /// Takes `key`'s value away, if it has one.
    pub fn remove(&mut self, kind: Kind, key: &[u8]) -> Result<(), LogError<F::Error>> {
        if self.live.contains_key(&(kind, key.to_vec())) { self.append(kind, key, None) } else { Ok(()) }
    }

    /// The generation of a half with a whole header.
    fn half_generation(&mut self, half: Area) -> Result<Option<u32>, LogError<F::Error>> {
        let mut header = [0; HEADER_LENGTH as usize];
        self.flash.read(half.offset, &mut header)?;
        let whole = header.first_chunk() == Some(&HALF_MAGIC)
            && header.first_chunk::<HEADER_CHECKSUM>().map(|covered| crate::bytes::crc32(covered))
                == u32_at(&header, HEADER_CHECKSUM);
        Ok(if whole { u32_at(&header, 4) } else { None })
    }

    /// Fills the index from `half` and finds where it ends.
    fn scan(&mut self, half: Area) -> Result<(), LogError<F::Error>> {
        self.live.clear();
        self.end = half.offset + HEADER_LENGTH;
        let mut offset = self.end;
        let mut in_damage = false;
        while offset + HEADER_LENGTH <= half.end() {
            let mut header = [0; HEADER_LENGTH as usize];
            self.flash.read(offset, &mut header)?;
            let erased = header.first_chunk() == Some(&[0xFF; GRAIN as usize]);
            let parsed = parse_record_header(&header).filter(|(_, location, ..)| {
                // What a header says it has must lie inside the half.
                location.record_length() <= half.end() - offset
            });
            let Some((kind, location, removed, checksum)) = parsed else {
                // Erased, or damage of unknown length: look on at the next boundary.
                offset += GRAIN;
                if !erased {
                    self.end = offset;
                    self.skipped += u32::from(!in_damage);
                }
                in_damage = !erased;
                continue;
            };
            let location = Location { offset, ..location };
            let mut body = vec![0; body_length(location.key_length, location.value_length) as usize];
            self.flash.read(offset + HEADER_LENGTH, &mut body)?;
            offset += location.record_length();
            self.end = offset;
            in_damage = false;
            let covered = usize::from(location.key_length) + usize::from(location.value_length);
            if body.get(..covered).map(crate::bytes::crc32) != Some(checksum) {
                self.skipped += 1;
                continue;
            }
            let key = (kind, body.get(..usize::from(location.key_length)).unwrap_or(&[]).to_vec());
            if removed {
                self.live.remove(&key);
            } else {
                self.live.insert(key, location);
            }
        }
        Ok(())
    }

    /// Writes one record, after making room if need be.
    fn append(&mut self, kind: Kind, key: &[u8], value: Option<&[u8]>) -> Result<(), LogError<F::Error>> {
        let bytes = value.unwrap_or(&[]);
        if key.len() > KEY_LIMIT || bytes.len() > VALUE_LIMIT {
            return Err(LogError::TooLong);
        }
        // Both fit by the limits above.
        let (key_length, value_length) = (key.len() as u8, bytes.len() as u16);
        let length = HEADER_LENGTH + body_length(key_length, value_length);
        let room = self.active.map(|(index, _)| self.halves[index & 1].end() - self.end);
        if room.is_none_or(|room| room < length) {
            self.compact(length, value.is_none().then_some((kind, key)))?;
            if value.is_none() {
                // The removed key was left out of the copy: nothing is to be said about it any more.
                return Ok(());
            }
        }
        let mut body = vec![0xFF; body_length(key_length, value_length) as usize];
        put(&mut body, 0, key);
        put(&mut body, key.len(), bytes);
        let covered = key.len() + bytes.len();
        let mut header = [0; HEADER_LENGTH as usize];
        put(&mut header, 0, &[RECORD_MAGIC, kind, key_length, u8::from(value.is_none())]);
        put(&mut header, 4, &value_length.to_be_bytes());
        put(&mut header, 8, &crate::bytes::crc32(body.get(..covered).unwrap_or(&[])).to_be_bytes());
        let checksum =
            header.first_chunk::<HEADER_CHECKSUM>().map_or(0, |covered| crate::bytes::crc32(covered));
        put(&mut header, HEADER_CHECKSUM, &checksum.to_be_bytes());

        // The place counts as used from here on, also when the flash fails in the middle of it.
        let location = Location { offset: self.end, key_length, value_length };
        self.end += length;
        self.program(location.offset, &header)?;
        self.program(location.offset + HEADER_LENGTH, &body)?;
        let key = (kind, key.to_vec());
        if value.is_some() {
            self.live.insert(key, location);
        } else {
            self.live.remove(&key);
        }
        Ok(())
    }

    /// Moves the live records, but for `without`, to the other half; there must be `room` bytes left behind them.
    fn compact(&mut self, room: u32, without: Option<(Kind, &[u8])>) -> Result<(), LogError<F::Error>> {
        let (target, generation) = match self.active {
            Some((index, generation)) => (1 - (index & 1), generation.wrapping_add(1)),
            None => (0, 1),
        };
        let half = self.halves[target];
        if let Some((kind, key)) = without {
            // The old half still has the value until the new header is written: a cut before that undoes the removal.
            let live = self.live.iter().filter(|((k, n), _)| (*k, n.as_slice()) != (kind, key));
            let live = live.map(|(key, location)| (key.clone(), *location)).collect();
            return self.copy_to(half, target, generation, live);
        }
        let live: BTreeMap<_, _> = self.live.clone();
        let needed: u32 = live.values().map(|location| location.record_length()).sum();
        if needed.saturating_add(HEADER_LENGTH).saturating_add(room) > half.length {
            return Err(LogError::Full);
        }
        self.copy_to(half, target, generation, live)
    }

    /// Erases `half`, copies `live` into it, writes its header, and goes on there.
    fn copy_to(
        &mut self,
        half: Area,
        target: usize,
        generation: u32,
        live: BTreeMap<(Kind, Vec<u8>), Location>,
    ) -> Result<(), LogError<F::Error>> {
        self.flash.erase(half.offset, half.end())?;
        let mut end = half.offset + HEADER_LENGTH;
        let mut moved = BTreeMap::new();
        for (key, location) in live {
            let mut record = vec![0; location.record_length() as usize];
            self.flash.read(location.offset, &mut record)?;
            self.program(end, &record)?;
            moved.insert(key, Location { offset: end, ..location });
            end += location.record_length();
        }
        let mut header = [0; HEADER_LENGTH as usize];
        put(&mut header, 0, &HALF_MAGIC);
        put(&mut header, 4, &generation.to_be_bytes());
        let checksum =
            header.first_chunk::<HEADER_CHECKSUM>().map_or(0, |covered| crate::bytes::crc32(covered));
        put(&mut header, HEADER_CHECKSUM, &checksum.to_be_bytes());
        self.program(half.offset, &header)?;
        self.active = Some((target, generation));
        self.end = end;
        self.live = moved;
        Ok(())
    }

    /// Programs and reads back.
    fn program(&mut self, offset: u32, bytes: &[u8]) -> Result<(), LogError<F::Error>> {
        self.flash.write(offset, bytes)?;
        let mut back = vec![0; bytes.len()];
        self.flash.read(offset, &mut back)?;
        if back == bytes { Ok(()) } else { Err(LogError::Verify) }
    }
}

/// Kind, lengths, removal flag and body checksum of a whole record header; its offset is left 0.
fn parse_record_header(header: &[u8; HEADER_LENGTH as usize]) -> Option<(Kind, Location, bool, u32)> {
    let [RECORD_MAGIC, kind, key_length, removed @ (0 | 1), ..] = *header else { return None };
    let value_length = u16_at(header, 4)?;
    let whole = header.first_chunk::<HEADER_CHECKSUM>().map(|covered| crate::bytes::crc32(covered))
        == u32_at(header, HEADER_CHECKSUM);
    let bounded = usize::from(key_length) <= KEY_LIMIT && usize::from(value_length) <= VALUE_LIMIT;
    (whole && bounded).then_some((
        kind,
        Location { offset: 0, key_length, value_length },
        removed == 1,
        u32_at(header, 8)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ram_flash::{RamFlash, RamFlashError};

    /// Two halves of one erase block: a small flash makes for quick copies.
    const REGION: Area = Area { offset: 0, length: 2 * ERASE_BLOCK };

    fn open(flash: &mut RamFlash) -> Log<&mut RamFlash> {
        Log::open(flash, REGION).unwrap()
    }

    /// All of kind 1, as text.
    fn contents(flash: &mut RamFlash) -> Vec<(String, String)> {
        let mut log = open(flash);
        let keys: Vec<Vec<u8>> = log.keys(1).map(<[u8]>::to_vec).collect();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        keys.into_iter().map(|key| (text(key.clone()), text(log.get(1, &key).unwrap().unwrap()))).collect()
    }

    #[test]
    fn values_survive_and_the_newest_counts() {
        let mut flash = RamFlash::of_length(REGION.length);
        let untouched = flash.bytes.clone();
        assert_eq!(open(&mut flash).get(1, b"a"), Ok(None));
        assert!(flash.bytes == untouched, "opening writes nothing");
        let mut log = open(&mut flash);
        log.set(1, b"a", b"1").unwrap();
        log.set(1, b"b", b"").unwrap();
        log.set(2, b"a", b"another kind").unwrap();
        log.set(1, b"a", b"2").unwrap();
        log.set(1, b"c", b"3").unwrap();
        log.remove(1, b"c").unwrap();
        assert_eq!(contents(&mut flash), [("a".into(), "2".into()), ("b".into(), "".into())]);
        assert_eq!(open(&mut flash).get(2, b"a").unwrap().unwrap(), b"another kind");
    }

    #[test]
    fn the_same_value_is_not_written_again() {
        let mut flash = RamFlash::of_length(REGION.length);
        let mut log = open(&mut flash);
        log.set(1, b"a", b"1").unwrap();
        let usage = log.usage();
        log.set(1, b"a", b"1").unwrap();
        log.remove(1, b"absent").unwrap();
        assert_eq!(log.usage(), usage);
    }

    #[test]
    fn a_full_half_is_compacted_and_a_full_log_says_so() {
        let mut flash = RamFlash::of_length(REGION.length);
        let mut log = open(&mut flash);
        for round in 0..400 {
            log.set(1, b"big", &[b'a' + (round % 26) as u8; 1000]).unwrap();
        }
        assert_eq!(log.active.unwrap().1, 7, "400 records of about 1 KiB are six compactions of 64 KiB");
        let mut count = 0;
        let refused = loop {
            match log.set(1, format!("{count}").as_bytes(), &[0x20; VALUE_LIMIT]) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
        };
        assert_eq!((refused, count), (LogError::Full, 15));
        // Full is not stuck: something can be removed, and then there is room again.
        log.remove(1, b"7").unwrap();
        log.set(1, b"new", &[0x20; VALUE_LIMIT]).unwrap();
        assert_eq!(contents(&mut flash).len(), 16);
    }

    #[test]
    fn limits_hold() {
        let mut flash = RamFlash::of_length(REGION.length);
        let mut log = open(&mut flash);
        assert_eq!(log.set(1, &[0; KEY_LIMIT + 1], b""), Err(LogError::TooLong));
        assert_eq!(log.set(1, b"", &[0; VALUE_LIMIT + 1]), Err(LogError::TooLong));
        log.set(1, &[0; KEY_LIMIT], &[1; VALUE_LIMIT]).unwrap();
    }

    /// What the power-cut tests do: returns how many of the changes were acknowledged.
    fn changes(flash: &mut RamFlash) -> Result<(), (usize, LogError<RamFlashError>)> {
        let mut log = Log::open(flash, REGION).map_err(|error| (0, error))?;
        for change in 0..12 {
            let result = if change % 4 == 3 {
                log.remove(1, b"key-1")
            } else {
                // Long enough that the second half is needed in the course of the changes.
                let value: Vec<u8> = std::iter::repeat_n(b'a' + change as u8, 3900).collect();
                log.set(1, format!("key-{}", change % 4).as_bytes(), &value)
            };
            result.map_err(|error| (change, error))?;
        }
        Ok(())
    }

    /// The keys, and the first letter of the values, after the first `count` of `changes`.
    fn model(count: usize) -> BTreeMap<String, char> {
        let mut model = BTreeMap::from([("keep".into(), 'k')]);
        for change in 0..count {
            if change % 4 == 3 {
                model.remove("key-1");
            } else {
                model.insert(format!("key-{}", change % 4), (b'a' + change as u8) as char);
            }
        }
        model
    }

    #[test]
    fn a_power_cut_at_any_step_loses_nothing_acknowledged() {
        // Begin close to the end of a half, so that the changes cross it.
        let mut start = RamFlash::of_length(REGION.length);
        let mut log = open(&mut start);
        log.set(1, b"keep", b"k").unwrap();
        for round in 0..12 {
            log.set(9, b"filler", &[round; VALUE_LIMIT]).unwrap();
        }
        log.remove(9, b"filler").unwrap();
        let mut steps = 0;
        let mut last_done = None;
        loop {
            let mut flash = start.clone();
            flash.cut_after(steps);
            let result = changes(&mut flash);
            flash.restore();
            let Err((done, error)) = result else { break };
            assert_eq!(error, LogError::Flash(RamFlashError::PowerCut));
            let found: BTreeMap<String, char> = contents(&mut flash)
                .into_iter()
                .map(|(key, value)| (key, value.chars().next().unwrap()))
                .collect();
            // The change that was cut is either there or not, wholly.
            assert!(
                found == model(done) || found == model(done + 1),
                "step {steps}, change {done}: {found:?}"
            );
            // And the log goes on working.
            open(&mut flash).set(1, b"after", b"x").unwrap();
            assert_eq!(open(&mut flash).get(1, b"after").unwrap().unwrap(), b"x");
            if last_done != Some(done) {
                last_done = Some(done);
            }
            // Appended words are alike: try every one near the borders, and some in between.
            steps += if steps % 1024 < 64 { 1 } else { 5 };
        }
        assert_eq!(last_done, Some(11), "the cuts reached the last change");
        assert!(steps > 8000);
    }

    #[test]
    fn a_failed_write_is_passed_over_without_a_restart() {
        let mut flash = RamFlash::of_length(REGION.length);
        let mut log = open(&mut flash);
        log.set(1, b"a", b"1").unwrap();
        for steps in 0..6 {
            log.flash().cut_after(steps);
            assert!(log.set(1, b"a", b"22222222").is_err());
            log.flash().restore();
            assert_eq!(log.get(1, b"a").unwrap().unwrap(), b"1");
        }
        log.set(1, b"b", b"2").unwrap();
        assert_eq!(contents(&mut flash), [("a".into(), "1".into()), ("b".into(), "2".into())]);
    }

    #[test]
    fn damaged_records_are_skipped_one_by_one() {
        let mut start = RamFlash::of_length(REGION.length);
        let mut log = open(&mut start);
        for key in ["a", "b", "c"] {
            log.set(1, key.as_bytes(), b"0123456789abcdef").unwrap();
        }
        let first = REGION.offset as usize + HEADER_LENGTH as usize;
        let length = (HEADER_LENGTH + 24) as usize;
        for offset in 0..3 * length {
            let mut flash = start.clone();
            flash.bytes[first + offset] ^= 0x10;
            let found: Vec<String> = contents(&mut flash).into_iter().map(|(key, _)| key).collect();
            let hit = offset / length;
            let padding = offset % length >= HEADER_LENGTH as usize + 17;
            let expected: Vec<&str> = ["a", "b", "c"]
                .into_iter()
                .enumerate()
                .filter(|(n, _)| padding || *n != hit)
                .map(|(_, k)| k)
                .collect();
            assert_eq!(found, expected, "byte {offset}");
            let mut log = open(&mut flash);
            assert_eq!(log.skipped(), u32::from(!padding), "byte {offset}");
            log.set(1, b"d", b"new").unwrap();
            assert_eq!(contents(&mut flash).len(), expected.len() + 1);
        }
    }

    #[test]
    fn noise_is_an_empty_log() {
        let mut flash = RamFlash::of_length(REGION.length);
        let mut state = 1u32;
        for byte in &mut flash.bytes {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        assert_eq!(contents(&mut flash), []);
        open(&mut flash).set(1, b"a", b"1").unwrap();
        assert_eq!(contents(&mut flash), [("a".into(), "1".into())]);
    }

    #[test]
    fn the_half_with_the_higher_generation_is_used() {
        let mut flash = RamFlash::of_length(REGION.length);
        open(&mut flash).set(1, b"a", b"old").unwrap();
        let mut log = open(&mut flash);
        log.compact(0, None).unwrap();
        log.set(1, b"a", b"new").unwrap();
        assert_eq!(contents(&mut flash), [("a".into(), "new".into())]);
        // Its header damaged, the old half is what is left.
        flash.bytes[(REGION.offset + REGION.length / 2) as usize + 5] ^= 1;
        assert_eq!(contents(&mut flash), [("a".into(), "old".into())]);
    }
}
