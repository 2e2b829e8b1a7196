//! Checking a volume that is not mounted, and repairing it.
//!
//! One walk over the tree claims each file's and directory's clusters in a bitmap; what is wrong with entries and chains
//! shows on the way. What the volume calls taken but nobody claimed is lost: its bytes become files in `FOUND.000`, as
//! Windows does it, because they may be the only copy of somebody's work, and deleting them is easy. The memory needed is
//! one bit a cluster (FAT: two), one small record for each directory not yet visited, and the names of one directory.
//!
//! Nothing is written unless a repair was asked for. A repair is not atomic: the volume carries its dirty mark until all
//! is written, and a repair that was cut off is begun again.

mod chain;
mod exfat;
mod fat;
mod lost;
mod medium;
mod walk;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use lock_api::RawMutex;

use crate::BlockDevice;
use crate::cache::Cache;
use crate::hash_index::HashIndex;
use crate::upcase::UpcaseTable;
use crate::volume::VolumeError;
use crate::volume::geometry::{Geometry, Kind};
use crate::volume::space_map::SpaceMap;
use exfat::SystemFiles;
use medium::Medium;
use walk::{Cursor, Pending};

/// Findings told one by one; of the rest only the counts are.
const TOLD: u32 = 100;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The boot sectors contradict their sum or their copy.
    BootSectors,
    /// Sectors in which the copies of the FAT differ.
    FatCopies,
    /// The FAT's first two entries, which stand for no cluster.
    FatHead,
    /// A chain leads out of the volume, or to a cluster that is free.
    ChainBroken,
    /// A cluster belongs to two chains.
    CrossLinked,
    /// A chain leads back into itself.
    ChainLoop,
    /// A file's size is beyond its chain.
    ChainShort,
    /// A chain goes on behind its file's end.
    ChainLong,
    /// A size that a file or directory cannot have.
    Size,
    /// More bytes are valid than the file has (exFAT).
    ValidLength,
    /// The sum over a set of records is wrong (exFAT).
    SetChecksum,
    /// Records that make no set.
    BrokenSet,
    /// A name that cannot be, or its hash.
    Name,
    /// A name that is in its directory twice.
    DuplicateName,
    /// Parts of a long name that belong to no entry (FAT).
    OrphanLongName,
    /// `.` and `..` of a directory (FAT).
    DotEntries,
    /// Entries behind the mark of a directory's end.
    BehindEnd,
    /// The records of the allocation bitmap, the up-case table or the label (exFAT).
    SystemRecords,
    /// Clusters in use that the bitmap calls free (exFAT).
    NotInBitmap,
    /// Clusters taken that belong to nobody.
    LostClusters,
    /// The count of free clusters, or the sector that holds it (FAT32).
    FreeCount,
    /// The mark that the volume was not left cleanly.
    DirtyMark,
}

/// How many kinds of finding there are.
const FINDINGS: usize = Finding::DirtyMark as usize + 1;

impl Finding {
    const ALL: [Self; FINDINGS] = [
        Self::BootSectors,
        Self::FatCopies,
        Self::FatHead,
        Self::ChainBroken,
        Self::CrossLinked,
        Self::ChainLoop,
        Self::ChainShort,
        Self::ChainLong,
        Self::Size,
        Self::ValidLength,
        Self::SetChecksum,
        Self::BrokenSet,
        Self::Name,
        Self::DuplicateName,
        Self::OrphanLongName,
        Self::DotEntries,
        Self::BehindEnd,
        Self::SystemRecords,
        Self::NotInBitmap,
        Self::LostClusters,
        Self::FreeCount,
        Self::DirtyMark,
    ];

    /// In words, to stand behind a count.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::BootSectors => "boot sector contradicts its checksum or copy",
            Self::FatCopies => "sectors differ between the copies of the FAT",
            Self::FatHead => "reserved FAT entries are wrong",
            Self::ChainBroken => "chains lead out of the volume or to free clusters",
            Self::CrossLinked => "chains run into another file's clusters",
            Self::ChainLoop => "chains lead back into themselves",
            Self::ChainShort => "files are longer than their chains",
            Self::ChainLong => "chains go on behind the end of their files",
            Self::Size => "impossible sizes",
            Self::ValidLength => "files have more valid bytes than bytes",
            Self::SetChecksum => "entries with a wrong checksum",
            Self::BrokenSet => "broken directory entries",
            Self::Name => "impossible names",
            Self::DuplicateName => "names twice in their directory",
            Self::OrphanLongName => "orphaned long-name records",
            Self::DotEntries => "wrong . or .. entries",
            Self::BehindEnd => "entries behind the end of their directory",
            Self::SystemRecords => "bitmap, up-case table or label records are wrong",
            Self::NotInBitmap => "clusters in use are marked free",
            Self::LostClusters => "lost clusters",
            Self::FreeCount => "wrong count of free clusters",
            Self::DirtyMark => "dirty mark",
        }
    }
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    counts: [u32; FINDINGS],
    /// Files found sound, or made so.
    pub files: u32,
    /// Directories, the root among them.
    pub directories: u32,
    /// Bytes a cluster.
    pub cluster: u32,
    /// Clusters free at the end.
    pub free: u32,
    /// Files made of lost clusters in `FOUND.nnn`, and the clusters in them.
    pub kept: (u32, u32),
    /// Lost clusters that were freed: more pieces than fit, or no room for a directory of them.
    pub freed: u32,
    /// Directories too large to look for double names in.
    pub names_unchecked: u32,
}

impl Report {
    /// How often a kind of trouble was found.
    #[must_use]
    pub fn count(&self, finding: Finding) -> u32 {
        self.counts.get(finding as usize).copied().unwrap_or(0)
    }

    /// What was found, and how often, without what was not.
    pub fn found(&self) -> impl Iterator<Item = (Finding, u32)> + '_ {
        Finding::ALL.into_iter().map(|finding| (finding, self.count(finding))).filter(|found| found.1 > 0)
    }

    /// Nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.found().next().is_none()
    }
}

/// What is told while a check is at work.
#[derive(Debug)]
pub enum Event<'a> {
    /// It goes on: clusters accounted for, of how many. Comes every few thousand steps.
    Progress(u32, u32),
    /// Something is wrong with the file or directory at this path (components parted by `\`; may be cut in the middle).
    Found(Finding, &'a [u16]),
}

/// Checks the volume that fills `device`, which nobody has mounted; with `repair`, puts right what is wrong. A journal of
/// the volume has to be replayed before: mounting does that.
///
/// # Errors
/// Io if a sector of its structure cannot be read or written; NoResources if there is too little memory for its bitmap;
/// Corrupt if no boot sector makes sense, or directories are nested deeper than any path reaches.
pub fn check<R: RawMutex>(
    cache: &Arc<Cache<R>>,
    device: Arc<dyn BlockDevice>,
    repair: bool,
    watch: &mut dyn FnMut(&Event<'_>),
) -> Result<Report, VolumeError> {
    let mut medium = Medium::attach(cache, device, repair)?;
    let (geometry, boot_damaged) = medium.boot_sectors()?;
    let mut checker = Checker {
        claimed: SpaceMap::all_free(geometry.clusters)?,
        medium,
        repair,
        upcase: UpcaseTable::generate(),
        report: Report {
            counts: [0; FINDINGS],
            files: 0,
            directories: 0,
            cluster: 1 << geometry.cluster_shift,
            free: 0,
            kept: (0, 0),
            freed: 0,
            names_unchecked: 0,
        },
        geometry,
        pending: Vec::new(),
        path: Vec::new(),
        name_index: HashIndex::new(),
        names: Vec::new(),
        renamed: 0,
        root: None,
        root_end: 0,
        root_room: Vec::new(),
        found_numbers: 0,
        system: SystemFiles::default(),
        free_as_found: 0,
        label: *b"NO NAME    ",
        told: 0,
        watch,
    };
    if boot_damaged {
        checker.found(Finding::BootSectors, &[]);
    }
    checker.run()?;
    Ok(checker.report)
}

/// A check at work.
struct Checker<'a, R: RawMutex> {
    medium: Medium<R>,
    geometry: Geometry,
    repair: bool,
    /// Clusters that belong to somebody.
    claimed: SpaceMap,
    upcase: UpcaseTable,
    report: Report,
    /// Directories to visit, nearest last.
    pending: Vec<Pending>,
    /// Names of the directories from the root to the one at hand.
    path: Vec<Vec<u16>>,
    /// Sets of the directory at hand by the hash of their names, and where they are.
    name_index: HashIndex,
    names: Vec<Cursor>,
    /// Names given in it.
    renamed: u32,
    /// The root directory's first record.
    root: Option<Cursor>,
    /// Last cluster of the root directory.
    root_end: u32,
    /// Places in the root for one more set.
    root_room: Vec<u64>,
    /// The first number that no `FOUND.nnn` in the root has.
    found_numbers: u32,
    /// Where the root's own records are (exFAT).
    system: SystemFiles,
    /// Free clusters before a repair (FAT).
    free_as_found: u32,
    /// The root's label (FAT).
    label: [u8; 11],
    told: u32,
    watch: &'a mut dyn FnMut(&Event<'_>),
}

impl<R: RawMutex> Checker<'_, R> {
    fn run(&mut self) -> Result<(), VolumeError> {
        let exfat = self.geometry.kind.is_exfat();
        if self.medium.dirty_mark(&self.geometry)? {
            self.found(Finding::DirtyMark, &[]);
        }
        if self.repair {
            // Until all is written.
            self.medium.set_dirty_mark(&self.geometry, true)?;
        }
        self.compare_fat_copies()?;
        self.check_fat_head()?;
        self.claim_root()?;
        let system = if exfat { Some(self.claim_system_files()?) } else { None };
        self.walk()?;
        match system {
            Some(system) => self.settle_bitmap(system)?,
            None => self.settle_fat()?,
        }
        self.report.free = self.claimed.free();
        self.check_free_count()?;
        if self.repair {
            self.medium.set_dirty_mark(&self.geometry, false)?;
        }
        Ok(())
    }

    /// Notes a finding about `name` in the directory at hand.
    fn found(&mut self, finding: Finding, name: &[u16]) {
        self.found_many(finding, 1, name);
    }

    fn found_many(&mut self, finding: Finding, count: u32, name: &[u16]) {
        if let Some(place) = self.report.counts.get_mut(finding as usize) {
            *place = place.saturating_add(count);
        }
        if self.told >= TOLD {
            return;
        }
        self.told += 1;
        let mut path = Vec::new();
        for component in self.path.iter().map(|component| &**component).chain([name]) {
            if !path.is_empty() && !component.is_empty() {
                path.push(u16::from(b'\\'));
            }
            path.extend_from_slice(component);
        }
        (self.watch)(&Event::Found(finding, &path));
    }

    /// Tells how far it is. Called often enough that others, with whom the caller may share a processor, get a turn.
    fn progress(&mut self) {
        (self.watch)(&Event::Progress(self.geometry.clusters - self.claimed.free(), self.geometry.clusters));
    }

    /// The copies of the FAT. The first counts, but where it makes no sense and another does.
    fn compare_fat_copies(&mut self) -> Result<(), VolumeError> {
        const PIECE: usize = 4096;
        let geometry = &self.geometry;
        let (copies, fat, bytes) = (u64::from(geometry.fat_copies), geometry.fat, geometry.fat_bytes);
        let width = match geometry.kind {
            Kind::Exfat | Kind::Fat32 => 4,
            Kind::Fat16 => 2,
            // Entries that share bytes: whole sectors of the first copy count.
            Kind::Fat12 => 512,
        };
        let clusters = geometry.clusters;
        let plausible = |entry: &[u8]| match *entry {
            [a, b, c, d] => {
                let value = u32::from_le_bytes([a, b, c, d]) & 0x0FFF_FFFF;
                value == 0 || value >= 0x0FFF_FFF7 || (2..clusters + 2).contains(&value)
            }
            [a, b] => {
                let value = u32::from(u16::from_le_bytes([a, b]));
                value == 0 || value >= 0xFFF7 || (2..clusters + 2).contains(&value)
            }
            _ => true,
        };
        let (mut first, mut other) = (vec![0; PIECE], vec![0; PIECE]);
        for copy in 1..copies {
            let mut at = 0;
            while at < bytes {
                let length = (bytes - at).min(PIECE as u64) as usize;
                let (Some(one), Some(two)) = (first.get_mut(..length), other.get_mut(..length)) else {
                    break;
                };
                self.medium.read(fat + at, one)?;
                self.medium.read(fat + copy * bytes + at, two)?;
                if one != two {
                    for (ours, theirs) in one.chunks_mut(width).zip(two.chunks(width)) {
                        if ours != theirs && !plausible(ours) && plausible(theirs) {
                            ours.copy_from_slice(theirs);
                        }
                    }
                    let wrong = one.chunks(512).zip(two.chunks(512)).filter(|(one, two)| one != two).count();
                    self.medium.write(fat + at, one)?;
                    self.medium.write(fat + copy * bytes + at, one)?;
                    // At least one sector differed, even if all its entries came from the other copy.
                    self.found_many(Finding::FatCopies, wrong.max(1) as u32, &[]);
                }
                at += length as u64;
                self.progress();
            }
        }
        Ok(())
    }

    /// Entries 0 and 1: the media type and, but for its two marks, ones.
    fn check_fat_head(&mut self) -> Result<(), VolumeError> {
        let kind = self.geometry.kind;
        let media = u32::from(self.medium.byte(21)?);
        let all = kind.end_of_chain();
        let (head, marks) = match kind {
            Kind::Exfat => (0xFFFF_FFF8, 0),
            Kind::Fat32 => (all & !0xFF | media, 0x0C00_0000),
            Kind::Fat16 => (all & !0xFF | media, 0xC000),
            Kind::Fat12 => (all & !0xFF | media, 0),
        };
        let (first, second) = (self.entry(0)?, self.entry(1)?);
        if first != head {
            self.found(Finding::FatHead, &[]);
            self.set_entry(0, head)?;
        }
        if second | marks != all && !(kind == Kind::Fat12 && kind.is_end(second)) {
            self.found(Finding::FatHead, &[]);
            self.set_entry(1, all)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
