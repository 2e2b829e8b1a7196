//! What changes names: create, remove, rename; and finding paths.

use alloc::vec::Vec;

use lock_api::RawMutex;

use super::engine::Engine;
use super::entry::{
    RECORD, Record, Times, encode_exfat, encode_fat, hashed_short_name, is_valid_name, made_short_name,
    plain_short_name, rename_exfat, short_name_units, vendor_allocation,
};
use super::extents::Extents;
use super::{Entry, FileAttributes, Node, NodeKind, VolumeError};
use crate::hash_index::NONE;

const SEPARATOR: u16 = b'\\' as u16;

/// A made-up 8.3 name is tried with so many numbers.
const SHORT_NAMES_TRIED: u32 = 1000;

impl<R: RawMutex> Engine<R> {
    /// The directory that `path` ends in, and its last component.
    pub(super) fn resolve_parent<'a>(&mut self, path: &'a [u16]) -> Result<(u32, &'a [u16]), VolumeError> {
        let mut directory = self.directories.root();
        let mut rest = path;
        while let Some(cut) = rest.iter().position(|&unit| unit == SEPARATOR) {
            let (component, behind) = rest.split_at(cut);
            rest = behind.get(1..).unwrap_or(&[]);
            let record = self.find_name(directory, component)?.ok_or(VolumeError::PathNotFound)?;
            if record.kind() != NodeKind::Directory {
                return Err(VolumeError::PathNotFound);
            }
            directory = self.enter(directory, &record)?;
        }
        Ok((directory, rest))
    }

    /// Opens a path.
    pub(super) fn open_path(&mut self, path: &[u16]) -> Result<Node, VolumeError> {
        if path.is_empty() {
            let root = Record {
                position: u32::MAX,
                attributes: FileAttributes::DIRECTORY,
                first_cluster: self.geometry.root_cluster,
                ..Record::default()
            };
            return self.open_record(NONE, &root);
        }
        let (directory, name) = self.resolve_parent(path)?;
        let record = self.find_name(directory, name)?.ok_or(VolumeError::NotFound)?;
        self.open_record(directory, &record)
    }

    /// Makes a file or directory and opens it.
    pub(super) fn create_path(
        &mut self,
        path: &[u16],
        kind: NodeKind,
        attributes: FileAttributes,
    ) -> Result<Node, VolumeError> {
        self.check_writable()?;
        if path.is_empty() {
            return Err(VolumeError::Exists);
        }
        let (directory, name) = self.resolve_parent(path)?;
        if !is_valid_name(name, self.geometry.kind.is_exfat()) {
            return Err(VolumeError::NameInvalid);
        }
        if self.find_name(directory, name)?.is_some() {
            return Err(VolumeError::Exists);
        }
        let (now, steps) = (self.now(), self.time_steps());
        let mut record = Record {
            attributes: attributes.0 & FileAttributes::SETTABLE,
            times: Times {
                created: now.cut(steps.created),
                modified: now.cut(steps.modified),
                accessed: now.cut(steps.accessed),
            },
            ..Record::default()
        };
        if kind == NodeKind::File {
            self.add_set(directory, &mut record, name)?;
            return self.open_new(directory, &record, false);
        }
        record.attributes |= FileAttributes::DIRECTORY;
        let (cluster, _) = self.allocate(0, 1)?;
        record.first_cluster = cluster;
        let made = self.make_directory(directory, &mut record, name);
        if let Err(error) = made {
            self.release_now(cluster, 1);
            return Err(error);
        }
        self.open_new(directory, &record, true)
    }

    /// Opens what was just made. If that fails (out of memory), it stays there, closed.
    fn open_new(&mut self, directory: u32, record: &Record, is_directory: bool) -> Result<Node, VolumeError> {
        let node = self.open_record(directory, record)?;
        if !is_directory {
            // No clusters yet: nothing to load.
            self.nodes.get_mut(node.slot)?.loaded = true;
        }
        Ok(node)
    }

    /// A new set for `record` under `name`, and its short name if it has one beside the long.
    fn encode_set(
        &mut self,
        directory: u32,
        record: &Record,
        name: &[u16],
    ) -> Result<(Vec<u8>, Option<Vec<u16>>), VolumeError> {
        if self.geometry.kind.is_exfat() {
            return Ok((encode_exfat(record, name, &self.upcase), None));
        }
        if let Some(short) = plain_short_name(name) {
            return Ok((encode_fat(record, name, &short, false), None));
        }
        for number in 1..SHORT_NAMES_TRIED {
            // After a few in sequence, spread out, or a directory of like names would cost more and more.
            let short = match number {
                1..5 => made_short_name(name, number),
                _ => hashed_short_name(
                    name,
                    self.upcase.hash(name).wrapping_add(number.wrapping_mul(0x9E37)) as u16,
                ),
            };
            let units = short_name_units(&short);
            if self.find_name(directory, &units)?.is_none() {
                return Ok((encode_fat(record, name, &short, true), Some(units)));
            }
        }
        Err(VolumeError::Full)
    }

    /// Adds a set in a transaction of its own; `record` gets to know its place.
    fn add_set(&mut self, directory: u32, record: &mut Record, name: &[u16]) -> Result<(), VolumeError> {
        let (set, short) = self.encode_set(directory, record, name)?;
        let count = (set.len() / RECORD) as u32;
        let position = self.find_place(directory, count)?;
        self.atomically(|engine| engine.store_set(directory, position, &set))?;
        self.added(directory, record, position, count, name, short);
        Ok(())
    }

    fn added(
        &mut self,
        directory: u32,
        record: &mut Record,
        position: u32,
        count: u32,
        name: &[u16],
        short: Option<Vec<u16>>,
    ) {
        record.position = position;
        record.count = count;
        record.short_length = 0;
        if let Some(short) = &short {
            for (place, &unit) in record.short.iter_mut().zip(short) {
                *place = unit;
            }
            record.short_length = short.len() as u8;
        }
        self.note_added(directory, position, count, name, short.as_deref());
    }

    fn make_directory(&mut self, parent: u32, record: &mut Record, name: &[u16]) -> Result<(), VolumeError> {
        let exfat = self.geometry.kind.is_exfat();
        let cluster = record.first_cluster;
        record.contiguous = exfat;
        if exfat {
            record.size = self.geometry.cluster_bytes();
            record.valid = record.size;
        }
        let (set, short) = self.encode_set(parent, record, name)?;
        let count = (set.len() / RECORD) as u32;
        let position = self.find_place(parent, count)?;
        let parent_cluster = match parent == self.directories.root() {
            true => 0,
            false => self.directories.get(parent)?.first_cluster,
        };
        self.atomically(|engine| {
            let offset = engine.geometry.offset_of(cluster);
            let length = engine.geometry.cluster_bytes() as usize;
            engine.cache.zero(engine.device, offset, length, offset)?;
            engine.order(offset, offset + length as u64);
            engine.record_allocation(cluster, 1, true)?;
            if !exfat {
                let mut extents = Extents::new();
                if !extents.push(cluster, 1) {
                    return Err(VolumeError::NoResources);
                }
                engine.link_chain(&extents, 0, 1)?;
                let own = encode_fat(record, &[], b".          ", false);
                let above = Record { first_cluster: parent_cluster, ..*record };
                let above = encode_fat(&above, &[], b"..         ", false);
                engine.cache.write(engine.device, offset, &own, offset)?;
                engine.cache.write(engine.device, offset + RECORD as u64, &above, offset)?;
            }
            engine.store_set(parent, position, &set)
        })?;
        self.added(parent, record, position, count, name, short);
        Ok(())
    }

    /// Takes a node's name away; its clusters are free on the volume at once, in memory with the last use.
    pub(super) fn remove_node(&mut self, slot: u32) -> Result<(), VolumeError> {
        self.check_writable()?;
        let node = self.nodes.get(slot)?;
        let (directory, own, record) = (node.directory, node.own, node.record);
        if node.removed {
            return Err(VolumeError::Stale);
        }
        if directory == NONE {
            return Err(VolumeError::ReadOnly);
        }
        let extents = if own != NONE {
            if !self.is_empty(own)? {
                return Err(VolumeError::NotEmpty);
            }
            self.directories.get(own)?.extents.clone()
        } else {
            self.load_extents(slot)?;
            self.nodes.get(slot)?.extents.clone()
        };
        let committed = if own != NONE { extents.clusters() } else { self.nodes.get(slot)?.committed };
        self.read_set(directory, record.position)?;
        let name = self.directories.parsed().map(|parsed| parsed.name.clone()).unwrap_or_default();
        let vendors = self.vendor_extents(directory, &record)?;
        self.atomically(|engine| {
            engine.erase_set(directory, record.position, record.count)?;
            engine.cut_vendors(&vendors)?;
            engine.cut_chain(&extents, 0, committed, record.contiguous)
        })?;
        self.release_vendors(&vendors);
        self.note_removed(directory, record.position, record.count, &name, record.short_name());
        self.drop_file_id(self.location(directory, record.position));
        self.unkey(slot);
        let node = self.nodes.get_mut(slot)?;
        node.removed = true;
        node.committed = 0;
        if own != NONE {
            node.extents = extents;
            node.loaded = true;
        }
        Ok(())
    }

    /// The clusters of vendors' records in a set, which go with it (exFAT 8.2), and whether each has no chain.
    fn vendor_extents(
        &mut self,
        directory: u32,
        record: &Record,
    ) -> Result<Vec<(Extents, bool)>, VolumeError> {
        if !self.geometry.kind.is_exfat() {
            return Ok(Vec::new());
        }
        let mut vendors = Vec::new();
        for part in self.load_set(directory, record.position, record.count)?.chunks_exact(RECORD) {
            if let Some(vendor) = vendor_allocation(part) {
                vendors.push((self.extents_of(&vendor)?, vendor.contiguous));
            }
        }
        Ok(vendors)
    }

    /// Frees them on the volume, in the transaction.
    fn cut_vendors(&mut self, vendors: &[(Extents, bool)]) -> Result<(), VolumeError> {
        vendors
            .iter()
            .try_for_each(|(extents, contiguous)| self.cut_chain(extents, 0, extents.clusters(), *contiguous))
    }

    /// Frees them in memory.
    fn release_vendors(&mut self, vendors: &[(Extents, bool)]) {
        for run in vendors.iter().flat_map(|(extents, _)| extents.runs()) {
            self.release(run.cluster, run.count, false);
        }
    }

    /// Moves a node to another path.
    pub(super) fn rename_node(&mut self, slot: u32, path: &[u16], replace: bool) -> Result<(), VolumeError> {
        self.check_writable()?;
        let node = self.nodes.get(slot)?;
        let (source, own) = (node.directory, node.own);
        if node.removed {
            return Err(VolumeError::Stale);
        }
        if source == NONE {
            return Err(VolumeError::ReadOnly);
        }
        if path.is_empty() {
            return Err(VolumeError::Exists);
        }
        let (target, name) = self.resolve_parent(path)?;
        if !is_valid_name(name, self.geometry.kind.is_exfat()) {
            return Err(VolumeError::NameInvalid);
        }
        // Held while other directories may be looked at, and forgotten for it.
        self.directories.refer(target);
        let result = self.rename_to(slot, source, own, target, name, replace);
        self.directories.unrefer(target);
        result
    }

    fn rename_to(
        &mut self,
        slot: u32,
        source: u32,
        own: u32,
        target: u32,
        name: &[u16],
        replace: bool,
    ) -> Result<(), VolumeError> {
        if own != NONE {
            let mut above = target;
            while above != NONE {
                if above == own {
                    return Err(VolumeError::NameInvalid);
                }
                above = self.directories.get(above)?.parent;
            }
        }
        let old = self.nodes.get(slot)?.record;
        let mut replaced = None;
        if let Some(existing) = self.find_name(target, name)?
            && (target, existing.position) != (source, old.position)
        {
            if !replace || existing.kind() == NodeKind::Directory {
                return Err(VolumeError::Exists);
            }
            if self.find_open(target, existing.position).is_some() {
                return Err(VolumeError::InUse);
            }
            let spelling = self.directories.parsed().map(|parsed| parsed.name.clone()).unwrap_or_default();
            let extents = self.extents_of(&existing)?;
            let vendors = self.vendor_extents(target, &existing)?;
            replaced = Some((existing, spelling, extents, vendors));
        }
        // The set on the volume is copied, so it has to be up to date.
        self.persist(slot, false)?;
        let record = self.nodes.get(slot)?.record;
        self.read_set(source, record.position)?;
        let old_name = self.directories.parsed().map(|parsed| parsed.name.clone()).unwrap_or_default();
        let stored = self.load_set(source, record.position, record.count)?;
        let (set, short) = if self.geometry.kind.is_exfat() {
            (rename_exfat(&stored, name, &self.upcase), None)
        } else {
            let (mut set, short) = self.encode_set(target, &record, name)?;
            // All but the name as it was.
            let (from, to) = (stored.len() - RECORD, set.len() - RECORD);
            if let (Some(target), Some(rest)) = (set.get_mut(to + 11..), stored.get(from + 11..)) {
                target.copy_from_slice(rest);
                // Windows NT's case marks belong to the old name.
                if let Some(marks) = target.get_mut(1) {
                    *marks = 0;
                }
            }
            (set, short)
        };
        let count = (set.len() / RECORD) as u32;
        let position = self.find_place(target, count)?;
        self.atomically(|engine| {
            engine.erase_set(source, record.position, record.count)?;
            if let Some((existing, _, extents, vendors)) = &replaced {
                engine.erase_set(target, existing.position, existing.count)?;
                engine.cut_vendors(vendors)?;
                engine.cut_chain(extents, 0, extents.clusters(), existing.contiguous)?;
            }
            engine.store_set(target, position, &set)?;
            if own != NONE && source != target && !engine.geometry.kind.is_exfat() {
                engine.rewrite_dot_dot(own, target)?;
            }
            Ok(())
        })?;
        self.note_removed(source, record.position, record.count, &old_name, record.short_name());
        if let Some((existing, spelling, extents, vendors)) = replaced {
            self.release_vendors(&vendors);
            self.note_removed(target, existing.position, existing.count, &spelling, existing.short_name());
            self.drop_file_id(self.location(target, existing.position));
            for run in extents.runs() {
                self.release(run.cluster, run.count, false);
            }
        }
        let mut moved = record;
        self.added(target, &mut moved, position, count, name, short);
        self.move_file_id(self.location(source, record.position), self.location(target, position));
        self.rekey(slot, target, position)?;
        self.nodes.get_mut(slot)?.record = moved;
        if own != NONE {
            self.directories.refer(target);
            let directory = self.directories.get_mut(own)?;
            directory.parent = target;
            directory.position = position;
            self.directories.unrefer(source);
        }
        Ok(())
    }

    /// Appends a node's path.
    pub(super) fn path_of(&mut self, slot: u32, path: &mut Vec<u16>) -> Result<(), VolumeError> {
        let node = self.nodes.get(slot)?;
        if node.removed {
            return Err(VolumeError::Stale);
        }
        let (mut directory, mut position) = (node.directory, node.record.position);
        let mut components: Vec<Vec<u16>> = Vec::new();
        while directory != NONE {
            self.read_set(directory, position)?;
            components.push(self.directories.parsed().map(|parsed| parsed.name.clone()).unwrap_or_default());
            if components.len() > 32768 {
                return Err(self.corrupt("directories in a circle"));
            }
            let above = self.directories.get(directory)?;
            (directory, position) = (above.parent, above.position);
        }
        for (number, component) in components.iter().rev().enumerate() {
            if number > 0 {
                path.push(SEPARATOR);
            }
            path.extend_from_slice(component);
        }
        Ok(())
    }

    /// Visits a directory's entries.
    pub(super) fn list_node(
        &mut self,
        slot: u32,
        cursor: u64,
        visit: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<(), VolumeError> {
        let node = self.nodes.get(slot)?;
        if node.own == NONE {
            return Err(VolumeError::NotADirectory);
        }
        if node.removed {
            return Ok(());
        }
        let own = node.own;
        let from = u32::try_from(cursor).unwrap_or(u32::MAX);
        self.for_each_set(own, from, |engine, set| {
            let record = &set.record;
            let entry = Entry {
                name: &set.name,
                short_name: record.short_name(),
                metadata: engine.metadata_of(own, record),
                cursor: u64::from(record.position) + u64::from(record.count),
            };
            visit(&entry)
        })
    }
}
