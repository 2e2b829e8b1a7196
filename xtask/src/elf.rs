//! As much of ELF as an image needs: what a 32-bit big-endian executable loads, laid out flat.

/// What an executable loads, as one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flat {
    /// Physical address of the first byte.
    pub address: u32,
    /// Address of the first instruction.
    pub entry: u32,
    /// The bytes, with zeros between segments.
    pub bytes: Vec<u8>,
    /// Bytes of memory from `address` on that the segments need; data that starts as zeros counts here only. Segments
    /// that live elsewhere than where they are loaded count as what is loaded.
    pub memory_length: usize,
}

const LOAD: u32 = 1;

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn half(&self, offset: usize) -> Result<u16, String> {
        let bytes = self.0.get(offset..).and_then(|rest| rest.first_chunk());
        bytes.map(|bytes| u16::from_be_bytes(*bytes)).ok_or_else(|| "cut off".to_string())
    }

    fn word(&self, offset: usize) -> Result<u32, String> {
        let bytes = self.0.get(offset..).and_then(|rest| rest.first_chunk());
        bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(|| "cut off".to_string())
    }

    fn piece(&self, offset: u32, length: u32) -> Result<&[u8], String> {
        let start = offset as usize;
        let end = start.checked_add(length as usize).ok_or("lengths overflow")?;
        self.0.get(start..end).ok_or_else(|| "cut off".to_string())
    }
}

fn check(elf: &[u8]) -> Result<Reader<'_>, String> {
    // Class 32 bits, data big-endian, machine PowerPC (20).
    let reader = Reader(elf);
    if elf.get(..6) != Some(&b"\x7FELF\x01\x02"[..]) || reader.half(18)? != 20 {
        return Err("not a 32-bit big-endian PowerPC executable".to_string());
    }
    Ok(reader)
}

/// Lays the loadable segments out flat by their physical addresses.
pub fn flatten(elf: &[u8]) -> Result<Flat, String> {
    let reader = check(elf)?;
    let headers = reader.word(28)? as usize;
    let (size, count) = (usize::from(reader.half(42)?), usize::from(reader.half(44)?));
    let mut segments = Vec::new();
    for index in 0..count {
        let at = headers + index * size;
        if reader.word(at)? != LOAD {
            continue;
        }
        let (offset, virtual_address, physical) =
            (reader.word(at + 4)?, reader.word(at + 8)?, reader.word(at + 12)?);
        let (in_file, in_memory) = (reader.word(at + 16)?, reader.word(at + 20)?);
        if in_memory == 0 {
            continue;
        }
        let extent = if virtual_address == physical { in_memory } else { in_file };
        segments.push((physical, reader.piece(offset, in_file)?, extent as usize));
    }
    // A segment without bytes in the file (zeroed data alone, linked somewhere else) is no reason to stretch the image.
    let loaded: Vec<_> = segments.iter().filter(|(_, bytes, _)| !bytes.is_empty()).collect();
    let address = loaded.iter().map(|(address, ..)| *address).min().ok_or("nothing to load")?;
    let mut bytes: Vec<u8> = Vec::new();
    for (physical, content, _) in &loaded {
        let start = (physical - address) as usize;
        let end = start
            .checked_add(content.len())
            .filter(|&end| end <= 4 << 20)
            .ok_or("too large for the flash")?;
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(content);
    }
    let memory_length = segments
        .iter()
        .filter_map(|(physical, _, extent)| Some(physical.checked_sub(address)? as usize + extent))
        .max()
        .unwrap_or(0)
        .max(bytes.len());
    Ok(Flat { address, entry: reader.word(24)?, bytes, memory_length })
}

/// Names and lengths of the sections that take memory.
pub fn sections(elf: &[u8]) -> Result<Vec<(String, usize)>, String> {
    const ALLOCATED: u32 = 2;
    let reader = check(elf)?;
    let headers = reader.word(32)? as usize;
    let (size, count) = (usize::from(reader.half(46)?), usize::from(reader.half(48)?));
    let names = headers + usize::from(reader.half(50)?) * size;
    let names = reader.piece(reader.word(names + 16)?, reader.word(names + 20)?)?;
    let mut found = Vec::new();
    for index in 0..count {
        let at = headers + index * size;
        if reader.word(at + 8)? & ALLOCATED == 0 || reader.word(at + 20)? == 0 {
            continue;
        }
        let name = names.get(reader.word(at)? as usize..).unwrap_or(&[]);
        let name = name.split(|&byte| byte == 0).next().unwrap_or(&[]);
        found.push((String::from_utf8_lossy(name).into_owned(), reader.word(at + 20)? as usize));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An executable with these segments: (virtual, physical, bytes in file, bytes in memory).
    fn executable(segments: &[(u32, u32, &[u8], u32)]) -> Vec<u8> {
        let mut elf = b"\x7FELF\x01\x02\x01".to_vec();
        elf.resize(52, 0);
        elf[18..20].copy_from_slice(&20u16.to_be_bytes());
        elf[24..28].copy_from_slice(&0x100u32.to_be_bytes());
        elf[28..32].copy_from_slice(&52u32.to_be_bytes());
        elf[42..44].copy_from_slice(&32u16.to_be_bytes());
        elf[44..46].copy_from_slice(&(segments.len() as u16).to_be_bytes());
        let mut offset = 52 + 32 * segments.len() as u32;
        for (virtual_address, physical, bytes, memory) in segments {
            for word in [LOAD, offset, *virtual_address, *physical, bytes.len() as u32, *memory, 0, 0] {
                elf.extend(word.to_be_bytes());
            }
            offset += bytes.len() as u32;
        }
        for (.., bytes, _) in segments {
            elf.extend(*bytes);
        }
        elf
    }

    #[test]
    fn segments_are_laid_out_by_physical_address() {
        let flat = flatten(&executable(&[
            (0x100, 0x100, b"code", 4),
            (0x9000, 0x108, b"data", 64),
            (0x110, 0x110, b"x", 16),
        ]));
        let flat = flat.unwrap();
        assert_eq!((flat.address, flat.entry), (0x100, 0x100));
        assert_eq!(flat.bytes, b"code\0\0\0\0data\0\0\0\0x");
        assert_eq!(flat.memory_length, 32);
    }

    #[test]
    fn what_is_no_executable_is_refused() {
        assert!(flatten(b"").is_err());
        assert!(flatten(&[0; 64]).is_err());
        assert!(flatten(&executable(&[])).is_err());
        let good = executable(&[(0x100, 0x100, b"code", 4)]);
        for length in 0..good.len() {
            assert!(flatten(&good[..length]).is_err(), "cut at {length}");
        }
        assert!(flatten(&executable(&[(0, 0, b"a", 1), (0x8000_0000, 0x8000_0000, b"b", 1)])).is_err());
    }
}
