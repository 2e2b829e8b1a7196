//! Directory entries: sets of 32-byte records that stand for one name, in exFAT's and FAT's form.
//!
//! [`SetParser`] is fed records one by one and says when a set is complete; the `encode_*` functions make new sets.

use alloc::vec;
use alloc::vec::Vec;

use super::bytes::{get8, get16, get32, get64, put};
use super::geometry::Kind;
use super::{FileAttributes, NodeKind};
use crate::time::{DosTime, FileTime, apply_utc_offset};
use crate::upcase::UpcaseTable;

/// Bytes a record.
pub(crate) const RECORD: usize = 32;

/// Records that a set has at most: FAT's 20 for a long name and one short; exFAT's are 19 (foreign ones may have more,
/// and are not taken up).
pub(crate) const MAXIMUM_RECORDS: usize = 21;

const _: () = assert!(2 + 255usize.div_ceil(15) <= MAXIMUM_RECORDS);

// exFAT record types (6.2.1).
pub(crate) const EXFAT_BITMAP: u8 = 0x81;
pub(crate) const EXFAT_UPCASE: u8 = 0x82;
pub(crate) const EXFAT_LABEL: u8 = 0x83;
pub(crate) const EXFAT_FILE: u8 = 0x85;
pub(crate) const EXFAT_STREAM: u8 = 0xC0;
pub(crate) const EXFAT_NAME: u8 = 0xC1;
/// The first of the benign secondary records: vendors' (exFAT 7.8, 7.9), none of which means anything to us.
pub(crate) const EXFAT_VENDOR: u8 = 0xE0;

/// exFAT's flags of a stream: clusters may be there; they follow each other without a chain in the FAT.
const ALLOCATION_POSSIBLE: u8 = 1;
const NO_FAT_CHAIN: u8 = 2;

pub(crate) const FAT_DELETED: u8 = 0xE5;
pub(crate) const FAT_VOLUME: u8 = 0x08;
pub(crate) const FAT_LONG_NAME: u8 = 0x0F;
const FAT_LAST_LONG: u8 = 0x40;

/// What a set says, but its name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Record {
    /// Number of the set's first record in the directory.
    pub(crate) position: u32,
    /// How many records it has.
    pub(crate) count: u32,
    pub(crate) attributes: u32,
    pub(crate) first_cluster: u32,
    /// Bytes; for an exFAT directory the bytes of its clusters, for a FAT directory 0.
    pub(crate) size: u64,
    /// Bytes written; behind them a file is zeros. Equal to `size` on FAT.
    pub(crate) valid: u64,
    /// The clusters follow each other and the FAT says nothing of them.
    pub(crate) contiguous: bool,
    pub(crate) times: Times,
    /// The 8.3 name beside a long one, and its length.
    pub(crate) short: [u16; 12],
    pub(crate) short_length: u8,
}

/// The three times of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) created: FileTime,
    pub(crate) modified: FileTime,
    pub(crate) accessed: FileTime,
}

impl Record {
    pub(crate) fn kind(&self) -> NodeKind {
        if self.attributes & FileAttributes::DIRECTORY != 0 { NodeKind::Directory } else { NodeKind::File }
    }

    pub(crate) fn short_name(&self) -> Option<&[u16]> {
        self.short.get(..usize::from(self.short_length)).filter(|name| !name.is_empty())
    }
}

/// What a record turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// Nothing from here to the directory's end.
    End,
    /// Not in use.
    Unused,
    /// Part of a set that goes on, or a record that stands for no file.
    Used,
    /// The last of a set: see `record` and `name`.
    Complete,
}

/// Puts sets together.
pub(crate) struct SetParser {
    kind: Kind,
    /// Take sums for granted: for sets that were checked when their directory was first read.
    pub(crate) trusting: bool,
    /// The set just completed.
    pub(crate) record: Record,
    /// Its name.
    pub(crate) name: Vec<u16>,
    /// Records of the set still to come (exFAT), or the number of the long-name record expected (FAT).
    left: u32,
    name_left: usize,
    start: u32,
    sum: u16,
    expected_sum: u16,
    stream_seen: bool,
    known_time: KnownTime,
    long: [u16; 260],
    long_length: usize,
}

/// The second worked out last: the times of a set, and of sets that were made together, are often the same.
#[derive(Default)]
struct KnownTime {
    packed: u32,
    zone: u8,
    /// Of `packed` in `zone`, without hundredths.
    moment: FileTime,
}

impl KnownTime {
    /// The moment that a packed time in a time zone is.
    fn moment(&mut self, packed: u32, centiseconds: u8, zone: u8) -> FileTime {
        if (packed, zone) != (self.packed, self.zone) {
            let local = DosTime::unpack(packed, 0).to_file_time();
            *self = Self { packed, zone, moment: apply_utc_offset(local, zone) };
        }
        self.moment.plus_centiseconds(centiseconds)
    }
}

impl SetParser {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            trusting: false,
            record: Record::default(),
            name: Vec::new(),
            left: 0,
            name_left: 0,
            start: 0,
            sum: 0,
            expected_sum: 0,
            stream_seen: false,
            known_time: KnownTime::default(),
            long: [0; 260],
            long_length: 0,
        }
    }

    /// Forgets a set begun.
    pub(crate) fn reset(&mut self) {
        self.left = 0;
        self.long_length = 0;
    }

    /// Takes the record at `position` of the directory; positions are fed in rising order.
    pub(crate) fn feed(&mut self, position: u32, bytes: &[u8]) -> Fed {
        if self.kind.is_exfat() { self.feed_exfat(position, bytes) } else { self.feed_fat(position, bytes) }
    }

    fn feed_exfat(&mut self, position: u32, bytes: &[u8]) -> Fed {
        let kind = get8(bytes, 0);
        if kind == 0 {
            self.left = 0;
            return Fed::End;
        }
        if kind & 0x80 == 0 {
            self.left = 0;
            return Fed::Unused;
        }
        if kind == EXFAT_FILE {
            self.left = u32::from(get8(bytes, 1));
            self.expected_sum = get16(bytes, 2);
            self.sum = if self.trusting { 0 } else { set_checksum(0, bytes, true) };
            self.stream_seen = false;
            self.start = position;
            let mut time = |offset: usize, centiseconds: u8, zone: usize| {
                self.known_time.moment(get32(bytes, offset), centiseconds, get8(bytes, zone))
            };
            self.record = Record {
                position,
                count: self.left + 1,
                attributes: u32::from(get16(bytes, 4)) & 0x3F,
                times: Times {
                    created: time(8, get8(bytes, 20), 22),
                    modified: time(12, get8(bytes, 21), 23),
                    accessed: time(16, 0, 24),
                },
                ..Record::default()
            };
            return Fed::Used;
        }
        if self.left == 0 {
            return Fed::Used;
        }
        self.left -= 1;
        if !self.trusting {
            self.sum = set_checksum(self.sum, bytes, false);
        }
        match kind {
            EXFAT_STREAM if !self.stream_seen => {
                self.stream_seen = true;
                self.name.clear();
                self.name_left = usize::from(get8(bytes, 3));
                let flags = get8(bytes, 1);
                self.record.valid = get64(bytes, 8);
                self.record.first_cluster = get32(bytes, 20);
                self.record.size = get64(bytes, 24);
                self.record.contiguous = flags & NO_FAT_CHAIN != 0 && flags & ALLOCATION_POSSIBLE != 0;
            }
            EXFAT_NAME if self.stream_seen => {
                let (units, _) = bytes.get(2..RECORD).unwrap_or(&[]).as_chunks::<2>();
                let units = units.iter().take(self.name_left);
                self.name.extend(units.map(|unit| u16::from_le_bytes(*unit)));
                self.name_left = self.name_left.saturating_sub(15);
            }
            // A vendor's record: part of the set, nothing for us.
            _ if self.stream_seen => (),
            _ => {
                self.left = 0;
                return Fed::Used;
            }
        }
        let sound = self.left == 0
            && self.stream_seen
            && self.name_left == 0
            && !self.name.is_empty()
            && (self.trusting || self.sum == self.expected_sum)
            && self.record.valid <= self.record.size;
        if sound { Fed::Complete } else { Fed::Used }
    }

    fn feed_fat(&mut self, position: u32, bytes: &[u8]) -> Fed {
        let first = get8(bytes, 0);
        if first == 0 {
            self.long_length = 0;
            return Fed::End;
        }
        if first == FAT_DELETED {
            self.long_length = 0;
            return Fed::Unused;
        }
        let attributes = get8(bytes, 11);
        if attributes & 0x3F == FAT_LONG_NAME {
            self.feed_long(position, bytes, first);
            return Fed::Used;
        }
        let long = core::mem::take(&mut self.long_length);
        if attributes & FAT_VOLUME != 0 || first == b'.' {
            return Fed::Used;
        }
        let mut short = [0; 12];
        let flags = get8(bytes, 12);
        let length = decode_short(bytes, &mut short, flags);
        let time = |packed: u32, centiseconds: u8| DosTime::unpack(packed, centiseconds).to_file_time();
        let size = u64::from(get32(bytes, 28));
        // On FAT12 and FAT16, which need no more bits, other systems keep something else there.
        let high = if self.kind == Kind::Fat32 { u32::from(get16(bytes, 20)) } else { 0 };
        self.record = Record {
            position,
            count: 1,
            attributes: u32::from(attributes) & 0x37,
            first_cluster: u32::from(get16(bytes, 26)) | high << 16,
            size,
            valid: size,
            contiguous: false,
            times: Times {
                created: time(
                    u32::from(get16(bytes, 16)) << 16 | u32::from(get16(bytes, 14)),
                    get8(bytes, 13),
                ),
                modified: time(u32::from(get16(bytes, 24)) << 16 | u32::from(get16(bytes, 22)), 0),
                accessed: time(u32::from(get16(bytes, 18)) << 16, 0),
            },
            short,
            short_length: length as u8,
        };
        self.name.clear();
        let whole = long > 0 && self.left == 0 && self.expected_sum == u16::from(short_checksum(bytes));
        if whole {
            self.record.position = self.start;
            self.record.count = position - self.start + 1;
            self.name.extend_from_slice(self.long.get(..long).unwrap_or(&[]));
        } else {
            self.name.extend_from_slice(short.get(..length).unwrap_or(&[]));
            self.record.short_length = 0;
        }
        if self.name.is_empty() { Fed::Used } else { Fed::Complete }
    }

    /// One record of a long name; they come last part first.
    fn feed_long(&mut self, position: u32, bytes: &[u8], first: u8) {
        let number = u32::from(first & 0x3F);
        let sum = u16::from(get8(bytes, 13));
        if first & FAT_LAST_LONG != 0 && (1..=20).contains(&number) {
            self.start = position;
            self.left = number;
            self.expected_sum = sum;
            self.long_length = number as usize * 13;
        }
        if self.long_length == 0 || number == 0 || number != self.left || sum != self.expected_sum {
            self.long_length = 0;
            return;
        }
        self.left -= 1;
        let at = self.left as usize * 13;
        for (place, offset) in (at..).zip(LONG_NAME_OFFSETS) {
            let unit = get16(bytes, offset);
            if unit == 0 && place < self.long_length {
                self.long_length = place;
            }
            if let Some(slot) = self.long.get_mut(place) {
                *slot = unit;
            }
        }
        if self.long_length == 0 || self.long_length > 255 {
            self.long_length = 0;
        }
    }
}

/// Where the 13 units of a long-name record lie.
const LONG_NAME_OFFSETS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// exFAT's checksum of a set (6.3.3), continued over one record; of the first, the sum's own bytes are left out.
pub(crate) fn set_checksum(mut sum: u16, record: &[u8], first: bool) -> u16 {
    for (number, &byte) in record.iter().enumerate() {
        if !(first && (number == 2 || number == 3)) {
            sum = sum.rotate_right(1).wrapping_add(u16::from(byte));
        }
    }
    sum
}

/// The sum over an 8.3 name that its long-name records carry (FAT specification 7.2).
pub(crate) fn short_checksum(record: &[u8]) -> u8 {
    record.iter().take(11).fold(0u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte))
}

/// Units of the 8.3 name in a record; `flags` has Windows NT's marks for all-lower-case parts.
fn decode_short(record: &[u8], name: &mut [u16; 12], flags: u8) -> usize {
    let mut length = 0;
    let mut put = |unit: u16| {
        if let Some(place) = name.get_mut(length) {
            *place = unit;
            length += 1;
        }
    };
    let part = |from: usize, to: usize| {
        let bytes = record.get(from..to).unwrap_or(&[]);
        let used = bytes.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1);
        bytes.get(..used).unwrap_or(&[])
    };
    let decode = |number: usize, byte: u8, lower: bool| match byte {
        // 0xE5 as a first character is stored as 5, because it marks deletion.
        5 if number == 0 => oem(0xE5),
        byte if lower => u16::from(byte.to_ascii_lowercase()),
        byte => oem(byte),
    };
    for (number, &byte) in part(0, 8).iter().enumerate() {
        put(decode(number, byte, flags & 0x08 != 0 && byte < 0x80));
    }
    let extension = part(8, 11);
    if !extension.is_empty() {
        put(u16::from(b'.'));
        for &byte in extension {
            put(decode(1, byte, flags & 0x10 != 0 && byte < 0x80));
        }
    }
    length
}

/// Code page 437, in which 8.3 names are mostly stored.
fn oem(byte: u8) -> u16 {
    const UPPER_HALF: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
                              └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{A0}";
    match byte.checked_sub(0x80) {
        None => u16::from(byte),
        Some(number) => {
            UPPER_HALF.chars().nth(usize::from(number)).map_or(u16::from(b'_'), |found| found as u16)
        }
    }
}

/// Whether a name may have this unit: no control characters, none of `"*/:<>?\|`.
pub(crate) fn is_valid_unit(unit: u16) -> bool {
    /// Bit n: character n is refused.
    const REFUSED: [u32; 4] = {
        let mut bits = [u32::MAX, 0, 0, 0];
        let characters = b"\"*/:<>?\\|";
        let mut number = 0;
        while number < characters.len() {
            bits[characters[number] as usize / 32] |= 1 << (characters[number] % 32);
            number += 1;
        }
        bits
    };
    REFUSED.get(usize::from(unit) / 32).is_none_or(|bits| bits >> (unit % 32) & 1 == 0)
}

/// Whether a name can be stored: its length and its units.
pub(crate) fn is_valid_name(name: &[u16], exfat: bool) -> bool {
    let dots = [u16::from(b'.'), u16::from(b' ')];
    (1..=255).contains(&name.len())
        && name.iter().all(|&unit| is_valid_unit(unit))
        && !name.iter().all(|&unit| unit == dots[0])
        // Windows drops these from FAT names, and then does not find the file.
        && (exfat || !name.last().is_some_and(|last| dots.contains(last)))
}

/// A new set for exFAT, records one behind the other.
pub(crate) fn encode_exfat(record: &Record, name: &[u16], upcase: &UpcaseTable) -> Vec<u8> {
    let names = name.len().div_ceil(15);
    let mut set = vec![0; (2 + names) * RECORD];
    put(&mut set, 0, &[EXFAT_FILE, 1 + names as u8]);
    put(&mut set, RECORD, &[EXFAT_STREAM, ALLOCATION_POSSIBLE, 0, name.len() as u8]);
    put(&mut set, RECORD + 4, &upcase.exfat_hash(name).to_le_bytes());
    for (number, part) in name.chunks(15).enumerate() {
        let at = (2 + number) * RECORD;
        put(&mut set, at, &[EXFAT_NAME]);
        for (place, unit) in part.iter().enumerate() {
            put(&mut set, at + 2 + place * 2, &unit.to_le_bytes());
        }
    }
    update_exfat(&mut set, record);
    set
}

/// Puts `record`'s sizes, times and attributes into a set, and its sum right.
pub(crate) fn update_exfat(set: &mut [u8], record: &Record) {
    put(set, 4, &(record.attributes as u16).to_le_bytes());
    let (created, modified, accessed) = stored_times(&record.times);
    put(set, 8, &created.packed().to_le_bytes());
    put(set, 12, &modified.packed().to_le_bytes());
    put(set, 16, &accessed.packed().to_le_bytes());
    // Times are stored as UTC, and say so.
    put(set, 20, &[created.centiseconds, modified.centiseconds, 0x80, 0x80, 0x80]);
    let chain = if record.contiguous && record.first_cluster != 0 { NO_FAT_CHAIN } else { 0 };
    put(set, RECORD + 1, &[ALLOCATION_POSSIBLE | chain]);
    put(set, RECORD + 8, &record.valid.to_le_bytes());
    put(set, RECORD + 20, &record.first_cluster.to_le_bytes());
    put(set, RECORD + 24, &record.size.to_le_bytes());
    let mut sum = 0;
    for (number, part) in set.chunks_exact(RECORD).enumerate() {
        sum = set_checksum(sum, part, number == 0);
    }
    put(set, 2, &sum.to_le_bytes());
}

/// Times in the formats' form; often they are equal, and a conversion is not free.
fn stored_times(times: &Times) -> (DosTime, DosTime, DosTime) {
    let created = DosTime::from_file_time(times.created);
    let convert = |time| if time == times.created { created } else { DosTime::from_file_time(time) };
    (created, convert(times.modified), convert(times.accessed))
}

/// Gives an exFAT set another name; the rest of its file and stream records stays.
pub(crate) fn rename_exfat(set: &[u8], name: &[u16], upcase: &UpcaseTable) -> Vec<u8> {
    let mut renamed = encode_exfat(&Record::default(), name, upcase);
    for offset in (4..RECORD).chain([RECORD + 1]).chain(RECORD + 8..2 * RECORD) {
        put(&mut renamed, offset, &[get8(set, offset)]);
    }
    // Vendors' records are the file's, not the name's (8.2).
    let vendors = set.chunks_exact(RECORD).skip(2).filter(|record| get8(record, 0) >= EXFAT_VENDOR);
    for record in vendors.take(255 - renamed.len() / RECORD) {
        renamed.extend_from_slice(record);
    }
    let others = (renamed.len() / RECORD - 1) as u8;
    put(&mut renamed, 1, &[others]);
    let mut sum = 0;
    for (number, part) in renamed.chunks_exact(RECORD).enumerate() {
        sum = set_checksum(sum, part, number == 0);
    }
    put(&mut renamed, 2, &sum.to_le_bytes());
    renamed
}

/// Puts `record`'s sizes, times and attributes into FAT's short record.
pub(crate) fn update_fat(short: &mut [u8], record: &Record) {
    let (created, modified, accessed) = stored_times(&record.times);
    put(short, 11, &[record.attributes as u8 & 0x37]);
    put(short, 13, &[created.centiseconds]);
    put(short, 14, &created.time.to_le_bytes());
    put(short, 16, &created.date.to_le_bytes());
    put(short, 18, &accessed.date.to_le_bytes());
    put(short, 20, &((record.first_cluster >> 16) as u16).to_le_bytes());
    put(short, 22, &modified.time.to_le_bytes());
    put(short, 24, &modified.date.to_le_bytes());
    put(short, 26, &(record.first_cluster as u16).to_le_bytes());
    let size = if record.kind() == NodeKind::Directory { 0 } else { record.size as u32 };
    put(short, 28, &size.to_le_bytes());
}

/// The clusters that a record of a set has, if it is a vendor's with some: what a stream record would say of them.
pub(crate) fn vendor_allocation(record: &[u8]) -> Option<Record> {
    let flags = get8(record, 1);
    let (first_cluster, size) = (get32(record, 20), get64(record, 24));
    if get8(record, 0) < EXFAT_VENDOR || flags & ALLOCATION_POSSIBLE == 0 || first_cluster == 0 || size == 0 {
        return None;
    }
    Some(Record { first_cluster, size, contiguous: flags & NO_FAT_CHAIN != 0, ..Record::default() })
}

/// A new set for FAT: long-name records if `short` does not say it all, then the short one. `short` is the 11 bytes of
/// the 8.3 name, `flags` Windows NT's case marks.
pub(crate) fn encode_fat(record: &Record, name: &[u16], short: &[u8; 11], long: bool) -> Vec<u8> {
    let longs = if long { name.len().div_ceil(13) } else { 0 };
    let mut set = vec![0; (longs + 1) * RECORD];
    let sum = short_checksum(short);
    for number in 0..longs {
        // Last part first.
        let at = (longs - 1 - number) * RECORD;
        let mark = if number + 1 == longs { FAT_LAST_LONG } else { 0 };
        put(&mut set, at, &[number as u8 + 1 | mark]);
        put(&mut set, at + 11, &[FAT_LONG_NAME]);
        put(&mut set, at + 13, &[sum]);
        for (place, offset) in (number * 13..).zip(LONG_NAME_OFFSETS) {
            let unit = match name.get(place) {
                Some(&unit) => unit,
                None if place == name.len() => 0,
                None => 0xFFFF,
            };
            put(&mut set, at + offset, &unit.to_le_bytes());
        }
    }
    if let Some(last) = set.get_mut(longs * RECORD..) {
        put(last, 0, short);
        update_fat(last, record);
    }
    set
}

/// The 11 bytes of an 8.3 name if `name` is one as it stands: upper case, no special characters.
pub(crate) fn plain_short_name(name: &[u16]) -> Option<[u8; 11]> {
    let mut short = [b' '; 11];
    let dot = name.iter().position(|&unit| unit == u16::from(b'.'));
    let (base, extension) = match dot {
        Some(dot) => (name.get(..dot)?, name.get(dot + 1..)?),
        None => (name, &[][..]),
    };
    if base.is_empty() || base.len() > 8 || extension.len() > 3 || (dot.is_some() && extension.is_empty()) {
        return None;
    }
    for (place, &unit) in (0..).zip(base).chain((8..).zip(extension)) {
        *short.get_mut(place)? = short_character(unit).filter(|&byte| u16::from(byte) == unit)?;
    }
    Some(short)
}

/// An 8.3 name made from a long one, with `~number`.
pub(crate) fn made_short_name(name: &[u16], number: u32) -> [u8; 11] {
    let mut short = [b' '; 11];
    let dot = name.iter().rposition(|&unit| unit == u16::from(b'.')).filter(|&dot| dot > 0);
    let (base, extension) = match dot {
        Some(dot) => (name.get(..dot).unwrap_or(&[]), name.get(dot + 1..).unwrap_or(&[])),
        None => (name, &[][..]),
    };
    let mut tail = [0u8; 8];
    let mut digits = 0;
    let mut rest = number;
    while rest > 0 && digits < 6 {
        tail[digits] = b'0' + (rest % 10) as u8;
        rest /= 10;
        digits += 1;
    }
    let characters = |part: &[u16]| -> Vec<u8> {
        part.iter()
            .filter(|&&unit| unit != u16::from(b' ') && unit != u16::from(b'.'))
            .map(|&unit| short_character(unit).unwrap_or(b'_'))
            .take(8)
            .collect()
    };
    let mut base = characters(base);
    base.truncate(7 - digits);
    if base.is_empty() {
        base.push(b'_');
    }
    base.push(b'~');
    base.extend(tail.iter().take(digits).rev());
    put(&mut short, 0, &base);
    for (place, byte) in (8..11).zip(characters(extension)) {
        put(&mut short, place, &[byte]);
    }
    short
}

/// An 8.3 name as Windows makes it when the first few numbers are taken: two characters, four digits of a hash, `~1`.
pub(crate) fn hashed_short_name(name: &[u16], hash: u16) -> [u8; 11] {
    let plain = made_short_name(name, 1);
    let mut short = plain;
    put(&mut short, 0, b"        ");
    let lead = plain.iter().take(2).take_while(|&&byte| byte != b'~').copied();
    let digits = [12, 8, 4, 0]
        .map(|shift| b"0123456789ABCDEF".get(usize::from(hash >> shift & 15)).copied().unwrap_or(b'0'));
    for (place, byte) in lead.chain(digits).chain(*b"~1").enumerate() {
        put(&mut short, place, &[byte]);
    }
    short
}

/// The 8.3 name as it reads, from its 11 bytes.
pub(crate) fn short_name_units(short: &[u8; 11]) -> Vec<u16> {
    let mut units = [0; 12];
    let length = decode_short(short, &mut units, 0);
    units.get(..length).unwrap_or(&[]).to_vec()
}

/// A character that an 8.3 name can have, in upper case.
fn short_character(unit: u16) -> Option<u8> {
    let byte = u8::try_from(unit).ok().filter(u8::is_ascii)?.to_ascii_uppercase();
    is_short_byte(byte).then_some(byte)
}

/// Whether an 8.3 name as stored may have this byte (FAT specification 6.1), a space aside.
pub(crate) fn is_short_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte >= 0x80 || b"!#$%&'()-@^_`{}~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    fn sample() -> Record {
        let time = FileTime(133_000_000_000_000_000);
        Record {
            attributes: 0x20,
            first_cluster: 0x12345,
            size: 5000,
            valid: 5000,
            times: Times { created: time, modified: time, accessed: time },
            ..Record::default()
        }
    }

    fn parse(set: &[u8], exfat: bool) -> Option<(Record, Vec<u16>)> {
        let mut parser = SetParser::new(if exfat { Kind::Exfat } else { Kind::Fat32 });
        let count = set.len() / RECORD;
        for (position, bytes) in set.chunks(RECORD).enumerate() {
            let fed = parser.feed(100 + position as u32, bytes);
            match fed {
                Fed::Complete if position + 1 == count => return Some((parser.record, parser.name.clone())),
                Fed::Used => (),
                _ => return None,
            }
        }
        None
    }

    #[test]
    fn sets_read_back() {
        let upcase = UpcaseTable::generate();
        for name in ["a", "Füße im Gras.txt", &"x".repeat(255), &"Ж".repeat(13), "exactly 15 unit"] {
            let name = units(name);
            let mut record = sample();
            let (read, its_name) = parse(&encode_exfat(&record, &name, &upcase), true).unwrap();
            assert_eq!(its_name, name);
            assert_eq!((read.position, read.size, read.first_cluster), (100, 5000, 0x12345));
            assert_eq!(read.times.created, record.times.created);
            let renamed = rename_exfat(&encode_exfat(&record, &units("old"), &upcase), &name, &upcase);
            record.contiguous = false;
            assert_eq!(renamed, encode_exfat(&record, &name, &upcase));

            let short = made_short_name(&name, 12);
            let (read, its_name) = parse(&encode_fat(&record, &name, &short, true), false).unwrap();
            assert_eq!(its_name, name);
            assert_eq!((read.position, read.size, read.first_cluster), (100, 5000, 0x12345));
            assert_eq!(read.short_name().unwrap(), short_name_units(&short));
        }
    }

    #[test]
    fn a_damaged_set_is_no_set() {
        let upcase = UpcaseTable::generate();
        let mut set = encode_exfat(&sample(), &units("name"), &upcase);
        set[40] ^= 1;
        assert!(parse(&set, true).is_none());
    }

    #[test]
    fn short_names() {
        assert_eq!(plain_short_name(&units("README.TXT")), Some(*b"README  TXT"));
        for name in ["readme.txt", "A.B.C", ".X", "TOOLONGNAME", "A.", "Ä"] {
            assert_eq!(plain_short_name(&units(name)), None, "{name}");
        }
        assert_eq!(made_short_name(&units("long file name.html"), 1), *b"LONGFI~1HTM");
        assert_eq!(made_short_name(&units("äöü"), 123_456), *b"_~123456   ");
        assert_eq!(made_short_name(&units("...."), 3), *b"_~3        ");
        assert_eq!(short_name_units(b"AB      C  "), units("AB.C"));
        assert_eq!(hashed_short_name(&units("long file name.html"), 0x0FA7), *b"LO0FA7~1HTM");
        assert_eq!(hashed_short_name(&units("ü"), 0xBEEF), *b"_BEEF~1    ");
    }

    #[test]
    fn names_that_cannot_be() {
        for name in ["", "a:b", "a\u{1}", ".", "..", "a*", "x\\y"] {
            assert!(!is_valid_name(&units(name), true), "{name}");
        }
        assert!(is_valid_name(&units("a."), true) && !is_valid_name(&units("a."), false));
        assert!(!is_valid_name(&units(&"x".repeat(256)), true));
    }
}
